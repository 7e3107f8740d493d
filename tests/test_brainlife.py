"""The brainlife app as brainlife starts it: `main` in a folder with config.json, here without the container."""

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

REPOSITORY = Path(__file__).parents[1]
MAIN = REPOSITORY / "platforms" / "brainlife" / "main"


def run_app(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([MAIN], cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def app(study, tmp_path_factory):
    """The folder of the app after it has run on two runs of the simulated study."""
    folder = tmp_path_factory.mktemp("brainlife")
    names = [path.name.partition("_space-")[0] for path in sorted(study[0].rglob("*_desc-preproc_bold.nii.gz"))][1:]

    def find(ending):
        return [str(next(study[0].rglob(f"{name}{ending}"))) for name in names]

    config = {
        "bold": find("_space-*_desc-preproc_bold.nii.gz"),
        "mask": find("_space-*_desc-brain_mask.nii.gz"),
        "regressors": find("_desc-confounds_timeseries.tsv"),
        "regressors_json": find("_desc-confounds_timeseries.json"),
        "space": "MNI152NLin2009cAsym",
        "n_parcels": 10,
        "method": "ward",
        "smoothing_fwhm": "",
        "_inputs": [{"id": "bold", "meta": {"subject": f"{n}-a", "RepetitionTime": 2.0}} for n in (1, 2)],
    }
    done = run_app(folder, config)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_parcellation_has_an_image_with_labels_and_a_key(app):
    image = nib.load(app / "parcellation" / "parc.nii.gz")
    labels = json.loads((app / "parcellation" / "label.json").read_text())
    values = np.unique(np.asarray(image.dataobj))
    assert [each["voxel_value"] for each in labels] == list(values[1:]) == list(range(1, 11))
    assert len((app / "parcellation" / "key.txt").read_text().splitlines()) == 10


def test_time_series_and_connectome_are_those_of_the_outputs(app):
    index = json.loads((app / "conmat" / "index.json").read_text())
    assert len(index) == 2
    for run, entry in zip(sorted((app / "timeseries").iterdir()), index, strict=True):
        series = pd.read_csv(io.BytesIO(gzip.decompress((run / "timeseries.tsv.gz").read_bytes())), sep="\t")
        matrix = pd.read_csv(app / "conmat" / entry["filename"], header=None)
        assert run.name in entry["filename"]
        assert series.shape[1] == len(json.loads((run / "label.json").read_text())) == 10
        np.testing.assert_allclose(matrix, np.corrcoef(series.T), atol=1e-5)
    labels = json.loads((app / "conmat" / "label.json").read_text())
    assert [each["name"] for each in labels] == ["self-loop", *series.columns]


def test_the_product_says_what_was_made(app):
    product = json.loads((app / "product.json").read_text())
    assert product["brainlife"][0]["type"] == "success"
    assert product["tags"] == ["ward", "10 parcels"]
    assert (app / "output" / "group.html").is_file()


def test_a_failure_has_the_app_s_exit_code_and_a_product(tmp_path):
    done = run_app(tmp_path, {"bold": "missing.nii.gz", "space": "MNI152NLin2009cAsym"})
    assert done.returncode == 18
    assert json.loads((tmp_path / "product.json").read_text())["brainlife"][0]["type"] == "error"
    assert "missing.nii.gz" in done.stderr


def test_main_has_heads_for_both_batch_systems():
    text = MAIN.read_text()
    assert "#PBS -l nodes=1" in text
    assert "#SBATCH --mem" in text
    sample = json.loads((MAIN.parent / "config.json.sample").read_text())
    assert len(sample["bold"]) == len(sample["mask"]) == len(sample["regressors"])
