"""What becomes of a job where some of what it reads is bad: the rest is used, and what is left out is said."""

import os
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_parcellate.errors import DataError
from bids_parcellate.numerics.cluster.estimators import HierarchicalKMeans
from bids_parcellate.outputs.validation import find_problems
from tests.badinput.sandbox import (
    Case,
    Sandbox,
    assert_helpful,
    cases,
    edit_header,
    edit_json,
    edit_voxels,
    put,
    raw_image,
    snapshot,
)

CENSOR = ("--fd-threshold", "1.5")


def truncate(box: Sandbox):
    return put(box.bold, box.bold.read_bytes()[: box.bold.stat().st_size // 2])


def drop_rows(box: Sandbox):
    return put(box.confounds, "".join(box.confounds.read_text().splitlines(keepends=True)[:-3]))


def shake(box: Sandbox):
    """Let the head move all the time, so that every volume is censored."""
    table = pd.read_csv(box.confounds, sep="\t")
    table["framewise_displacement"] = 2.0
    table.to_csv(box.confounds, sep="\t", index=False, na_rep="n/a")
    return box.bold


def remove(ending: str):
    def spoil(box: Sandbox):
        box.file(ending).unlink()
        return box.bold

    return spoil


def break_annex_link(box: Sandbox):
    path = box.bold
    path.unlink()
    path.symlink_to("../../../.git/annex/objects/xx/yy/SHA256E-s1--0.nii.gz/SHA256E-s1--0.nii.gz")
    return path


def shift(box: Sandbox):
    place = raw_image(box.bold)[0]["srow_x"]
    return edit_header(box.bold, srow_x=[*place[:3], place[3] + 5])


def forget_repetition_time(box: Sandbox):
    put(box.sidecar, "{}")
    return edit_header(box.bold, xyzt_units=2)


BAD_RUNS = (
    Case("truncated", truncate, "truncated"),
    Case("3-D", lambda box: edit_voxels(box.bold, lambda data: data[..., 0]), "holds a single volume"),
    Case("constant", lambda box: edit_voxels(box.bold, lambda data: np.full_like(data, 100)), "does not vary"),
    Case("other number of rows", drop_rows, "80 volumes"),
    Case("all volumes censored", shake, "0 of 80 volumes are left"),
    Case("no mask", remove("brain_mask.nii.gz"), "mask"),
    Case("no confounds", remove("confounds_timeseries.tsv"), "confounds"),
    Case("git-annex", break_annex_link, "content"),
    Case("empty mask", lambda box: edit_voxels(box.mask, np.zeros_like), "mask"),
    Case("other grid", shift, "grid"),
    Case("no repetition time", forget_repetition_time, "repetition time"),
)
# What reading no voxels cannot find.
ONLY_FOUND_BY_READING = {"truncated", "constant", "empty mask"}


@pytest.fixture
def fresh(box):
    """A box of which no job has written anything yet."""
    box.output = box.folder / "new"
    return box


@cases(*BAD_RUNS)
def test_a_bad_run_is_left_out_with_its_reason_and_the_others_are_used(fresh, case):
    box = fresh
    path = case.spoil(box)
    inputs = snapshot(box.dataset)
    outcome = box.run(*CENSOR)
    assert outcome.code == 0, outcome.text
    assert "Traceback" not in outcome.err
    runs = pd.read_csv(box.output / "logs" / "runs.tsv", sep="\t", index_col="run")
    assert list(runs["status"]) == ["used", "used", "left out"]
    assert case.says in runs["reason"].iloc[-1]
    assert path.name in runs["reason"].iloc[-1]
    participants = pd.read_csv(box.output / "participants.tsv", sep="\t", index_col="participant_id")
    assert participants.loc["sub-02", "used"] == "no"
    assert not (box.output / "sub-02").exists()
    assert find_problems(box.output) == []
    assert snapshot(box.dataset) == inputs


@cases(*(case for case in BAD_RUNS if case.name not in ONLY_FOUND_BY_READING))
def test_check_says_so_beforehand(fresh, case):
    path = case.spoil(fresh)
    outcome = fresh.run("--check", *CENSOR)
    assert outcome.code == 0, outcome.text
    used, left_out = outcome.out.split("1 runs will be left out:")
    assert "2 runs will be used" in used
    assert path.name in left_out
    assert not fresh.output.exists()
    if case.name == "git-annex":
        assert "datalad" in left_out, "the command that fetches it"


def test_check_says_with_its_exit_code_that_nothing_can_be_used(box):
    assert box.run("--check", "--low-pass", "0.3").code == 18


def test_a_bad_run_ends_the_job_if_asked_to(fresh):
    path = truncate(fresh)
    outcome = fresh.run("--stop-on-first-crash")
    assert outcome.code == 65
    assert_helpful(outcome, path, ())
    assert not list(fresh.output.glob("tpl-*"))


def test_a_bad_run_may_be_the_first(fresh):
    (mask,) = fresh.dataset.glob("sub-01/ses-1/func/*brain_mask.nii.gz")
    put(mask, mask.read_bytes()[:50])
    assert fresh.run().code == 0
    runs = pd.read_csv(fresh.output / "logs" / "runs.tsv", sep="\t")
    assert list(runs["status"]) == ["left out", "used", "used"]


def test_a_folder_that_is_no_dataset_makes_no_output_folder(fresh):
    shutil.rmtree(fresh.dataset)
    fresh.dataset.mkdir()
    assert fresh.run().code == 16
    assert not fresh.output.exists()


def test_outputs_go_beside_derivatives_but_not_into_them(fresh):
    box = fresh
    raw = box.folder / "raw"
    derivatives = raw / "derivatives"
    derivatives.mkdir(parents=True)
    dataset = box.dataset.rename(derivatives / "fmriprep")
    put(raw / "dataset_description.json", '{"Name": "raw", "BIDSVersion": "1.8.0", "DatasetType": "raw"}')
    before, box.dataset = snapshot(raw), raw
    for output, options in (
        (dataset, ()),
        (dataset / "parcels", ()),
        (box.folder / "elsewhere", ("-w", dataset / "work")),
    ):
        box.output = output
        outcome = box.run(*options)
        assert outcome.code == 64
        assert "to which nothing is written" in outcome.err
    assert snapshot(raw) == before
    box.output = derivatives / "parcels"
    assert box.run().code == 0


def test_runs_of_the_same_name_and_size_are_told_apart(fresh, pristine):
    other = shutil.copytree(pristine, fresh.folder / "other")
    for path in other.rglob("*preproc_bold.nii.gz"):
        edit_voxels(path, lambda data: data[::-1])
    work = fresh.folder / "work"
    for dataset in (shutil.copytree(pristine, fresh.folder / "one"), other):
        for path in dataset.rglob("*"):
            os.utime(path, ns=(10**18, 10**18))
        fresh.dataset, fresh.output = dataset, fresh.folder / f"out {dataset.name}"
        assert fresh.run("-w", work).code == 0
    assert len(list(work.glob("??/*.npz"))) == 6


def test_a_template_s_mask_needs_a_template_s_space(box):
    for path in list(box.dataset.rglob("*_space-MNI152NLin2009cAsym*")):
        path.rename(path.with_name(path.name.replace("_space-MNI152NLin2009cAsym", "")))
    case = Case("no space", lambda _: None, "names no space", ("--mask", "gm-template"), 64)
    box.refuses(case, "--participant-label", "01")


def test_voxels_that_are_nan_or_constant_are_not_used(fresh):
    def change(data):
        data = data.copy()
        data[6, 6:9, 6:9] = np.nan
        data[10, 10, 10] = 7
        return data

    for path in fresh.dataset.rglob("*preproc_bold.nii.gz"):
        edit_voxels(path, change)
    assert fresh.run("--smoothing-fwhm", "0").code == 0
    (mask,) = fresh.output.glob("tpl-*/anat/*_mask.nii.gz")
    mask = nib.load(mask).get_fdata()
    assert mask.any()
    assert not mask[6, 6:9, 6:9].any()
    assert mask[10, 10, 10] == 0
    signals = pd.concat(pd.read_csv(path, sep="\t") for path in fresh.output.rglob("*_timeseries.tsv"))
    assert np.isfinite(signals.to_numpy()).all()


def test_two_repetition_times_are_said_and_allowed(box):
    edit_json(box.sidecar, RepetitionTime=2.5)
    outcome = box.run()
    assert outcome.code == 0
    assert "2 s (2 runs), 2.5 s (1 run)" in outcome.err


@pytest.mark.parametrize("n_distinct", [2, 4])
def test_too_few_distinct_voxels_are_compared_with_the_number_that_was_asked_for(n_distinct):
    """Not with the number of clusters of the coarse level, which is 3."""
    features = np.random.default_rng(0).normal(size=(5, n_distinct))[:, np.arange(30) % n_distinct]
    with pytest.raises(DataError, match=f"n_clusters=9 is larger than the number of distinct features, {n_distinct}"):
        HierarchicalKMeans(9).fit(features)
