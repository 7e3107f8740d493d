"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest

from bids_parcellate.cli import main
from bids_parcellate.demo import Truth, write_dataset

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
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """Three simulated runs of two participants, with their true parcels."""
    folder = tmp_path_factory.mktemp("study")
    return folder, write_dataset(folder, n_subjects=2, n_volumes=80, voxel_size=8.0, n_parcels=10)


@pytest.fixture(scope="session")
def outputs(study: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a group job with two resolutions makes of the study."""
    folder = tmp_path_factory.mktemp("outputs")
    assert main([str(study[0]), str(folder), "group", "--nprocs", "1", "--n-parcels", "10", "30"]) == 0
    return folder
