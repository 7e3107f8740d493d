"""Jobs on a real Slurm: an array of participants and then the group, and Dask's workers as jobs."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bids_parcellate.cli import main
from tests.containers.jobs import unavailable
from tests.outputs import digests

pytestmark = pytest.mark.slurm

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = REPOSITORY / "docs" / "slurm"
OPTIONS = ("--confounds", "none", "--n-parcels", "20", "50")
SMALL = ("--cpus-per-task=1", "--mem=1500M")


@pytest.fixture(scope="module", autouse=True)
def slurm():
    """A Slurm that takes jobs."""
    try:
        nodes = subprocess.run(["sinfo", "-h", "-o", "%T %D"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        unavailable(f"no Slurm answers: {error}")
    if "idle" not in nodes:
        unavailable(f"Slurm has no idle node: {nodes}")


@pytest.fixture(scope="module")
def dataset(shared_data):
    """Two participants of two real studies."""
    return shared_data / "real" / "twosub_mni4mm"


@pytest.fixture(scope="module")
def expected(dataset, tmp_path_factory):
    """Outputs of one process."""
    folder = tmp_path_factory.mktemp("expected")
    assert main([str(dataset), str(folder), "group", "--nprocs", "1", *OPTIONS]) == 0
    return digests(folder, dataset)


class Study:
    """A copy of the dataset, and the documented scripts with settings for it."""

    def __init__(self, dataset, folder):
        self.data, self.out, self.work = folder / dataset.name, folder / "out", folder / "work"
        shutil.copytree(dataset, self.data)
        self.settings = folder / "settings.sh"
        self.settings.write_text(
            (SCRIPTS / "settings.sh").read_text().replace("/data/study/derivatives/fmriprep", str(self.data))
            + f"OUT={self.out} WORK={self.work}\n"
            f"OPTIONS=({' '.join(OPTIONS)})\n"
            f"export PYTHONPATH={REPOSITORY}\n"
            f"APP=({sys.executable} -m bids_parcellate)\n"
        )

    def submit(self):
        """Submit and wait; give what the script says, and the final state of every job."""
        done = subprocess.run(
            [SCRIPTS / "submit.sh", self.settings, *SMALL], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        jobs = [line.split()[1].rstrip(":") for line in done.stdout.splitlines()]
        return done.stdout, [wait_for(job) for job in jobs]

    def reductions(self):
        return {path: path.stat().st_mtime_ns for path in self.work.glob("*/*.npz")}

    def logs(self):
        return "\n".join(path.read_text() for path in self.work.glob("slurm/*/*.log"))


def wait_for(job, timeout=180):
    """Wait for a job, or all tasks of an array; give their states by task."""
    ending = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL"}
    start = time.monotonic()
    while time.monotonic() - start < timeout:
        shown = subprocess.run(["scontrol", "-o", "show", "job", job], capture_output=True, text=True, check=True)
        states = {}
        for line in shown.stdout.splitlines():
            fields = dict(field.split("=", 1) for field in line.split() if "=" in field)
            states[fields.get("ArrayTaskId", "")] = fields["JobState"]
        if set(states.values()) <= ending:
            return states
        time.sleep(0.5)
    raise AssertionError(f"job {job} does not end: {states}")


def test_an_array_in_which_a_participant_fails_and_is_retried_and_then_the_group(dataset, expected, tmp_path):
    study = Study(dataset, tmp_path)
    (image,) = study.data.glob("sub-feeds/func/*_desc-preproc_bold.nii.gz")
    image.rename(tmp_path / "elsewhere")
    image.symlink_to("../../.git/annex/objects/not-here.nii.gz")  # as in a dataset of DataLad that was not fetched

    said, (array, group) = study.submit()
    assert "2 participants: ds205s03 feeds" in said
    assert array == {"1": "COMPLETED", "2": "FAILED"}, study.logs()
    assert group == {"": "CANCELLED"}
    assert "datalad get" in study.logs()
    first = study.reductions()
    assert len(first) == 1

    image.unlink()
    shutil.copy2(tmp_path / "elsewhere", image)
    said, (array, group) = study.submit()
    assert "1 participants: feeds" in said
    assert array == {"1": "COMPLETED"}, study.logs()
    assert group == {"": "COMPLETED"}, study.logs()
    assert first.items() <= study.reductions().items(), "what was done is not done again"
    assert len(study.reductions()) == 2

    assert digests(study.out, study.data) == expected


def test_workers_of_dask_are_jobs_of_slurm(dataset, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    command = [sys.executable, "-m", "bids_parcellate", dataset, tmp_path / "out", "group", "--nprocs", "2", *OPTIONS]
    command += ["--executor", "dask", "--dask-cluster", "slurm"]
    before = jobs_so_far()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "out", dataset) == expected
    assert jobs_so_far() - before == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"], (
        "nothing is left in the folder that the job was started in"
    )


def test_a_queue_that_is_not_there_is_an_error(dataset, tmp_path):
    command = [sys.executable, "-m", "bids_parcellate", dataset, tmp_path / "out", "group", *OPTIONS]
    command += ["--executor", "dask", "--dask-cluster", "slurm"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "DASK_JOBQUEUE__SLURM__QUEUE": "nowhere"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path, env=environment
    )
    assert done.returncode == 64
    assert "invalid partition specified: nowhere" in done.stderr


def jobs_so_far():
    """Count the jobs that Slurm remembers."""
    shown = subprocess.run(["scontrol", "-o", "show", "job"], capture_output=True, text=True, check=True)
    return sum("JobId=" in line for line in shown.stdout.splitlines())
