"""A Docker daemon, an image of this repository, and outputs of the same job on the host and in a container."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bids_parcellate.version import __version__
from tests.containers.jobs import JOBS, REPOSITORY, docker, hardened, open_folder, unavailable


@pytest.fixture(scope="session")
def dataset(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two participants of two real studies, in a folder whose name, which is in BIDS URIs, is that in containers."""
    return shutil.copytree(shared_data / "real" / "twosub_mni4mm", tmp_path_factory.mktemp("inputs") / "data")


@pytest.fixture(scope="session")
def context(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this repository gives to a build, with templates that were put there by hand."""
    folder = tmp_path_factory.mktemp("context")
    ignore_file = (REPOSITORY / ".dockerignore").read_text().splitlines()
    for name in [
        "Dockerfile",
        "singularity.def",
        ".dockerignore",
        *(line[1:] for line in ignore_file if line[:1] == "!"),
    ]:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    shutil.copytree(shared_data / "templateflow", folder / "containers" / "templateflow", dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def daemon() -> None:
    """A Docker daemon that answers."""
    try:
        subprocess.run(["docker", "version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        unavailable("no Docker daemon answers")


@pytest.fixture(scope="session")
def image(daemon: None, context: Path) -> str:
    """The image that the Dockerfile makes."""
    tag = "bids-parcellate:under-test"
    docker("build", "--network", "host", "--build-arg", f"VERSION={__version__}", "--tag", tag, context)
    return tag


@pytest.fixture(scope="session")
def from_host(context: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of the jobs without a container, by an environment from the same lock."""
    folder = tmp_path_factory.mktemp("host")
    uv, python = Path(sys.executable).with_name("uv"), folder / "venv" / "bin" / "python"
    if not uv.exists():
        unavailable(f"{uv} is missing")
    if subprocess.run(
        [uv, "venv", "--quiet", "--python", python_of_image(), python.parents[1]], check=False
    ).returncode:
        unavailable("Python 3.12, which the image has, is missing here")
    install = [uv, "pip", "install", "--quiet", "--python", python]
    subprocess.run([*install, "--require-hashes", "-r", context / "requirements.lock"], check=True)
    subprocess.run([*install, "--no-deps", context], check=True)
    for job in JOBS:
        subprocess.run([python.with_name("bids-parcellate"), dataset, folder / "out", *job], check=True)
    return folder / "out"


def python_of_image() -> str:
    """Find the Python of the image's version; without one on PATH, its version."""
    version = re.search(r"^FROM python:([0-9.]+)", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)[1]
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return str(found[-1]) if found else version


@pytest.fixture(scope="session")
def from_docker(image: str, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of the jobs in containers that may do as little as possible."""
    out = open_folder(tmp_path_factory.mktemp("docker") / "out")
    for job in JOBS:
        docker("run", *hardened(dataset, out), image, "/data", "/out", *job)
    return out
