"""Grids and resampling: nibabel and nilearn are the truth."""

import warnings

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.image import resample_img
from nilearn.image.resampling import BoundingBoxError

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.grids import Grid, grid_with_resolution, target_grid
from bids_parcellate.numerics.resampling import resample

RNG = np.random.default_rng(0)
QUICK = settings(deadline=None, max_examples=25)


def affine_of(sizes, origin=(-20.0, 10.0, 3.0), angles=(0.0, 0.0, 0.0)):
    """Rotate by Euler angles, scale and shift."""
    affine = np.eye(4)
    affine[:3, :3] = nib.eulerangles.euler2mat(*angles) @ np.diag(sizes)
    affine[:3, 3] = origin
    return affine


def with_nilearn(volume, grid, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nilearn warns of NaN, of binary images and of missing sforms
        return resample_img(nib.Nifti1Image(volume, grid.affine), **arguments)


sizes = st.tuples(*[st.floats(0.8, 4.0)] * 3)
angles = st.tuples(*[st.sampled_from([0.0, 0.1, -0.4, np.pi / 2])] * 3)
shapes = st.tuples(*[st.integers(1, 9)] * 3)


class TestGrid:
    @QUICK
    @given(sizes, angles)
    def test_voxel_sizes_are_those_of_nibabel(self, sizes, angles):
        affine = affine_of(sizes, angles=angles)
        np.testing.assert_allclose(Grid((2, 3, 4), affine).voxel_sizes, nib.affines.voxel_sizes(affine))

    def test_is_frozen_and_keeps_no_reference_to_the_affine(self):
        affine = np.eye(4)
        grid = Grid((2, 3, 4), affine)
        affine[0, 3] = 99
        assert grid.affine[0, 3] == 0
        with pytest.raises(ValueError, match="read-only"):
            grid.affine[0, 3] = 1

    def test_rounding_of_the_header_is_no_difference(self):
        affine = affine_of((2, 2, 2), angles=(0.1, 0.2, 0.3))
        assert Grid((97, 115, 97), affine) == Grid((97, 115, 97), affine.astype(np.float32))

    @pytest.mark.parametrize("shift", [0.01, -0.5, 2])
    def test_a_shifted_grid_differs(self, shift):
        affine = affine_of((2, 2, 2))
        shifted = affine.copy()
        shifted[1, 3] += shift
        assert Grid((5, 5, 5), affine) != Grid((5, 5, 5), shifted)

    def test_a_small_rotation_differs_where_the_grid_is_large(self):
        turned = affine_of((2, 2, 2), angles=(1e-4, 0, 0))
        assert Grid((2, 2, 2), affine_of((2, 2, 2))) == Grid((2, 2, 2), turned)
        assert Grid((97, 115, 97), affine_of((2, 2, 2))) != Grid((97, 115, 97), turned)

    def test_shapes_differ(self):
        assert Grid((5, 5, 5), np.eye(4)) != Grid((5, 5, 6), np.eye(4))

    def test_key_is_hashable_and_exact(self):
        grid = Grid((2, 3, 4), affine_of((2, 2, 2)))
        assert {grid.key: 1}[Grid((2, 3, 4), affine_of((2, 2, 2))).key] == 1
        assert grid.key != Grid((2, 3, 4), affine_of((2, 2, 2.0000001))).key

    @pytest.mark.parametrize("affine", [np.diag([2, 0, 2, 1]), np.full((4, 4), np.nan), np.eye(3)])
    def test_affine_without_inverse_is_refused(self, affine):
        with pytest.raises(DataError, match="inverse"):
            Grid((2, 2, 2), affine)

    @pytest.mark.parametrize("shape", [(2, 0, 2), (2, 2), (2, 2, 2, 2)])
    def test_shape_that_is_no_volume_is_refused(self, shape):
        with pytest.raises(DataError, match="three axes"):
            Grid(shape, np.eye(4))


class TestResample:
    @QUICK
    @given(shapes, sizes, angles, sizes, angles, st.sampled_from(["continuous", "linear", "nearest"]))
    def test_gives_what_nilearn_gives(self, shape, sizes, angles, new_sizes, new_angles, interpolation):
        volume = RNG.normal(10, 3, size=shape).astype(np.float32)
        grid = Grid(shape, affine_of(sizes, angles=angles))
        target = Grid((6, 5, 7), affine_of(new_sizes, origin=grid.affine[:3, 3], angles=new_angles))
        ours = resample(volume, grid, target, interpolation=interpolation)
        assert ours.dtype == np.float32
        try:
            truth = with_nilearn(
                volume, grid, target_affine=target.affine, target_shape=target.shape, interpolation=interpolation
            )
        except BoundingBoxError:  # nilearn refuses images outside the field of view; here they are 0 there
            return
        np.testing.assert_allclose(ours, truth.get_fdata(), atol=1e-5)

    @pytest.mark.parametrize("interpolation", ["continuous", "linear", "nearest"])
    def test_a_shifted_field_of_view_of_the_same_voxels(self, interpolation):
        volume = RNG.normal(size=(6, 7, 8)).astype(np.float32)
        grid = Grid(volume.shape, affine_of((3.1, 3.75, 3.75)))
        affine = grid.affine.copy()
        affine[:3, 3] += grid.affine[:3, :3] @ [2, -1, 0]
        ours = resample(volume, grid, Grid((6, 7, 8), affine), interpolation=interpolation)
        np.testing.assert_allclose(ours[:4, 1:], volume[2:, :-1], atol=1e-5)
        assert not ours[4:].any()
        assert not ours[:, 0].any()

    @pytest.mark.parametrize("interpolation", ["continuous", "linear", "nearest"])
    def test_a_crop_loses_nothing_to_rounding(self, interpolation):
        volume = RNG.normal(size=(6, 7, 8))
        grid = Grid(volume.shape, affine_of((3.1, 3.75, 0.7), angles=(0.1, 0.2, 0.3)))
        ours = resample(volume, grid, Grid((9, 7, 3), grid.affine), interpolation=interpolation)
        np.testing.assert_allclose(ours[:6], volume[:, :, :3], atol=1e-12)
        assert not ours[6:].any()

    def test_the_same_grid_gives_an_exact_copy(self):
        volume = RNG.normal(size=(4, 5, 6)).astype(np.float32)
        grid = Grid(volume.shape, affine_of((2, 2, 2)))
        same = resample(volume, grid, Grid(volume.shape, grid.affine.astype(np.float32)))
        assert same is not volume
        np.testing.assert_array_equal(same, volume)

    @pytest.mark.parametrize("interpolation", ["continuous", "linear", "nearest"])
    def test_nan_does_not_spread(self, interpolation):
        volume = RNG.normal(size=(8, 8, 8)).astype(np.float32)
        volume[:2], volume[4, 4, 4], volume[6, 6, 6] = np.nan, np.nan, np.nan
        grid, target = Grid((8, 8, 8), affine_of((2, 2, 2))), Grid((12, 12, 12), affine_of((1.3, 1.3, 1.3)))
        truth = with_nilearn(
            volume, grid, target_affine=target.affine, target_shape=target.shape, interpolation=interpolation
        )
        ours = resample(volume, grid, target, interpolation=interpolation)
        np.testing.assert_allclose(ours, truth.get_fdata(), atol=1e-5)
        assert 0 < np.isnan(ours).sum() < ours.size / 3

    def test_infinity_becomes_nan_and_leaves_the_range_alone(self):
        volume = RNG.uniform(-1, 1, size=(8, 8, 8))
        volume[3, 3, 3], volume[5, 5, 5] = np.inf, -np.inf
        ours = resample(volume, Grid((8, 8, 8), np.eye(4)), Grid((15, 15, 15), np.diag([0.5, 0.5, 0.5, 1])))
        assert np.isnan(ours[6, 6, 6])
        assert np.isnan(ours[10, 10, 10])
        assert np.nanmax(np.abs(ours)) <= 1

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int32, np.float64])
    def test_nearest_keeps_type_and_values(self, dtype):
        volume = RNG.integers(0, 2 if dtype is bool else 100, size=(5, 6, 7)).astype(dtype)
        grid, target = Grid((5, 6, 7), affine_of((2, 2, 2))), Grid((9, 9, 9), affine_of((1.1, 1.1, 1.1)))
        ours = resample(volume, grid, target, interpolation="nearest")
        truth = with_nilearn(
            volume.astype(np.float64),
            grid,
            target_affine=target.affine,
            target_shape=target.shape,
            interpolation="nearest",
        )
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, truth.get_fdata())

    def test_integers_are_interpolated_as_real_numbers(self):
        volume = np.zeros((5, 5, 5), dtype=np.int16)
        volume[2:] = 1
        grid, target = Grid((5, 5, 5), np.eye(4)), Grid((9, 9, 9), np.diag([0.5, 0.5, 0.5, 1]))
        ours = resample(volume, grid, target, interpolation="linear")
        assert ours.dtype == np.float32
        assert ours[3, 4, 4] == 0.5

    def test_without_overlap_the_result_is_empty(self):
        target = Grid((3, 3, 3), affine_of((1, 1, 1), origin=(500, 500, 500)))
        assert not resample(np.ones((4, 4, 4)), Grid((4, 4, 4), np.eye(4)), target).any()

    def test_unknown_interpolation_is_refused(self):
        grid = Grid((2, 2, 2), np.eye(4))
        with pytest.raises(UsageError, match="'cubic' is none of continuous, linear, nearest"):
            resample(np.ones((2, 2, 2)), grid, grid, interpolation="cubic")

    def test_volume_on_another_grid_is_refused(self):
        grid = Grid((2, 2, 2), np.eye(4))
        with pytest.raises(UsageError, match=r"\(3, 2, 2\) does not fit"):
            resample(np.ones((3, 2, 2)), grid, grid)


