"""Signals of parcels from a run's reduction, against those of its voxels."""

import numpy as np
import pytest

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.cleaning import apply_operator, baseline_weights, clean_to_scores, temporal_operator
from bids_parcellate.numerics.reduction import reduce_signals
from bids_parcellate.numerics.run_reduction import RunReduction, Units
from bids_parcellate.numerics.signals import parcel_means

N_VOLUMES, N_VOXELS = 60, 500


def reduce(raw, operator, n_components=200):
    scores = clean_to_scores(operator, baseline_weights(N_VOLUMES), raw.copy())
    units = Units(*(each.astype(np.float32) for each in (scores.centre, scores.deviation, scores.before)))
    signals = reduce_signals(scores.coordinates, n_components, basis=scores.basis)
    return RunReduction(signals, np.arange(0, 2 * N_VOXELS, 2), units, np.ones(N_VOLUMES, dtype=bool))


@pytest.fixture
def raw():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(N_VOLUMES, N_VOXELS)) * rng.uniform(1, 50, N_VOXELS) + 1000).astype(np.float32)


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, 8, size=N_VOXELS)  # 0 is no parcel, 8 has no voxel


@pytest.mark.parametrize("options", [{}, {"detrend": True, "low_pass": 0.1, "high_pass": 0.02, "t_r": 2.0}])
def test_signals_of_parcels_are_those_of_their_voxels(raw, labels, options):
    operator = temporal_operator(N_VOLUMES, confounds=np.random.default_rng(2).normal(size=(N_VOLUMES, 5)), **options)
    run = reduce(raw, operator)
    assert run.holds_signals
    assert len(run.signals.components) < N_VOLUMES - 4
    means, before = run.parcel_signals(labels, 8)
    expected = parcel_means(apply_operator(operator, raw.astype(np.float64)), labels, 8)
    np.testing.assert_allclose(means, expected, atol=1e-3)  # of a thousand
    np.testing.assert_allclose(before, parcel_means(raw, labels, 8).mean(axis=0), rtol=1e-6)
    assert np.isnan(means[:, 7]).all()


def test_a_reduction_that_was_cut_off_does_not_hold_them(raw):
    operator = temporal_operator(N_VOLUMES, detrend=True)
    n_left = N_VOLUMES - 2
    assert reduce(raw, operator, n_left).holds_signals
    assert not reduce(raw, operator, n_left - 1).holds_signals


def test_without_units_there_is_no_way_back(raw, labels):
    signals = reduce_signals(raw, 100)
    run = RunReduction(signals, np.arange(N_VOXELS), None, np.ones(N_VOLUMES, dtype=bool))
    assert not run.holds_signals
    with pytest.raises(UsageError, match="does not hold the signals"):
        run.parcel_signals(labels, 8)


def test_columns_of_voxels(raw):
    run = reduce(raw, temporal_operator(N_VOLUMES, detrend=True))
    np.testing.assert_array_equal(run.columns(np.array([0, 1, 4, 998, 999, 5000])), [0, -1, 2, 499, -1, -1])
