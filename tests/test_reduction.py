"""Reduction and merge against the full singular value decomposition, and against nilearn."""

import time
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from nilearn.decomposition._multi_pca import _MultiPCA
from nilearn.maskers import NiftiMasker

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.cleaning import apply_operator, temporal_operator
from bids_parcellate.numerics.features import features
from bids_parcellate.numerics.reduction import (
    MergedReduction,
    Merger,
    Reduction,
    reduce_signals,
)
from bids_parcellate.numerics.threads import call_ahead, map_in_threads


def simulate_runs(n_runs, n_volumes, n_voxels, *, noise=0.3, seed=0):
    """Runs that share spatial patterns of falling strength, each with patterns of its own and with noise."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(80, n_voxels)) * np.arange(1, 81)[:, np.newaxis] ** -0.7
    runs = []
    for _ in range(n_runs):
        own = 0.5 * rng.normal(size=(20, n_voxels)) * np.arange(1, 21)[:, np.newaxis] ** -0.7
        series = rng.normal(size=(n_volumes, 80)) @ shared + rng.normal(size=(n_volumes, 20)) @ own
        series += noise * rng.normal(size=series.shape)
        runs.append(((series - series.mean(axis=0)) / series.std(axis=0)).astype(np.float32))
    return runs


def merge(runs, n_components, **options) -> MergedReduction:
    n_voxels = runs[0].shape[1]
    merger = Merger(n_voxels, n_components, **options)
    for run in runs:
        merger.add(reduce_signals(run, n_components), np.arange(n_voxels))
    return merger.result()


def cosines(one, other):
    """Cosines of the principal angles between two spaces, given by orthonormal rows."""
    return np.linalg.svd(one.astype(float) @ other.astype(float).T, compute_uv=False)


def explained(signals, components):
    """Share of the signals' sum of squares in the space of orthonormal rows."""
    return np.sum((signals.astype(float) @ components.astype(float).T) ** 2) / np.sum(signals.astype(float) ** 2)


