"""Masks of runs and groups."""

import pickle
from fractions import Fraction

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.masking import intersect_masks

from bids_parcellate.errors import DataError, MissingInputError, UsageError
from bids_parcellate.io.images import iter_volumes, volume_to_bytes
from bids_parcellate.io.masking import (
    Mask,
    compute_epi_mask,
    compute_mask,
    drop_small_pieces,
    group_mask,
    mean_volume,
    read_mask,
    run_mask,
)
from bids_parcellate.numerics.grids import Grid, grid_with_resolution
from bids_parcellate.numerics.resampling import resample

RNG = np.random.default_rng(0)
AFFINE = np.array([[2.0, 0, 0, -20], [0, 2, 0, -20], [0, 0, 2, -20], [0, 0, 0, 1]])


def saved(path, data, affine=AFFINE):
    path.write_bytes(volume_to_bytes(data, Grid(data.shape[:3], affine)))
    return path


class TestMask:
    mask = Mask(RNG.random((4, 5, 6)) > 0.4, Grid((4, 5, 6), AFFINE))

    def test_voxels_are_those_of_numpy(self):
        np.testing.assert_array_equal(self.mask.voxels, np.flatnonzero(self.mask.data))
        assert self.mask.voxels.dtype == np.int64
        assert self.mask.n_voxels == self.mask.data.sum()

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_apply_takes_what_indexing_takes(self, order):
        volume = np.array(RNG.normal(size=(4, 5, 6)), order=order)
        np.testing.assert_array_equal(self.mask.apply(volume), volume[self.mask.data])

    def test_apply_takes_views_too(self):
        volume = RNG.normal(size=(8, 10, 12))[::2, ::-2, 1::2]
        np.testing.assert_array_equal(self.mask.apply(volume), volume[self.mask.data])

    def test_unmask_is_the_inverse_of_apply(self):
        labels = np.arange(1, self.mask.n_voxels + 1, dtype=np.int32)
        volume = self.mask.unmask(labels)
        assert volume.dtype == np.int32
        assert not volume[~self.mask.data].any()
        np.testing.assert_array_equal(self.mask.apply(volume), labels)

    def test_unmask_with_another_background(self):
        volume = self.mask.unmask(np.zeros(self.mask.n_voxels), fill=np.nan)
        np.testing.assert_array_equal(np.isnan(volume), ~self.mask.data)

    def test_is_frozen_and_keeps_no_reference(self):
        data = np.ones((2, 2, 2), dtype=bool)
        mask = Mask(data, Grid((2, 2, 2), AFFINE))
        data[:] = False
        assert mask.n_voxels == 8
        with pytest.raises(ValueError, match="read-only"):
            mask.data[0] = False

    def test_travels_to_other_processes(self):
        copy = pickle.loads(pickle.dumps(self.mask))
        np.testing.assert_array_equal(copy.voxels, self.mask.voxels)
        assert copy.grid == self.mask.grid

    def test_empty(self):
        with pytest.raises(DataError, match="holds no voxel"):
            Mask(np.zeros((2, 2, 2), dtype=bool), Grid((2, 2, 2), AFFINE))

    def test_on_another_grid(self):
        with pytest.raises(DataError, match="does not fit a grid"):
            Mask(np.ones((2, 2, 3), dtype=bool), Grid((2, 2, 2), AFFINE))
        with pytest.raises(UsageError, match="does not fit a mask"):
            self.mask.apply(np.ones((4, 5, 7)))


class TestGroupMask:
    @settings(deadline=None, max_examples=50)
    @given(st.integers(1, 60), st.integers(0, 100))
    def test_counts_exactly(self, n_masks, percent):
        votes = np.arange(n_masks + 1)
        masks = [(votes > index).reshape(-1, 1, 1) for index in range(n_masks)]  # voxel v is in v masks
        group = group_mask(iter(masks), percent / 100)
        truth = (votes >= Fraction(percent, 100) * n_masks) & (votes > 0)
        np.testing.assert_array_equal(group.ravel(), truth)

    def test_nine_of_ten(self):
        masks = np.ones((10, 3, 1, 1), dtype=bool)
        masks[:1, 1], masks[:2, 2] = False, False
        assert group_mask(masks, 0.9).ravel().tolist() == [True, True, False]

    @pytest.mark.parametrize("threshold", [0.25, 0.5, 0.7])
    def test_nilearn_asks_for_more_than_the_share(self, threshold):
        masks = RNG.random((8, 5, 5, 5)) > 0.5
        arrays = [nib.Nifti1Image(mask.astype(np.int8), AFFINE) for mask in masks]
        truth = intersect_masks(arrays, threshold=threshold, connected=False).get_fdata().astype(bool)
        np.testing.assert_array_equal(group_mask(masks, threshold + 1e-6), truth)

    def test_no_masks(self):
        with pytest.raises(DataError, match="no run mask"):
            group_mask([], 0.5)

    def test_masks_without_a_common_voxel(self):
        masks = np.eye(4, dtype=bool).reshape(4, 4, 1, 1)
        with pytest.raises(DataError, match="no voxel is in 2 of 4 run masks"):
            group_mask(masks, 0.5)

    def test_shapes_that_differ(self):
        with pytest.raises(DataError, match="not on one grid"):
            group_mask([np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool)], 0.5)

    @pytest.mark.parametrize("threshold", [-0.1, 1.1, np.nan])
    def test_impossible_share(self, threshold):
        with pytest.raises(UsageError, match="from 0 to 1"):
            group_mask([np.ones((2, 2, 2), bool)], threshold)


