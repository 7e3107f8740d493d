"""Summaries and connectivity that the command line writes, against nilearn on the signals that it writes."""

import json

import numpy as np
import pandas as pd
import pytest
from nilearn.connectome import ConnectivityMeasure

from bids_parcellate.cli import main
from bids_parcellate.outputs.validation import find_problems

KINDS = ("pearson", "partial", "covariance", "precision", "tangent")
NILEARN = {
    "pearsoncorrelation": "correlation",
    "partialcorrelation": "partial correlation",
    "covariance": "covariance",
    "precision": "precision",
    "tangent": "tangent",
}


def run_job(dataset, folder, *options, level="group"):
    arguments = [str(dataset), str(folder), level, "--nprocs", "1", "--n-parcels", "10", *map(str, options)]
    assert main(arguments) == 0
    return folder


def read(folder, pattern, **options):
    return [pd.read_csv(path, sep="\t", **options) for path in sorted(folder.glob(pattern))]


@pytest.fixture(scope="module")
def outputs_of_all_kinds(study, outputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    return run_job(study[0], folder, "--connectivity", *KINDS, "--work-dir", outputs / ".work")


@pytest.mark.parametrize("label", [label for label in NILEARN if label != "pearsoncorrelation"])
def test_matrices_equal_nilearn(outputs_of_all_kinds, label):
    series = [table.to_numpy() for table in read(outputs_of_all_kinds, "sub-*/*/func/*_timeseries.tsv")]
    assert len(series) == 3
    expected = ConnectivityMeasure(kind=NILEARN[label], standardize=False).fit_transform(series)
    found = read(outputs_of_all_kinds, f"sub-*/*/func/*_stat-{label}_*_relmat.tsv", index_col="Node")
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_tables_hold_together(outputs_of_all_kinds):
    assert find_problems(outputs_of_all_kinds) == []


def test_sidecars_say_how(outputs_of_all_kinds):
    (path,) = outputs_of_all_kinds.glob("sub-02/*/func/*_stat-tangent_*_relmat.json")
    sidecar = json.loads(path.read_text())
    assert sidecar["CovarianceEstimator"] == "Ledoit-Wolf"
    assert 0 < sidecar["Shrinkage"] < 1
    assert sidecar["ValidDiagonal"] is True
    assert "geometricmean" in sidecar["Sources"][1]
    text = (outputs_of_all_kinds / "logs" / "CITATION.md").read_text()
    assert "Ledoit and Wolf 2004" in text
    assert "Varoquaux et al. 2010" in text


def test_a_later_participant_is_compared_with_the_same_reference(study, outputs_of_all_kinds, tmp_path):
    def tangents():
        (path,) = outputs_of_all_kinds.glob("sub-02/*/func/*_stat-tangent_*_relmat.tsv")
        return path.read_bytes()

    before = tangents()
    options = ("--connectivity", "tangent", "--participant-label", "02", "--work-dir", tmp_path)
    run_job(study[0], outputs_of_all_kinds, *options, level="participant")
    assert tangents() == before


@pytest.mark.parametrize("summary", ["median", "eigenvariate"])
def test_other_summaries_are_like_the_mean_but_not_the_mean(study, outputs, tmp_path, summary):
    run_job(study[0], tmp_path, "--summary", summary, "--work-dir", outputs / ".work")
    (found,) = read(tmp_path, f"sub-02/*/func/*_stat-{summary}_*_timeseries.tsv")
    (mean,) = read(outputs, "sub-02/*/func/*_scale-10_*stat-mean_*_timeseries.tsv")
    likeness = [np.corrcoef(found[name], mean[name])[0, 1] for name in mean]
    assert 0.8 < np.min(likeness) < 0.99999
    np.testing.assert_allclose(found.std(), 1, rtol=1e-4)


def test_the_median_is_that_of_the_voxels(study, outputs, tmp_path):
    """Whether the signals come from the reduction or, where it is cut off, from the image."""
    for name, options in (("whole", ()), ("cut", ("--n-components", "20"))):
        work = ("--work-dir", outputs / ".work")
        run_job(study[0], tmp_path / name, "--summary", "median", "--standardize", "psc", *options, *work)
        assert len(read(tmp_path / name, "sub-*/*/func/*_timeseries.tsv")) == 3
    labels = [path.read_bytes() for path in sorted(tmp_path.glob("*/tpl-*/anat/*_dseg.nii.gz"))]
    whole, cut = (read(tmp_path / name, "sub-02/*/func/*_timeseries.tsv")[0] for name in ("whole", "cut"))
    if labels[0] == labels[1]:
        np.testing.assert_allclose(whole, cut, atol=1e-3)
    assert whole.abs().to_numpy().max() < 20, "percent"


def test_parcels_that_a_run_hardly_covers_are_not_available(study, outputs, tmp_path):
    run_job(study[0], tmp_path, "--min-coverage", "1", "--mask-threshold", "0.3", "--smoothing-fwhm", "0")
    series = sorted(tmp_path.glob("sub-*/*/func/*_timeseries.tsv"))
    shares = {
        path: [value["Coverage"] for key, value in json.loads(path.with_suffix(".json").read_text()).items()
               if key.startswith("parcel")]
        for path in series
    }  # fmt: skip
    assert any(share < 1 for each in shares.values() for share in each)
    for path in series:
        table = pd.read_csv(path, sep="\t")
        np.testing.assert_array_equal(table.isna().all(), np.array(shares[path]) < 1)
        assert not (table == 0).any().any()
