"""What a process costs: CPU, wall time and peak memory, each peer in a process of its own."""

import ctypes
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_INTERVAL = 0.1  # between two looks at the memory, s: looking takes time of a job that needs all cores
_SOONER = 0.1  # of the time since the start, where that is less: short commands end soon
_SHOWN = 4000  # characters of the output of a process that failed


@dataclass(frozen=True)
class Usage:
    """What a process used, its children included.

    Parameters
    ----------
    cpu : float
        User and system time, s.
    wall : float
        Elapsed time, s.
    memory : float
        Peak of the resident memory, summed over the processes that ran at the same time, MB (10^6 bytes).
    """

    cpu: float
    wall: float
    memory: float


@dataclass(frozen=True)
class Peer:
    """One way to do a piece of work.

    Parameters
    ----------
    command : tuple of str
        What to run.
    scratch : Path, optional
        Folder that is deleted before each run, so that nothing is found done.
    before : callable, optional
        What else must be done before each run; it is not measured.
    results : Path, optional
        Where :mod:`benchmarks.peer` saves what a step returns, with CPU and wall time of the step beside it.
    whole : bool, default=True
        Whether all of the process counts, or only the step: without imports and loading. Memory is always that of all.
    threads : int, default=1
        Threads that linear algebra may use.
    """

    command: tuple[str, ...]
    scratch: Path | None = None
    before: Callable[[], object] | None = None
    results: Path | None = None
    whole: bool = True
    threads: int = 1

    def run(self) -> Usage:
        """Run the peer once.

        Returns
        -------
        Usage
            What it used.
        """
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
        if self.before is not None:
            self.before()
        usage = measure(self.command, threads=self.threads)
        if self.whole or self.results is None:
            return usage
        return Usage(**json.loads(self.results.with_suffix(".json").read_text()), memory=usage.memory)


def step(target: str, folder: Path, *arguments: object, whole: bool = False, threads: int = 1) -> Peer:
    """Make a peer of a function that prepares a step and returns the work.

    Parameters
    ----------
    target : str
        ``module:function`` below `benchmarks`.
    folder : Path
        Where its inputs are.
    *arguments : object
        Its further arguments; it gets them as text.
    whole : bool, default=False
        Whether all of the process counts, imports and loading included.
    threads : int, default=1
        Threads that linear algebra may use.

    Returns
    -------
    Peer
        After it ran, ``peer.results`` holds the arrays that it returned.
    """
    words = tuple(map(str, arguments))
    results = folder / "steps" / f"{'-'.join([target.replace(':', '-'), *words])}.npz"
    command = (sys.executable, "-m", "benchmarks.peer", target, str(results), str(folder), *words)
    return Peer(command, results=results, whole=whole, threads=threads)


def alternate(peers: Sequence[Peer], repeats: int) -> list[list[Usage]]:
    """Run peers in turn, so that all of them see the same weather.

    Parameters
    ----------
    peers : sequence of Peer
        The peers.
    repeats : int
        How often each runs.

    Returns
    -------
    list of list of Usage
        For each peer, one usage for each repeat.
    """
    rounds = [[peer.run() for peer in peers] for _ in range(repeats)]
    return [list(usages) for usages in zip(*rounds, strict=True)]


def measure(command: Sequence[str], *, threads: int = 1) -> Usage:
    """Run a command and measure it.

    Parameters
    ----------
    command : sequence of str
        What to run; the repository is on its path.
    threads : int, default=1
        Threads that linear algebra may use.

    Returns
    -------
    Usage
        CPU time as the kernel adds it up; memory sampled 10 times a second, oftener in the first one, and the kernel's
        peak of the first process.

    Raises
    ------
    RuntimeError
        If the command fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
    _adopt_orphans()
    others = _children(os.getpid())
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=ROOT)
        status, cpu, peak = _watch(process)
        wall = time.perf_counter() - start
        cpu += _cpu_of_orphans(others)
        if status != 0:
            output.seek(0)
            said = output.read().decode(errors="replace")[-_SHOWN:]
            raise RuntimeError(f"{' '.join(command)} ended with {status}:\n{said}")
    return Usage(cpu, wall, peak / 1e6)


def _watch(process: subprocess.Popen[bytes]) -> tuple[int, float, int]:
    """Wait for a process; return its exit code, CPU seconds and peak memory in bytes."""
    peak, start = 0, time.perf_counter()
    ending = os.pidfd_open(process.pid)
    try:
        while True:
            resident = sum(_memory(each, "VmRSS") for each in _tree(process.pid))
            peak = max(peak, resident, _memory(process.pid, "VmHWM"))
            pause = min(_INTERVAL, _SOONER * (time.perf_counter() - start))
            if select.select([ending], [], [], pause)[0]:
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode, used.ru_utime + used.ru_stime, peak
    except BaseException:
        process.kill()
        raise
    finally:
        os.close(ending)


def _adopt_orphans() -> None:
    """Become the parent of processes whose parent ends first, such as those that workers are forked from."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel does not hand over orphans")


def _cpu_of_orphans(others: set[int]) -> float:
    """Wait for what a process has left to this one, which has other children, too; add up its CPU seconds."""
    cpu = 0.0
    while orphans := _children(os.getpid()) - others:
        for pid in orphans:
            _, _, used = os.wait4(pid, 0)
            cpu += used.ru_utime + used.ru_stime
    return cpu


def _tree(pid: int) -> list[int]:
    """List a process and all below it."""
    found = [pid]
    for parent in found:
        found += _children(parent)
    return found


def _children(pid: int) -> set[int]:
    return {int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in _read(task).split()}


def _memory(pid: int, field: str) -> int:
    """Read a figure of the kernel's on a process, bytes; 0 when the process is gone."""
    for line in _read(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):  # the process has just ended
        return ""
