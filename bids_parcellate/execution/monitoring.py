"""What tasks and steps cost: time, processor time and memory; the messages of worker processes come back with it."""

import logging
import re
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from bids_parcellate.execution.executor import run_tasks
from bids_parcellate.log import kept_messages, repeat_messages

logger = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

_BYTES = 1 if sys.platform == "darwin" else 1024  # unit of ru_maxrss


def peak_megabytes() -> float:
    """Tell how much memory this process has used at most, since its start.

    Returns
    -------
    float
        Resident memory in MB of 10^6 bytes.
    """
    status = Path("/proc/self/status")
    # On Linux, ru_maxrss of a worker starts at what the process that started it had.
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    peak = int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _BYTES
    return round(peak / 1e6, 1)


@dataclass(frozen=True)
class Usage:
    """What a task took.

    Parameters
    ----------
    seconds, cpu_seconds : float
        Time, and processor time of all threads.
    peak_megabytes : float
        Most memory that the process has used, up to the end of the task.
    """

    seconds: float
    cpu_seconds: float
    peak_megabytes: float


@dataclass
class Step:
    """A part of a job.

    Parameters
    ----------
    name : str
        What it does.
    usage : Usage or None
        What it took in the job's own process; None until it ends.
    tasks : dict of str to Usage
        What each of its tasks took, where it has some.
    """

    name: str
    usage: Usage | None = None
    tasks: dict[str, Usage] = field(default_factory=dict)

    def run(
        self, executor: Executor, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Result | Exception]]:
        """Run one function on many tasks, as `executor.run_tasks`, and note what they take.

        Messages of worker processes are repeated here, when the task's result is.

        Parameters
        ----------
        executor : Executor
            Where they run.
        function : callable
            It takes a task, and can be pickled.
        tasks : iterable
            The tasks.

        Yields
        ------
        task : object
            In the order given.
        outcome : object
            What the function returned, or the exception that it raised.
        """
        for task, observed in run_tasks(executor, _Observed(function), tasks):
            if isinstance(observed, Exception):
                yield task, observed
                continue
            repeat_messages(observed.messages)
            self.tasks[str(task)] = observed.usage
            yield task, observed.outcome


@dataclass(frozen=True)
class _Observation(Generic[Result]):
    """What came of a task, what it took and what it said."""

    outcome: Result | Exception
    usage: Usage
    messages: Sequence[logging.LogRecord]


@dataclass(frozen=True)
class _Observed(Generic[Task, Result]):
    """A function, and an eye on it."""

    function: Callable[[Task], Result]

    def __call__(self, task: Task) -> _Observation[Result]:
        meter = _Meter()
        outcome: Result | Exception
        with kept_messages() as messages:
            try:
                outcome = self.function(task)
            except Exception as error:
                # The trace would be lost on its way between processes.
                logger.debug("%s failed.", task, exc_info=True)
                outcome = error
        return _Observation(outcome, meter.read(), messages)


class _Meter:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def read(self) -> Usage:
        """Say what was taken until now."""
        seconds, cpu_seconds = time.perf_counter() - self._start[0], time.process_time() - self._start[1]
        return Usage(round(seconds, 3), round(cpu_seconds, 3), peak_megabytes())


class Steps(list[Step]):
    """The steps of a job, in their order."""

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Measure what the block takes.

        Parameters
        ----------
        name : str
            What it does.

        Yields
        ------
        Step
            Its usage is known after the block, even if that fails.
        """
        step, meter = Step(name), _Meter()
        self.append(step)
        try:
            yield step
        finally:
            step.usage = meter.read()