class TestTargetGrid:
    @QUICK
    @given(shapes, sizes, angles, sizes, angles, st.booleans())
    def test_gives_nilearns_bounding_box(self, shape, sizes, angles, new_sizes, new_angles, with_origin):
        grid = Grid(shape, affine_of(sizes, angles=angles))
        axes = affine_of(new_sizes, origin=grid.affine[:3, 3] - 1, angles=new_angles)
        axes = axes if with_origin else axes[:3, :3]
        try:
            truth = with_nilearn(np.ones(shape, np.float32), grid, target_affine=axes)
        except BoundingBoxError:
            with pytest.raises(UsageError, match="outside"):
                target_grid(grid, axes)
            return
        assert target_grid(grid, axes).matches(Grid(truth.shape, truth.affine), atol=1e-9)

    def test_shape_and_origin_given(self):
        axes = affine_of((3, 3, 3))
        assert target_grid(Grid((4, 4, 4), axes), axes, (7, 8, 9)) == Grid((7, 8, 9), axes)

    @pytest.mark.parametrize("axes", [np.eye(3), np.eye(2), np.ones(3)])
    def test_shape_without_origin_is_refused(self, axes):
        with pytest.raises(UsageError, match="target_shape"):
            target_grid(Grid((4, 4, 4), np.eye(4)), axes, (7, 8, 9))

    def test_a_grid_that_misses_the_image_is_refused(self):
        with pytest.raises(UsageError, match="outside"):
            target_grid(Grid((4, 4, 4), np.eye(4)), affine_of((1, 1, 1), origin=(100, 0, 0)))


