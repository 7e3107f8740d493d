"""Signals of parcels against direct sums, numpy, a full decomposition and known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.reduction import reduce_signals
from bids_parcellate.numerics.signals import (
    coverage,
    parcel_eigenvariates,
    parcel_means,
    parcel_medians,
    parcel_sizes,
    volume_parcel_sums,
)

SUMMARIES = [parcel_means, parcel_medians, parcel_eigenvariates]


def centred(rng, n_volumes, n_voxels):
    """Voxels that share a signal, with weights of their own and noise; without their mean over time."""
    shared = rng.normal(size=(n_volumes, 1)) * rng.uniform(0.2, 1.5, size=n_voxels)
    signals = shared + 0.5 * rng.normal(size=(n_volumes, n_voxels))
    return signals - signals.mean(axis=0)


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


@pytest.mark.parametrize("summarize", SUMMARIES)
@pytest.mark.parametrize("labels", [[0, 1, 3], [-1, 1, 2]])
def test_labels_beyond_the_parcels_are_refused(summarize, labels):
    with pytest.raises(UsageError, match="allowed are 0 to 2"):
        summarize(np.ones((2, 3)), np.array(labels), 2)


@pytest.mark.parametrize("summarize", SUMMARIES)
def test_labels_must_fit_the_signals(summarize):
    with pytest.raises(UsageError, match=r"\(4,\).*\(3,\)"):
        summarize(np.ones((2, 3)), np.ones(4, dtype=int), 1)


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    n_volumes=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_medians_and_eigenvariates_are_those_of_each_parcel(labels, n_volumes, seed):
    """SPM's eigenvariate: the first left singular vector times s / sqrt(n), its weights with a positive sum."""
    labels = np.array(labels)
    signals = centred(np.random.default_rng(seed), n_volumes, len(labels)).astype(np.float32)
    medians, eigenvariates = parcel_medians(signals, labels, 4), parcel_eigenvariates(signals, labels, 4)
    for parcel in range(1, 5):
        members = signals[:, labels == parcel].astype(float)
        n_voxels = members.shape[1]
        if n_voxels == 0:
            assert np.isnan(medians[:, parcel - 1]).all()
            assert np.isnan(eigenvariates[:, parcel - 1]).all()
            continue
        np.testing.assert_array_equal(medians[:, parcel - 1], np.median(members, axis=1))
        u, s, vt = np.linalg.svd(members, full_matrices=False)
        # Which direction is the first is only sure if the second is clearly smaller, and its sign if the mean is not 0.
        if len(s) == 1 or s[0] > 1.01 * s[1]:
            expected = np.sign(vt[0].sum()) * u[:, 0] * s[0] / np.sqrt(n_voxels)
            found = eigenvariates[:, parcel - 1]
            if abs(vt[0].sum()) < 1e-6:
                found = found * np.sign(found @ expected)
            np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize(("n_volumes", "n_voxels"), [(40, 15), (15, 40)])
def test_an_eigenvariate_has_the_units_and_the_sign_of_the_mean(n_volumes, n_voxels):
    rng = np.random.default_rng(0)
    labels = np.ones(n_voxels, dtype=int)
    course = rng.normal(size=(n_volumes, 1))
    np.testing.assert_allclose(parcel_eigenvariates(np.tile(course, n_voxels), labels, 1), course, atol=1e-12)
    signals = centred(rng, n_volumes, n_voxels)
    mean, eigenvariate = (summarize(signals, labels, 1)[:, 0] for summarize in (parcel_means, parcel_eigenvariates))
    assert np.corrcoef(mean, eigenvariate)[0, 1] > 0.9
    np.testing.assert_allclose(parcel_eigenvariates(-signals, labels, 1)[:, 0], -eigenvariate, atol=1e-12)
    np.testing.assert_allclose(parcel_eigenvariates(100 * signals, labels, 1)[:, 0], 100 * eigenvariate, atol=1e-10)


def test_what_each_summary_withstands():
    """Voxels that do not share the signal hardly touch the eigenvariate, a glitch in a few voxels not the median."""
    rng = np.random.default_rng(0)
    course = rng.normal(size=200)
    signals = np.outer(course, np.r_[np.ones(20), np.zeros(20)]) + 0.3 * rng.normal(size=(200, 40))
    labels = np.ones(40, dtype=int)
    eigenvariate, median = (summarize(signals, labels, 1)[:, 0] for summarize in (parcel_eigenvariates, parcel_medians))
    assert np.corrcoef(eigenvariate, course)[0, 1] > 0.99
    signals[3] += np.r_[np.full(15, 1e3), np.zeros(25)]  # a glitch in fewer than half of the voxels
    glitched = parcel_medians(signals, labels, 1)[:, 0]
    np.testing.assert_array_equal(np.delete(glitched, 3), np.delete(median, 3))
    assert abs(glitched[3]) < 10
    assert parcel_means(signals, labels, 1)[3, 0] > 300


def test_eigenvariates_follow_from_a_reduction():
    rng = np.random.default_rng(0)
    signals = centred(rng, 30, 200)
    labels = rng.integers(0, 6, size=200)
    reduction = reduce_signals(signals, 30)
    scaled = reduction.components * reduction.singular_values[:, np.newaxis]
    found = reduction.time_courses @ parcel_eigenvariates(scaled, labels, 5)
    np.testing.assert_allclose(found, parcel_eigenvariates(signals, labels, 5), atol=1e-5)


def test_values_that_are_not_finite_stay_in_their_parcel():
    signals = centred(np.random.default_rng(0), 10, 6)
    labels = np.array([1, 1, 1, 2, 2, 2])
    medians, eigenvariates = parcel_medians(signals, labels, 2), parcel_eigenvariates(signals, labels, 2)
    signals[4, 1] = np.nan
    found = parcel_medians(signals, labels, 2)
    assert np.isnan(found[4, 0])
    found[4, 0] = medians[4, 0] = 0
    np.testing.assert_array_equal(found[:, 1], medians[:, 1])
    found = parcel_eigenvariates(signals, labels, 2)
    assert np.isnan(found[:, 0]).all()
    np.testing.assert_array_equal(found[:, 1], eigenvariates[:, 1])


def test_voxels_that_are_zero_give_zero():
    np.testing.assert_array_equal(parcel_eigenvariates(np.zeros((5, 3)), np.array([1, 1, 2]), 2), np.zeros((5, 2)))
