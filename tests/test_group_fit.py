"""The group's part of a job through the command line: choice of a number, contiguity, weights, names, figures."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from sklearn.metrics import adjusted_rand_score

from bids_parcellate.cli import main
from bids_parcellate.demo import write_dataset
from bids_parcellate.group.data import GroupData
from bids_parcellate.outputs.validation import find_problems
from tests.outputs import validator_issues


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Five runs of four participants with 12 true parcels, and a work folder that jobs share."""
    folder = tmp_path_factory.mktemp("cohort")
    truth = write_dataset(folder / "data", n_subjects=4, n_volumes=80, voxel_size=8.0, n_parcels=12)
    return folder / "data", truth, folder / "work"


@pytest.fixture(scope="module")
def run_job(cohort, tmp_path_factory):
    def run(*options, level="group", folder=None, exit_code=0):
        folder = folder or tmp_path_factory.mktemp("job")
        arguments = [cohort[0], folder, level, "--nprocs", "1", "--work-dir", cohort[2], *options]
        assert main(list(map(str, arguments))) == exit_code
        return folder

    return run


@pytest.fixture(scope="module")
def chosen(run_job):
    return run_job("--n-parcels", "auto", "6", "12", "24", "48", "--quality", "full", "--n-bootstrap", "4")


@pytest.fixture(scope="module")
def individuals(run_job):
    return run_job("--n-parcels", "12", "--individual")


def read_labels(folder, n_parcels):
    (path,) = folder.glob(f"tpl-*/anat/*_scale-{n_parcels}_dseg.nii.gz")
    return np.asarray(nib.load(path).dataobj)


def read_table(folder, n_parcels):
    (path,) = folder.glob(f"tpl-*/anat/*_scale-{n_parcels}_dseg.tsv")
    return pd.read_csv(path, sep="\t")


def read_figures(folder):
    (path,) = folder.glob("tpl-*/anat/*_qc.tsv")
    return pd.read_csv(path, sep="\t"), json.loads(path.with_suffix(".json").read_text())


class TestChoice:
    def test_is_the_true_number(self, chosen, cohort):
        assert [path.name for path in chosen.glob("tpl-*/anat/*_dseg.nii.gz")] == [
            "tpl-MNI152NLin2009cAsym_atlas-Parcellate_seg-ward_scale-12_dseg.nii.gz"
        ]
        found, truth = read_labels(chosen, 12), cohort[1].labels
        both = (found > 0) & (truth > 0)
        assert adjusted_rand_score(truth[both], found[both]) > 0.7

    def test_shows_the_curve_and_the_rule(self, chosen):
        figures, sidecar = read_figures(chosen)
        curve = figures[figures["figure"] == "choice_score"]
        assert list(curve["n_parcels"]) == [6, 12, 24, 48]
        assert curve.set_index("n_parcels")["value"].idxmax() == 12
        assert "12 parcels" in sidecar["ChoiceOfNumberOfParcels"]
        assert "standard error" in sidecar["RuleOfChoice"]
        assert set(figures["figure"]) == set(sidecar["figure"]["Levels"])

    def test_needs_someone_to_test_it_on(self, run_job, capsys):
        options = ("--n-parcels", "auto", "6", "12", "--participant-label", "02")
        run_job(*options, exit_code=64)
        assert "cannot be chosen from a single run" in capsys.readouterr().err

    def test_of_runs_where_there_is_one_participant(self, run_job):
        folder = run_job("--n-parcels", "auto", "6", "12", "--participant-label", "01")
        assert len(list(folder.glob("tpl-*/anat/*_dseg.nii.gz"))) == 1


