"""The same bytes from one process, two, Dask's workers, a job array, and containers.

What a job says of itself differs, and is left out: the folder of its log, configuration and provenance
(``logs/<time>_<id>``), and in the pages the command and the configuration. Times and machines are in nothing else.
"""

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from tests.clusters.slurm import OPTIONS, Study, show_jobs
from tests.containers.jobs import docker, hardened, open_folder

pytestmark = pytest.mark.slurm

JOB_OF_ITS_OWN = re.compile(r"logs/\d{8}-\d{6}_[0-9a-f-]{36}/")
COMMAND_AND_CONFIGURATION = re.compile(rb"<pre[^>]*><code>.*?</code></pre>", re.DOTALL)


def compared(folder: Path, dataset: Path) -> dict[str, str]:
    """Digest each file of the outputs but for what a job says of itself."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: hashlib.sha256(content(path, dataset)).hexdigest()
        for name, path in paths.items()
        if not name.startswith(".work/") and not JOB_OF_ITS_OWN.match(name)
    }


def content(path: Path, dataset: Path) -> bytes:
    """Read a file, pages without command and configuration, the description without the place of the dataset."""
    text = path.read_bytes()
    if path.suffix == ".html":
        return COMMAND_AND_CONFIGURATION.sub(b"", text)
    return text.replace(dataset.as_uri().encode(), b"") if path.name == "dataset_description.json" else text


@pytest.fixture(scope="module")
def expected(one_process, dataset):
    files = compared(one_process, dataset)
    assert len(files) > 30
    assert {"group.html", "logs/runs.tsv", "dataset_description.json"} <= set(files)
    return files


def test_two_processes(locked_app, dataset, expected, tmp_path):
    subprocess.run([locked_app, dataset, tmp_path / "out", "group", "--nprocs", "2", *OPTIONS], check=True)
    assert compared(tmp_path / "out", dataset) == expected


def test_dask_with_two_workers_that_are_jobs_of_slurm(locked_app, dataset, expected, tmp_path):
    command = [locked_app, dataset, tmp_path / "out", "group", "--nprocs", "2", *OPTIONS]
    command += ["--executor", "dask", "--dask-cluster", "slurm"]
    before = len(show_jobs())
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert compared(tmp_path / "out", dataset) == expected
    assert len(show_jobs()) - before == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing is left where the job was started"


def test_an_array_of_slurm_and_then_the_group(locked_app, dataset, expected, tmp_path):
    study = Study(dataset, tmp_path, [str(locked_app)])
    _, states = study.submit("--mem=1500M")
    assert states == [{"1": "COMPLETED", "2": "COMPLETED"}, {"": "COMPLETED"}], study.logs()
    assert compared(study.out, dataset) == expected


def test_a_container(image, dataset, expected, tmp_path):
    out = open_folder(tmp_path / "out")
    docker("run", *hardened(dataset, out), image, "/data", "/out", "group", "--nprocs", "1", *OPTIONS)
    assert compared(out, Path("/data")) == expected


def test_an_array_of_slurm_whose_tasks_run_the_container(image, dataset, expected, tmp_path):
    mounts = ["-v", f"{dataset}:{dataset}:ro", "-v", "{out}:{out}", "-v", "{work}:{work}"]
    limits = [
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--network",
        "none",
        "--cap-drop",
        "all",
        "-u",
        "1000:1000",
        "-m",
        "1500m",
    ]
    study = Study(dataset, tmp_path, ["docker", "run", "--rm", *limits, *mounts, image])
    _, states = study.submit("--mem=1500M")
    assert states == [{"1": "COMPLETED", "2": "COMPLETED"}, {"": "COMPLETED"}], study.logs()
    assert compared(study.out, dataset) == expected
    assert {path.stat().st_uid for path in study.out.rglob("*")} == {1000}
