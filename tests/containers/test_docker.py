"""The image that the Dockerfile makes, on real data, with as few rights as Docker can give."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bids_parcellate.version import __version__
from tests.containers.fixtures import BASE_IMAGE
from tests.containers.jobs import (
    OPTIONS,
    REPOSITORY,
    USER,
    docker,
    hardened,
    open_folder,
    state,
    validator_issues,
)
from tests.outputs import digests

pytestmark = pytest.mark.container

MEGABYTE = 10**6
LARGEST_ADDITION = 455 * MEGABYTE  # with one template; below 700 MB on a base of up to 245 MB

FIND_PROBLEMS = """
from pathlib import Path
from bids_parcellate.outputs.validation import find_problems

print(find_problems(Path("/out")))
"""

# Names what numba compiles in each of several jobs.
COUNT_COMPILATIONS = """
import json, sys
from numba import njit
from numba.core.event import install_recorder
from bids_parcellate.cli import main

with install_recorder("numba:compile") as control:
    njit(lambda number: number)(1)
assert control.buffer, "what is compiled would be seen"
for number, job in enumerate(json.loads(sys.argv[1])):
    with install_recorder("numba:compile") as recorder:
        assert main(["/data", f"/out/{number}", "group", "-w", "/out/work", *job]) == 0, job
    print("compiled", *(event.data["dispatcher"] for _, event in recorder.buffer if event.is_start))
