"""Many independent tasks, on one core or several: the same results in the same order."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from bids_parcellate.errors import InputOutputError

Task = TypeVar("Task")
Result = TypeVar("Result")

# Tasks that are handed out before the first of them is done; more than any machine has cores.
_AHEAD = 512


class SerialExecutor(Executor):
    """Runs each task in this process, when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a task now.

        Parameters
        ----------
        fn : callable
            The task.
        *args, **kwargs : object
            Its arguments.

        Returns
        -------
        Future
            It is done.
        """
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - handed to the caller through the future, as executors do
            future.set_exception(error)
        return future


def usable_cores() -> int:
    """Count the cores that this process may use.

    Returns
    -------
    int
        At least 1.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def open_executor(n_workers: int) -> Iterator[Executor]:
    """Open workers for independent tasks.

    Parameters
    ----------
    n_workers : int
        Number of processes; 1 works in this process.

    Yields
    ------
    Executor
        It takes functions that can be pickled.
    """
    if n_workers == 1:
        yield SerialExecutor()
        return
    # Fresh interpreters: forking a process that has threads (BLAS, numba) can hang.
    with ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn")) as executor:
        yield executor


def run_tasks(
    executor: Executor, function: Callable[[Task], Result], tasks: Iterable[Task], *, n_threads: int = 1
) -> Iterator[tuple[Task, Result | Exception]]:
    """Run one function on many tasks.

    Parameters
    ----------
    executor : Executor
        Where they run.
    function : callable
        It takes a task.
    tasks : iterable
        The tasks. Only some of them are handed out ahead, so that neither they nor their results pile up.
    n_threads : int, default=1
        Threads that linear algebra may use in each task.

    Yields
    ------
    task : object
        In the order given, whichever is finished first.
    outcome : object
        What the function returned, or the exception that it raised.

    Raises
    ------
    InputOutputError
        If a worker process died, as it does when the machine runs out of memory.
    """
    pending: deque[tuple[Task, Future[Result]]] = deque()
    remaining = iter(tasks)
    try:
        while True:
            for task in islice(remaining, _AHEAD - len(pending)):
                pending.append((task, executor.submit(_limited, function, task, n_threads)))
            if not pending:
                return
            task, future = pending.popleft()
            outcome = _outcome(task, future)
            yield task, outcome
    finally:
        for _, future in pending:
            future.cancel()


def _limited(function: Callable[[Task], Result], task: Task, n_threads: int) -> Result:
    # Limits hold only for libraries that are loaded, so they are set here, where the function has been.
    with threadpool_limits(n_threads):
        return function(task)


def _outcome(task: object, future: Future[Result]) -> Result | Exception:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise InputOutputError(
            f"A worker process died while {task} or one of the next tasks was running.",
            "Most often memory ran out: lower --nprocs or --mem, or give Dask's workers more, and start again; what is "
            "done is kept. (A script that calls this package needs the guard: if __name__ == '__main__'.)",
        ) from error
    except Exception as error:  # noqa: BLE001 - the caller decides what a failed task means
        return error
