"""Dask's workers as an executor: a real scheduler and real workers, each a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bids_parcellate.cli import main
from bids_parcellate.errors import InputOutputError, UsageError
from bids_parcellate.execution import dask_executor
from bids_parcellate.execution.executor import run_tasks
from tests.outputs import digests

REPOSITORY = Path(__file__).parents[1]


def square(number):
    if number == 3:
        raise ValueError("three")
    return number**2, os.getpid()


class Values:
    """An array that is larger than Dask likes in a task."""

    def __init__(self):
        self.array = np.ones(2_000_000)
        self.n_times_sent = 0

    def __getstate__(self):
        self.n_times_sent += 1
        return vars(self)


def total(number, *, values):
    return values.array.sum() + number


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


class Dask:
    """A scheduler and its workers, which end with the block."""

    def __init__(self, folder, n_workers):
        self.folder = folder
        self.environment = os.environ | {
            "PYTHONPATH": str(REPOSITORY),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
            "DASK_TEMPORARY_DIRECTORY": str(folder),
        }
        self.processes = []
        contact = folder / "scheduler.json"
        self.start("scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", contact)
        while not contact.exists() or not contact.read_text().endswith("}"):
            time.sleep(0.1)
        self.address = json.loads(contact.read_text())["address"]
        for _ in range(n_workers):
            self.start("worker", self.address, "--nthreads", "4", "--no-dashboard", "--host", "127.0.0.1")

    def start(self, *arguments):
        command = [sys.executable, "-m", "dask", *map(str, arguments)]
        with (self.folder / f"{len(self.processes)}.log").open("w") as log:
            options = {"stdout": log, "stderr": log, "start_new_session": True}
            self.processes.append(subprocess.Popen(command, env=self.environment, cwd=self.folder, **options))

    def stop(self):
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    running = Dask(tmp_path_factory.mktemp("dask"), n_workers=2)
    yield running
    running.stop()


def test_outcomes_come_in_order_with_errors_in_their_place(dask):
    with dask_executor.connect(dask.address) as executor:
        outcomes = list(run_tasks(executor, square, range(6)))
    assert [task for task, _ in outcomes] == list(range(6))
    assert isinstance(outcomes[3][1], ValueError)
    results = [outcome for task, outcome in outcomes if task != 3]
    assert [result[0] for result in results] == [0, 1, 4, 16, 25]
    assert os.getpid() not in {result[1] for result in results}


def test_arrays_of_a_function_travel_once(dask):
    values = Values()
    with dask_executor.connect(dask.address) as executor:
        outcomes = dict(run_tasks(executor, partial(total, values=values), range(20)))
    assert outcomes == {n: 2_000_000 + n for n in range(20)}
    assert values.n_times_sent == 1


def test_a_worker_with_threads_works_on_one_task_at_a_time(dask):
    with dask_executor.connect(dask.address) as executor:
        most = [outcome for _, outcome in run_tasks(executor, tasks_at_once, range(8))]
    assert set(most) == {1}


_AT_ONCE = []


def tasks_at_once(number):
    _AT_ONCE.append(number)
    time.sleep(0.05)
    n_running = len(_AT_ONCE)
    _AT_ONCE.remove(number)
    return n_running


def test_the_same_bytes_as_in_one_process(dask, study, outputs, tmp_path):
    options = ("--n-parcels", "10", "30", "--executor", "dask", "--dask-address", dask.address)
    assert main([str(study[0]), str(tmp_path), "group", *options]) == 0
    assert digests(tmp_path) == digests(outputs)


def test_a_task_that_kills_its_worker_ends_the_job(dask):
    with dask_executor.connect(dask.address) as executor, pytest.raises(InputOutputError, match="worker process died"):
        list(run_tasks(executor, die, range(1)))


def test_no_scheduler_is_an_error_that_names_the_address(capsys, study, tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "1")
    options = ("--executor", "dask", "--dask-address", "tcp://127.0.0.1:9")
    with dask_executor.dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        assert main([str(study[0]), str(tmp_path), "group", *options]) == InputOutputError.exit_code
    assert "tcp://127.0.0.1:9" in capsys.readouterr().err


def test_a_batch_system_that_is_not_there_is_named(capsys, study, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    options = ("--executor", "dask", "--dask-cluster", "lsf")
    assert main([str(study[0]), str(tmp_path / "out"), "group", *options]) == UsageError.exit_code
    assert "bsub" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ("--executor", "dask"),
        ("--dask-address", "tcp://node1:8786"),
        ("--executor", "dask", "--dask-address", "tcp://node1:8786", "--dask-cluster", "slurm"),
        ("--executor", "dask", "--dask-cluster", "condor"),
    ],
)
def test_options_that_do_not_go_together(options, capsys, tmp_path):
    assert main([str(tmp_path), str(tmp_path / "out"), "group", *options]) == UsageError.exit_code
    assert "dask" in capsys.readouterr().err


def test_memory_of_workers_elsewhere_is_not_asked_of_this_machine(study, tmp_path, capsys):
    def check(*options):
        code = main([str(study[0]), str(tmp_path), "group", "--check", "--nprocs", "3", "--mem", "600M", *options])
        assert code == 0
        return capsys.readouterr().out

    assert "with 1 processes" in check()
    assert "with 3 processes" in check("--executor", "dask", "--dask-address", "tcp://node1:8786")


def test_an_interrupt_still_ends_the_job_after_the_cluster_library_was_loaded():
    before = signal.getsignal(signal.SIGINT)
    assert dask_executor._kind_of_cluster("slurm").__name__ == "SLURMCluster"
    assert signal.getsignal(signal.SIGINT) is before
