"""The sections of singularity.def, each really run: built in a container, packed, run read-only by an ordinary user.

Apptainer itself is not in Debian. What it does with the sections is done here by hand: ``%files`` and ``%post`` make a
root file system from the base image, ``%environment`` and ``%runscript`` go where Apptainer puts them, and the whole is
packed as squashfs and mounted read-only.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.jobs import (
    JOBS,
    USER,
    docker,
    open_folder,
    read_definition,
    require,
    state,
    unavailable,
    validator_issues,
)
from tests.outputs import digests

pytestmark = pytest.mark.container

METADATA = "/.singularity.d"  # where Apptainer keeps what it needs at run time


@dataclass(frozen=True)
class Container:
    """A packed image that is mounted read-only.

    Parameters
    ----------
    folder : Path
        Where inputs and outputs lie; an ordinary user can reach it, unlike pytest's own folders.
    root : Path
        The file system of the image.
    """

    folder: Path
    root: Path

    def run(self, script: str, *arguments: str) -> None:
        """Run a script of the image as an ordinary user, without a network; only outputs and /tmp can be written."""
        # A read-only root has no place for new mount points. Apptainer lays one over; here two serve that are there.
        mounts = ["--ro-bind", self.root, "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
        mounts += ["--ro-bind", self.folder / "inputs", "/mnt", "--bind", self.folder / "outputs", "/srv"]
        user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
        command = f'. {METADATA}/environment && exec sh -e {METADATA}/{script} "$@"'
        done = subprocess.run(
            [*user, "bwrap", *mounts, "--unshare-all", "sh", "-c", command, script, *arguments],
            env={"PATH": os.environ["PATH"], "HOME": "/tmp", "PYTHONPATH": "/nowhere"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def container(singularity_image: str, dataset: Path) -> Iterator[Container]:
    if os.geteuid() != 0:
        unavailable("mounting a squashfs needs root")
    require("mksquashfs", "squashfs-tools")
    require("bwrap", "bubblewrap")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(dataset, folder / "inputs" / "data")
        open_folder(folder / "outputs")
        unpack(singularity_image, folder / "root")
        packed, mounted = folder / "image.squashfs", open_folder(folder / "mounted")
        # Compression would take most of the time, and changes nothing.
        pack = ["mksquashfs", folder / "root", packed, "-quiet", "-no-progress", "-noI", "-noD", "-noF", "-noX"]
        subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["mount", "-t", "squashfs", "-o", "loop,ro", packed, mounted], check=True)
        try:
            yield Container(folder, mounted)
        finally:
            subprocess.run(["umount", mounted], check=True)


def unpack(image: str, root: Path) -> None:
    """Make a folder of an image, and put the scripts where Apptainer does."""
    name = docker("create", "--network", "none", image, "true").split()[-1]
    try:
        root.mkdir()
        docker("export", "--output", root.with_suffix(".tar"), name)
        subprocess.run(["tar", "-x", "-C", root, "-f", root.with_suffix(".tar")], check=True)
        root.with_suffix(".tar").unlink()
    finally:
        docker("rm", name)
    (root / METADATA[1:]).mkdir()
    _, sections = read_definition()
    for name in ("environment", "runscript", "test"):
        (root / METADATA[1:] / name).write_text(sections[name])


@pytest.fixture(scope="module")
def outputs(container: Container) -> Path:
    for job in JOBS:
        container.run("runscript", "/mnt/data", "/srv", *job)
    return container.folder / "outputs"


def test_environment_is_that_of_the_docker_image(image):
    text = read_definition()[1]["environment"]
    here = dict(re.findall(r"export (\w+)=(\S+)", text))
    there = dict(
        line.split("=", 1)
        for line in docker("image", "inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", image).split()
    )
    assert here.pop("PATH") == "/opt/bids-parcellate/bin:$PATH"
    assert here.items() <= there.items()
    assert {name for name in there if "NUMBA" in name or "TEMPLATEFLOW" in name} <= set(here)


def test_its_own_test_passes(container):
    container.run("test")


def test_outputs_are_those_of_docker(outputs, from_docker):
    assert digests(outputs, Path("/mnt/data")) == digests(from_docker, Path("/data"))


def test_outputs_belong_to_the_user_and_are_valid(outputs):
    assert {owner for name, (owner, _, _) in state(outputs).items() if name != "."} == {USER}
    assert validator_issues(outputs) == []