class TestDropSmallPieces:
    def test_drops_what_is_below_the_share(self):
        mask = np.zeros((20, 20, 20), dtype=bool)
        mask[:10, :10, :10] = True  # 1000 voxels
        mask[15, 15, 15:17] = True  # 2 voxels
        mask[12:15, 1:4, 1:4] = True  # 27 voxels: 2.6 %
        kept, n_pieces, n_voxels = drop_small_pieces(mask)
        assert (n_pieces, n_voxels) == (1, 2)
        assert kept[12:15, 1:4, 1:4].all()
        kept, n_pieces, n_voxels = drop_small_pieces(mask, min_share=0.03)
        assert (n_pieces, n_voxels) == (2, 29)
        assert kept.sum() == 1000
        assert mask.sum() == 1029

    def test_voxels_that_touch_at_an_edge_are_apart(self):
        mask = np.zeros((4, 4, 1), dtype=bool)
        mask[:2, :2] = mask[2, 2] = True
        kept, n_pieces, _ = drop_small_pieces(mask, min_share=0.5)
        assert n_pieces == 1
        assert not kept[2, 2]

    def test_one_piece_stays_as_it_is(self):
        mask = np.ones((3, 3, 3), dtype=bool)
        kept, n_pieces, n_voxels = drop_small_pieces(mask)
        assert (n_pieces, n_voxels) == (0, 0)
        np.testing.assert_array_equal(kept, mask)

    def test_the_largest_piece_stays_however_small(self):
        mask = np.indices((8, 8, 8)).sum(axis=0) % 2 == 0  # 256 pieces of one voxel
        kept, n_pieces, n_voxels = drop_small_pieces(mask)
        assert kept.sum() == 1
        assert (n_pieces, n_voxels) == (255, 255)

    @settings(deadline=None, max_examples=20)
    @given(st.integers(0, 1000), st.floats(0, 1))
    def test_what_is_dropped_and_what_is_kept_add_up(self, seed, min_share):
        mask = np.random.default_rng(seed).random((6, 6, 6)) > 0.7
        kept, n_pieces, n_voxels = drop_small_pieces(mask, min_share)
        assert kept.sum() + n_voxels == mask.sum()
        assert (n_pieces > 0) == (n_voxels > 0)
        assert not (kept & ~mask).any()


class TestMeanVolume:
    def test_is_numpys(self, tmp_path):
        data = RNG.normal(100, 10, size=(4, 5, 6, 30)).astype(np.float32)
        mean = mean_volume(saved(tmp_path / "bold.nii.gz", data))
        assert mean.dtype == np.float64
        np.testing.assert_allclose(mean, data.astype(np.float64).mean(axis=-1), rtol=1e-12)

    def test_of_one_volume(self):
        data = RNG.normal(size=(4, 5, 6)).astype(np.float32)
        np.testing.assert_array_equal(mean_volume(nib.Nifti1Image(data, AFFINE)), data)

    def test_says_where_values_are_not_finite(self):
        data = np.ones((2, 2, 2, 3), dtype=np.float32)
        data[0, 0, 0, 1], data[1, 1, 1, 0], data[1, 1, 1, 2] = np.nan, np.inf, -np.inf
        mean = mean_volume(nib.Nifti1Image(data, AFFINE))
        assert np.isnan(mean[[0, 1], [0, 1], [0, 1]]).all()
        assert np.isfinite(mean).sum() == 6


