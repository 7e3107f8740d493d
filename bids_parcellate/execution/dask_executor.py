"""Workers on other machines, by way of Dask: the only module that imports it.

Workers read and write the same folders as the job that hands out the tasks. What travels is small: a task's paths and
options there, a digest back.
"""

import logging
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from bids_parcellate.errors import InputOutputError, UsageError

try:
    import dask
    from distributed import Client, KilledWorker, Status
    from distributed.security import Security
except ImportError as missing:
    raise UsageError(
        f"--executor dask needs a library that is not installed: {missing.name}.",
        "Install it with the app: pip install 'bids-parcellate[dask]'.",
    ) from missing

logger = logging.getLogger(__name__)

# What Dask itself needs in a job, beside the task: its libraries, and a process that watches over the worker.
_DASK_MEGABYTES = 250

# Memory is planned for one task in a process, and limits of threads hold for all of a process.
_one_at_a_time = Lock()


@contextmanager
def connect(address: str) -> Iterator[Executor]:
    """Use the workers of a Dask scheduler that is running.

    Parameters
    ----------
    address : str
        Where it listens, such as ``tcp://node1:8786``.

    Yields
    ------
    Executor
        It takes functions that can be pickled.

    Raises
    ------
    InputOutputError
        If no scheduler answers there.
    """
    try:
        client = Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        message = f"No Dask scheduler answers at {address}: {error}"
        raise InputOutputError(message, "Start one with `dask scheduler`, and check the address.") from error
    with client:
        yield DaskExecutor(client)


@contextmanager
def start_cluster(system: str, n_jobs: int, *, n_cores: int, megabytes: int, folder: Path) -> Iterator[Executor]:
    """Start workers as jobs of a batch system, and end them with the block.

    What Dask's own configuration (``jobqueue.slurm`` and so on) says of queue, account, time, memory or folders is
    used. A job that ends, as at the end of its time, is replaced.

    Parameters
    ----------
    system : {"slurm", "pbs", "sge", "lsf"}
        The batch system.
    n_jobs : int
        Number of jobs, each of which is one worker.
    n_cores, megabytes : int
        Cores and memory of each; the memory that is configured wins.
    folder : Path
        Where the jobs' logs and temporary files go if nothing else is configured. All machines see it.

    Yields
    ------
    Executor
        It takes functions that can be pickled.

    Raises
    ------
    UsageError
        If the batch system's commands are missing here, or it does not take the jobs.
    """
    kind = _kind_of_cluster(system)
    command = kind.job_cls.submit_command.split()[0]
    if shutil.which(command) is None:
        raise UsageError(f"--dask-cluster {system} needs the command {command}, which is not there.")
    defaults = {
        "memory": f"{megabytes + _DASK_MEGABYTES}MiB",
        "log_directory": str(folder),
        "local_directory": str(folder),
        "shared_temp_directory": str(folder),
    }
    configured = dask.config.get(f"jobqueue.{system}")
    options = {name: value for name, value in defaults.items() if not configured.get(name.replace("_", "-"))}
    extra = [*configured.get("worker-extra-args", ()), "--nthreads", "1"]
    folder.mkdir(parents=True, exist_ok=True)
    # Encrypted, so that nobody else on the network can have the workers run something.
    with (
        kind(
            cores=n_cores,
            processes=1,
            worker_extra_args=extra,
            security=Security.temporary(),
            **options,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        logger.debug("Each worker is a job of %s:\n%s", system, cluster.job_script())
        _submit(cluster, n_jobs)
        logger.info("Submitted %d jobs to %s; their logs are in %s.", n_jobs, system, folder)
        cluster.adapt(minimum_jobs=n_jobs, maximum_jobs=n_jobs)
        yield DaskExecutor(client)


def _kind_of_cluster(system: str) -> Any:
    interrupt = signal.getsignal(signal.SIGINT)
    # Its import replaces what an interrupt does, and fails in threads, in which workers import this module.
    import dask_jobqueue  # noqa: PLC0415

    signal.signal(signal.SIGINT, interrupt)
    return getattr(dask_jobqueue, f"{system.upper()}Cluster")


def _submit(cluster: Any, n_jobs: int) -> None:
    """Submit the jobs and make sure that they were taken, of which Dask itself says so only in its log."""
    cluster.scale(jobs=n_jobs)
    while len(cluster.workers) < n_jobs:
        time.sleep(0.1)
    refused = [job for job in cluster.workers.values() if job.job_id is None]
    for job in refused:
        job.status = Status.failed  # lest the cluster, when it closes, wonders about them
    if refused:
        raise UsageError(
            "The batch system does not take the jobs; the lines above say why.",
            f"Mend Dask's configuration of it. This was to be submitted:\n{cluster.job_script()}",
        )


class DaskExecutor(Executor):
    """Dask's workers as those of a pool.

    Parameters
    ----------
    client : distributed.Client
        Connected to the scheduler.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._executor = client.get_executor(pure=False)
        self._shared: dict[Callable[..., Any], Any] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand out a task.

        Parameters
        ----------
        fn : callable
            The task.
        *args, **kwargs : object
            Its arguments. Functions among the former may hold arrays: each travels once.

        Returns
        -------
        Future
            Its exception is a BrokenExecutor if workers died of the task, or the scheduler is gone.
        """
        future: Future[Any] = Future()
        shared = (self._share(each) if callable(each) else each for each in args)
        self._executor.submit(_alone, fn, *shared, **kwargs).add_done_callback(partial(_pass_on, future))
        return future

    def _share(self, function: Callable[..., Any]) -> Any:
        """Keep a function where the scheduler can make it again, should the worker that holds it die."""
        if function not in self._shared:
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):  # it travels only once
                self._shared[function] = self._client.submit(_itself, function, pure=False)
        return self._shared[function]


def _itself(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _alone(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    with _one_at_a_time:
        return fn(*args, **kwargs)


def _pass_on(future: Future[Any], source: Future[Any]) -> None:
    """Give a pool's future what became of Dask's."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(source.result())
    except (KilledWorker, CancelledError) as error:
        future.set_exception(BrokenExecutor(str(error)))
    except Exception as error:  # noqa: BLE001 - handed to the caller through the future, as executors do
        future.set_exception(error)
