"""Jobs on a real Slurm: an array of participants and then the group, and Dask's workers as jobs."""

import os
import re
import shutil
import subprocess

import pytest

from tests.clusters.slurm import OPTIONS, Study, show_jobs, wait_for
from tests.outputs import digests

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def needed(locked_app, dataset, tmp_path_factory):
    """The memory that the app says its jobs need here, as an option of sbatch."""
    out = tmp_path_factory.mktemp("check") / "out"
    command = [locked_app, dataset, out, "group", "--nprocs", "1", "--check", *OPTIONS]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return f"--mem={re.search(r'about ([0-9]+) MB of memory', text)[1]}M"


def test_an_array_in_which_a_participant_fails_and_is_retried_and_then_the_group(
    locked_app, dataset, needed, one_process, tmp_path
):
    study = Study(shutil.copytree(dataset, tmp_path / "data"), tmp_path, [str(locked_app)])
    (image,) = study.data.glob("sub-feeds/func/*_desc-preproc_bold.nii.gz")
    image.rename(tmp_path / "elsewhere")
    image.symlink_to("../../.git/annex/objects/not-here.nii.gz")  # as in a dataset of DataLad that was not fetched

    said, (array, group) = study.submit(needed)
    assert "2 participants: ds205s03 feeds" in said
    assert array == {"1": "COMPLETED", "2": "FAILED"}, study.logs()
    assert group == {"": "CANCELLED"}
    assert "datalad get" in study.logs()
    first = study.reductions()
    assert len(first) == 1

    image.unlink()
    shutil.copy2(tmp_path / "elsewhere", image)
    said, (array, group) = study.submit(needed)
    assert "1 participants: feeds" in said
    assert array == {"1": "COMPLETED"}, study.logs()
    assert group == {"": "COMPLETED"}, study.logs()
    assert first.items() <= study.reductions().items(), "what was done is not done again"
    assert len(study.reductions()) == 2

    assert digests(study.out, study.data) == digests(one_process, dataset)


def test_a_job_that_takes_more_memory_than_it_asked_for_is_ended():
    # So the jobs above, which were given what the app says it needs, did keep to it.
    take = "b = b'x' * 500_000_000; import time; time.sleep(60)"
    command = ["sbatch", "--parsable", "--mem=100M", "--output=/dev/null", "--wrap", f'python3 -c "{take}"']
    job = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert wait_for(job) in ({"": "OUT_OF_MEMORY"}, {"": "CANCELLED"}, {"": "FAILED"})
    assert show_jobs(job)[0]["RunTime"] < "00:00:45"


def test_a_queue_that_is_not_there_is_an_error(locked_app, dataset, tmp_path):
    command = [locked_app, dataset, tmp_path / "out", "group", *OPTIONS]
    command += ["--executor", "dask", "--dask-cluster", "slurm"]
    environment = os.environ | {"DASK_JOBQUEUE__SLURM__QUEUE": "nowhere"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path, env=environment
    )
    assert done.returncode == 64
    assert "invalid partition specified: nowhere" in done.stderr
