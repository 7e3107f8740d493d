import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.decomposition._multi_pca import _MultiPCA
from nilearn.maskers import NiftiMasker
from scipy.spatial.distance import pdist

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.features import WEIGHTING, coverage_correction, features
from bids_parcellate.numerics.reduction import MergedReduction, Merger, reduce_signals


def draw_runs(lengths, n_voxels, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n_volumes, n_voxels)) @ rng.normal(size=(n_voxels, n_voxels)) for n_volumes in lengths]


def merge(runs, mode, n_components=200, voxels=None):
    """Merge runs, all of them at once; a run lacks the voxels that are not among its own."""
    n_voxels = runs[0].shape[1]
    merger = Merger(n_voxels, n_components, n_waiting=n_components * len(runs), weighting=WEIGHTING[mode])
    for number, run in enumerate(runs):
        has = np.ones(n_voxels, dtype=bool) if voxels is None else voxels[number]
        columns = np.where(has, np.cumsum(has) - 1, -1)
        merger.add(reduce_signals(run[:, has], n_components), columns)
    return merger.result()


@settings(deadline=None, max_examples=15)
@given(lengths=st.lists(st.integers(2, 30), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_distances_of_scaled_features_are_those_of_the_signals(lengths, seed):
    """Per volume, so that they do not depend on how long the runs are."""
    runs = draw_runs(lengths, 25, seed)
    stacked = np.concatenate(runs)
    values = features(merge(runs, "scaled"), "scaled")
    np.testing.assert_allclose(pdist(values.T), pdist(stacked.T) / np.sqrt(len(stacked)), rtol=1e-3)


def test_kept_components_are_those_of_the_largest_variance():
    run = draw_runs([60], 80)[0]
    values = features(merge([run], "scaled", n_components=10), "scaled")
    covariance = values.astype(np.float64).T @ values
    variances, directions = np.linalg.eigh(run.T @ run / 60)
    nearest = directions[:, -10:] * variances[-10:] @ directions[:, -10:].T
    np.testing.assert_allclose(covariance, nearest, atol=1e-4 * variances[-1])


def test_form():
    merged = merge(draw_runs([20, 30], 300), "scaled", n_components=10)
    for mode in ("scaled", "nilearn"):
        values = features(merged, mode)
        assert values.shape == (10, 300)
        assert values.dtype == np.float32
        assert values.flags.c_contiguous
    np.testing.assert_array_equal(features(merged, "nilearn"), merged.components)


def test_nilearn_features_are_nilearns():
    """nilearn's group decomposition, on images; its spectrum has a gap after the patterns that the runs share."""
    rng = np.random.default_rng(0)
    shape, n_shared = (9, 10, 8), 6
    mask = np.ones(shape, dtype=np.int8)
    shared = rng.normal(size=(n_shared, mask.size))
    images = []
    for _ in range(4):
        series = 5 * rng.normal(size=(40, n_shared)) @ shared + rng.normal(size=(40, mask.size))
        images.append(nib.Nifti1Image((series - series.mean(axis=0)).T.reshape(*shape, 40), np.eye(4)))
    masker = NiftiMasker(nib.Nifti1Image(mask, np.eye(4)), standardize=None, mask_strategy="epi").fit()
    theirs = _MultiPCA(n_components=n_shared, mask=masker, do_cca=True, standardize=None, random_state=0)
    theirs.fit(images)

    ours = features(merge([masker.transform(image) for image in images], "nilearn", n_shared), "nilearn")
    np.testing.assert_allclose(np.abs(np.sum(ours * theirs.components_, axis=1)), 1, atol=1e-6)


def test_voxels_that_runs_lack_have_the_mean_square_of_the_volumes_that_are_there():
    runs = draw_runs([40, 60], 30)
    voxels = np.ones((2, 30), dtype=bool)
    voxels[0, :10] = voxels[1, 20:] = False
    values = features(merge(runs, "scaled", voxels=voxels), "scaled")
    squares = sum(np.sum(run**2, axis=0) * has for run, has in zip(runs, voxels, strict=True))
    n_volumes = np.array([40, 60]) @ voxels
    np.testing.assert_allclose(np.sum(values**2, axis=0), squares / n_volumes, rtol=1e-4)


def test_coverage_correction():
    correction = coverage_correction(np.array([60, 15, 0]), 60)
    np.testing.assert_array_equal(correction, np.array([1, 2, 0], dtype=np.float32))


def test_voxels_that_no_run_has_are_zero():
    merged = MergedReduction(np.eye(2, 4, dtype=np.float32), np.ones(2), 5, 2.0, coverage=np.array([5, 5, 5, 0]))
    for mode in ("scaled", "nilearn"):
        np.testing.assert_array_equal(features(merged, mode)[:, 3], 0)


def test_unknown_features_are_refused():
    with pytest.raises(UsageError, match="'raw'; allowed are 'scaled' and 'nilearn'"):
        features(merge(draw_runs([5], 8), "scaled"), "raw")