class TestFigures:
    def test_beat_random_parcels(self, chosen):
        figures = read_figures(chosen)[0].set_index(["n_parcels", "figure"]).loc[12]
        for name in ("boundary_coefficient", "held_out_explained_variance", "split_half_adjusted_rand"):
            assert figures.loc[name, "z"] > 5
            assert figures.loc[name, "p_value"] == pytest.approx(1 / 21)

    def test_of_each_parcel_are_in_its_table(self, chosen):
        table = read_table(chosen, 12)
        for name in ("explained_variance", "homogeneity", "silhouette", "compactness", "reproducibility"):
            assert table[name].between(-1, 1).all()
        assert table["reproducibility"].median() > 0.8

    def test_of_stability_are_shares(self, chosen):
        (path,) = chosen.glob("tpl-*/anat/*_scale-12_desc-stability_probseg.nii.gz")
        share, labels = nib.load(path).get_fdata(), read_labels(chosen, 12)
        assert set(np.unique(share[labels > 0].round(2))) <= {0, 0.25, 0.5, 0.75, 1}
        assert share[labels > 0].mean() > 0.8
        # Voxels at boundaries are less stable than those inside.
        inside = ndimage.generic_filter(labels, lambda values: float(np.ptp(values) == 0), size=3) > 0
        assert share[inside & (labels > 0)].mean() > share[~inside & (labels > 0)].mean()

    def test_of_stability_are_of_participants_drawn_with_replacement(self, run_job, monkeypatch):
        merged = []

        def merge(data, reduced):
            merged.append([each.run.participant for each in reduced])
            return merge_all(data, reduced)

        merge_all = GroupData._merge
        monkeypatch.setattr(GroupData, "_merge", merge)
        run_job("--n-parcels", "11", "--quality", "full", "--n-bootstrap", "6", "--random-seed", "3")
        samples = merged[-6:]
        for runs in samples:
            n_times = {name: runs.count(name) / (2 if name == "01" else 1) for name in set(runs)}  # 01 has two runs
            assert sum(n_times.values()) == 4
            assert all(number == int(number) for number in n_times.values())
        assert len({tuple(runs) for runs in samples}) > 3

    def test_do_not_change_the_parcels(self, run_job, chosen):
        plain = run_job("--n-parcels", "12", "--quality", "none")
        np.testing.assert_array_equal(read_labels(plain, 12), read_labels(chosen, 12))
        assert not list(plain.glob("tpl-*/anat/*_qc.tsv"))

    def test_are_valid_outputs(self, chosen):
        assert find_problems(chosen) == []
        assert validator_issues(chosen) == []


