"""Jobs that are killed at any moment, and workers that die or hang."""

import os
import random
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from drills.results import Outcome
from drills.studies import (
    How,
    Running,
    Settings,
    Study,
    broken_files,
    differences,
    reductions,
    workers_of,
)

_WITH_TWO = How(n_processes=2)
_N_KILLS, _N_KILLS_QUICK = 200, 5


def kill(settings: Settings) -> list[Outcome]:
    """Kill jobs at random moments, spread over the time that an undisturbed job takes, until they get done.

    Parameters
    ----------
    settings : Settings
        How it is run.

    Returns
    -------
    list of Outcome
        For each level and number of processes: no file is ever half there, and the job that gets done gives the bytes
        of the one that was left alone.
    """
    study = Study.make(settings.work / "kill")
    rng = random.Random(settings.seed)
    n_kills = _N_KILLS_QUICK if settings.quick else _N_KILLS
    levels, numbers = (("group",), (1,)) if settings.quick else (("participant", "group"), (1, 2))
    kinds = list(product(levels, numbers))
    return [_kill_often(study, level, number, n_kills // len(kinds), rng) for level, number in kinds]


def _kill_often(study: Study, level: str, n_processes: int, n_kills: int, rng: random.Random) -> Outcome:
    outcome = Outcome(f"`kill -9` of a {level} job of {n_processes} process{'es' if n_processes > 1 else ''}")
    inputs, expected, how = study.inputs(), study.reference(level), How(level=level, n_processes=n_processes)
    duration = study.run(study.fresh("timed"), how).seconds
    n_done, n_starts, n_temporary = 0, 0, 0
    output = study.fresh("killed")
    while outcome.n_faults < n_kills or n_starts:
        job = study.start(output, how)
        moment = rng.uniform(0, duration)
        if outcome.n_faults < n_kills and not job.wait_until(lambda: False, longest=moment) and not job.has_ended:
            job.signal(signal.SIGKILL)
            job.end()
            n_starts += 1
            n_temporary += sum(1 for _ in output.rglob("*.tmp"))
            outcome.add(f"after {moment:.2f} s", [*broken_files(output), *_wrong_already(study, output, expected)])
            continue
        ended = job.end()
        problems = [*ended.problems(), *differences(study.outputs(output), expected)]
        problems += [] if study.inputs() == inputs else ["the inputs are changed"]
        problems += [f"{path} is left" for path in output.glob(".work/**/*.tmp")]
        outcome.check("the job that got done", problems)
        n_done, n_starts = n_done + 1, 0
        output = study.fresh("killed")
    outcome.notes += [f"{n_done} jobs got done", f"an undisturbed one takes {duration:.1f} s"]
    outcome.notes += [f"{n_temporary} times a temporary file was left, and removed by the next job"]
    return outcome


def _wrong_already(study: Study, output: Path, expected: dict[str, str]) -> Iterable[str]:
    """Find outputs of an interrupted job that are not those that it would have in the end."""
    if not output.exists():
        return []
    found = study.outputs(output)
    return [f"{name} differs" for name in found.keys() & expected.keys() if found[name] != expected[name]]


@dataclass(frozen=True)
class _Harm:
    """What is done to the processes of a job, and how it must end."""

    what: str
    signal: int
    to_parent: bool = False
    code: int = 74
    says: str = ""


_HARMS = (
    _Harm("a worker is killed", signal.SIGKILL, says="A worker process died"),
    _Harm("a worker is stopped for ever", signal.SIGSTOP, says="The worker processes did nothing for"),
    _Harm("only the parent is killed", signal.SIGKILL, to_parent=True, code=-signal.SIGKILL),
)


def workers(settings: Settings) -> list[Outcome]:
    """Kill or stop one of two workers in the middle of the job, or only the process that started them.

    Parameters
    ----------
    settings : Settings
        How it is run; a worker that is stopped takes five minutes to be noticed, and is left out if it is quick.

    Returns
    -------
    list of Outcome
        The job ends and says why, no process is left, and a restart gives the same bytes.
    """
    study = Study.make(settings.work / "workers", n_subjects=5 if settings.quick else 11)
    expected = study.reference()
    harms = [harm for harm in _HARMS if not (settings.quick and harm.signal == signal.SIGSTOP)]
    outcomes = []
    for harm in harms:
        outcome = Outcome(f"{harm.what}, in a job of two")
        for n_done in (1,) if settings.quick or harm.signal == signal.SIGSTOP else (0, 1, 3, 6):
            _harm(study, harm, n_done, expected, outcome)
        outcomes.append(outcome)
    return outcomes


def _harm(study: Study, harm: _Harm, n_done: int, expected: dict[str, str], outcome: Outcome) -> None:
    output = study.fresh("harmed")
    job = study.start(output, _WITH_TWO)
    reached = job.wait_until(lambda: len(reductions(output / ".work")) >= n_done and len(workers_of(job)) == 2)
    problems = [] if reached else ["the job ended before it could be harmed"]
    if reached:
        os.kill(job.pid if harm.to_parent else workers_of(job)[-1], harm.signal)
    harmed = time.perf_counter()
    ended = job.end()
    outcome.notes.append(f"ended {time.perf_counter() - harmed:.0f} s later")
    problems += [*ended.problems(harm.code, harm.says), *job.left_behind(), *broken_files(output)]
    _clean_up(job)
    problems += [*study.run(output, _WITH_TWO).problems(), *differences(study.outputs(output), expected)]
    outcome.add(f"after {n_done} reductions", problems)


def _clean_up(job: Running) -> None:
    for pid in workers_of(job):
        os.kill(pid, signal.SIGKILL)
    while workers_of(job):
        time.sleep(0.1)
