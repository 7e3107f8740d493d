"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest

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
