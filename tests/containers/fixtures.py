"""A Docker daemon, images of this repository, and an environment with the same libraries outside of a container."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from bids_parcellate.version import __version__
from tests.containers.jobs import REPOSITORY, docker, read_definition, unavailable

TAG = "bids-parcellate:under-test"
SINGULARITY_TAG = "bids-parcellate:from-singularity"
BASE_IMAGE = "python:3.12-slim-bookworm"


@pytest.fixture(scope="session")
def dataset(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two participants of two real studies, in a folder whose name, which is in BIDS URIs, is that in containers."""
    return shutil.copytree(shared_data / "real" / "twosub_mni4mm", tmp_path_factory.mktemp("inputs") / "data")


@pytest.fixture(scope="session")
def context(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this repository gives to a build, with templates that were put there by hand."""
    folder = tmp_path_factory.mktemp("context")
    ignore_file = (REPOSITORY / ".dockerignore").read_text().splitlines()
    for name in ["Dockerfile", ".dockerignore", *(line[1:] for line in ignore_file if line[:1] == "!")]:
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
def builder() -> Iterator[ThreadPoolExecutor]:
    """Images are built side by side: a build has one core's work."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(scope="session")
def build(daemon: None, context: Path, builder: ThreadPoolExecutor) -> Future[str]:
    """The build of the Dockerfile."""
    version = f"VERSION={__version__}"
    return builder.submit(docker, "build", "--network", "host", "--build-arg", version, "--tag", TAG, context)


@pytest.fixture(scope="session")
def image(build: Future[str]) -> str:
    """The image that the Dockerfile makes."""
    build.result()
    return TAG


def say_in_docker() -> str:
    """Say in Docker's words what %files and %post of singularity.def say."""
    keys, sections = read_definition()
    copies = [f"COPY {line.strip()}" for line in sections["files"].splitlines() if line]
    mount = "--mount=type=cache,target=/root/.cache/pip"
    return "\n".join(
        [f"FROM {keys['From']}", *copies, "COPY .post /.post", f"RUN {mount} sh -e /.post && rm /.post", ""]
    )


@pytest.fixture(scope="session")
def singularity_build(daemon: None, context: Path, builder: ThreadPoolExecutor) -> Future[str]:
    """The build of singularity.def."""
    recipe = context / "Dockerfile.singularity"
    recipe.write_text(say_in_docker())
    (context / ".post").write_text(read_definition()[1]["post"])
    ignored = context / "Dockerfile.singularity.dockerignore"
    ignored.write_text((context / ".dockerignore").read_text() + "!.post\n")
    return builder.submit(docker, "build", "--network", "host", "--file", recipe, "--tag", SINGULARITY_TAG, context)


@pytest.fixture(scope="session")
def singularity_image(singularity_build: Future[str]) -> str:
    """An image that holds what singularity.def makes."""
    singularity_build.result()
    return SINGULARITY_TAG


@pytest.fixture(scope="session")
def locked_app(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app outside of a container, in an environment from the same lock; Dask is added to it."""
    folder = tmp_path_factory.mktemp("locked")
    uv, python = Path(sys.executable).with_name("uv"), folder / "venv" / "bin" / "python"
    if not uv.exists():
        unavailable(f"{uv} is missing")
    if subprocess.run(
        [uv, "venv", "--quiet", "--python", python_of_image(), python.parents[1]], check=False
    ).returncode:
        unavailable("Python 3.12, which the image has, is missing here")
    install = [uv, "pip", "install", "--quiet", "--python", python]
    lock = context / "requirements.lock"
    subprocess.run([*install, "--require-hashes", "-r", lock], check=True)
    subprocess.run([*install, "-c", lock, f"bids-parcellate[dask] @ {context.as_uri()}"], check=True)
    return python.with_name("bids-parcellate")


def python_of_image() -> str:
    """Find the Python of the image's version; without one on PATH, its version."""
    version = re.search(r"^FROM python:([0-9.]+)", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)[1]
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return str(found[-1]) if found else version
