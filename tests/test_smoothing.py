"""Smoothing against nilearn and scipy."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nilearn.image import smooth_img
from scipy.ndimage import gaussian_filter1d

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.smoothing import FWHM_PER_SIGMA, Smoother, gaussian_kernel, smooth_volume

SHAPES = st.tuples(*3 * [st.integers(1, 9)])


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return np.random.default_rng(0).normal(loc=100, scale=30, size=(17, 23, 19)).astype(np.float32)


@pytest.mark.parametrize("fwhm", [1.0, 4.0, 6.0, 15.0])
@pytest.mark.parametrize(
    "affine",
    [
        np.diag([3.0, 3.0, 3.0, 1.0]),
        np.diag([-2.0, 2.5, 4.0, 1.0]),
        np.array([[2.9, -0.4, 0.1, 5.0], [0.4, 2.8, -0.7, -9.0], [0.0, 0.8, 2.9, 3.0], [0.0, 0.0, 0.0, 1.0]]),
    ],
    ids=["isotropic", "anisotropic", "oblique"],
)
def test_equals_nilearn(volume, affine, fwhm):
    holed = volume.copy()
    holed[3, 4, 5], holed[0, 0, 0] = np.nan, np.inf
    expected = smooth_img(nib.Nifti1Image(holed, affine), fwhm).get_fdata()
    voxel_sizes = np.linalg.norm(affine[:3, :3], axis=0)
    smoothed = smooth_volume(holed, voxel_sizes, fwhm)
    assert smoothed.dtype == np.float32
    np.testing.assert_allclose(smoothed, expected, atol=1e-6 * np.abs(expected).max())


@settings(max_examples=50, deadline=None)
@given(data=st.data(), fwhm=st.floats(0.1, 30))
def test_equals_scipy_on_any_volume(data, fwhm):
    """Also on volumes that are smaller than the kernel, which is then reflected more than once."""
    volume = data.draw(arrays(np.float32, SHAPES, elements=st.floats(-1000, 1000, width=32)))
    voxel_sizes = data.draw(st.tuples(*3 * [st.floats(0.5, 5)]))
    expected = volume.astype(np.float64)
    for axis, size in enumerate(voxel_sizes):
        expected = gaussian_filter1d(expected, fwhm / FWHM_PER_SIGMA / size, axis=axis)
    atol = 1e-6 * max(1, np.abs(volume).max())
    np.testing.assert_allclose(smooth_volume(volume, voxel_sizes, fwhm), expected, atol=atol)


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, fwhm=st.floats(0.5, 20), seed=st.integers(0, 2**32 - 1))
def test_is_symmetric_and_keeps_constants(shape, fwhm, seed):
    one, other = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
    inner = np.vdot(smooth_volume(one, (2, 3, 4), fwhm).astype(float), other)
    assert np.vdot(one, smooth_volume(other, (2, 3, 4), fwhm).astype(float)) == pytest.approx(inner, abs=1e-4)
    np.testing.assert_allclose(smooth_volume(np.full(shape, 7.0), (2, 3, 4), fwhm), 7, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), fwhm=st.one_of(st.none(), st.floats(0.5, 30)))
def test_smoother_gives_the_voxels_of_its_mask(data, fwhm):
    shape = data.draw(SHAPES)
    mask = data.draw(arrays(bool, shape))
    mask[tuple(data.draw(st.integers(0, n - 1)) for n in shape)] = True
    volume = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    volume[mask.nonzero()[0][0], 0, 0] = np.nan
    expected = smooth_volume(volume, (2, 3, 4), fwhm)[mask]
    for layout in (np.ascontiguousarray, np.asfortranarray):
        np.testing.assert_allclose(Smoother(mask, (2, 3, 4), fwhm)(layout(volume)), expected, atol=1e-6)


def test_smoother_refuses_a_volume_of_another_shape(volume):
    with pytest.raises(UsageError, match="does not fit a mask"):
        Smoother(np.ones((3, 3, 3), dtype=bool), (3, 3, 3), 4)(volume)


@pytest.mark.parametrize("fwhm", [0, 0.0, None])
def test_nothing_is_smoothed_without_width(volume, fwhm):
    holed = volume.copy()
    holed[1, 2, 3] = np.nan
    smoothed = smooth_volume(holed, (3, 3, 3), fwhm)
    assert smoothed[1, 2, 3] == 0
    holed[1, 2, 3] = 0
    np.testing.assert_array_equal(smoothed, holed)


def test_input_is_not_changed_whatever_its_layout_and_type(volume):
    before = volume.copy()
    expected = smooth_volume(volume, (3, 3, 3), 6)
    np.testing.assert_array_equal(volume, before)
    np.testing.assert_array_equal(smooth_volume(np.asfortranarray(volume), (3, 3, 3), 6), expected)
    whole = np.round(volume)
    np.testing.assert_array_equal(
        smooth_volume(whole.astype(np.int16), (3, 3, 3), 6), smooth_volume(whole, (3, 3, 3), 6)
    )
    read_only = volume.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(smooth_volume(read_only, (3, 3, 3), 6), expected)


def test_a_point_becomes_a_gaussian_of_that_width():
    volume = np.zeros((41, 41, 41), dtype=np.float32)
    volume[20, 20, 20] = 1
    profile = smooth_volume(volume, (1, 1, 1), 8)[20, 20]
    assert profile[16] / profile[20] == pytest.approx(0.5, rel=1e-5)  # half a width away, half the height


def test_kernel():
    kernel = gaussian_kernel(1.5)
    assert kernel.sum() == pytest.approx(1)
    assert len(kernel) == 2 * 6 + 1
    np.testing.assert_array_equal(kernel, kernel[::-1])
    np.testing.assert_allclose(kernel[7] / kernel[6], np.exp(-0.5 / 1.5**2))


def test_impossible_input_is_refused(volume):
    with pytest.raises(UsageError, match="fwhm is -1 mm"):
        smooth_volume(volume, (3, 3, 3), -1)
    with pytest.raises(UsageError, match="fwhm is nan mm"):
        smooth_volume(volume, (3, 3, 3), np.nan)
    with pytest.raises(UsageError, match="3 positive voxel sizes"):
        smooth_volume(volume, (3, 0, 3), 4)
    with pytest.raises(UsageError, match=r"\(17, 23\)"):
        smooth_volume(volume[..., 0], (3, 3, 3), 4)