class TestGridWithResolution:
    def test_gives_the_4_mm_grid_of_real_images_from_the_2_mm_template(self, shared_data):
        name = "tpl-MNI152NLin2009cAsym/tpl-MNI152NLin2009cAsym_res-02_desc-brain_mask.nii.gz"
        template = nib.load(shared_data / "templateflow" / name)
        run = nib.load(next((shared_data / "real" / "twosub_mni4mm").glob("sub-*/func/*_boldref.nii.gz")))
        assert grid_with_resolution(Grid(template.shape, template.affine), 4) == Grid(run.shape, run.affine)

    @QUICK
    @given(shapes, sizes, angles, st.floats(0.5, 5))
    def test_covers_the_field_of_view_about_its_centre(self, shape, sizes, angles, mm):
        grid = Grid(shape, affine_of(sizes, angles=angles))
        ours = grid_with_resolution(grid, mm)
        np.testing.assert_allclose(ours.voxel_sizes, mm)
        assert nib.aff2axcodes(ours.affine) == nib.aff2axcodes(grid.affine)
        centres = [nib.affines.apply_affine(g.affine, (np.array(g.shape) - 1) / 2) for g in (ours, grid)]
        np.testing.assert_allclose(*centres, atol=1e-9)
        surplus = ours.voxel_sizes * ours.shape - grid.voxel_sizes * grid.shape
        assert (surplus >= -1e-4).all()
        assert (surplus < mm).all()

    def test_the_same_resolution_is_the_same_grid(self):
        grid = Grid((5, 6, 7), affine_of((2.2, 2.2, 2.2), angles=(0.1, 0.2, 0.3)))
        assert grid_with_resolution(grid, 2.2) == grid

    @pytest.mark.parametrize("mm", [0, -1, np.nan, np.inf])
    def test_impossible_size_is_refused(self, mm):
        with pytest.raises(UsageError, match="larger than 0"):
            grid_with_resolution(Grid((5, 6, 7), np.eye(4)), mm)
