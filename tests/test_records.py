"""Jobs of different participants that write to one output folder at the same time."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pandas as pd
import pytest

from bids_parcellate.io.naming import OutputNames
from bids_parcellate.outputs import derivatives
from bids_parcellate.outputs.derivatives import RunRecord, write_records


@pytest.fixture
def names(tmp_path):
    return OutputNames(root=tmp_path, space="MNI", atlas="A", method="ward", desc="simple")


def write(participant, *, names):
    runs = [f"sub-{participant}_run-{number}" for number in (1, 2)]
    write_records(
        names,
        [RunRecord(participant, run, f"bids:in:{run}", n_volumes=100, n_kept=90, mean_fd=0.1) for run in runs],
    )


def participants_of(names):
    runs = pd.read_csv(names.root / "logs" / "runs.tsv", sep="\t")
    participants = pd.read_csv(names.root / "participants.tsv", sep="\t")
    assert list(runs["participant_id"].value_counts().sort_index().index) == list(participants["participant_id"])
    assert set(runs["participant_id"].value_counts()) == {2}
    return [participant.removeprefix("sub-") for participant in participants["participant_id"]]


def test_a_job_that_writes_the_tables_late_does_not_take_out_those_that_came_between(names, monkeypatch):
    """One job has read the records; before it writes the tables, another writes its own record and the tables."""
    write_tables = derivatives._write_tables
    others = ["02", "03"]

    def write_tables_late(names, runs):
        if others:
            write(others.pop(), names=names)
        write_tables(names, runs)

    monkeypatch.setattr(derivatives, "_write_tables", write_tables_late)
    write("01", names=names)
    assert participants_of(names) == ["01", "02", "03"]


def test_many_jobs_at_once_lose_nothing(names):
    expected = [f"{number:02d}" for number in range(1, 41)]
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as executor:
        list(executor.map(partial(write, names=names), expected))
    assert participants_of(names) == expected