class TestParcels:
    @pytest.mark.parametrize("method", ["kmeans", "hierarchical_kmeans"])
    def test_of_kmeans_can_be_contiguous(self, run_job, method):
        folder = run_job("--method", method, "--n-parcels", "20", "--contiguous", "--quality", "none")
        labels = read_labels(folder, 20)
        assert labels.max() == 20
        for label in range(1, 21):
            assert ndimage.label(labels == label)[1] == 1

    def test_have_a_smallest_size(self, run_job):
        folder = run_job("--n-parcels", "30", "--min-size", "25", "--quality", "none")
        assert np.bincount(read_labels(folder, 30).ravel())[1:].min() >= 25

    def test_can_keep_to_a_hemisphere(self, run_job):
        folder = run_job("--n-parcels", "20", "--split-hemispheres")
        labels, table = read_labels(folder, 20), read_table(folder, 20)
        affine = nib.load(next(folder.glob("tpl-*/anat/*_dseg.nii.gz"))).affine
        x = (np.argwhere(labels > 0) @ affine[:3, :3].T + affine[:3, 3])[:, 0]
        sides = np.bincount(labels[labels > 0] - 1, weights=x < 0) / np.bincount(labels[labels > 0] - 1)
        assert (np.minimum(sides, 1 - sides) < 0.05).all()
        assert set(table["hemisphere"]) == {"L", "R"}

    def test_follow_weights(self, run_job, chosen, tmp_path):
        image = nib.load(next(chosen.glob("tpl-*/anat/*_mask.nii.gz")))
        front = np.zeros(image.shape, dtype=np.float32)
        front[:, front.shape[1] // 2 :] = 1
        path = tmp_path / "weights.nii.gz"
        nib.save(nib.Nifti1Image(front, image.affine), path)
        folder = run_job("--n-parcels", "24", "--weights", path, "--quality", "none")
        plain = run_job("--n-parcels", "24", "--quality", "none")

        def share_in_front(labels):
            return len(np.unique(labels[(labels > 0) & (front > 0)])) / 24

        assert share_in_front(read_labels(folder, 24)) > share_in_front(read_labels(plain, 24)) + 0.2

    def test_have_parents_at_the_coarser_scale(self, run_job):
        folder = run_job("--n-parcels", "6", "12", "--quality", "none")
        fine, coarse, table = read_labels(folder, 12), read_labels(folder, 6), read_table(folder, 12)
        for row in table.itertuples():
            assert np.unique(coarse[fine == row.index]) == [row.parent]
        assert (table["parent_share"] == 1).all()
        assert "parent" not in read_table(folder, 6)

    def test_are_numbered_left_to_right_and_front_to_back(self, run_job):
        table = read_table(run_job("--n-parcels", "12", "--quality", "none"), 12)
        for side in "LR":
            assert table.loc[table["hemisphere"] == side, "y"].is_monotonic_decreasing


class TestNames:
    def test_stay_when_a_participant_is_added(self, run_job, tmp_path):
        before = run_job("--n-parcels", "12", "--quality", "none", "--participant-label", "01", "02", "03")
        image = next(before.glob("tpl-*/anat/*_dseg.nii.gz"))
        table = image.with_name(image.name.replace(".nii.gz", ".tsv"))
        named = pd.read_csv(table, sep="\t").assign(name=[f"Area{letter}" for letter in "ABCDEFGHIJKL"])
        named.to_csv(table, sep="\t", index=False)
        after = run_job("--n-parcels", "12", "--quality", "none", "--match-labels", image)
        found = read_table(after, 12)
        assert list(found["name"]) == list(named["name"])
        old, new = read_labels(before, 12), read_labels(after, 12)
        both = (old > 0) & (new > 0)
        assert np.mean(old[both] == new[both]) > 0.8
        assert found["matched_dice"].median() > 0.8

    def test_come_from_a_reference_atlas(self, run_job, chosen, tmp_path):
        labels = read_labels(chosen, 12)
        image = nib.load(next(chosen.glob("tpl-*/anat/*_dseg.nii.gz")))
        halves = np.where(labels > 6, 70, np.where(labels > 0, 30, 0)).astype(np.int16)
        path = tmp_path / "atlas-Halves_dseg.nii.gz"
        nib.save(nib.Nifti1Image(halves, image.affine), path)
        (tmp_path / "atlas-Halves_dseg.tsv").write_text(
            "index\tname\n30\t7Networks_LH_Vis_1\n70\t7Networks_RH_Default_1\n"
        )
        folder = run_job("--n-parcels", "12", "--reference-atlas", path)
        table = read_table(folder, 12)
        assert table["name"].str.fullmatch(r"[LRB]H_(Vis|Default)_\d+").all()
        assert table["name"].is_unique
        assert set(table["Halves_match"]) == {"7Networks_LH_Vis_1", "7Networks_RH_Default_1"}
        figures, _ = read_figures(folder)
        found = figures.loc[figures["figure"] == "Halves_adjusted_rand", "value"].item()
        inside = labels > 0
        assert found == pytest.approx(adjusted_rand_score(halves[inside], labels[inside]), rel=1e-6)
        assert find_problems(folder) == []

    def test_of_an_atlas_that_is_not_there_end_the_job_before_it_starts(self, run_job, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
        folder = run_job("--reference-atlas", "Schaefer2018:400Parcels7Networks", exit_code=66)
        error = capsys.readouterr().err
        assert "atlas='Schaefer2018'" in error
        assert "api.get" in error
        assert not list(folder.iterdir())


class TestIndividuals:
    def test_have_the_group_s_parcels(self, individuals):
        group, names = read_labels(individuals, 12), list(read_table(individuals, 12)["name"])
        images = sorted(individuals.glob("sub-*/anat/*_desc-individual_dseg.nii.gz"))
        assert len(images) == 4
        for image in images:
            own = np.asarray(nib.load(image).dataobj)
            np.testing.assert_array_equal(own > 0, group > 0)
            np.testing.assert_array_equal(np.unique(own), np.arange(13))
            for label in range(1, 13):
                assert ndimage.label(own == label)[1] == 1
            assert 0 < np.mean(own[group > 0] != group[group > 0]) < 0.5
            table = pd.read_csv(image.with_name(image.name.replace(".nii.gz", ".tsv")), sep="\t")
            assert list(table["name"]) == names

    def test_of_single_runs_are_compared(self, individuals):
        """The boundaries of these participants differ by less than a voxel; in test_individual.py they differ more."""
        figures = read_figures(individuals)[0].set_index("figure")["value"]
        assert 0.8 < figures["individual_within_adjusted_rand"] < 1
        assert 0.8 < figures["individual_between_adjusted_rand"] < 1

    def test_are_valid_outputs(self, individuals):
        assert find_problems(individuals) == []
        assert validator_issues(individuals) == []

    def test_need_contiguous_parcels(self, run_job, capsys):
        run_job("--individual", "--method", "kmeans", exit_code=64)
        assert "--contiguous" in capsys.readouterr().err
