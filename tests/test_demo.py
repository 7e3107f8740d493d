"""The simulated study is what it says it is, and the job finds its parcels."""

import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn import signal
from nilearn.interfaces.fmriprep import load_confounds, load_confounds_strategy
from scipy import ndimage

from bids_parcellate import demo
from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.simulation.brain import grow_parcels, make_brain
from bids_parcellate.outputs.validation import find_problems
from tests.outputs import validator_issues

SMALL = {"n_subjects": 2, "n_volumes": 80, "voxel_size": 8.0, "n_parcels": 20}
N_NON_STEADY_STATE = 2
T_R = 2.0
MOTION = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "fmriprep"
    return folder, demo.write_dataset(folder, **SMALL)


@pytest.fixture(scope="module", params=["sub-01/ses-1", "sub-01/ses-2", "sub-02/ses-1"])
def run(study, request):
    """One run: its BOLD image, mask, confounds and their description."""
    func = study[0] / request.param / "func"
    stem = f"{request.param.replace('/', '_')}_task-rest"
    space = f"{stem}_space-MNI152NLin2009cAsym"
    confounds = func / f"{stem}_desc-confounds_timeseries.tsv"
    return {
        "path": func / f"{space}_desc-preproc_bold.nii.gz",
        "bold": nib.load(func / f"{space}_desc-preproc_bold.nii.gz"),
        "mask": nib.load(func / f"{space}_desc-brain_mask.nii.gz"),
        "confounds": pd.read_csv(confounds, sep="\t", na_values="n/a"),
        "described": json.loads(confounds.with_suffix(".json").read_text()),
    }


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The files


def test_there_is_one_session_but_for_the_first_participant(study):
    runs = sorted(path.parent.parent.relative_to(study[0]).as_posix() for path in study[0].rglob("*_bold.nii.gz"))
    assert runs == ["sub-01/ses-1", "sub-01/ses-2", "sub-02/ses-1"]
    assert (study[0] / "participants.tsv").read_text() == "participant_id\nsub-01\nsub-02\n"


def test_the_same_seed_gives_the_same_bytes(study, tmp_path):
    demo.write_dataset(tmp_path, **SMALL)
    assert contents(tmp_path) == contents(study[0])


def test_another_seed_gives_other_data(study, tmp_path):
    truth = demo.write_dataset(tmp_path, **SMALL, seed=1)
    assert not np.array_equal(truth.labels, study[1].labels)
    name = next(tmp_path.rglob("sub-02*_bold.nii.gz")).relative_to(tmp_path)
    assert (tmp_path / name).read_bytes() != (study[0] / name).read_bytes()


