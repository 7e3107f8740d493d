"""Fixtures that several test modules share."""

import fcntl
import os
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from bids_parcellate import demo
from bids_parcellate.cli import main

SHARED_DATA = Path(os.environ.get("BIDS_PARCELLATE_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data; without it a test is skipped, but with CI=true it fails."""
    if SHARED_DATA.is_dir():
        return SHARED_DATA
    reason = f"real data not found at {SHARED_DATA}; set BIDS_PARCELLATE_DATA to its folder"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, demo.Truth]:
    """Three simulated runs of two participants, with their true parcels."""
    folder = tmp_path_factory.mktemp("study")
    return folder, demo.write_dataset(folder, n_subjects=2, n_volumes=80, voxel_size=8.0, n_parcels=10)


@pytest.fixture(scope="session")
def outputs(study: tuple[Path, demo.Truth], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a group job with two resolutions makes of the study."""
    folder = tmp_path_factory.mktemp("outputs")
    assert main([str(study[0]), str(folder), "group", "--nprocs", "1", "--n-parcels", "10", "30"]) == 0
    return folder


@pytest.fixture(scope="session")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, in the place of an earlier one, and what it said (demo.txt): made once for all workers of pytest."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished-demo"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "demo.txt").exists():
            demo.write_dataset(folder / "demo" / "fmriprep", n_subjects=2, n_volumes=80, voxel_size=8.0, n_parcels=20)
            with (folder / "said").open("w") as said, redirect_stdout(said):
                assert demo.main([str(folder / "demo")]) == 0
            (folder / "said").rename(folder / "demo.txt")
    return folder
