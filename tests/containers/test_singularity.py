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
    REPOSITORY,
    USER,
    digests,
    docker,
    open_folder,
    require,
    state,
    unavailable,
    validator_issues,
)

pytestmark = pytest.mark.container

DEFINITION = REPOSITORY / "singularity.def"
SECTIONS = {"setup", "files", "post", "environment", "runscript", "startscript", "test", "labels", "help"}
METADATA = "/.singularity.d"  # where Apptainer keeps what it needs at run time


def read_definition() -> tuple[dict[str, str], dict[str, str]]:
    """Split the definition into its header and its sections."""
    header, *parts = re.split(r"^%", DEFINITION.read_text(), flags=re.MULTILINE)
    keys = dict(line.split(": ", 1) for line in header.strip().splitlines())
    return keys, {name: text for name, _, text in (part.partition("\n") for part in parts)}


def dockerfile(keys: dict[str, str], sections: dict[str, str]) -> str:
    """Say in Docker's words what %files and %post say."""
    copies = [f"COPY {line.strip()}" for line in sections["files"].splitlines() if line]
    mount = "--mount=type=cache,target=/root/.cache/pip"
    return "\n".join(
        [f"FROM {keys['From']}", *copies, "COPY .post /.post", f"RUN {mount} sh -e /.post && rm /.post", ""]
    )


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
def container(daemon: None, context: Path, dataset: Path) -> Iterator[Container]:
    if os.geteuid() != 0:
        unavailable("mounting a squashfs needs root")
    require("mksquashfs", "squashfs-tools")
    require("bwrap", "bubblewrap")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(dataset, folder / "inputs" / "data")
        open_folder(folder / "outputs")
        build(context, folder / "root")
        packed, mounted = folder / "image.squashfs", open_folder(folder / "mounted")
        # Compression would take most of the time, and changes nothing.
        pack = ["mksquashfs", folder / "root", packed, "-quiet", "-no-progress", "-noI", "-noD", "-noF", "-noX"]
        subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["mount", "-t", "squashfs", "-o", "loop,ro", packed, mounted], check=True)
        try:
            yield Container(folder, mounted)
        finally:
            subprocess.run(["umount", mounted], check=True)


def build(context: Path, root: Path) -> None:
    """Run %files and %post, and put the scripts where Apptainer does."""
    keys, sections = read_definition()
    (context / ".post").write_text(sections["post"])
    with (context / ".dockerignore").open("a") as ignored:
        ignored.write("!.post\n")
    (context / "Dockerfile.singularity").write_text(dockerfile(keys, sections))
    tag = "bids-parcellate:from-singularity"
    docker("build", "--network", "host", "--file", context / "Dockerfile.singularity", "--tag", tag, context)
    name = docker("create", "--network", "none", tag, "true").split()[-1]
    try:
        root.mkdir()
        docker("export", "--output", root.with_suffix(".tar"), name)
        subprocess.run(["tar", "-x", "-C", root, "-f", root.with_suffix(".tar")], check=True)
    finally:
        docker("rm", name)
    (root / METADATA[1:]).mkdir()
    for name in ("environment", "runscript", "test"):
        (root / METADATA[1:] / name).write_text(sections[name])


@pytest.fixture(scope="module")
def outputs(container: Container) -> Path:
    for job in JOBS:
        container.run("runscript", "/mnt/data", "/srv", *job)
    return container.folder / "outputs"


def test_sections_are_those_that_there_are():
    keys, sections = read_definition()
    assert set(keys) == {"Bootstrap", "From"}
    assert keys["Bootstrap"] == "docker"
    assert {"post", "environment", "runscript", "test", "labels", "help"} <= set(sections) <= SECTIONS
    assert all(text.strip() for text in sections.values())


def test_it_starts_from_the_image_that_docker_starts_from():
    bases = re.findall(r"^FROM (\S+:\S+)", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    assert {read_definition()[0]["From"]} == set(bases)


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


def test_labels_are_names_and_values():
    labels = dict(line.split(maxsplit=1) for line in read_definition()[1]["labels"].splitlines() if line)
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_outputs_are_those_of_docker(outputs, from_docker):
    assert digests(outputs, "/mnt/data") == digests(from_docker, "/data")


def test_outputs_belong_to_the_user_and_are_valid(outputs):
    assert {owner for name, (owner, _, _) in state(outputs).items() if name != "."} == {USER}
    assert validator_issues(outputs) == []
