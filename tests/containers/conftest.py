"""Fixtures of the tests of containers."""

from pathlib import Path

import pytest

from tests.containers.fixtures import (  # noqa: F401 - fixtures are found by their names here
    build,
    builder,
    context,
    daemon,
    dataset,
    image,
    singularity_build,
    singularity_image,
)
from tests.containers.jobs import JOBS, docker, hardened, open_folder


@pytest.fixture(scope="session", autouse=True)
def _both_builds(request: pytest.FixtureRequest) -> None:
    """Start both builds at once if both are asked for."""
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    for name in ("build", "singularity_build"):
        if name in wanted:
            request.getfixturevalue(name)


@pytest.fixture(scope="session")
def from_docker(image: str, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """Outputs of the jobs in containers that may do as little as possible."""
    out = open_folder(tmp_path_factory.mktemp("docker") / "out")
    for job in JOBS:
        docker("run", *hardened(dataset, out), image, "/data", "/out", *job)
    return out