"""

# Options that have kernels of their own, some of them as the build of the image does not use them.
OPTIONS_WITH_KERNELS = (
    "--quality full --n-bootstrap 2 --n-random 2",
    "--n-parcels auto 20 30 --individual --n-random 2",
    "--method complete --n-random 2 --smoothing-fwhm 6",
    "--method average --split-hemispheres --min-size 5 --n-random 2",
    "--method kmeans --contiguous --individual --n-random 2",
    "--method hierarchical_kmeans --n-random 2 --n-components 10",
    "--method rena --features nilearn --n-random 2 --target-res 6",
)


def inspect(image: str, template: str) -> str:
    return docker("image", "inspect", "--format", template, image).strip()


def normalise(requirement: str) -> tuple[str, str]:
    name, _, version = requirement.partition("==")
    return re.sub(r"[-_.]+", "-", name).lower(), version


@pytest.fixture(scope="module")
def bill(image: str) -> dict[str, Any]:
    """The bill of materials."""
    path = "/opt/bids-parcellate/sbom.cdx.json"
    return json.loads(docker("run", "--rm", "--network", "none", "--entrypoint", "cat", image, path))


def run_python(image: str, options: list[str], code: str, *arguments: str) -> str:
    return docker("run", *options, "--entrypoint", "python", image, "-c", code, *arguments)


class TestImage:
    def test_it_is_small(self, image):
        # What lies upon the base image counts: a stand-in for the official one may be larger than that is.
        added = int(inspect(image, "{{.Size}}")) - int(inspect(BASE_IMAGE, "{{.Size}}"))
        assert added < LARGEST_ADDITION

    def test_it_says_what_it_is(self, image):
        labels = json.loads(inspect(image, "{{json .Config.Labels}}"))
        assert labels["org.opencontainers.image.title"] == "bids-parcellate"
        assert labels["org.opencontainers.image.version"] == __version__
        assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
        assert inspect(image, "{{.Config.User}}") == f"{USER}:{USER}"
        assert (
            docker("run", "--rm", "--network", "none", "--entrypoint", "cat", image, "/version").strip() == __version__
        )

    def test_its_bill_of_materials_is_what_is_installed_and_what_the_lock_names(self, image, bill):
        app, (python, *libraries) = bill["metadata"]["component"], bill["components"]
        assert (app["type"], app["name"], app["version"]) == ("application", "bids-parcellate", __version__)
        assert (python["type"], python["name"], python["version"][:5]) == ("platform", "CPython", "3.12.")
        named = {(each["name"], each["version"]) for each in libraries}
        lock = (REPOSITORY / "requirements.lock").read_text()
        assert named == {*re.findall(r"^(\S+)==(\S+) \\$", lock, re.MULTILINE)}  # without those of other systems
        code = "from importlib.metadata import distributions as d; print(*(f'{x.name}=={x.version}' for x in d()))"
        installed = {normalise(each) for each in run_python(image, ["--rm", "--network", "none"], code).split()}
        assert installed == named | {("bids-parcellate", __version__)}

    def test_what_is_installed_fits_together(self, image):
        check = ["/usr/local/bin/python", image, "-m", "pip", "--python", "/opt/bids-parcellate", "check"]
        text = docker("run", "--rm", "--read-only", "--network", "none", "--entrypoint", *check)
        assert "No broken requirements found." in text

    def test_its_bill_of_materials_has_what_cyclonedx_asks_for(self, bill):
        assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.5", 1)
        app, (python, *libraries) = bill["metadata"]["component"], bill["components"]
        assert {each["type"] for each in libraries} == {"library"}
        assert all(each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}" for each in [app, *libraries])
        references = [each["bom-ref"] for each in [app, python, *libraries]]
        assert len(references) == len(set(references))
        needs = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}
        assert set(needs) == {*references} - {"python"}
        assert all(set(each) <= set(references) for each in needs.values())
        assert {each.split("/")[1].split("@")[0] for each in needs[app["bom-ref"]]} >= {"numba", "pybids", "isal"}

    def test_any_user_may_run_it(self, image, dataset, tmp_path):
        out = open_folder(tmp_path / "out")
        text = docker("run", *hardened(dataset, out, user=54321), image, "/data", "/out", "group", "--check", *OPTIONS)
        assert "2 runs will be used" in text

    def test_kernels_are_found_and_not_compiled(self, image, dataset, tmp_path):
        out = open_folder(tmp_path / "out")
        base = ["--confounds", "none", "--nprocs", "1"]
        jobs = [[*base, "--n-parcels", "20", *options.split()] for options in OPTIONS_WITH_KERNELS]
        text = run_python(image, hardened(dataset, out), COUNT_COMPILATIONS, json.dumps(jobs))
        assert re.findall(r"^compiled.*$", text, re.MULTILINE) == ["compiled"] * len(jobs)

    def test_templates_are_inside(self, image, dataset, tmp_path):
        out = open_folder(tmp_path / "out")
        job = ("participant", *OPTIONS, "--participant-label", "feeds", "--mask", "whole-brain-template")
        docker("run", *hardened(dataset, out), image, "/data", "/out", *job)
        assert len([*out.glob(".work/*/*.npz")]) == 1, "the run is reduced in the template's mask"


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
        assert digests(out, Path("/data")) == digests(from_docker, Path("/data")), (
            "all at once gives what one after the other gave"
        )


class TestMemory:
    def test_a_job_keeps_within_the_limit_of_the_container(self, image, dataset, tmp_path):
        out = open_folder(tmp_path / "out")
        options = hardened(dataset, out, memory="1g")
        job = ("/data", "/out", "group", *OPTIONS, "--nprocs", "8", "--mem", "1G")
        (needs,) = re.findall(
            r"about (\d+) MB of memory with (\d+) processes", docker("run", *options, image, *job, "--check")
        )
        assert int(needs[0]) <= 1024
        assert needs[1] == "1", "two of the eight would need more"
        docker("run", *options, image, *job)

    def test_the_limit_of_the_container_is_known_without_being_told(self, image, dataset, tmp_path):
        out = open_folder(tmp_path / "out")
        options = hardened(dataset, out, memory="300m")
        text = docker("run", *options, image, "/data", "/out", "group", *OPTIONS, code=64)
        assert "300 MB are allowed" in text

    def test_the_limit_is_a_real_one(self, image, dataset, tmp_path):
        options = [*hardened(dataset, open_folder(tmp_path / "out"), memory="300m"), "--entrypoint", "python"]
        docker("run", *options, image, "-c", "b'x' * 10**9", code=137)
