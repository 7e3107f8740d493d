"""The job that every kind of container does here, and how containers are started."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).parents[2]
VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")

PARTICIPANTS = ("feeds", "ds205s03")
OPTIONS = ("--confounds", "none", "--n-parcels", "20", "50", "--nprocs", "1")
JOBS = (*(("participant", "--participant-label", label, *OPTIONS) for label in PARTICIPANTS), ("group", *OPTIONS))
"""Arguments after BIDS_DIR and OUTPUT_DIR: one participant after the other, and then the group."""

USER = 1000


def unavailable(reason: str) -> NoReturn:
    """Skip a test that cannot run here; with CI=true it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def require(command: str, package: str) -> None:
    """Require a program of a Debian package, which is installed with CI=true."""
    if subprocess.run(["which", command], capture_output=True, check=False).returncode == 0:
        return
    if os.environ.get("CI") == "true":
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], check=True)
    else:
        unavailable(f"{command} is missing; it is in Debian's package {package}")


def read_definition() -> tuple[dict[str, str], dict[str, str]]:
    """Split singularity.def into its header and its sections."""
    header, *parts = re.split(r"^%", (REPOSITORY / "singularity.def").read_text(), flags=re.MULTILINE)
    keys = dict(line.split(": ", 1) for line in header.strip().splitlines())
    return keys, {name: text for name, _, text in (part.partition("\n") for part in parts)}


def docker(*arguments: object, code: int = 0) -> str:
    """Call Docker; its exit code must be the one given. Returns what it prints, errors included."""
    done = subprocess.run(
        ["docker", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def hardened(data: Path, out: Path, *, user: int = USER, memory: str = "2g") -> list[str]:
    """Options of `docker run` that take away from a container all that it does not need."""
    return [
        *("--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "all"),
        *("--security-opt", "no-new-privileges", "-u", f"{user}:{user}", "-m", memory, "--memory-swap", memory),
        *("-v", f"{data}:/data:ro", "-v", f"{out}:/out"),
    ]


def open_folder(path: Path) -> Path:
    """Make a folder that any user may write to."""
    path.mkdir()
    path.chmod(0o777)
    return path


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Say of each file and folder its owner, size and time of change."""
    found = {path.relative_to(folder).as_posix(): path.lstat() for path in [folder, *folder.rglob("*")]}
    return {name: (status.st_uid, status.st_size, status.st_mtime_ns) for name, status in found.items()}


def validator_issues(folder: Path) -> Sequence[object]:
    """Every error and warning of the BIDS validator."""
    report = subprocess.run([VALIDATOR, folder, "--format", "json"], capture_output=True, check=False)
    issues: Sequence[object] = json.loads(report.stdout)["issues"]["issues"]
    return issues
