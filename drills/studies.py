"""A small study, jobs on it as a user starts them, and what must be the same afterwards."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bids_parcellate.demo import write_dataset
from tests.outputs import digests

ROOT = Path(__file__).parents[1]
N_PARCELS = 10

# A job that takes this long hangs, s.
LONGEST = 600.0


@dataclass(frozen=True)
class Settings:
    """How drills are run.

    Parameters
    ----------
    work : Path
        Where studies, outputs and results are kept.
    quick : bool, default=False
        Whether only a few faults are tried.
    seed : int, default=1
        Of the moments of the kills.
    """

    work: Path
    quick: bool = False
    seed: int = 1


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Parameters
    ----------
    code : int
        Its exit code; negative for a signal.
    said : str
        What it wrote to the terminal.
    seconds : float
        How long it took.
    """

    code: int
    said: str
    seconds: float

    def problems(self, code: int = 0, *words: str) -> list[str]:
        """Tell what is wrong with the end.

        Parameters
        ----------
        code : int, default=0
            The exit code that it should have.
        *words : str
            What it must say.

        Returns
        -------
        list of str
            None if it is as it should be.
        """
        found = [] if self.code == code else [f"it ended with {self.code} instead of {code}: {self.last_words}"]
        found += [f"it does not say {word!r}: {self.last_words}" for word in words if word not in self.said]
        # Handlers of logging print a trace where they cannot write, and go on.
        found += ["there is a trace in what it says"] if "Traceback" in self.said else []
        return found

    @property
    def last_words(self) -> str:
        """The end of what it said, on one line."""
        return " / ".join(self.said.strip().splitlines()[-2:])[-300:]


class Running:
    """A job that has been started, in a process group of its own.

    Parameters
    ----------
    command : sequence of str
        What to run.
    environment : mapping of str to str
        Variables of its environment.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 -- closed when the job has ended
        self._start = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdout=self._said, stderr=self._said, env=environment, cwd=ROOT, start_new_session=True
        )

    @property
    def pid(self) -> int:
        """Number of its first process, and of its group."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether its first process has ended."""
        return self._process.poll() is not None

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes.

        Parameters
        ----------
        number : int
            The signal.
        """
        if self._process.poll() is None:
            os.killpg(self.pid, number)

    def wait_until(self, condition: Callable[[], object], longest: float = LONGEST) -> bool:
        """Wait until something is so.

        Parameters
        ----------
        condition : callable
            Whether it is so.
        longest : float
            How long to wait, s.

        Returns
        -------
        bool
            False if the job ended first, or the time is over.
        """
        until = time.perf_counter() + longest
        while not condition():
            if self.has_ended or time.perf_counter() > until:
                return False
            time.sleep(0.001)
        return True

    def end(self, longest: float = LONGEST) -> Ended:
        """Wait for the end.

        Parameters
        ----------
        longest : float
            A job that takes longer hangs, and is killed, s.

        Returns
        -------
        Ended
            How it ended.
        """
        try:
            code = self._process.wait(longest)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, 9)
            self._process.wait()
            code = -99
        seconds = time.perf_counter() - self._start
        with self._said:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace")
        return Ended(code, f"{said}\nIt hung and was killed." if code == -99 else said, seconds)

    def left_behind(self) -> list[str]:
        """Wait a little for its processes to end; describe those that do not.

        Returns
        -------
        list of str
            Their commands.
        """
        for _ in range(100):
            left = group_members(self.pid)
            if not left:
                return []
            time.sleep(0.1)
        return [f"process {pid} is left" for pid in left]


def group_members(group: int) -> list[int]:
    """List the processes of a group that live.

    Parameters
    ----------
    group : int
        Number of the group.

    Returns
    -------
    list of int
        Their numbers, without what is dead and only not yet waited for.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := process_fields(int(entry.name))) and fields[0] != "Z":
            found += [int(entry.name)] if int(fields[2]) == group else []
    return found


