"""Signals of parcels against direct sums, numpy and nilearn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.connectome import ConnectivityMeasure
from sklearn.covariance import EmpiricalCovariance

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.signals import coverage, parcel_means, parcel_sizes, pearson, volume_parcel_sums


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=60),
    n_volumes=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_means_are_those_of_each_parcel(labels, n_volumes, seed):
    labels = np.array(labels)
    signals = np.random.default_rng(seed).normal(size=(n_volumes, len(labels))).astype(np.float32)
    means = parcel_means(signals, labels, 6)
    assert means.shape == (n_volumes, 6)
    for parcel in range(1, 7):
        members = signals[:, labels == parcel]
        if members.shape[1]:
            np.testing.assert_allclose(means[:, parcel - 1], members.mean(axis=1, dtype=float), atol=1e-12)
        else:
            assert np.isnan(means[:, parcel - 1]).all()


def test_sums_are_taken_in_double_precision():
    """In single precision, adding 1 to 2**24 changes nothing."""
    volume = np.ones(1000, dtype=np.float32)
    volume[0] = 2**24
    labels = np.ones(1000, dtype=np.int32)
    assert volume_parcel_sums(volume, labels, 1)[0] == 2**24 + 999


def test_a_stream_of_volumes_gives_the_same_means():
    rng = np.random.default_rng(0)
    signals, labels = rng.normal(size=(5, 300)), rng.integers(0, 8, size=300)
    streamed = [volume_parcel_sums(volume, labels, 7) / parcel_sizes(labels, 7) for volume in signals]
    np.testing.assert_array_equal(streamed, parcel_means(signals, labels, 7))


def test_missing_values_stay_in_their_parcel():
    signals = np.ones((2, 4))
    signals[1, 0] = np.nan
    np.testing.assert_array_equal(parcel_means(signals, np.array([1, 1, 2, 2]), 2), [[1, 1], [np.nan, 1]])


def test_coverage():
    labels = np.array([0, 1, 1, 1, 1, 2, 3])
    available = np.array([True, True, False, True, True, False, True])
    np.testing.assert_array_equal(coverage(labels, available, 4), [0.75, 0, 1, np.nan])


@pytest.mark.parametrize("labels", [[0, 1, 3], [-1, 1, 2]])
def test_labels_beyond_the_parcels_are_refused(labels):
    with pytest.raises(UsageError, match="allowed are 0 to 2"):
        parcel_means(np.ones((2, 3)), np.array(labels), 2)


def test_labels_must_fit_the_signals():
    with pytest.raises(UsageError, match=r"\(4,\).*\(3,\)"):
        parcel_means(np.ones((2, 3)), np.ones(4, dtype=int), 1)


@pytest.mark.parametrize("offset", [0, 1e6])
def test_correlations_equal_numpy_and_nilearn(offset):
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(80, 12)) @ rng.normal(size=(12, 12)) + offset
    correlations = pearson(signals)
    np.testing.assert_allclose(correlations, np.corrcoef(signals.T), atol=1e-8)
    measure = ConnectivityMeasure(
        EmpiricalCovariance(store_precision=False), kind="correlation", standardize="zscore_sample"
    )
    np.testing.assert_allclose(correlations, measure.fit_transform([signals])[0], atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(n_volumes=st.integers(2, 20), n_parcels=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
def test_correlations_are_exactly_symmetric_and_bounded(n_volumes, n_parcels, seed):
    correlations = pearson(np.random.default_rng(seed).normal(size=(n_volumes, n_parcels)))
    np.testing.assert_array_equal(correlations, correlations.T)
    np.testing.assert_array_equal(np.diag(correlations), 1)
    assert np.abs(correlations).max() <= 1


def test_parcels_without_a_varying_signal_have_no_correlations():
    signals = np.random.default_rng(0).normal(size=(30, 6))
    expected = np.corrcoef(signals[:, [0, 2]].T)
    signals[:, 1] = 0.1  # the mean of thirty times 0.1 is not 0.1
    signals[:, 3] = np.nan
    signals[4, 4] = np.inf
    signals[5, 5] = np.nan
    correlations = pearson(signals)
    np.testing.assert_allclose(correlations[np.ix_([0, 2], [0, 2])], expected)
    assert np.isnan(correlations[[1, 3, 4, 5]]).all()
    assert np.isnan(correlations[:, [1, 3, 4, 5]]).all()


def test_one_volume_has_no_correlation():
    with pytest.raises(DataError, match="1 volume is too few"):
        pearson(np.ones((1, 3)))
