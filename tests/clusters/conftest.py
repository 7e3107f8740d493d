"""Fixtures of the tests of clusters: a Slurm, an app from the lock, and what it makes of the data in one process."""

import subprocess
from pathlib import Path

import pytest

from tests.clusters.slurm import OPTIONS
from tests.containers.fixtures import (  # noqa: F401 - fixtures are found by their names here
    build,
    builder,
    context,
    daemon,
    dataset,
    image,
    locked_app,
)
from tests.containers.jobs import unavailable


@pytest.fixture(scope="session", autouse=True)
def slurm() -> None:
    """A Slurm that takes jobs."""
    try:
        nodes = subprocess.run(["sinfo", "-h", "-o", "%T %D"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        unavailable(f"no Slurm answers: {error}")
    if "idle" not in nodes:
        unavailable(f"Slurm has no idle node: {nodes}")


@pytest.fixture(scope="session")
def one_process(locked_app: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """Outputs of one process."""
    out = tmp_path_factory.mktemp("one") / "out"
    subprocess.run([locked_app, dataset, out, "group", "--nprocs", "1", *OPTIONS], check=True)
    return out
