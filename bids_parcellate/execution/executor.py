"""Many independent tasks, on one core or several: the same results in the same order."""

import logging
import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from multiprocessing import connection, forkserver
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from bids_parcellate.errors import InputOutputError

logger = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

# Tasks that are handed out before the first of them is done; more than any machine has cores.
_AHEAD = 512

# A network disk may come back after minutes; a worker that was stopped, or waits for another for ever, does not.
_PATIENCE = 300.0  # s
_INTERVAL = 10.0  # between two looks at the workers, s


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


class LocalExecutor(ProcessPoolExecutor):
    """Worker processes of this machine that cannot keep a job waiting for ever, and do not outlive it.

    Parameters
    ----------
    n_workers : int
        Number of processes.
    """

    def __init__(self, n_workers: int) -> None:
        self._others = set(multiprocessing.active_children())
        super().__init__(n_workers, _start_forkserver(), initializer=_end_with_parent)

    @property
    def _workers(self) -> list[BaseProcess]:
        return [child for child in multiprocessing.active_children() if child not in self._others]

    def wait_for(self, future: Future[Any]) -> None:
        """Wait until a task is done, as long as any worker works.

        The workers hang if none of them uses processor time for 300 s while a task is pending. Time in which this
        process itself was suspended does not count. Without ``/proc`` (not on Linux) it waits for ever.

        Parameters
        ----------
        future : Future
            The task's.

        Raises
        ------
        InputOutputError
            If the workers hang; they are killed.
        """
        quiet, before = 0.0, ""
        while not wait([future], timeout=_INTERVAL).done:
            used = "".join(map(_processor_time, self._workers))
            quiet = quiet + _INTERVAL if used and used == before else 0.0
            before = used
            if quiet >= _PATIENCE:
                self._kill()
                raise InputOutputError(
                    f"The worker processes did nothing for {quiet:.0f} s: one was stopped, or waits for a disk.",
                    "Look at the disks and the machine, and start again; what is done is kept.",
                )

    def close(self) -> None:
        """End the workers; one that does not end by itself is killed."""
        workers = self._workers
        self.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            connection.wait([worker.sentinel], timeout=_INTERVAL)
            worker.kill()
            worker.join()

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()


def _end_with_parent() -> None:
    """Let this worker end when the process that started it is killed, of which it would hear nothing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(process: BaseProcess) -> None:
    process.join()
    os._exit(1)


def _processor_time(process: BaseProcess) -> str:
    """Give the processor time of a process so far, as the kernel writes it; nothing where it cannot be read."""
    try:
        status = Path(f"/proc/{process.pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    _, _, after_name = status.rpartition(")")
    return " ".join([f"{process.pid}", *after_name.split()[11:13]]) + "\n"  # user, system


def usable_cores() -> int:
    """Count the cores that this process may use.

    Returns
    -------
    int
        At least 1.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_workers(modules: Sequence[str]) -> None:
    """Let the process that workers are forked from import what they need, while this one goes on.

    Parameters
    ----------
    modules : sequence of str
        Names of modules.
    """
    multiprocessing.set_forkserver_preload(list(modules))
    _start_forkserver()


def _start_forkserver() -> BaseContext:
    """Start the process that workers are forked from, unless it runs.

    It imports what they need and does nothing else: forking this process, which has threads (BLAS, numba), could hang,
    and a fresh interpreter for each worker takes two seconds. That is what is left where no socket can be made.
    """
    try:
        forkserver.ensure_running()
    except OSError as error:
        logger.info("Workers take seconds to start: a socket in TMPDIR, for temporary files, failed (%s).", error)
        return multiprocessing.get_context("spawn")
    return multiprocessing.get_context("forkserver")


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
    executor = LocalExecutor(n_workers)
    try:
        yield executor
    finally:
        executor.close()


def run_tasks(
    executor: Executor, function: Callable[[Task], Result], tasks: Iterable[Task]
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

    Yields
    ------
    task : object
        In the order given, whichever is finished first.
    outcome : object
        What the function returned, or the exception that it raised.

    Raises
    ------
    InputOutputError
        If a worker process died, as it does when the machine runs out of memory, or the workers hang.
    """
    pending: deque[tuple[Task, Future[Result]]] = deque()
    remaining = iter(tasks)
    n_ahead = 1 if isinstance(executor, SerialExecutor) else _AHEAD
    try:
        while True:
            for task in islice(remaining, n_ahead - len(pending)):
                pending.append((task, executor.submit(_limited, function, task)))
            if not pending:
                return
            task, future = pending.popleft()
            if isinstance(executor, LocalExecutor):
                executor.wait_for(future)
            outcome = _outcome(task, future)
            yield task, outcome
    finally:
        for _, future in pending:
            future.cancel()


def _limited(function: Callable[[Task], Result], task: Task) -> Result:
    # The last bits of a product depend on the number of threads of the library that computes it: it has one, and the
    # threads are ours. Limits hold only for libraries that are loaded: here those of the function are.
    with _libraries(len(sys.modules)).limit(limits=1):
        return function(task)


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> ThreadpoolController:
    """Find the libraries that have threads, again only when more modules are imported; that takes 7 ms."""
    del n_modules
    return ThreadpoolController()


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
