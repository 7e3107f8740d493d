"""What users get wrong: the message, the exit code, and that nothing is lost or half-written."""

import gzip
import json
import os
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_parcellate.cli import main
from bids_parcellate.demo import write_dataset
from bids_parcellate.outputs.validation import find_problems


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine")
    write_dataset(folder, n_subjects=2, n_volumes=80, voxel_size=10.0, n_parcels=6)
    return folder


@pytest.fixture
def dataset(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "data set ü")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def run_job(dataset, output, *options):
    return main([str(dataset), str(output), "group", "--nprocs", "1", "--n-parcels", "6", *map(str, options)])


def file_of(dataset, ending, subject="02"):
    (path,) = dataset.glob(f"sub-{subject}/ses-1/func/*{ending}")
    return path


def rewrite(path, change):
    """Change an image's voxels."""
    image = nib.load(path)
    data = change(image.get_fdata(dtype=np.float32))
    header = image.header.copy()
    header.set_data_dtype(np.float32)
    nib.save(nib.Nifti1Image(data, image.affine, header), path)


def edit_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def truncate(dataset):
    path = file_of(dataset, "preproc_bold.nii.gz")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def flatten(dataset):
    path = file_of(dataset, "preproc_bold.nii.gz")
    rewrite(path, lambda data: data[..., 0])
    return path


def freeze(dataset):
    path = file_of(dataset, "preproc_bold.nii.gz")
    rewrite(path, lambda data: np.full_like(data, 100))
    return path


def drop_rows(dataset):
    path = file_of(dataset, "confounds_timeseries.tsv")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-3]))
    return path


def shake(dataset):
    """Let the head move all the time, so that every volume is censored."""
    path = file_of(dataset, "confounds_timeseries.tsv")
    table = pd.read_csv(path, sep="\t")
    table["framewise_displacement"] = 2.0
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    return file_of(dataset, "preproc_bold.nii.gz")


def remove_mask(dataset):
    file_of(dataset, "brain_mask.nii.gz").unlink()
    return file_of(dataset, "preproc_bold.nii.gz")


def remove_confounds(dataset):
    file_of(dataset, "confounds_timeseries.tsv").unlink()
    return file_of(dataset, "preproc_bold.nii.gz")


def break_annex_link(dataset):
    path = file_of(dataset, "preproc_bold.nii.gz")
    path.unlink()
    path.symlink_to("../../../.git/annex/objects/xx/yy/SHA256E-s1--0.nii.gz/SHA256E-s1--0.nii.gz")
    return path


def empty_mask(dataset):
    path = file_of(dataset, "brain_mask.nii.gz")
    rewrite(path, np.zeros_like)
    return path


def shift(dataset):
    path = file_of(dataset, "preproc_bold.nii.gz")
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 5
    moved = nib.Nifti1Image(image.get_fdata(dtype=np.float32), affine, image.header)
    moved.set_sform(affine, code=4)
    moved.set_qform(affine, code=4)
    nib.save(moved, path)
    return path


def forget_repetition_time(dataset):
    path = file_of(dataset, "preproc_bold.nii.gz")
    sidecar = path.with_name(path.name.replace(".nii.gz", ".json"))
    content = json.loads(sidecar.read_text())
    del content["RepetitionTime"]
    sidecar.write_text(json.dumps(content))
    image = nib.load(path)
    image.header.set_xyzt_units("mm", "unknown")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), path)
    return path


BAD_RUNS = {
    "truncated": (truncate, "volume"),
    "3-D": (flatten, "holds a single volume"),
    "constant": (freeze, "does not vary"),
    "other number of rows": (drop_rows, "77 rows.*80 volumes"),
    "all volumes censored": (shake, "0 of 80 volumes are left"),
    "no mask": (remove_mask, "mask"),
    "no confounds": (remove_confounds, "confounds"),
    "git-annex": (break_annex_link, "annex|not been fetched|fetched|content"),
    "empty mask": (empty_mask, "mask"),
    "other grid": (shift, "grid"),
    "no repetition time": (forget_repetition_time, "repetition time"),
}


