"""The job as a whole, through the command line, on simulated and on real data."""

import hashlib
import json
import re
import shutil
from urllib.parse import unquote

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.image import resample_to_img
from nilearn.maskers import NiftiLabelsMasker
from scipy import ndimage
from sklearn.metrics import adjusted_rand_score

from bids_parcellate.cli import main
from bids_parcellate.outputs.validation import find_problems
from tests.outputs import validator_issues


def run_job(dataset, output, *options, level="group"):
    return main([str(dataset), str(output), level, "--nprocs", "1", "--n-parcels", "10", "30", *map(str, options)])


def digests(folder):
    """Digest each output; what a job says of itself (logs, the command in the report) and its work folder are not."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not {".work", "provenance.json"} & {*path.parts}
        and path.suffix not in (".html", ".log", ".toml")
    }


def read_labels(folder, n_parcels):
    (path,) = folder.glob(f"tpl-*/anat/*_scale-{n_parcels}_*dseg.nii.gz")
    return np.asarray(nib.load(path).dataobj)


def table(folder, pattern, **options):
    (path,) = folder.glob(pattern)
    return pd.read_csv(path, sep="\t", **options)


def assert_contiguous(labels):
    for label in range(1, labels.max() + 1):
        assert ndimage.label(labels == label)[1] == 1, f"parcel {label} is in several pieces"


class TestSimulation:
    def test_parcels_are_as_many_as_asked_contiguous_nested_and_near_the_truth(self, study, outputs):
        coarse, fine = read_labels(outputs, 10), read_labels(outputs, 30)
        for labels, n_parcels in ((coarse, 10), (fine, 30)):
            np.testing.assert_array_equal(np.unique(labels), np.arange(n_parcels + 1))
            assert_contiguous(labels)
        parents = {(child, parent) for child, parent in zip(fine.ravel(), coarse.ravel(), strict=True) if child}
        assert len(parents) == 30
        both = (coarse > 0) & (study[1].labels > 0)
        assert adjusted_rand_score(study[1].labels[both], coarse[both]) > 0.7

    def test_the_validator_finds_nothing(self, outputs):
        assert validator_issues(outputs) == []

    def test_our_own_checks_find_nothing(self, outputs):
        assert find_problems(outputs) == []

    def test_mask_holds_the_voxels_that_enough_runs_have(self, study, outputs):
        masks = [nib.load(path).get_fdata() > 0 for path in study[0].rglob("*_desc-brain_mask.nii.gz")]
        (path,) = outputs.glob("tpl-*/anat/*_desc-group_mask.nii.gz")
        group = nib.load(path).get_fdata() > 0
        expected = np.mean(masks, axis=0) >= 0.9
        pieces, _ = ndimage.label(expected)
        small = [label for label in np.unique(pieces[pieces > 0]) if (pieces == label).sum() < 0.01 * expected.sum()]
        np.testing.assert_array_equal(group, expected & ~np.isin(pieces, small))

    def test_records_say_what_was_used(self, outputs):
        runs = pd.read_csv(outputs / "logs" / "runs.tsv", sep="\t")
        assert list(runs["status"]) == ["used"] * 3
        assert list(runs["n_volumes"]) == [80] * 3
        assert (runs["n_kept"] == 78).all(), "two volumes of each run are not in a steady state"
        assert runs["mean_fd"].between(0.01, 1).all()
        participants = pd.read_csv(outputs / "participants.tsv", sep="\t", index_col="participant_id")
        assert dict(participants["n_runs_used"]) == {"sub-01": 2, "sub-02": 1}
        fd = runs[runs["participant_id"] == "sub-01"]["mean_fd"].mean()
        assert participants.loc["sub-01", "mean_fd"] == pytest.approx(fd)

    def test_outliers_say_why(self, outputs):
        outliers = table(outputs, "sub-02/ses-1/func/*_outliers.tsv")
        assert list(outliers["censored"]) == [1, 1] + [0] * 78
        assert list(outliers["non_steady_state"]) == list(outliers["censored"])

    def test_correlations_are_those_of_the_signals(self, outputs):
        signals = table(outputs, "sub-02/ses-1/func/*_scale-30_*_timeseries.tsv")
        matrix = table(outputs, "sub-02/ses-1/func/*_scale-30_*_relmat.tsv", index_col="Node")
        np.testing.assert_allclose(matrix, np.corrcoef(signals.T), atol=1e-5)
        assert list(matrix) == list(matrix.index) == list(signals) == [f"parcel{n:03d}" for n in range(1, 31)]

    def test_methods_text_is_true_to_the_options(self, outputs):
        text = (outputs / "logs" / "CITATION.md").read_text()
        for words in ("3 runs of 2 participants", "fMRIPrep", "six head motion parameters", "Ward (1963)", "10 and 30"):
            assert words.replace("(", "").replace(")", "") in text.replace("(", "").replace(")", "")
        assert "Butterworth" not in text

    def test_the_report_shows_the_job_and_links_to_what_is_there(self, outputs):
        text = (outputs / "group.html").read_text()
        assert "10 parcels" in text
        assert "30 parcels" in text
        assert "There are no warnings." in text
        links = {unquote(link) for link in re.findall(r'href="([^"#:]+)"', text)}
        assert len(links) == 8
        assert all((outputs / link).is_file() for link in links)

    def test_the_report_differs_in_nothing_but_the_command(self, study, outputs, tmp_path):
        def report(folder, *options):
            shutil.copytree(outputs / ".work", folder / ".work", dirs_exist_ok=True)
            assert run_job(study[0], folder, *options) == 0
            return (folder / "group.html").read_text()

        here, there = tmp_path / "here", tmp_path / "there"
        first = report(here)
        assert report(here) == first
        expected = first.replace(str(here), str(there)).replace("nprocs = 1", "nprocs = 2")
        expected = expected.replace("--n-parcels 10 30", "--n-parcels 10 30 --nprocs 2")
        assert report(there, "--nprocs", "2") == expected

    def test_two_processes_give_the_same_bytes(self, study, outputs, tmp_path):
        assert run_job(study[0], tmp_path, "--nprocs", "2") == 0
        assert digests(tmp_path) == digests(outputs)

    def test_participants_apart_then_the_group_give_the_same_bytes(self, study, outputs, tmp_path):
        for label in ("02", "01"):
            assert run_job(study[0], tmp_path, "--participant-label", label, level="participant") == 0
        assert not list(tmp_path.glob("tpl-*"))
        stored = {path: path.stat().st_mtime_ns for path in tmp_path.glob(".work/*/*.npz")}
        assert len(stored) == 3
        assert run_job(study[0], tmp_path) == 0
        assert {path: path.stat().st_mtime_ns for path in tmp_path.glob(".work/*/*.npz")} == stored
        assert digests(tmp_path) == digests(outputs)

    def test_a_damaged_reduction_is_made_anew(self, study, outputs, tmp_path):
        shutil.copytree(outputs, tmp_path, dirs_exist_ok=True)
        (record,) = outputs.glob("logs/*/provenance.json")
        digest = json.loads(record.read_text())["Inputs"][1]["ReductionDigest"]
        victim = tmp_path / ".work" / digest[:2] / f"{digest}.npz"
        content = victim.read_bytes()
        victim.write_bytes(content[: len(content) // 2])
        assert run_job(study[0], tmp_path) == 0
        assert digests(tmp_path) == digests(outputs)
        assert victim.read_bytes() == content

    def test_a_new_participant_is_extracted_with_the_parcellation_that_is_there(self, study, tmp_path):
        assert run_job(study[0], tmp_path, "--participant-label", "01") == 0
        atlas = digests(tmp_path / "tpl-MNI152NLin2009cAsym")
        assert not (tmp_path / "sub-02").exists()
        assert run_job(study[0], tmp_path, "--participant-label", "02", level="participant") == 0
        assert digests(tmp_path / "tpl-MNI152NLin2009cAsym") == atlas
        assert table(tmp_path, "sub-02/ses-1/func/*_scale-30_*_timeseries.tsv").shape == (78, 30)
        participants = pd.read_csv(tmp_path / "participants.tsv", sep="\t")
        assert list(participants["participant_id"]) == ["sub-01", "sub-02"]
        assert find_problems(tmp_path) == []
        assert validator_issues(tmp_path) == []

    def test_the_saved_configuration_repeats_the_job(self, study, outputs, tmp_path):
        (saved,) = outputs.glob("logs/*/config.toml")
        assert main([str(study[0]), str(tmp_path), "group", "--config-file", str(saved)]) == 0
        assert digests(tmp_path) == digests(outputs)

    @pytest.mark.parametrize("method", ["kmeans", "complete", "average", "rena", "hierarchical_kmeans"])
    def test_other_methods(self, study, outputs, tmp_path, method):
        shutil.copytree(outputs / ".work", tmp_path / ".work")
        assert run_job(study[0], tmp_path, "--method", method) == 0
        for n_parcels in (10, 30):
            labels = read_labels(tmp_path, n_parcels)
            np.testing.assert_array_equal(np.unique(labels), np.arange(n_parcels + 1))
            if method in ("complete", "average", "rena"):
                assert_contiguous(labels)
        assert validator_issues(tmp_path) == []

    @pytest.mark.parametrize("strategy", ["epi", "background"])
    def test_computed_masks(self, study, tmp_path, strategy):
        assert run_job(study[0], tmp_path, "--mask", strategy) == 0
        assert find_problems(tmp_path) == []

    def test_a_mask_image(self, study, tmp_path):
        truth = study[1]
        half = (truth.labels > 0) & (np.arange(truth.labels.shape[0])[:, None, None] < truth.labels.shape[0] // 2)
        image = tmp_path / "half.nii.gz"
        nib.save(nib.Nifti1Image(half.astype(np.uint8), truth.affine), image)
        assert run_job(study[0], tmp_path / "out", "--mask", image) == 0
        assert not read_labels(tmp_path / "out", 10)[~half].any()

    def test_resampling(self, study, tmp_path):
        assert run_job(study[0], tmp_path, "--target-res", "10") == 0
        (path,) = tmp_path.glob("tpl-*/anat/*_scale-10_res-10mm_dseg.nii.gz")
        np.testing.assert_allclose(nib.load(path).header.get_zooms(), 10)
        assert validator_issues(tmp_path) == []

    def test_filter_censoring_and_whitened_features(self, study, tmp_path):
        options = ("--low-pass", "0.15", "--high-pass", "0.01", "--fd-threshold", "0.5", "--features", "nilearn")
        assert run_job(study[0], tmp_path, *options, "--confounds", "24P") == 0
        runs = pd.read_csv(tmp_path / "logs" / "runs.tsv", sep="\t")
        assert (runs["n_kept"] < 78).all()
        outliers = table(tmp_path, "sub-02/ses-1/func/*_outliers.tsv")
        signals = table(tmp_path, "sub-02/ses-1/func/*_scale-30_*_timeseries.tsv")
        assert len(signals) == (outliers["censored"] == 0).sum()
        assert "Butterworth" in (tmp_path / "logs" / "CITATION.md").read_text()

    def test_check_computes_and_writes_nothing(self, study, tmp_path, capsys):
        assert run_job(study[0], tmp_path / "out", "--check") == 0
        text = capsys.readouterr().out
        assert "3 runs will be used" in text
        assert "MB of memory" in text
        assert not (tmp_path / "out").exists()

    def test_nothing_is_written_to_the_dataset(self, study, tmp_path):
        before = digests(study[0])
        dataset = tmp_path / "data"
        shutil.copytree(study[0], dataset)
        for path in (dataset, *dataset.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        assert run_job(dataset, tmp_path / "out") == 0
        assert digests(dataset) == before


class TestRealData:
    def test_two_participants(self, shared_data, tmp_path):
        dataset = shared_data / "real" / "twosub_mni4mm"
        options = ("--confounds", "none", "--method", "ward", "--n-parcels", "50", "200")
        assert run_job(dataset, tmp_path, *options) == 0
        for n_parcels in (50, 200):
            labels = read_labels(tmp_path, n_parcels)
            np.testing.assert_array_equal(np.unique(labels), np.arange(n_parcels + 1))
            assert_contiguous(labels)
        assert validator_issues(tmp_path) == []
        assert find_problems(tmp_path) == []
        self.compare_with_nilearn(dataset, tmp_path)

    @staticmethod
    def compare_with_nilearn(dataset, folder):
        (image,) = dataset.glob("sub-feeds/func/*_desc-preproc_bold.nii.gz")
        (mask,) = dataset.glob("sub-feeds/func/*_desc-brain_mask.nii.gz")
        (atlas,) = folder.glob("tpl-*/anat/*_scale-200_dseg.nii.gz")
        bold = nib.load(image)
        varies = np.ptp(bold.get_fdata(), axis=3) > 0
        usable = nib.Nifti1Image((varies & (nib.load(mask).get_fdata() > 0)).astype(np.uint8), bold.affine)
        masker = NiftiLabelsMasker(
            atlas,
            mask_img=usable,
            smoothing_fwhm=4.0,
            detrend=True,
            standardize="zscore_sample",
            t_r=3.0,
            keep_masked_labels=False,
        )
        expected = masker.fit_transform(bold)
        signals = table(folder, "sub-feeds/func/*_scale-200_*_timeseries.tsv")
        np.testing.assert_allclose(signals, expected, atol=2e-4)

    def test_a_template_s_mask(self, shared_data, tmp_path, monkeypatch):
        monkeypatch.setenv("TEMPLATEFLOW_HOME", str(shared_data / "templateflow"))
        dataset = shared_data / "real" / "twosub_mni4mm"
        options = ("--confounds", "none", "--mask", "whole-brain-template", "--participant-label", "feeds")
        assert run_job(dataset, tmp_path, *options) == 0
        (path,) = tmp_path.glob("tpl-*/anat/*_desc-group_mask.nii.gz")
        found = nib.load(path)
        template = shared_data / "templateflow" / "tpl-MNI152NLin2009cAsym"
        (brain,) = template.glob("*_res-02_desc-brain_mask.nii.gz")
        (bold,) = dataset.glob("sub-feeds/func/*_desc-preproc_bold.nii.gz")
        expected = resample_to_img(brain, found, interpolation="linear", copy_header=True, force_resample=True)
        varies = np.ptp(nib.load(bold).get_fdata(), axis=3) > 0
        expected = (expected.get_fdata() > 0.5) & varies
        both = (found.get_fdata() > 0) & expected
        assert 2 * both.sum() / ((found.get_fdata() > 0).sum() + expected.sum()) > 0.97

    def test_twelve_runs_of_one_slice(self, shared_data, tmp_path):
        strategy = tmp_path / "motion.toml"
        strategy.write_text('strategy = ["motion"]\nmotion = "basic"\n')
        dataset = shared_data / "real" / "haxby2001_1slice"
        options = ("--space", "boldref", "--confounds", strategy, "--fd-threshold", "0.5", "--n-parcels", "20", "50")
        assert run_job(dataset, tmp_path / "out", *options) == 0
        for n_parcels in (20, 50):
            labels = read_labels(tmp_path / "out", n_parcels)
            np.testing.assert_array_equal(np.unique(labels), np.arange(n_parcels + 1))
            assert_contiguous(labels)
        runs = pd.read_csv(tmp_path / "out" / "logs" / "runs.tsv", sep="\t")
        assert list(runs["status"]) == ["used"] * 12
        assert validator_issues(tmp_path / "out") == []
        assert find_problems(tmp_path / "out") == []
