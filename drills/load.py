"""Many jobs at once, and one job of many runs."""

import os
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drills.results import Outcome
from drills.studies import How, Running, Settings, Study, broken_files, differences, workers_of

_N_JOBS, _N_JOBS_QUICK = 20, 3


def concurrent(settings: Settings) -> list[Outcome]:
    """Run jobs at once on one output and work folder.

    Parameters
    ----------
    settings : Settings
        How it is run.

    Returns
    -------
    list of Outcome
        All succeed, and the outputs are those of one job after the other.
    """
    n_jobs = _N_JOBS_QUICK if settings.quick else _N_JOBS
    study = Study.make(settings.work / "concurrent", n_subjects=n_jobs)
    inputs, expected = study.inputs(), study.reference()

    apart = Outcome(f"{n_jobs} participant jobs at once, then the group's")
    output = study.fresh("apart")
    labels = [f"{number:02d}" for number in range(1, n_jobs + 1)]
    jobs = [study.start(output, How(("--participant-label", label), level="participant")) for label in labels]
    for label, job in zip(labels, jobs, strict=True):
        apart.add(f"participant {label}", job.end().problems())
    ended = study.run(output)
    problems = [*ended.problems(), *differences(study.outputs(output), expected), *broken_files(output)]
    apart.check("the group's job", problems)

    together = Outcome("two group jobs at once on the same output")
    output = study.fresh("together")
    jobs = [study.start(output, How(n_processes=2)) for _ in range(2)]
    for number, job in enumerate(jobs, start=1):
        together.add(f"job {number}", job.end().problems())
    problems = [*differences(study.outputs(output), expected), *broken_files(output)]
    together.check("both", [*problems, *([] if study.inputs() == inputs else ["the inputs are changed"])])
    return [apart, together]


_N_RUNS, _N_RUNS_QUICK = 500, 25
_INTERVAL = 0.5  # between two looks at the processes, s

# Memory may grow by this much for each run: in the parent, what it keeps of the run to the end; in workers, nothing but
# the noise of the allocator.
_PARENT_KILOBYTES, _WORKER_KILOBYTES = 60, 20
_LEAST_KILOBYTES = 15_000  # below this in all it is noise


@dataclass(frozen=True)
class _Sample:
    """A process at one time."""

    step: str
    n_done: int
    kilobytes: int
    n_files: int


def soak(settings: Settings) -> list[Outcome]:
    """Run one job of many small runs with two workers, and watch memory and open files of its processes.

    Parameters
    ----------
    settings : Settings
        How it is run.

    Returns
    -------
    list of Outcome
        Memory and open files stay flat, and nothing is left: no process, temporary file or semaphore.
    """
    n_runs = _N_RUNS_QUICK if settings.quick else _N_RUNS
    study = Study.make(settings.work / "soak", n_subjects=n_runs - 1, n_volumes=80, voxel_size=10.0)
    outcome = Outcome(f"a job of {n_runs} runs with two workers")
    output = study.fresh("soaked")
    before = set(_temporary_folder().iterdir())
    job = study.start(output, How(n_processes=2))
    samples, semaphores = _watch(job, output)
    ended = job.end()
    problems = [*ended.problems(), *job.left_behind(), *broken_files(output)]
    problems += [f"{path} is left" for path in output.rglob("*.tmp")]
    problems += [f"{path} is left" for path in semaphores if Path(path).exists()]
    problems += [f"{path} is left" for path in set(_temporary_folder().iterdir()) - before if "bids" in path.name]
    n_tables = len(list(output.rglob("*_timeseries.tsv")))
    problems += [] if n_tables == n_runs else [f"{n_tables} of {n_runs} runs have signals"]
    for name, of_process in samples.items():
        found, notes = _growth(name, of_process)
        problems += found
        outcome.notes += notes
    outcome.notes.append(f"{ended.seconds:.0f} s")
    outcome.n_faults = n_runs
    outcome.check("the job", problems)
    return [outcome]


def _temporary_folder() -> Path:
    return Path(os.environ.get("TMPDIR", "/tmp"))


def _watch(job: Running, output: Path) -> tuple[Mapping[str, list[_Sample]], set[str]]:
    """Look at the processes of a job until it ends; collect the names of shared memory that they map."""
    samples: dict[str, list[_Sample]] = defaultdict(list)
    shared: set[str] = set()
    names: dict[int, str] = {job.pid: "parent"}
    while not job.has_ended:
        step, n_done = _progress(output)
        for pid in workers_of(job):
            names.setdefault(pid, f"worker {len(names)}")
        for pid, name in names.items():
            kilobytes, n_files = _resident(pid), _open_files(pid)
            if kilobytes and n_files:
                samples[name].append(_Sample(step, n_done, kilobytes, n_files))
        shared |= _shared(job.pid)
        time.sleep(_INTERVAL)
    return samples, shared


def _progress(output: Path) -> tuple[str, int]:
    """Read from its log which of its steps that take run after run a job is in, and how far; none between them."""
    for path in output.glob("logs/*/bids-parcellate.log"):
        found = re.findall(r"(\w+ \w+): (\d+) of (\d+), ", path.read_text())
        if not found:
            break
        step, n_done, total = found[-1]
        if n_done != total:
            return step, int(n_done)
        if step == "Extracting signals":
            return "Writing pages", sum(1 for _ in output.glob("sub-*.html"))
    return "", 0


def _resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s*(\d+) kB", _read(f"/proc/{pid}/status"))
    return int(found[1]) if found else 0


def _open_files(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _shared(pid: int) -> set[str]:
    return set(re.findall(r"/dev/shm/\S+", _read(f"/proc/{pid}/maps")))


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _growth(name: str, samples: Sequence[_Sample]) -> tuple[list[str], list[str]]:
    """Compare, within each step, the last fifth with the second: the first is for loading and compiling."""
    problems, notes = [], []
    allowed_each = _PARENT_KILOBYTES if name == "parent" else _WORKER_KILOBYTES
    for step in dict.fromkeys(sample.step for sample in samples if sample.step):
        those = [sample for sample in samples if sample.step == step]
        n_fifth = len(those) // 5
        if n_fifth == 0:
            continue
        early, late = those[n_fifth : 2 * n_fifth], those[-n_fifth:]
        n_runs = late[-1].n_done - early[0].n_done
        growth = _median(each.kilobytes for each in late) - _median(each.kilobytes for each in early)
        files = _median(each.n_files for each in late) - _median(each.n_files for each in early)
        notes.append(f"{name}, {step.lower()}: {growth / 1000:+.1f} MB, {files:+.0f} open files in {n_runs} runs")
        if growth > max(_LEAST_KILOBYTES, allowed_each * n_runs):
            problems.append(f"the memory of the {name} grew by {growth / 1000:.1f} MB in {n_runs} runs ({step})")
        if files > 1:
            problems.append(f"{files:.0f} more files are open in the {name} ({step})")
    return problems, notes


def _median(values: Iterable[int]) -> float:
    return statistics.median(values)