@pytest.mark.parametrize(("spoil", "reason"), BAD_RUNS.values(), ids=BAD_RUNS)
class TestOneBadRun:
    options = ("--fd-threshold", "1.5")

    def test_it_is_left_out_with_its_reason_and_the_others_are_used(self, dataset, output, spoil, reason, capsys):
        path = spoil(dataset)
        assert run_job(dataset, output, *self.options) == 0
        runs = pd.read_csv(output / "logs" / "runs.tsv", sep="\t", index_col="run")
        assert list(runs["status"]) == ["used", "used", "left out"]
        assert runs["reason"].str.contains(reason, regex=True).iloc[-1]
        assert path.name in runs["reason"].iloc[-1]
        assert "Traceback" not in capsys.readouterr().err
        participants = pd.read_csv(output / "participants.tsv", sep="\t", index_col="participant_id")
        assert participants.loc["sub-02", "used"] == "no"
        assert not (output / "sub-02").exists()
        assert find_problems(output) == []

    def test_alone_it_ends_the_job(self, dataset, output, spoil, reason, capsys):
        path = spoil(dataset)
        if spoil is shift:
            pytest.skip("a grid is another one only beside others")
        assert run_job(dataset, output, *self.options, "--participant-label", "02") == 18
        error = capsys.readouterr().err
        assert path.name in error
        assert "Traceback" not in error
        assert not (output / "dataset_description.json").exists()
        assert not list(output.glob("tpl-*"))


@pytest.mark.parametrize("spoil", [drop_rows, shake, remove_mask, remove_confounds, shift, flatten])
def test_check_says_so_beforehand(dataset, output, spoil, capsys):
    path = spoil(dataset)
    assert run_job(dataset, output, "--check", "--fd-threshold", "1.5") == 0
    used, left_out = capsys.readouterr().out.split("1 runs will be left out:")
    assert "2 runs will be used" in used
    assert path.name in left_out


def test_a_bad_run_ends_the_job_if_asked_to(dataset, output, capsys):
    path = truncate(dataset)
    assert run_job(dataset, output, "--stop-on-first-crash") == 65
    assert path.name in capsys.readouterr().err
    assert not list(output.glob("tpl-*"))


def test_a_bad_run_may_be_the_first(dataset, output):
    (mask,) = dataset.glob("sub-01/ses-1/func/*brain_mask.nii.gz")
    mask.write_bytes(mask.read_bytes()[:50])
    assert run_job(dataset, output) == 0
    runs = pd.read_csv(output / "logs" / "runs.tsv", sep="\t")
    assert list(runs["status"]) == ["left out", "used", "used"]


