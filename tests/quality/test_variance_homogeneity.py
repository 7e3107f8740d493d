"""Explained variance and homogeneity of reductions are those of the signals, computed the long way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.quality.homogeneity import homogeneity
from bids_parcellate.numerics.quality.variance import explained_variance
from bids_parcellate.numerics.reduction import reduce_signals


def make_run(n_volumes=30, n_voxels=80, seed=0):
    signals = np.random.default_rng(seed).normal(size=(n_volumes, n_voxels)).cumsum(axis=1)
    return (signals - signals.mean(axis=0)) / signals.std(axis=0)


def scaled(signals):
    reduction = reduce_signals(signals, len(signals))
    return reduction.components * reduction.singular_values[:, np.newaxis]


def some_labels(n_voxels=80, n_parcels=6, seed=0):
    labels = np.random.default_rng(seed).integers(0, n_parcels + 1, n_voxels)
    labels[:n_parcels] = np.arange(1, n_parcels + 1)
    return labels


def explained_the_long_way(signals, labels):
    inside = labels > 0
    replaced = np.stack([signals[:, labels == label].mean(axis=1) for label in labels[inside]], axis=1)
    return np.square(replaced).sum() / np.square(signals[:, inside]).sum()


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_explained_variance_of_reductions_is_that_of_the_signals(seed):
    signals, labels = make_run(seed=seed), some_labels(seed=seed)
    (result,) = explained_variance(scaled(signals), [labels])
    assert result.overall == pytest.approx(explained_the_long_way(signals, labels), rel=1e-5)
    for parcel in (1, 4):
        own = np.where(labels == parcel, parcel, 0)
        assert result.per_parcel[parcel - 1] == pytest.approx(explained_the_long_way(signals, own), rel=1e-5)


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_homogeneity_of_reductions_is_the_mean_correlation_of_the_signals(seed):
    signals, labels = make_run(seed=seed), some_labels(seed=seed)
    (result,) = homogeneity(scaled(signals), [labels])
    correlations = np.corrcoef(signals.T)
    expected = []
    for parcel in range(1, 7):
        own = np.flatnonzero(labels == parcel)
        pairs = correlations[np.ix_(own, own)][np.triu_indices(own.size, 1)]
        expected.append(pairs.mean() if pairs.size else np.nan)
    np.testing.assert_allclose(result.per_parcel, expected, atol=1e-5)
    weights = np.bincount(labels)[1:] * np.isfinite(expected)
    assert result.overall == pytest.approx(np.average(np.nan_to_num(expected), weights=weights), abs=1e-5)


def test_runs_are_added():
    runs, labels = [make_run(20, seed=1), make_run(35, seed=2)], some_labels()
    parts = [explained_variance(scaled(run), [labels])[0] for run in runs]
    together = explained_the_long_way(np.concatenate(runs), np.where(labels > 0, labels, 0))
    # Parcel means are taken in each run, and so they are in the runs one after another.
    assert (parts[0] + parts[1]).overall == pytest.approx(together, rel=1e-5)
    first, second = (homogeneity(scaled(run), [labels])[0] for run in runs)
    np.testing.assert_allclose((first + second).per_parcel, (first.per_parcel + second.per_parcel) / 2, rtol=1e-12)


@pytest.mark.parametrize("figure", [explained_variance, homogeneity])
def test_voxels_that_a_run_lacks_count_nowhere(figure):
    signals, labels = make_run(), some_labels()
    available = np.random.default_rng(1).random(labels.size) > 0.4
    features = scaled(signals)
    holed = np.where(available, features, 0)
    (result,) = figure(holed, [labels], available=available)
    (expected,) = figure(features[:, available], [labels[available]])
    assert result.overall == pytest.approx(expected.overall, rel=1e-6)
    np.testing.assert_allclose(result.per_parcel, expected.per_parcel, rtol=1e-6)


def test_known_answers():
    course, other = np.array([1.0, -1, 0, 0]), np.array([0.0, 0, 1, -1])
    features = np.stack([course, course, -course, other], axis=1)
    labels = np.array([1, 1, 2, 2])
    (variance,), (alike,) = explained_variance(features, [labels]), homogeneity(features, [labels])
    np.testing.assert_allclose(variance.per_parcel, [1, 0.5])
    np.testing.assert_allclose(alike.per_parcel, [1, 0], atol=1e-15)
    singles = homogeneity(features, [np.arange(1, 5)])[0]
    assert np.isnan(singles.per_parcel).all()
    assert np.isnan(singles.overall)
    assert explained_variance(features, [np.arange(1, 5)])[0].overall == pytest.approx(1)


def test_several_parcellations_are_those_one_by_one():
    features, labelings = scaled(make_run()), [some_labels(seed=seed, n_parcels=3 + seed) for seed in range(3)]
    for figure in (explained_variance, homogeneity):
        together = [result.overall for result in figure(features, labelings)]
        assert together == [figure(features, [labels])[0].overall for labels in labelings]


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="4 voxels"):
        explained_variance(np.ones((2, 4)), [np.ones(5, dtype=int)])
    with pytest.raises(UsageError, match="-1"):
        homogeneity(np.ones((2, 4)), [np.array([-1, 1, 1, 1])])
