"""The examples of the documentation run as they are, on real data."""

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[1]
PICTURES = {"ward", "original", "compressed", "kmeans", "hierarchical_kmeans", "rena"}


def test_clustering_methods_makes_its_pictures(shared_data, tmp_path):
    source = shared_data / "real" / "twosub_mni4mm" / "sub-ds205s03"
    nib.save(nib.load(next(source.rglob("*_desc-preproc_bold.nii.gz"))).slicer[..., :30], tmp_path / "short.nii.gz")
    script = ROOT / "docs" / "examples" / "clustering_methods.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, script, tmp_path / "short.nii.gz", tmp_path],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "voxels are compressed to 1000 parcels" in done.stdout
    assert {path.stem for path in tmp_path.glob("*.png")} == PICTURES
    for path in tmp_path.glob("*.png"):
        picture = imread(path)[..., :3]
        assert picture.shape[0] > 100
        assert picture.std() > 0.05, f"{path.name} shows something"


def test_the_import_is_the_only_change_from_nilearn():
    lines = (ROOT / "docs" / "examples" / "clustering_methods.py").read_text().splitlines()
    ours = [line for line in lines if "bids_parcellate" in line]
    assert ours == ["from bids_parcellate import Parcellations  # nilearn: from nilearn.regions import Parcellations"]


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_the_guide_shows_the_pictures(name):
    assert f"(images/{name}.png)" in (ROOT / "docs" / "from-nilearn.md").read_text()
    assert (ROOT / "docs" / "images" / f"{name}.png").is_file()
