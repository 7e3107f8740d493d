"""What is done and unchanged is not done again: seen in the times of the files of the work folder and outputs."""

import os
import shutil
from pathlib import Path

import pytest

from bids_parcellate.cli import main
from bids_parcellate.io.ledger import Ledger
from tests.outputs import digests


@pytest.fixture
def job(study, outputs, tmp_path):
    """Run jobs on a copy of the study and of what a job made of it; tell which files each wrote anew."""
    return Job(shutil.copytree(study[0], tmp_path / "data"), tmp_path / "out")


class Job:
    def __init__(self, dataset, folder):
        self.dataset, self.folder = dataset, folder

    def run(self, *options, level="group", n_parcels=(10, 30)):
        """Run a job; give the kinds of files that it wrote anew, with how many there are of each."""
        before = self.times()
        assert main(self.arguments(*options, level=level, n_parcels=n_parcels)) == 0
        written = [path for path, time in self.times().items() if before.get(path) != time]
        return {kind: sum(map(matches, written)) for kind, matches in KINDS.items()}

    def arguments(self, *options, level, n_parcels=(10, 30)):
        numbers = map(str, n_parcels)
        fixed = ("--nprocs", "1", "--quality", "none", "--n-parcels", *numbers)
        return [str(self.dataset), str(self.folder), level, *fixed, *options]

    def times(self):
        return {
            path.relative_to(self.folder).as_posix(): path.stat().st_mtime_ns
            for path in self.folder.rglob("*")
            if path.is_file()
        }


KINDS = {
    "reductions": lambda name: name.startswith(".work/") and name.count("/") == 2 and name.endswith(".npz"),
    "group results": lambda name: name.startswith(".work/group/"),
    "time series": lambda name: name.endswith("_timeseries.tsv"),
    "matrices": lambda name: name.endswith("_relmat.tsv"),
}


def made(reductions, group_results, time_series, matrices):
    return dict(zip(KINDS, (reductions, group_results, time_series, matrices), strict=True))


FEATURES, LABELS = 1, 1
HALVES = 2  # the two halves of the participants, in which parcels are tested, are clustered too
ALL = made(3, FEATURES + LABELS, 6, 6)
NOTHING = made(0, 0, 0, 0)


def test_a_job_that_is_done_does_nothing_again(job):
    assert job.run() == ALL
    first = digests(job.folder)
    assert job.run() == NOTHING
    assert job.run("--nprocs", "2") == NOTHING
    assert digests(job.folder) == first
    assert job.run("--quality", "standard")["group results"] == HALVES
    assert job.run("--quality", "standard")["group results"] == 0


def test_options_invalidate_what_depends_on_them(job):
    job.run()
    assert job.run("--atlas-name", "Other", "--authors", "Me", "--license", "CC0")["group results"] == 0
    assert job.run("--min-coverage", "0.6") == made(0, 0, 6, 6)
    assert job.run("--connectivity", "partial", "--min-coverage", "0.6")["group results"] == 0
    job.run()
    assert job.run(n_parcels=(10, 20)) == made(0, LABELS, 3, 3)
    assert job.run("--n-components", "50")["reductions"] == 3
    assert job.run("--smoothing-fwhm", "6")["reductions"] == 3
    assert job.run("--smoothing-fwhm", "6", "--method", "kmeans")["reductions"] == 0


def test_an_earlier_configuration_costs_only_the_outputs_that_another_overwrote(job):
    job.run()
    first = digests(job.folder)
    job.run("--n-components", "50")
    assert digests(job.folder) != first
    assert job.run() == made(0, 0, 6, 6)
    assert digests(job.folder) == first


def test_a_changed_input_invalidates_its_own_run(job):
    job.run()
    (table,) = job.dataset.rglob("sub-02_*_desc-confounds_timeseries.tsv")
    rows = table.read_text().splitlines()
    table.write_text("\n".join([*rows[:2], *rows[:1:-1]]) + "\n")
    written = job.run()
    assert written["reductions"] == 1
    assert written["group results"] > 0


def test_a_new_participant_adds_only_its_own_reduction(job):
    hidden = job.folder.with_name("hidden")
    shutil.move(job.dataset / "sub-02", hidden)
    assert job.run()["reductions"] == 2
    shutil.move(hidden, job.dataset / "sub-02")
    assert job.run(level="participant") == made(1, 0, 2, 2)
    assert job.run()["reductions"] == 0


def test_what_is_missing_or_changed_is_made_anew(job):
    job.run()
    first = digests(job.folder)
    series = sorted(job.folder.rglob("*_timeseries.tsv"))
    series[0].unlink()
    series[-1].write_text("mine\n")
    written = job.run()
    assert (written["reductions"], written["group results"]) == (0, 0)
    assert written["time series"] == 2
    assert digests(job.folder) == first


@pytest.mark.parametrize("level", ["participant", "group"])
def test_a_job_that_was_interrupted_goes_on(job, level, monkeypatch):
    """Killed after each file that it writes to the work folder, and started again, until it is done."""
    expected = Job(job.dataset, job.folder.with_name("expected"))
    expected.run(level=level)

    class Killed(KeyboardInterrupt):
        pass

    replace = Path.replace

    def replace_and_die(path, target):
        done = replace(path, target)
        if ".work" in Path(target).parts:
            raise Killed
        return done

    monkeypatch.setattr(Path, "replace", replace_and_die)
    arguments = job.arguments(level=level)
    n_starts = 1
    while main(arguments) != 0:
        n_starts += 1
        assert n_starts < 20
    monkeypatch.undo()
    assert n_starts > 3
    assert digests(job.folder) == digests(expected.folder)


def test_notes_that_are_damaged_are_not_trusted(tmp_path, caplog):
    ledger, output = Ledger(tmp_path / "notes"), tmp_path / "output"
    assert not ledger.is_done("ab")
    output.write_text("done")
    note = ledger.note("ab", [output])
    assert ledger.is_done("ab")
    os.utime(output, ns=(0, 0))
    assert not ledger.is_done("ab")
    ledger.note("ab", [output])
    note.write_bytes(note.read_bytes()[:5])
    assert not ledger.is_done("ab")
    assert str(note) in caplog.text