def test_outputs_in_a_dataset_that_is_read_are_refused(dataset, tmp_path, capsys):
    raw = tmp_path / "raw"
    shutil.move(dataset, raw / "derivatives" / "fmriprep")
    (raw / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.8.0", "DatasetType": "raw"}')
    description = raw / "derivatives" / "fmriprep" / "dataset_description.json"
    before = description.read_bytes()
    for output in (raw / "derivatives" / "fmriprep", raw / "derivatives" / "fmriprep" / "parcels"):
        assert run_job(raw, output) == 64
        assert "to which nothing is written" in capsys.readouterr().err
    assert run_job(raw, tmp_path / "out", "-w", raw / "derivatives" / "fmriprep" / "work") == 64
    assert description.read_bytes() == before
    assert run_job(raw, raw / "derivatives" / "parcels") == 0


def test_outputs_of_another_program_are_not_written_over(dataset, output, capsys):
    output.mkdir()
    (output / "dataset_description.json").write_text('{"Name": "precious"}')
    assert run_job(dataset, output) == 73
    assert "bids-parcellate did not write it" in capsys.readouterr().err
    assert (output / "dataset_description.json").read_text() == '{"Name": "precious"}'


def test_runs_of_the_same_name_and_size_are_told_apart(dataset, pristine, tmp_path):
    other = shutil.copytree(pristine, tmp_path / "other")
    for path in other.rglob("*preproc_bold.nii.gz"):
        rewrite(path, lambda data: data[::-1])
    for folder in (dataset, other):
        for path in folder.rglob("*"):
            os.utime(path, ns=(10**18, 10**18))
    for folder in (dataset, other):
        assert run_job(folder, tmp_path / f"out {folder.name}", "-w", tmp_path / "work") == 0
    assert len(list((tmp_path / "work").glob("??/*.npz"))) == 6


def test_a_work_folder_that_cannot_be_made(dataset, output, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run_job(dataset, output, "-w", tmp_path / "file") == 73
    assert "Traceback" not in capsys.readouterr().err


def test_check_says_with_its_exit_code_that_nothing_can_be_used(dataset, output):
    assert run_job(dataset, output, "--check", "--low-pass", "0.3") == 18


def test_a_template_s_mask_needs_a_template_s_space(dataset, output, capsys):
    for path in list(dataset.rglob("*_space-MNI152NLin2009cAsym*")):
        path.rename(path.with_name(path.name.replace("_space-MNI152NLin2009cAsym", "")))
    assert run_job(dataset, output, "--participant-label", "01", "--mask", "gm-template") == 64
    assert "names no space" in capsys.readouterr().err


def test_a_damaged_table_of_the_parcellation(dataset, output, capsys):
    assert run_job(dataset, output) == 0
    (table,) = output.glob("tpl-*/anat/*_dseg.tsv")
    table.write_text("")
    assert main([str(dataset), str(output), "participant", "--nprocs", "1", "--n-parcels", "6"]) == 65
    assert table.name in capsys.readouterr().err


def test_annex_links_come_with_the_command_that_fetches_them(dataset, output, capsys):
    path = break_annex_link(dataset)
    assert run_job(dataset, output, "--check") == 0
    text = capsys.readouterr().out
    assert "datalad" in text
    assert path.name in text


def test_voxels_that_are_nan_or_constant_are_not_used(dataset, output):
    def change(data):
        data[6, 6:9, 6:9] = np.nan
        data[10, 10, 10] = 7
        return data

    for path in dataset.rglob("*preproc_bold.nii.gz"):
        rewrite(path, change)
    assert run_job(dataset, output, "--smoothing-fwhm", "0") == 0
    (mask,) = output.glob("tpl-*/anat/*_mask.nii.gz")
    mask = nib.load(mask).get_fdata()
    assert mask.any()
    assert not mask[6, 6:9, 6:9].any()
    assert mask[10, 10, 10] == 0
    signals = pd.concat(pd.read_csv(path, sep="\t") for path in output.rglob("*_timeseries.tsv"))
    assert np.isfinite(signals.to_numpy()).all()


def test_two_repetition_times_are_said_and_allowed(dataset, output, capsys):
    path = file_of(dataset, "preproc_bold.nii.gz")
    edit_json(path.with_name(path.name.replace(".nii.gz", ".json")), RepetitionTime=2.5)
    assert run_job(dataset, output) == 0
    error = capsys.readouterr().err
    assert "2 s (2 runs), 2.5 s (1 run)" in error


class TestRequests:
    def test_more_parcels_than_voxels(self, dataset, output, capsys):
        assert run_job(dataset, output, "--n-parcels", "100000") == 64
        assert "100000" in capsys.readouterr().err
        assert sorted(path.name for path in output.iterdir()) == [".work", "logs"]

    @pytest.mark.parametrize(
        ("options", "code", "message"),
        [
            (("--task-id", "nback"), 18, "rest"),
            (("--space", "MNI152NLin6Asym"), 18, "MNI152NLin2009cAsym"),
            (("--participant-label", "77"), 18, "01"),
            (("--session-label", "9"), 18, "1"),
            (("--confounds", "ica_aroma"), 18, "AROMA"),
            (("--mem", "100M"), 64, "MB"),
            (("--low-pass", "0.3"), 18, "Nyquist"),
            (("--random-seed", str(2**32)), 64, "random_seed"),
            (("--mask", "/no/such/mask.nii.gz"), 66, "/no/such/mask.nii.gz"),
            (("--bids-filter-file", "/no/such/filter.json"), 66, "/no/such/filter.json"),
        ],
    )
    def test_what_cannot_be_had(self, dataset, output, options, code, message, capsys):
        assert run_job(dataset, output, *options) == code
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error

    def test_a_folder_that_is_no_dataset(self, tmp_path, output, capsys):
        (tmp_path / "empty").mkdir()
        assert run_job(tmp_path / "empty", output) == 16
        assert "empty" in capsys.readouterr().err
        assert not output.exists()

    def test_an_output_folder_that_cannot_be_made(self, dataset, tmp_path, capsys):
        (tmp_path / "file").touch()
        assert run_job(dataset, tmp_path / "file" / "out") == 73
        assert "file" in capsys.readouterr().err


def test_inputs_are_never_changed(dataset, output):
    before = {path: gzip.compress(path.read_bytes(), 1) for path in dataset.rglob("*") if path.is_file()}
    truncate(dataset)
    spoiled = file_of(dataset, "preproc_bold.nii.gz")
    before[spoiled] = gzip.compress(spoiled.read_bytes(), 1)
    assert run_job(dataset, output) == 0
    after = {path: gzip.compress(path.read_bytes(), 1) for path in dataset.rglob("*") if path.is_file()}
    assert set(after) == set(before)
    assert all(gzip.decompress(after[path]) == gzip.decompress(before[path]) for path in before)
