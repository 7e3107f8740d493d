"""What a job runs with: the versions of its libraries, the container, the machine."""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bids_parcellate.version import __version__

PACKAGE = "bids-parcellate"

_LIBRARIES = (
    "dask", "isal", "jinja2", "joblib", "nibabel", "numba", "numpy", "pandas", "pybids", "pydantic",
    "scikit-learn", "scipy", "threadpoolctl",
)  # fmt: skip


@dataclass(frozen=True)
class Container:
    """A container image.

    Parameters
    ----------
    kind : str
        ``docker`` or ``apptainer``.
    name : str
        Its name, as whoever started it gave it.
    """

    kind: str
    name: str


def find_container(environment: Mapping[str, str] = os.environ) -> Container | None:
    """Find out in which container image this process runs.

    Parameters
    ----------
    environment : Mapping, optional
        Environment variables: Apptainer sets its own; ``BIDS_PARCELLATE_DOCKER_TAG`` is for those who start others.

    Returns
    -------
    Container or None
        None outside of containers, and where nothing names the image.
    """
    for variable, kind in (
        ("BIDS_PARCELLATE_DOCKER_TAG", "docker"),
        ("APPTAINER_CONTAINER", "apptainer"),
        ("SINGULARITY_CONTAINER", "apptainer"),
    ):
        if name := environment.get(variable):
            return Container(kind, Path(name).name if kind == "apptainer" else name)
    return None


def image_version(file: Path = Path("/version")) -> str | None:
    """Give the version that the container image says of itself, as images of BIDS-Apps do.

    Parameters
    ----------
    file : Path, optional
        Where it stands.

    Returns
    -------
    str or None
        None where there is no such file.
    """
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def package_versions() -> dict[str, str]:
    """Give the versions of what results depend on.

    Returns
    -------
    dict of str to str
        This package, Python, and the libraries that are installed of those that it may use.
    """
    versions = {PACKAGE: __version__, "python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:  # an optional one
            continue
    return versions


def describe_machine() -> dict[str, object]:
    """Describe the machine.

    Returns
    -------
    dict
        Host, system, architecture, number of cores, and how the interpreter was started.
    """
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": sys.executable,
    }