def test_the_dataset_is_valid_bids(study):
    validator = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))
    assert validator, "bids-validator-deno is in the dependency group 'test'"
    command = [validator, str(study[0]), "--format", "json"]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    issues = report["issues"]["issues"]
    assert sorted(report["summary"]["subjects"]) == ["01", "02"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_the_description_does_not_pretend(study):
    description = json.loads((study[0] / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert [pipeline["Name"] for pipeline in description["GeneratedBy"]] == ["fMRIPrep", "bids-parcellate-demo"]
    assert "Simulated" in description["Name"]
    assert "did not run" in description["GeneratedBy"][0]["Description"]


# The images


def test_the_grid_is_the_template_s():
    brain = make_brain(4.0)
    assert brain.shape == (49, 58, 49)
    np.testing.assert_array_equal(brain.affine, [[4, 0, 0, -96.5], [0, 4, 0, -132.5], [0, 0, 4, -78.5], [0, 0, 0, 1]])


def test_the_brain_resembles_the_template(shared_data):
    folder = shared_data / "templateflow" / "tpl-MNI152NLin2009cAsym"
    template = nib.load(folder / "tpl-MNI152NLin2009cAsym_res-02_desc-brain_mask.nii.gz")
    brain = make_brain(2.0)
    assert brain.shape == template.shape
    np.testing.assert_array_equal(brain.affine, template.affine)
    true = np.asarray(template.dataobj) > 0
    assert 2 * (brain.mask & true).sum() / (brain.mask.sum() + true.sum()) > 0.85  # Dice


@pytest.mark.parametrize("voxel_size", [2.0, 3.0, 4.0, 6.5, 10.0])
def test_the_brain_is_in_one_piece_and_has_every_tissue(voxel_size):
    brain = make_brain(voxel_size)
    assert ndimage.label(brain.mask)[1] == 1
    assert (brain.csf[brain.mask] > 0.5).any()
    assert (brain.white[brain.mask] > 0.99).any()
    assert (brain.white + brain.csf <= 1).all()


def test_images_say_what_they_are(run):
    bold, mask = run["bold"], run["mask"]
    assert bold.shape == (25, 29, 25, 80)
    assert bold.header.get_xyzt_units() == ("mm", "sec")
    assert bold.header.get_zooms() == (8, 8, 8, T_R)
    assert bold.header["qform_code"] == bold.header["sform_code"] == 4
    np.testing.assert_array_equal(bold.affine, mask.affine)
    sidecar = json.loads(Path(str(run["path"]).replace(".nii.gz", ".json")).read_text())
    assert sidecar["RepetitionTime"] == T_R
    assert sidecar["TaskName"] == "rest"
    assert sidecar["SkullStripped"] is False


def test_run_masks_differ_but_little(study):
    paths = sorted(study[0].rglob("*_mask.nii.gz"))
    masks = np.array([np.asarray(nib.load(path).dataobj) > 0 for path in paths])
    brain = study[1].labels > 0
    for one, other in zip(masks, np.roll(masks, 1, axis=0), strict=True):
        assert 0 < np.mean(one != other) / np.mean(one) < 0.15
    assert all((mask & brain).sum() / (mask | brain).sum() > 0.85 for mask in masks)
    assert masks.all(axis=0).sum() < masks.any(axis=0).sum()


def test_noise_is_as_in_real_data(run):
    bold, mask = run["bold"].get_fdata(), np.asarray(run["mask"].dataobj) > 0
    steady = bold[mask][:, N_NON_STEADY_STATE:]
    assert 50 < np.median(steady.mean(1) / steady.std(1)) < 100  # temporal signal-to-noise ratio
    assert 8000 < np.median(steady) < 11000
    assert (bold[0, 0, 0] == 0).all()
    outside = bold[~mask & (bold > 0).any(-1)]
    assert np.median(outside.std(1)) < 0.5 * np.median(steady.std(1))


def test_the_first_volumes_are_brighter(run):
    course = run["bold"].get_fdata()[np.asarray(run["mask"].dataobj) > 0].mean(0)
    assert course[0] > course[1] > 1.03 * course[N_NON_STEADY_STATE:].max()


# The confounds


def test_framewise_displacement_is_power_s(run):
    confounds = run["confounds"]
    expected = [np.nan]
    for before, now in zip(confounds.index[:-1], confounds.index[1:], strict=True):
        change = {name: abs(confounds[name][now] - confounds[name][before]) for name in MOTION}
        expected.append(sum(change[f"trans_{axis}"] + 50 * change[f"rot_{axis}"] for axis in "xyz"))
    np.testing.assert_allclose(confounds["framewise_displacement"], expected, rtol=1e-9)
    assert 2 <= (confounds["framewise_displacement"] > 0.5).sum() <= 3
    assert 0.05 < confounds["framewise_displacement"].median() < 0.3


def test_global_signal_is_the_mean_of_the_file_in_the_mask(run):
    inside = run["bold"].get_fdata()[np.asarray(run["mask"].dataobj) > 0]
    np.testing.assert_allclose(run["confounds"]["global_signal"], inside.mean(0), rtol=1e-6)


def test_dvars(run):
    bold = run["bold"].get_fdata()[np.asarray(run["mask"].dataobj) > 0]
    scaled = 1000 * bold / np.median(bold)
    confounds = run["confounds"]
    expected = [np.sqrt(np.mean((scaled[:, t] - scaled[:, t - 1]) ** 2)) for t in range(1, scaled.shape[1])]
    np.testing.assert_allclose(confounds["dvars"][1:], expected, rtol=1e-4)
    by_chance = [
        np.subtract(*np.percentile(voxel, [75, 25])) / 1.349 * np.sqrt(2 * (1 - autocorrelation(voxel)))
        for voxel in scaled
    ]
    np.testing.assert_allclose(confounds["std_dvars"][1:], expected / np.mean(by_chance), rtol=1e-4)
    assert 0.7 < confounds["std_dvars"].median() < 1.2


def autocorrelation(series):
    return np.correlate(series - series.mean(), series - series.mean(), "full")[len(series)] / (
        len(series) * np.var(series)
    )


@pytest.mark.parametrize("name", [*MOTION, "csf", "white_matter", "global_signal"])
def test_expansions(run, name):
    confounds = run["confounds"]
    derivative = confounds[name].diff()
    np.testing.assert_allclose(confounds[f"{name}_derivative1"], derivative, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(confounds[f"{name}_power2"], confounds[name] ** 2)
    np.testing.assert_allclose(confounds[f"{name}_derivative1_power2"], derivative**2, rtol=1e-6, atol=1e-9)


def test_only_first_rows_that_need_the_volume_before_lack_a_value(run):
    missing = run["confounds"].isna()
    assert not missing[1:].to_numpy().any()
    lacking = set(missing.columns[missing.iloc[0]])
    assert lacking == {name for name in missing if re.search(r"derivative1|framewise_displacement|dvars", name)}


def test_cosines_are_orthonormal_slow_and_skip_the_first_volumes(run):
    cosines = run["confounds"].filter(like="cosine").to_numpy()
    assert cosines.shape[1] == 1  # 78 volumes of 2 s: a whole and a half period are slower than 128 s
    assert (cosines[:N_NON_STEADY_STATE] == 0).all()
    np.testing.assert_allclose(cosines.T @ cosines, np.eye(cosines.shape[1]), atol=1e-9)
    crossings = np.sum(np.diff(np.sign(cosines[N_NON_STEADY_STATE:]), axis=0) != 0, axis=0)
    np.testing.assert_array_equal(crossings, np.arange(1, cosines.shape[1] + 1))


def test_outlier_columns_mark_the_volumes(run):
    confounds = run["confounds"]
    spikes = np.flatnonzero((confounds["framewise_displacement"] > 0.5) | (confounds["std_dvars"] > 1.5))
    marked = confounds.filter(like="motion_outlier").to_numpy()
    np.testing.assert_array_equal(marked, np.eye(len(confounds))[:, spikes])
    non_steady = confounds.filter(like="non_steady_state_outlier").to_numpy()
    np.testing.assert_array_equal(non_steady, np.eye(len(confounds))[:, :N_NON_STEADY_STATE])


@pytest.mark.parametrize("letter", ["c", "w"])
def test_comp_cor_is_the_svd_of_the_filtered_region(run, letter):
    brain = make_brain(8.0)
    mask = {"c": brain.csf > 0.5, "w": brain.white > 0.99}[letter]
    confounds = run["confounds"].iloc[N_NON_STEADY_STATE:]
    region = run["bold"].get_fdata()[mask].T[N_NON_STEADY_STATE:]
    slow = np.column_stack([np.ones(len(region)), confounds.filter(like="cosine")])
    filtered = region - slow @ np.linalg.lstsq(slow, region)[0]
    left, values, _ = np.linalg.svd(filtered / filtered.std(0), full_matrices=False)
    components = confounds.filter(like=f"{letter}_comp_cor").to_numpy()
    n_retained = components.shape[1]
    np.testing.assert_allclose(np.abs(left[:, :n_retained].T @ components), np.eye(n_retained), atol=1e-3)
    explained = [run["described"][f"{letter}_comp_cor_{i:02d}"]["VarianceExplained"] for i in range(n_retained)]
    np.testing.assert_allclose(explained, (values**2 / np.sum(values**2))[:n_retained], rtol=1e-4)


def test_every_component_is_described(run):
    components = set(run["confounds"].filter(like="_comp_cor_").columns)
    described = {name: about for name, about in run["described"].items() if "_comp_cor_" in name}
    assert set(described) == components
    assert {about.get("Mask") for about in described.values()} == {None, "combined", "WM", "CSF"}
    for letter in "tcwa":
        of_one_kind = [described[name] for name in sorted(described) if name.startswith(letter)]
        explained = np.array([about["CumulativeVarianceExplained"] for about in of_one_kind])
        assert explained[-1] >= 0.5 > explained[:-1].max(initial=0)


@pytest.mark.parametrize(
    ("preset", "n_columns"), [("simple", 24 + 2 + 1), ("scrubbing", 24 + 8 + 1), ("compcor", None)]
)
def test_nilearn_accepts_every_preset(run, preset, n_columns):
    confounds, kept = load_confounds_strategy(str(run["path"]), preset)
    n_components = len(run["confounds"].filter(regex="^a_comp_cor").columns)
    assert confounds.shape == (80, n_columns or 24 + 1 + n_components)
    assert not confounds.isna().to_numpy().any()
    assert set(range(N_NON_STEADY_STATE)).isdisjoint(kept)
    assert (len(kept) < 78) == (preset == "scrubbing")


@pytest.mark.parametrize(
    "compcor", ["anat_combined", "anat_separated", "temporal", "temporal_anat_combined", "temporal_anat_separated"]
)
def test_nilearn_accepts_every_model(run, compcor):
    strategy = ("motion", "high_pass", "wm_csf", "global_signal", "compcor", "scrub")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confounds, _ = load_confounds(
            str(run["path"]), strategy, wm_csf="full", global_signal="full", compcor=compcor, n_compcor=3
        )
    assert not confounds.isna().to_numpy().any()


# The truth


def test_the_truth_covers_the_brain_with_contiguous_parcels(study):
    labels = study[1].labels
    np.testing.assert_array_equal(labels > 0, make_brain(8.0).mask)
    assert_contiguous(labels, 20)


def assert_contiguous(labels, n_parcels):
    np.testing.assert_array_equal(np.unique(labels[labels > 0]), np.arange(1, n_parcels + 1))
    assert all(ndimage.label(labels == parcel)[1] == 1 for parcel in range(1, n_parcels + 1))


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_any_number_of_parcels_is_contiguous(seed, share):
    mask = make_brain(10.0).mask
    n_parcels = max(1, int(share * (mask.sum() // 8)))
    labels = grow_parcels(mask, n_parcels, np.random.default_rng(seed))
    assert_contiguous(labels, n_parcels)


def test_parcels_differ_in_size():
    sizes = np.bincount(grow_parcels(make_brain(4.0).mask, 60, np.random.default_rng(0)).ravel())[1:]
    assert 0.2 < sizes.std() / sizes.mean() < 0.7


def test_voxels_of_a_parcel_vary_together(study, run):
    labels = study[1].labels
    bold = run["bold"].get_fdata()[..., N_NON_STEADY_STATE:]
    confounds = load_confounds_strategy(str(run["path"]), "simple")[0][N_NON_STEADY_STATE:]
    means = np.array([[half.mean(0) for half in np.array_split(bold[labels == p], 2)] for p in range(1, 21)])
    cleaned = signal.clean(means.reshape(40, -1).T, confounds=confounds, standardize="zscore_sample", t_r=T_R)
    halves = np.corrcoef(cleaned.T).reshape(20, 2, 20, 2)[:, 0, :, 1]
    within, between = np.diag(halves), halves[~np.eye(20, dtype=bool)]
    assert np.median(within) > 0.7
    assert np.abs(np.median(between)) < 0.3


def test_the_truth_is_written_as_it_is(study, tmp_path):
    path = demo.write_truth(tmp_path, study[1])
    image = nib.load(path)
    np.testing.assert_array_equal(image.dataobj, study[1].labels)
    np.testing.assert_array_equal(image.affine, study[1].affine)
    table = pd.read_csv(str(path).replace(".nii.gz", ".tsv"), sep="\t")
    assert table["n_voxels"].sum() == np.count_nonzero(study[1].labels)
    assert demo.compare(path, path) == demo.Agreement(1.0, 20, np.count_nonzero(study[1].labels))


def test_agreement_ignores_names_of_parcels_and_voxels_without_one(study, tmp_path):
    labels = study[1].labels
    renamed = np.where(labels > 0, 21 - labels, 0)
    renamed[:12] = 0
    shuffled = np.random.default_rng(0).permutation(labels[labels > 0])
    noise = np.zeros_like(labels)
    noise[labels > 0] = shuffled
    truth, same, other = (
        demo.write_truth(tmp_path / name, demo.Truth(data, study[1].networks, study[1].affine))
        for name, data in (("truth", labels), ("same", renamed), ("other", noise))
    )
    assert demo.compare(same, truth).adjusted_rand_index == 1
    assert demo.compare(same, truth).n_voxels == np.count_nonzero(labels[12:])
    assert abs(demo.compare(other, truth).adjusted_rand_index) < 0.01


# What is refused


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_volumes": 29}, "n_volumes is 29; at least 30"),
        ({"t_r": 0.2}, "80 volumes of 0.2 s last 16 s; 20 s are needed"),
        ({"n_parcels": 0}, "0 parcels do not fit"),
        ({"n_parcels": 435}, "435 parcels do not fit 3472 voxels: 1 to 434"),
        ({"voxel_size": 11.0}, "11.0 mm"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_cannot_be_simulated_is_refused_before_anything_is_written(parameters, message, tmp_path):
    with pytest.raises(UsageError, match=re.escape(message)):
        demo.write_dataset(tmp_path / "out", **(SMALL | parameters))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert demo.main([str(tmp_path)]) == 73
    assert "is not empty" in capsys.readouterr().err
    assert contents(tmp_path) == {Path("thesis.txt"): b"mine"}


def test_folders_that_only_look_like_a_demo_are_left_alone(tmp_path):
    (tmp_path / "fmriprep").mkdir()
    (tmp_path / "fmriprep" / "dataset_description.json").write_text('{"Name": "fMRIPrep"}')
    assert demo.main([str(tmp_path)]) == 73
    assert (tmp_path / "fmriprep" / "dataset_description.json").is_file()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, capsys):
    (tmp_path / "out").touch()
    assert demo.main([str(tmp_path / "out")]) == 73
    assert "is a file" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["OUT", "--n-parcels", "many"], ["OUT", "--no-such-option"]])
def test_wrong_arguments_are_usage_errors(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert demo.main(arguments) == 64
    assert "--help" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# The whole of it


def test_the_demo_finds_the_true_parcels(finished_demo):
    out = finished_demo / "demo"
    assert sorted(path.name for path in out.iterdir()) == ["bids-parcellate", "fmriprep", "truth"]
    assert len(list((out / "fmriprep").rglob("*_bold.nii.gz"))) == 7

    said = (finished_demo / "demo.txt").read_text()
    index = float(re.search(r"adjusted Rand index (\d\.\d+)", said)[1])
    assert index >= 0.9
    assert "Found 60 parcels (60 are true)" in said
    template = "bids-parcellate/tpl-MNI152NLin2009cAsym/anat/tpl-MNI152NLin2009cAsym"
    found = out / f"{template}_atlas-Demo_seg-ward_scale-60_dseg.nii.gz"
    assert found.name in said
    agreement = demo.compare(found, next((out / "truth").glob("*.nii.gz")))
    assert agreement.adjusted_rand_index == pytest.approx(index, abs=5e-4)
    assert find_problems(out / "bids-parcellate") == []
    assert validator_issues(out / "bids-parcellate") == []
    assert agreement.n_parcels == 60
