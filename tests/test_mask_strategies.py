"""Mask strategies: nilearn is the truth, on real and simulated images."""

import warnings

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn import masking as nilearn_masking
from scipy import ndimage

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.io.masking import mean_volume
from bids_parcellate.numerics.mask_strategies import (
    compute_background_mask,
    compute_epi_mask,
    compute_mask,
    compute_template_mask,
    label_pieces,
)

RNG = np.random.default_rng(0)


def with_nilearn(function, image, **arguments):
    image = nib.Nifti1Image(image, np.eye(4)) if isinstance(image, np.ndarray) else image
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty masks and missing sforms
        return function(image, **arguments).get_fdata().astype(bool)


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def head(shape=(20, 22, 18), noise=1.0, seed=0):
    """Simulate the mean of a run: a bright ellipsoid, a small bright spot beside it, and noise."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1.3, 1.3, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    volume = np.where(radius < 1, 100 - 20 * radius, 0) + noise * np.abs(rng.normal(size=shape))
    volume[1:4, 1:4, 1:4] = 80
    return volume


class TestEpi:
    @pytest.mark.parametrize("subject", ["ds205s03", "feeds"])
    @pytest.mark.parametrize("arguments", [{}, {"opening": 0, "connected": False}, {"lower_cutoff": 0.4}])
    def test_real_runs(self, shared_data, subject, arguments):
        folder = shared_data / "real" / "twosub_mni4mm" / f"sub-{subject}" / "func"
        (path,) = folder.glob("*_bold.nii.gz")
        truth = with_nilearn(nilearn_masking.compute_epi_mask, nib.load(path), **arguments)
        np.testing.assert_array_equal(compute_epi_mask(mean_volume(path), **arguments), truth)

    def test_one_real_slice(self, shared_data):
        folder = shared_data / "real" / "haxby2001_1slice" / "sub-01" / "func"
        (path,) = folder.glob("*run-01*_bold.nii.gz")
        truth = with_nilearn(nilearn_masking.compute_epi_mask, nib.load(path), opening=0)
        mean = mean_volume(path)
        np.testing.assert_array_equal(compute_epi_mask(mean, opening=0), truth)
        # nilearn's opening empties a single slice; here the slice is opened as a plane
        opened = compute_epi_mask(mean, opening=1)
        assert not with_nilearn(nilearn_masking.compute_epi_mask, nib.load(path), opening=1).any()
        assert dice(opened, truth) > 0.9

    @settings(deadline=None, max_examples=20)
    @given(
        lower=st.floats(0, 0.5),
        upper=st.floats(0.6, 1),
        connected=st.booleans(),
        opening=st.integers(0, 2),
        exclude_zeros=st.booleans(),
        seed=st.integers(0, 5),
    )
    def test_simulated(self, lower, upper, connected, opening, exclude_zeros, seed):
        volume = head(noise=20, seed=seed)
        volume[:, -4:] = 0
        volume[0, :, 0], volume[10, 10, 10], volume[0, 0, 5] = np.nan, np.nan, np.inf
        arguments = {
            "lower_cutoff": lower,
            "upper_cutoff": upper,
            "connected": connected,
            "opening": opening,
            "exclude_zeros": exclude_zeros,
        }
        truth = with_nilearn(nilearn_masking.compute_epi_mask, volume, **arguments)
        np.testing.assert_array_equal(compute_epi_mask(volume, **arguments), truth)

    def test_finds_the_head_and_not_the_spot(self):
        mask = compute_epi_mask(head(), opening=1)
        assert dice(mask, head(noise=0) > 50) > 0.95
        assert not mask[:4, :4, :4].any()

    def test_input_is_left_alone(self):
        volume = head()
        volume[0] = np.nan
        before = volume.copy()
        compute_epi_mask(volume)
        np.testing.assert_array_equal(volume, before)

    @pytest.mark.parametrize("volume", [np.full((6, 6, 6), 7.0), np.zeros((6, 6, 6)), np.full((6, 6, 6), np.nan)])
    @pytest.mark.parametrize("exclude_zeros", [True, False])
    def test_nothing_to_choose_between(self, volume, exclude_zeros):
        with pytest.raises(DataError, match="values do not differ"):
            compute_epi_mask(volume, exclude_zeros=exclude_zeros, opening=0)

    def test_nothing_remains(self):
        with pytest.raises(DataError, match="empty after an erosion by 9 voxels") as caught:
            compute_epi_mask(head(), opening=9)
        assert "smaller opening" in caught.value.hint

    @pytest.mark.parametrize(("lower", "upper"), [(0.9, 0.2), (0.5, 0.5), (-0.1, 0.5), (0.2, 1.1)])
    def test_cutoffs_out_of_order(self, lower, upper):
        with pytest.raises(UsageError, match="lower_cutoff"):
            compute_epi_mask(head(), lower_cutoff=lower, upper_cutoff=upper)


class TestBackground:
    @pytest.mark.parametrize("arguments", [{}, {"connected": True, "opening": 1}, {"border_size": 5}])
    def test_real_runs(self, shared_data, arguments):
        for path in (shared_data / "real" / "twosub_mni4mm").glob("sub-*/func/*_bold.nii.gz"):
            truth = with_nilearn(nilearn_masking.compute_background_mask, nib.load(path), **arguments)
            np.testing.assert_array_equal(compute_background_mask(mean_volume(path), **arguments), truth)

    @pytest.mark.parametrize("background", [0.0, -3.5, np.nan])
    @pytest.mark.parametrize("opening", [0, 1])
    def test_simulated(self, background, opening):
        volume = head(noise=0)
        volume[volume == 0] = background
        truth = with_nilearn(nilearn_masking.compute_background_mask, volume, opening=opening, connected=True)
        ours = compute_background_mask(volume, opening=opening, connected=True)
        np.testing.assert_array_equal(ours, truth)
        assert dice(ours, head(noise=0) > 50) > 0.95

    def test_a_single_slice_has_no_border_along_its_normal(self):
        volume = np.ones((12, 12, 1))
        volume[:2], volume[-2:], volume[:, :2], volume[:, -2:] = 0, 0, 0, 0
        np.testing.assert_array_equal(compute_background_mask(volume), volume.astype(bool))

    def test_constant_image(self):
        with pytest.raises(DataError, match="empty"):
            compute_background_mask(np.full((6, 6, 6), 7.0))

    def test_no_border(self):
        with pytest.raises(UsageError, match="border_size=0"):
            compute_background_mask(head(), border_size=0)


class TestTemplate:
    @pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
    @pytest.mark.parametrize("opening", [0, 1])
    def test_gives_what_nilearn_gives_of_the_same_template(self, monkeypatch, threshold, opening):
        template = ndimage.gaussian_filter(head() / 100, 1)
        image = nib.Nifti1Image(template, np.eye(4))
        monkeypatch.setattr(nilearn_masking, "load_mni152_gm_template", lambda resolution: image)
        arguments = {"threshold": threshold, "opening": opening, "connected": True}
        truth = with_nilearn(nilearn_masking.compute_brain_mask, image, mask_type="gm", **arguments)
        np.testing.assert_array_equal(compute_template_mask(template, **arguments), truth)

    def test_threshold_that_nothing_reaches(self):
        with pytest.raises(DataError, match="empty"):
            compute_template_mask(head() / 200, threshold=0.9)


class TestByName:
    def test_strategies_and_their_arguments(self):
        volume = head()
        np.testing.assert_array_equal(compute_mask(volume, "epi", {"opening": 1}), compute_epi_mask(volume, opening=1))
        np.testing.assert_array_equal(compute_mask(volume, "background"), compute_background_mask(volume))
        for name in ("whole-brain-template", "gm-template", "wm-template"):
            truth = compute_template_mask(volume, threshold=50)
            np.testing.assert_array_equal(compute_mask(volume, name, {"threshold": 50}), truth)

    def test_unknown_strategy(self):
        with pytest.raises(UsageError, match="'brain' is none of epi, background"):
            compute_mask(head(), "brain")

    def test_unknown_argument(self):
        with pytest.raises(UsageError, match="'epi' has no argument border_size, size") as caught:
            compute_mask(head(), "epi", {"border_size": 2, "size": 3, "opening": 1})
        assert "lower_cutoff" in caught.value.hint


def test_pieces_touch_at_faces_only():
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 0] = mask[1, 1, 1] = True
    pieces, sizes = label_pieces(mask)
    assert sorted(sizes) == [0, 1, 2]
    assert pieces[0, 0, 0] != pieces[1, 1, 0] == pieces[1, 1, 1]