# -- One run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 5000), (40, 41), (60, 25), (30, 30)])
@pytest.mark.parametrize("n_components", [1, 10, 200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_singular_value_decomposition(shape, n_components, dtype):
    signals = np.random.default_rng(0).normal(size=shape).astype(dtype)
    reduction = reduce_signals(signals, n_components)
    _, singular_values, vectors = np.linalg.svd(signals.astype(np.float64), full_matrices=False)
    n_kept = min(n_components, *shape)
    np.testing.assert_allclose(reduction.singular_values, singular_values[:n_kept], rtol=1e-7)
    assert reduction.components.dtype == np.float32
    assert reduction.components.flags.c_contiguous
    np.testing.assert_allclose(np.abs(np.sum(reduction.components * vectors[:n_kept], axis=1)), 1, atol=1e-6)
    np.testing.assert_allclose(reduction.components @ reduction.components.T, np.eye(n_kept), atol=1e-6)
    assert reduction.n_volumes == shape[0]
    assert reduction.total_variance == pytest.approx(np.sum(signals.astype(np.float64) ** 2))
    assert reduction.is_complete == (n_kept == min(shape))
    if reduction.is_complete:
        whole = reduction.time_courses * reduction.singular_values @ reduction.components
        np.testing.assert_allclose(whole, signals, atol=1e-5)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_completeness_does_not_depend_on_the_unit(unit):
    signals = unit * np.random.default_rng(0).normal(size=(8, 50))
    assert reduce_signals(signals, 8).is_complete
    assert not reduce_signals(signals, 7).is_complete


def test_signals_of_one_direction_are_complete():
    signals = np.outer(np.arange(1.0, 9.0), np.linspace(-1, 3, 50))
    reduction = reduce_signals(signals, 5)
    assert len(reduction.components) == 1
    assert reduction.is_complete


def test_weak_directions_are_as_exact_as_single_precision():
    """The Gram matrix squares the range of the singular values: here 1 to 1e-8, at a limit of 7e-6."""
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.normal(size=(60, 8)))
    right, _ = np.linalg.qr(rng.normal(size=(4000, 8)))
    strengths = 1000 * np.array([1, 0.1, 1e-2, 1e-3, 1e-4, 2e-5, 1e-6, 1e-8])
    reduction = reduce_signals(left * strengths @ right.T, 8)
    np.testing.assert_allclose(reduction.singular_values, strengths[:6], rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(reduction.components * right.T[:6], axis=1)), 1, atol=1e-6)
    np.testing.assert_allclose(reduction.components @ reduction.components.T, np.eye(6), atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_dimensions_that_cleaning_removed_are_dropped(offset):
    rng = np.random.default_rng(0)
    signals = (rng.normal(size=(90, 3000)) + offset).astype(np.float32)
    operator = temporal_operator(90, confounds=rng.normal(size=(90, 12)), detrend=True)
    assert len(reduce_signals(apply_operator(operator, signals), 90).components) == 90 - 2 - 12


def test_sign_is_fixed():
    signals = simulate_runs(1, 50, 400)[0]
    one, other = reduce_signals(signals, 20), reduce_signals(-signals, 20)
    np.testing.assert_array_equal(one.components, other.components)
    largest = np.abs(one.components).argmax(axis=1)
    assert (one.components[np.arange(20), largest] > 0).all()


def test_input_that_cannot_be_reduced_is_refused():
    with pytest.raises(UsageError, match="n_components is 0"):
        reduce_signals(np.ones((3, 4)), 0)
    with pytest.raises(DataError, match="all zero"):
        reduce_signals(np.zeros((3, 4)), 2)
    with pytest.raises(DataError, match="not finite"):
        reduce_signals(np.array([[1.0, np.nan, 2.0]]), 2)


# -- Several runs -----------------------------------------------------------------------------------------------------


def test_merge_without_truncation_is_the_decomposition_of_all_volumes():
    runs = simulate_runs(5, 12, 900)
    stacked = np.concatenate(runs).astype(np.float64)
    _, singular_values, vectors = np.linalg.svd(stacked, full_matrices=False)
    merged = merge(runs, 60)
    rank = 5 * (12 - 1)  # the runs are centred
    np.testing.assert_allclose(merged.singular_values, singular_values[:rank], rtol=1e-5)
    np.testing.assert_allclose(cosines(merged.components[:10], vectors[:10]), 1, atol=1e-5)
    assert merged.n_volumes == 60
    assert merged.total_variance == pytest.approx(np.sum(stacked**2))
    np.testing.assert_array_equal(merged.coverage, 60)


@pytest.mark.parametrize(("noise", "least_share"), [(0.3, 0.998), (1.5, 0.994)])
def test_truncated_merge_keeps_nearly_all_that_can_be_kept(noise, least_share):
    *runs, held_out = simulate_runs(13, 60, 600, noise=noise)
    stacked = np.concatenate(runs)
    vectors = np.linalg.svd(stacked, full_matrices=False)[2]
    merged = merge(runs, 40)
    assert explained(stacked, merged.components) > least_share * explained(stacked, vectors[:40])
    assert explained(held_out, merged.components) > 0.99 * explained(held_out, vectors[:40])
    assert cosines(merged.components, vectors[:20]).min() > 0.985


def test_directions_of_a_run_that_single_precision_cannot_resolve_are_not_merged():
    merger = Merger(5, 3)
    merger.add(Reduction(np.eye(3, 5, dtype=np.float32), np.array([1, 1e-3, 1e-4]), 9, 1.0), np.arange(5))
    np.testing.assert_allclose(merger.result().singular_values, [1, 1e-3], rtol=1e-6)


def test_a_result_ends_the_merge():
    merger = Merger(500, 20)
    merger.add(reduce_signals(simulate_runs(1, 30, 500)[0], 20), np.arange(500))
    merger.result()
    with pytest.raises(DataError, match="no run to merge"):
        merger.result()


@pytest.mark.parametrize("n_waiting", [1, 90, 10_000])
def test_how_many_wait_hardly_matters(n_waiting):
    runs = simulate_runs(8, 60, 800)
    one, other = merge(runs, 30), merge(runs, 30, n_waiting=n_waiting)
    np.testing.assert_allclose(one.singular_values, other.singular_values, rtol=0.02)
    assert cosines(one.components, other.components[:15]).min() > 0.99


def test_threads_do_not_change_a_bit():
    runs = simulate_runs(8, 60, 20_000)
    one, other = merge(runs, 30), merge(runs, 30, n_threads=3)
    np.testing.assert_array_equal(one.components, other.components)
    np.testing.assert_array_equal(one.singular_values, other.singular_values)


@pytest.mark.parametrize("n_threads", [2, 5])
def test_threads_do_not_change_a_bit_of_a_reduction(n_threads):
    signals = np.random.default_rng(0).standard_normal((30, 10_000)).astype(np.float32)
    one, other = reduce_signals(signals, 20), reduce_signals(signals, 20, n_threads=n_threads)
    np.testing.assert_array_equal(one.components, other.components)
    np.testing.assert_array_equal(one.singular_values, other.singular_values)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("n_items", [0, 1, 40])
def test_what_threads_do_comes_in_order(n_threads, n_items):
    def wait_and_square(number):
        time.sleep((n_items - number) / 10_000)
        return number**2

    assert list(map_in_threads(wait_and_square, iter(range(n_items)), n_threads)) == [n**2 for n in range(n_items)]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_what_is_read_ahead_is_one_result(n_threads):
    called, worked_on = [], []
    functions = [partial(lambda number: called.append(number) or number, number) for number in range(20)]
    for result in call_ahead(functions, n_threads):
        worked_on.append(result())
        time.sleep(0.001)
        assert len(called) - len(worked_on) <= n_threads - 1
    assert worked_on == list(range(20))


def test_an_error_that_is_read_ahead_comes_in_its_place():
    def fail():
        raise ValueError("damaged")

    results = call_ahead([lambda: 1, fail, lambda: 3], 2)
    assert next(results)() == 1
    with pytest.raises(ValueError, match="damaged"):
        next(results)()


def test_many_merges_do_not_drift():
    """What was merged is taken to be orthogonal, merge after merge: after 300 of them it still is."""
    rng = np.random.default_rng(0)
    shared = np.linalg.qr(rng.standard_normal((400, 12)))[0].T
    merger, total = Merger(400, 10), np.zeros((400, 400))
    for _ in range(600):
        mixed = rng.standard_normal((10, 12)) * 0.8 ** np.arange(12) @ shared + rng.normal(0, 0.01, (10, 400))
        reduction = reduce_signals(mixed, 10)
        merger.add(reduction, np.arange(400))
        rows = reduction.components * reduction.singular_values[:, np.newaxis]
        total += rows.T @ rows
    merged = merger.result()
    np.testing.assert_allclose(merged.components @ merged.components.T, np.eye(10), atol=1e-5)
    captured = np.trace(merged.components @ total @ merged.components.T)
    assert captured > 0.9999 * np.linalg.eigvalsh(total)[-10:].sum()


def test_voxels_that_runs_lack():
    """A run on its own voxels: in another order, with some that the group lacks, and without some that it has."""
    first, second = simulate_runs(2, 20, 300)
    voxels = np.random.default_rng(0).permutation(300)[:250]
    group = np.arange(280)
    columns = np.full(280, -1)
    for column, voxel in enumerate(voxels):
        if voxel < 280:
            columns[voxel] = column
    merger = Merger(280, 40)
    merger.add(reduce_signals(first, 20), group)
    merger.add(reduce_signals(second[:, voxels], 20), columns)
    merged = merger.result()

    present = np.isin(group, voxels)
    stacked = np.concatenate([first[:, :280], second[:, :280] * present])
    _, singular_values, vectors = np.linalg.svd(stacked, full_matrices=False)
    rank = 2 * (20 - 1)  # the runs are centred
    np.testing.assert_allclose(merged.singular_values, singular_values[:rank], rtol=1e-5)
    np.testing.assert_allclose(cosines(merged.components, vectors[:rank]), 1, atol=1e-5)
    np.testing.assert_array_equal(merged.coverage, np.where(present, 40, 20))

    # Features have the mean square of the volumes that are there, whether or not some are missing.
    mean_square = np.sum(stacked**2, axis=0) / merged.coverage
    np.testing.assert_allclose(np.sum(features(merged, "scaled") ** 2, axis=0), mean_square, rtol=1e-4)


def test_unit_weighting_equals_nilearn():
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

    merged = merge([masker.transform(image) for image in images], n_shared, weighting="unit")
    np.testing.assert_allclose(cosines(features(merged, "nilearn"), theirs.components_), 1, atol=1e-6)
    np.testing.assert_allclose(merged.singular_values, theirs.variance_, rtol=1e-6)
    assert merged.total_variance == 4 * n_shared


def test_merge_that_cannot_be_is_refused():
    reduction = Reduction(np.eye(2, 5, dtype=np.float32), np.ones(2), 3, 2.0)
    with pytest.raises(DataError, match="no run"):
        Merger(4, 2).result()
    with pytest.raises(UsageError, match="4 numbers from -1 to 4"):
        Merger(4, 2).add(reduction, np.arange(5))
    for columns in ([0, 1, 2, 5], [0, 1, 2, 6], [-2, 1, 2, 3]):
        with pytest.raises(UsageError, match="from -1 to 4"):
            Merger(4, 2).add(reduction, np.array(columns))
    with pytest.raises(UsageError, match=r"n_components \(0\)"):
        Merger(4, 0)
    with pytest.raises(UsageError, match="'equal'"):
        Merger(4, 2, weighting="equal")
    with pytest.raises(UsageError, match="'raw'"):
        features(merge(simulate_runs(1, 10, 30), 3), "raw")
