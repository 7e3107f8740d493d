import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from bids_parcellate.errors import InputOutputError
from bids_parcellate.execution import executor as executor_module
from bids_parcellate.execution.executor import open_executor, run_tasks, usable_cores

ROOT = Path(__file__).parents[1]


def square(number):
    if number == 3:
        raise ValueError("three")
    return number**2, os.getpid()


def threads(_):
    np.ones(2) @ np.ones(2)
    return [library["num_threads"] for library in threadpool_info()]


def die(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("n_workers", [1, 2])
def test_outcomes_come_in_order_with_errors_in_their_place(n_workers):
    with open_executor(n_workers) as executor:
        outcomes = list(run_tasks(executor, square, range(6)))
    assert [task for task, _ in outcomes] == list(range(6))
    assert isinstance(outcomes[3][1], ValueError)
    results = [outcome for task, outcome in outcomes if task != 3]
    assert [result[0] for result in results] == [0, 1, 4, 16, 25]
    assert (os.getpid() in {result[1] for result in results}) == (n_workers == 1)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_linear_algebra_has_one_thread(n_workers):
    with open_executor(n_workers) as executor:
        ((_, counts),) = run_tasks(executor, threads, [0])
    assert set(counts) == {1}


def test_tasks_and_results_do_not_pile_up():
    handed_out = []

    def tasks():
        for number in range(2000):
            handed_out.append(number)
            yield number

    with open_executor(2) as executor:
        for task, _ in run_tasks(executor, str, tasks()):
            assert len(handed_out) <= task + 512
    assert handed_out == list(range(2000))


def test_one_process_hands_each_result_over_before_the_next_task():
    done = []
    with open_executor(1) as executor:
        for task, _ in run_tasks(executor, done.append, range(3)):
            assert done == list(range(task + 1))


def test_a_dead_worker_is_reported():
    with open_executor(2) as executor, pytest.raises(InputOutputError, match="worker process died"):
        list(run_tasks(executor, die, range(4)))


def test_there_is_a_core():
    assert 1 <= usable_cores() <= os.cpu_count()


def stop(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    return number


def start_workers(executor):
    list(executor.map(abs, range(2)))
    workers = [Path(f"/proc/{child.pid}") for child in multiprocessing.active_children()]
    assert len(workers) == 2
    return workers


def test_workers_that_hang_are_killed_and_reported(monkeypatch):
    monkeypatch.setattr(executor_module, "_INTERVAL", 0.5)
    monkeypatch.setattr(executor_module, "_PATIENCE", 1.0)
    with open_executor(2) as executor:
        workers = start_workers(executor)
        with pytest.raises(InputOutputError, match="did nothing for 1 s"):
            list(run_tasks(executor, stop, range(4)))
    assert not any(worker.exists() for worker in workers)


def test_a_worker_that_hangs_does_not_keep_a_job_from_its_end(monkeypatch):
    monkeypatch.setattr(executor_module, "_INTERVAL", 0.5)
    with open_executor(2) as executor:
        workers = start_workers(executor)
        next(run_tasks(executor, stop, range(2)))
    assert not any(worker.exists() for worker in workers)


_PREPARED = """
import os, sys
from bids_parcellate.execution.executor import open_executor, prepare_workers

def see():
    return "wave" in sys.modules, os.getppid()

if __name__ == "__main__":
    prepare_workers(["wave"])
    with open_executor(2) as executor:
        is_loaded, parent = executor.submit(see).result()
    print(is_loaded, parent not in (1, os.getpid()), "wave" in sys.modules)
"""


def test_workers_find_modules_loaded_that_this_process_never_loads(tmp_path):
    (tmp_path / "prepared.py").write_text(_PREPARED)
    command = [sys.executable, str(tmp_path / "prepared.py")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)}).stdout
    assert printed.split() == ["True", "True", "False"]


def test_workers_start_where_no_socket_can_be_made(tmp_path):
    """The path of a socket has room for 107 bytes."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    (tmp_path / "prepared.py").write_text(_PREPARED)
    command = [sys.executable, str(tmp_path / "prepared.py")]
    environment = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert printed.split() == ["False", "False", "False"]


_PARENT = """
from bids_parcellate.execution.executor import open_executor
import os, time

if __name__ == "__main__":
    with open_executor(2) as executor:
        print(executor.submit(os.getpid).result(), flush=True)
        executor.submit(time.sleep, 100).result()
"""


def test_workers_do_not_outlive_a_job_that_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(_PARENT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists():
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker lived on")
