import os
import signal

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from bids_parcellate.errors import InputOutputError
from bids_parcellate.execution.executor import open_executor, run_tasks, usable_cores


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
def test_threads_of_linear_algebra_are_bounded(n_workers):
    with open_executor(n_workers) as executor:
        outcomes = [dict(run_tasks(executor, threads, [0], n_threads=n_threads))[0] for n_threads in (1, 2)]
    assert [set(counts) for counts in outcomes] == [{1}, {2}]


def test_tasks_and_results_do_not_pile_up():
    handed_out = []

    def tasks():
        for number in range(2000):
            handed_out.append(number)
            yield number

    with open_executor(1) as executor:
        for task, _ in run_tasks(executor, str, tasks()):
            assert len(handed_out) <= task + 512
    assert handed_out == list(range(2000))


def test_a_dead_worker_is_reported():
    with open_executor(2) as executor, pytest.raises(InputOutputError, match="worker process died"):
        list(run_tasks(executor, die, range(4)))


def test_there_is_a_core():
    assert 1 <= usable_cores() <= os.cpu_count()