def process_fields(pid: int) -> list[str]:
    """Read what the kernel says of a process.

    Parameters
    ----------
    pid : int
        Its number.

    Returns
    -------
    list of str
        The fields of ``/proc/PID/stat`` from the state on; none if the process is gone.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def workers_of(job: Running) -> list[int]:
    """List the worker processes of a job and, once the job is gone, the process that they were forked from.

    Parameters
    ----------
    job : Running
        The job.

    Returns
    -------
    list of int
        Their numbers.
    """
    forked = [pid for pid in group_members(job.pid) if b"multiprocessing.forkserver" in _command(pid)]
    return [pid for pid in forked if (fields := process_fields(pid)) and int(fields[1]) != job.pid]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@dataclass(frozen=True)
class How:
    """How a job is started.

    Parameters
    ----------
    options : tuple of str
        More options.
    level : {"participant", "group"}, default="group"
        The analysis level.
    n_processes : int, default=1
        Number of processes.
    environment : mapping of str to str, optional
        Variables of the environment to set, or to remove where the value is empty.
    before : tuple of str
        A command that starts the job, such as ``faketime``.
    """

    options: tuple[str, ...] = ()
    level: str = "group"
    n_processes: int = 1
    environment: Mapping[str, str] | None = None
    before: tuple[str, ...] = ()


PLAIN = How()


@dataclass(frozen=True)
class Study:
    """A dataset, and a folder for what jobs make of it.

    Parameters
    ----------
    dataset : Path
        The dataset.
    folder : Path
        Outputs lie in it.
    """

    dataset: Path
    folder: Path

    @classmethod
    def make(cls, folder: Path, *, n_subjects: int = 2, n_volumes: int = 80, voxel_size: float = 8.0) -> "Study":
        """Simulate a study, in place of an earlier one.

        Parameters
        ----------
        folder : Path
            Where to.
        n_subjects, n_volumes, voxel_size
            As in `bids_parcellate.demo.write_dataset`.

        Returns
        -------
        Study
            The first participant has two runs, the others one.
        """
        shutil.rmtree(folder, ignore_errors=True)
        dataset = folder / "data"
        write_dataset(dataset, n_subjects=n_subjects, n_volumes=n_volumes, voxel_size=voxel_size, n_parcels=N_PARCELS)
        return cls(dataset, folder)

    def start(self, output: Path, how: How = PLAIN) -> Running:
        """Start a job.

        Parameters
        ----------
        output : Path
            Its output folder.
        how : How, optional
            A group job of one process by default.

        Returns
        -------
        Running
            The job.
        """
        command = [*how.before, sys.executable, "-m", "bids_parcellate", str(self.dataset), str(output), how.level]
        command += ["--n-parcels", str(N_PARCELS), "--quality", "none", "--nprocs", str(how.n_processes), *how.options]
        variables = {**os.environ, "PYTHONPATH": str(ROOT), **(how.environment or {})}
        return Running(command, {name: value for name, value in variables.items() if value})

    def run(self, output: Path, how: How = PLAIN) -> Ended:
        """Run a job to its end; the parameters are those of `start`.

        Returns
        -------
        Ended
            How it ended.
        """
        return self.start(output, how).end()

    def reference(self, level: str = "group") -> dict[str, str]:
        """Run a job that is left alone.

        Parameters
        ----------
        level : {"participant", "group"}, default="group"
            The analysis level.

        Returns
        -------
        dict of str to str
            Digests of its outputs.

        Raises
        ------
        RuntimeError
            If it fails.
        """
        output = self.fresh(f"reference-{level}")
        ended = self.run(output, How(level=level))
        if ended.code != 0:
            raise RuntimeError(f"a job that was left alone ended with {ended.code}:\n{ended.said}")
        return self.outputs(output)

    def fresh(self, name: str) -> Path:
        """Give an output folder that is not there yet.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        Path
            The folder.
        """
        output = self.folder / name
        shutil.rmtree(output, ignore_errors=True)
        return output

    def outputs(self, output: Path) -> dict[str, str]:
        """Digest outputs, as `tests.outputs.digests`.

        Parameters
        ----------
        output : Path
            The output folder.

        Returns
        -------
        dict of str to str
            Without what a job that was killed has left in the folder of its own log.
        """
        found = digests(output)
        return {name: digest for name, digest in found.items() if not _is_of_one_job(name)}

    def inputs(self) -> dict[str, tuple[int, str]]:
        """Tell the time of change and the digest of each input.

        Returns
        -------
        dict of str to tuple of int and str
            By their names.
        """
        return {
            str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in sorted(self.dataset.rglob("*"))
            if path.is_file()
        }


def _is_of_one_job(name: str) -> bool:
    return name.startswith("logs/") and name.count("/") == 2 and name.endswith(".tmp")


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Compare outputs.

    Parameters
    ----------
    found, expected : mapping of str to str
        Digests by name.

    Returns
    -------
    list of str
        Which are missing, too many, or differ.
    """
    return [
        *(f"{name} is missing" for name in expected.keys() - found.keys()),
        *(f"{name} is too much" for name in found.keys() - expected.keys()),
        *(f"{name} differs" for name in found.keys() & expected.keys() if found[name] != expected[name]),
    ]


def broken_files(output: Path) -> list[str]:
    """Find files that are not whole; those with a temporary name are none.

    Parameters
    ----------
    output : Path
        A folder that a job was writing to.

    Returns
    -------
    list of str
        Their names, and what is wrong.
    """
    found = []
    for path in sorted(output.rglob("*")):
        if path.suffix in _CHECKS and path.is_file():
            try:
                _CHECKS[path.suffix](path)
            except (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
                found.append(f"{path.relative_to(output)} is not whole: {error}")
    return found


def _check_gzip(path: Path) -> None:
    stream = zlib.decompressobj(wbits=31)
    stream.decompress(path.read_bytes())
    if not stream.eof or stream.unused_data:
        raise ValueError("the stream has no end")


def _check_json(path: Path) -> None:
    json.loads(path.read_bytes())


def _check_table(path: Path) -> None:
    text = path.read_text()
    if not text.endswith("\n") or len({line.count("\t") for line in text.splitlines()}) != 1:
        raise ValueError("a line is not complete")


def _check_arrays(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise ValueError("a checksum is wrong")


def _check_page(path: Path) -> None:
    if not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("the page has no end")


_CHECKS: Mapping[str, Callable[[Path], None]] = {
    ".gz": _check_gzip,
    ".json": _check_json,
    ".tsv": _check_table,
    ".npz": _check_arrays,
    ".html": _check_page,
}


@contextmanager
def stopped_when(job: Running, condition: Callable[[], object]) -> Iterator[bool]:
    """Stop a job as soon as something is so, for the time of the block.

    Parameters
    ----------
    job : Running
        The job.
    condition : callable
        Whether it is so.

    Yields
    ------
    bool
        False if the job ended first.
    """
    reached = job.wait_until(condition)
    job.signal(19)  # SIGSTOP
    try:
        yield reached
    finally:
        job.signal(18)  # SIGCONT


def reductions(work: Path) -> list[Path]:
    """List the reductions in a work folder.

    Parameters
    ----------
    work : Path
        The work folder.

    Returns
    -------
    list of Path
        Those that are complete.
    """
    return sorted(work.glob("??/*.npz"))