class TestReadMask:
    data = np.pad(np.ones((6, 6, 6), dtype=np.uint8), 2)
    grid = Grid((10, 10, 10), AFFINE)

    def test_real_masks(self, shared_data):
        for path in (shared_data / "real").glob("*/sub-*/*/*desc-brain_mask.nii.gz"):
            truth = nib.load(path)
            mask = read_mask(path)
            np.testing.assert_array_equal(mask.data, truth.get_fdata() > 0)
            np.testing.assert_array_equal(mask.grid.affine, truth.affine)

    @pytest.mark.parametrize("values", [(0, 1), (0, 255), (0.0, 1.0), (np.nan, 1.0)])
    def test_background_and_one_other_value(self, tmp_path, values):
        data = np.array(values)[self.data]
        np.testing.assert_array_equal(read_mask(saved(tmp_path / "mask.nii.gz", data)).data, self.data.astype(bool))

    def test_full_mask(self, tmp_path):
        assert read_mask(saved(tmp_path / "mask.nii.gz", np.ones((3, 3, 3), np.uint8))).n_voxels == 27

    def test_same_grid_is_left_alone(self, tmp_path):
        mask = read_mask(saved(tmp_path / "mask.nii.gz", self.data), self.grid)
        np.testing.assert_array_equal(mask.data, self.data.astype(bool))

    def test_another_grid_is_resampled(self, tmp_path):
        finer = grid_with_resolution(self.grid, 1)
        mask = read_mask(saved(tmp_path / "mask.nii.gz", self.data), finer)
        assert mask.grid == finer
        truth = np.kron(self.data, np.ones((2, 2, 2))).astype(bool)
        np.testing.assert_array_equal(mask.data, truth)

    def test_without_overlap(self, tmp_path):
        affine = AFFINE.copy()
        affine[0, 3] = 1000
        with pytest.raises(DataError, match=r"mask.nii.gz holds no voxel of the data's grid"):
            read_mask(saved(tmp_path / "mask.nii.gz", self.data, affine), self.grid)

    def test_empty(self, tmp_path):
        with pytest.raises(DataError, match=r"mask.nii.gz is an empty mask"):
            read_mask(saved(tmp_path / "mask.nii.gz", np.zeros((3, 3, 3), np.uint8)))

    @pytest.mark.parametrize("data", [np.linspace(0, 1, 27), np.arange(27) % 3, np.arange(27) % 2 + 1])
    def test_no_mask(self, tmp_path, data):
        with pytest.raises(DataError, match=r"mask.nii.gz is no mask: it holds"):
            read_mask(saved(tmp_path / "mask.nii.gz", data.reshape(3, 3, 3)))

    def test_missing(self, tmp_path):
        with pytest.raises(MissingInputError, match=r"mask.nii.gz is missing"):
            read_mask(tmp_path / "mask.nii.gz")


class TestRunMask:
    @pytest.fixture
    def run(self, tmp_path):
        """Write a run: a noisy bright cube in a dark image."""
        brain = np.zeros((14, 14, 14, 1))
        brain[3:11, 3:11, 3:11] = 1000
        data = brain + RNG.normal(0, 5, size=(14, 14, 14, 12)) * (brain > 0)
        return saved(tmp_path / "bold.nii.gz", data)

    @pytest.fixture
    def brain_mask(self, tmp_path):
        data = np.zeros((14, 14, 14), dtype=np.uint8)
        data[4:10, 4:10, 4:10] = 1
        return saved(tmp_path / "mask.nii.gz", data)

    def test_own_brain_mask(self, run, brain_mask):
        mask = run_mask(run, "group", brain_mask=brain_mask)
        assert mask.n_voxels == 6**3

    @pytest.mark.parametrize("strategy", ["epi", "background"])
    def test_computed_from_the_mean(self, run, strategy):
        mask = run_mask(run, strategy)
        assert mask.grid == Grid((14, 14, 14), AFFINE)
        np.testing.assert_array_equal(mask.data, compute_mask(mean_volume(run), strategy))
        assert not mask.data[mean_volume(run) < 500].any()

    def test_arguments_reach_the_strategy(self, run):
        opened, plain = run_mask(run, "epi"), run_mask(run, "epi", mask_args={"opening": 0})
        assert opened.n_voxels < plain.n_voxels == 8**3

    def test_on_another_grid(self, run, brain_mask):
        grid = grid_with_resolution(Grid((14, 14, 14), AFFINE), 1)
        assert run_mask(run, "group", brain_mask=brain_mask, grid=grid).n_voxels == 8 * 6**3
        mean = np.mean(list(iter_volumes(run)), axis=0, dtype=np.float64)
        truth = compute_epi_mask(resample(mean, Grid((14, 14, 14), AFFINE), grid))
        np.testing.assert_array_equal(run_mask(run, "epi", grid=grid).data, truth)

    def test_an_image_in_memory(self, run):
        np.testing.assert_array_equal(run_mask(nib.load(run), "epi").data, run_mask(run, "epi").data)

    def test_brain_mask_that_is_needed(self, run):
        with pytest.raises(MissingInputError, match=r"no brain mask for .*bold.nii.gz"):
            run_mask(run, "group")

    def test_constant_run(self, tmp_path):
        path = saved(tmp_path / "bold.nii.gz", np.ones((5, 5, 5, 4)))
        with pytest.raises(DataError, match=r"bold.nii.gz: no EPI mask"):
            run_mask(path, "epi")

    @pytest.mark.parametrize("strategy", ["gm-template", "brain"])
    def test_strategies_that_are_not_of_a_run(self, run, strategy):
        with pytest.raises(UsageError, match="none of group, epi, background"):
            run_mask(run, strategy)
