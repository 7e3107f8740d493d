"""The study and the outputs that the catalogue of bad input starts from."""

import os
import shutil
from pathlib import Path

import pytest

from bids_parcellate.cli import main
from bids_parcellate.demo import write_dataset
from tests.badinput.sandbox import Sandbox, snapshot


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    write_dataset(folder, n_subjects=2, n_volumes=80, voxel_size=10.0, n_parcels=6)
    return folder


@pytest.fixture(scope="session")
def earlier(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a job; what a test does to its own copy must not reach them."""
    folder = tmp_path_factory.mktemp("earlier")
    assert main([str(pristine), str(folder), "group", "--nprocs", "1", "--n-parcels", "6"]) == 0
    shutil.rmtree(folder / ".work")
    shutil.rmtree(folder / "logs")
    return folder


@pytest.fixture
def box(pristine: Path, earlier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    dataset = shutil.copytree(pristine, tmp_path / "data set ü")
    # Links in place of copies: a job that wrote into a file, and not a new one in its place, would change the earlier.
    output = shutil.copytree(earlier, tmp_path / "out", copy_function=os.link)
    before = snapshot(earlier)
    yield Sandbox(dataset, output, capsys)
    assert snapshot(earlier) == before
