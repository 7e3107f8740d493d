"""Cleaning against nilearn, and against what it promises."""

import warnings
from pathlib import Path

import nibabel as nib
import nilearn.signal
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.cleaning import (
    apply_operator,
    baseline,
    baseline_weights,
    clean,
    clean_to_scores,
    degrees_of_freedom,
    standardize,
    temporal_operator,
)

T_R = 2.0
N_VOLUMES = 150


@pytest.fixture(scope="module")
def signals() -> np.ndarray:
    """Random walks on offsets that differ, as in the brain."""
    rng = np.random.default_rng(0)
    return np.cumsum(rng.normal(size=(N_VOLUMES, 20)), axis=0) + rng.uniform(500, 1500, size=20)


@pytest.fixture(scope="module")
def confounds() -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.cumsum(rng.normal(size=(N_VOLUMES, 6)), axis=0) + 50 * rng.normal(size=6)


@pytest.fixture(scope="module")
def kept() -> np.ndarray:
    """Non-steady-state volumes, spikes and a stretch; none has its mirror image in time among them (see below)."""
    mask = np.ones(N_VOLUMES, dtype=bool)
    mask[[0, 1, 2, 30, 31, 32, 33, 77, 100]] = False
    return mask


def nilearn_clean(signals, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it comments on what it is asked for
        return nilearn.signal.clean(signals, t_r=T_R, **{"detrend": False, "standardize": None, **options})


def assert_close(actual, expected, relative=1e-6):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=relative * np.abs(expected).max())


# -- Parity with nilearn ----------------------------------------------------------------------------------------------


FILTERS = [{}, {"low_pass": 0.1}, {"high_pass": 0.01}, {"low_pass": 0.08, "high_pass": 0.01}]


@pytest.mark.parametrize("scrub", [False, True])
@pytest.mark.parametrize("with_confounds", [False, True])
@pytest.mark.parametrize("cutoffs", FILTERS)
@pytest.mark.parametrize("detrend", [False, True])
def test_clean_equals_nilearn(signals, confounds, kept, scrub, with_confounds, cutoffs, detrend):
    options = {
        "confounds": confounds if with_confounds else None,
        "sample_mask": kept if scrub else None,
        "detrend": detrend,
        **cutoffs,
    }
    for scaling in (None, "zscore_sample", "psc"):
        ours = clean(signals, t_r=T_R, standardize=scaling, **options)
        assert_close(ours, nilearn_clean(signals, standardize=scaling, **options), 1e-9)


@pytest.mark.parametrize("filtered", [False, True])
def test_confounds_that_are_not_centred_equal_nilearn(signals, confounds, kept, filtered):
    options = {"confounds": confounds, "standardize_confounds": False, "sample_mask": kept}
    if filtered:
        options["high_pass"] = 0.01
    assert_close(clean(signals, t_r=T_R, **options), nilearn_clean(signals, **options), 1e-9)


def test_extrapolation_equals_nilearn(signals, confounds, kept):
    options = {"confounds": confounds, "sample_mask": kept, "high_pass": 0.01, "detrend": True, "extrapolate": True}
    assert_close(clean(signals, t_r=T_R, **options), nilearn_clean(signals, **options), 1e-9)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_sample_mask_equals_nilearn(signals, confounds, data):
    """nilearn does not interpolate a censored volume whose mirror image in time is censored too; so it is done here."""
    mask = np.array(data.draw(st.lists(st.sampled_from([True, True, True, False]), min_size=90, max_size=90)))
    indices = np.flatnonzero(mask)
    inner = slice(indices[0], indices[-1] + 1)
    ours = clean(signals[:90], t_r=T_R, confounds=confounds[:90], sample_mask=mask, detrend=True, low_pass=0.1)

    def interpolated(series):
        return CubicSpline(indices, series[indices])(np.arange(90))[inner]

    theirs = nilearn_clean(
        interpolated(signals[:90]),
        confounds=interpolated(confounds[:90]),
        sample_mask=indices - indices[0],
        detrend=True,
        low_pass=0.1,
    )
    assert_close(ours, theirs)


def test_real_run_equals_nilearn(shared_data: Path):
    folder = shared_data / "real" / "haxby2001_1slice" / "sub-01" / "func"
    run = "sub-01_task-objectviewing_run-05"
    image = nib.load(folder / f"{run}_space-boldref_desc-preproc_bold.nii.gz")
    mask = nib.load(folder / f"{run}_space-boldref_desc-brain_mask.nii.gz").get_fdata() > 0
    table = pd.read_csv(folder / f"{run}_desc-confounds_timeseries.tsv", sep="\t")
    signals = image.get_fdata(dtype=np.float32)[mask].T
    options = {
        "confounds": table.filter(regex="^(trans|rot)_[xyz]$").fillna(0).to_numpy(),
        "sample_mask": np.flatnonzero(np.arange(len(signals)) % 17 != 3),
        "detrend": True,
        "high_pass": 0.01,
        "standardize": "zscore_sample",
    }
    exact = nilearn_clean(signals.astype(np.float64), **options)
    assert_close(clean(signals.astype(np.float64), t_r=T_R, **options), exact)
    single = clean(signals, t_r=T_R, **options)
    assert single.dtype == np.float32
    assert_close(single, exact, 1e-5)


# -- What the operator promises ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("extrapolate", [False, True])
def test_censored_volumes_influence_nothing(confounds, filtered, extrapolate):
    mask = np.ones(N_VOLUMES, dtype=bool)
    mask[[0, 1, 40, 60, 61, 89, 109, -2, -1]] = False  # mirror images in time, which nilearn 0.14.1 mistakes
    wild = confounds.copy()
    wild[~mask] += 1e6
    options = {"sample_mask": mask, "detrend": True, "t_r": T_R, "extrapolate": extrapolate}
    if filtered:
        options["low_pass"] = 0.1
    operator = temporal_operator(N_VOLUMES, confounds=wild, **options)
    assert operator.shape == (mask.sum(), N_VOLUMES)
    assert np.abs(operator[:, ~mask]).max() < 1e-12
    np.testing.assert_allclose(operator, temporal_operator(N_VOLUMES, confounds=confounds, **options), atol=1e-6)


def test_without_options_nothing_changes(signals):
    np.testing.assert_array_equal(temporal_operator(N_VOLUMES), np.eye(N_VOLUMES))
    np.testing.assert_allclose(clean(signals), signals, rtol=1e-14)


def test_boolean_and_index_masks_are_the_same(kept):
    by_index = temporal_operator(N_VOLUMES, sample_mask=np.flatnonzero(kept), detrend=True)
    np.testing.assert_array_equal(temporal_operator(N_VOLUMES, sample_mask=kept, detrend=True), by_index)


def test_confounds_are_gone(confounds):
    operator = temporal_operator(N_VOLUMES, confounds=confounds, detrend=True)
    assert_close(operator @ confounds + 1e4, np.full(confounds.shape, 1e4), 1e-13)


def test_band_pass_keeps_the_band_and_nothing_else():
    seconds = T_R * np.arange(600)
    waves = {hertz: np.sin(2 * np.pi * hertz * seconds)[:, np.newaxis] for hertz in (0.001, 0.03, 0.2)}
    operator = temporal_operator(600, t_r=T_R, low_pass=0.08, high_pass=0.01)
    middle = slice(100, 500)  # the filter rings at the ends
    np.testing.assert_allclose((operator @ waves[0.03])[middle], waves[0.03][middle], atol=0.01)
    assert np.abs(operator @ waves[0.001])[middle].max() < 0.01
    assert np.abs(operator @ waves[0.2])[middle].max() < 0.01


def test_trend_is_removed():
    line = (3 * np.arange(N_VOLUMES) + 1e4)[:, np.newaxis]
    assert np.abs(apply_operator(temporal_operator(N_VOLUMES, detrend=True), line.astype(float))).max() < 1e-9


def test_as_few_volumes_as_can_be():
    """A line joins two volumes that are kept, and nothing is left of two volumes without their line."""
    weights = np.zeros(40)
    weights[[3, 20]] = 0.5
    np.testing.assert_allclose(baseline_weights(40, sample_mask=[3, 20], filtered=True), weights, atol=1e-14)
    np.testing.assert_allclose(temporal_operator(2, detrend=True), 0, atol=1e-15)
    np.testing.assert_allclose(standardize(np.array([[1.0], [3.0]]), "zscore"), [[-1], [1]])


def test_one_confound_may_lack_the_second_axis(confounds):
    one = temporal_operator(N_VOLUMES, confounds=confounds[:, 0])
    np.testing.assert_array_equal(one, temporal_operator(N_VOLUMES, confounds=confounds[:, :1]))


# -- Degrees of freedom -----------------------------------------------------------------------------------------------


def test_degrees_of_freedom_of_projections(confounds, kept):
    line = np.arange(N_VOLUMES)
    dependent = np.column_stack([confounds, confounds @ np.arange(6), np.full(N_VOLUMES, 7e5), 1e4 + line])
    # Mean and trend, and six confounds: a sum of them, a constant and a line add nothing.
    assert degrees_of_freedom(temporal_operator(N_VOLUMES, confounds=dependent, detrend=True)) == N_VOLUMES - 2 - 6
    without_line = dependent[:, :-1]
    operator = temporal_operator(N_VOLUMES, confounds=without_line, sample_mask=kept, detrend=True)
    assert degrees_of_freedom(operator) == kept.sum() - 2 - 6


def test_degrees_of_freedom_of_a_filter_are_its_band():
    operator = temporal_operator(400, t_r=T_R, low_pass=0.08, high_pass=0.01)
    assert degrees_of_freedom(operator) == pytest.approx(2 * 400 * T_R * 0.07, abs=2)


def test_no_degrees_of_freedom_are_left():
    confounds = np.random.default_rng(0).normal(size=(30, 40))
    assert degrees_of_freedom(temporal_operator(30, confounds=confounds, standardize_confounds=False)) == 0
    assert degrees_of_freedom(temporal_operator(30, confounds=confounds)) == 1  # the mean


# -- Single precision -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detrend", [False, True])
def test_single_precision_survives_a_huge_offset(confounds, detrend):
    rng = np.random.default_rng(0)
    offset = 2.0**20  # single precision resolves 1/8 there
    deviations = np.round(8 * rng.normal(scale=4, size=(N_VOLUMES, 9000))) / 8
    operator = temporal_operator(N_VOLUMES, t_r=T_R, confounds=confounds, detrend=detrend, high_pass=0.01)
    single = apply_operator(operator, (deviations + offset).astype(np.float32))
    assert single.dtype == np.float32
    assert single.flags.c_contiguous
    assert_close(single, operator @ deviations, 2e-6)


def test_offset_is_kept_where_the_operator_keeps_it(confounds):
    values = np.random.default_rng(0).normal(size=(N_VOLUMES, 50)) + 1000
    operator = temporal_operator(N_VOLUMES, confounds=confounds)
    np.testing.assert_allclose(apply_operator(operator, values.astype(np.float32)), operator @ values, rtol=1e-6)


# -- Standardisation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "ddof"), [("zscore_sample", 1), ("zscore", 0)])
def test_zscores(signals, method, ddof):
    expected = (signals - signals.mean(axis=0)) / signals.std(axis=0, ddof=ddof)
    np.testing.assert_allclose(standardize(signals, method), expected, atol=1e-12)
    assert_close(standardize(signals.astype(np.float32), method), expected, 1e-5)


@pytest.mark.parametrize("method", [None, "none"])
def test_no_standardisation(signals, method):
    assert standardize(signals, method) is signals


def test_percent_signal_change_refers_to_the_mean_before_cleaning():
    change = np.sin(np.arange(60))[:, np.newaxis] * [1.0, 2.0]
    change -= change.mean(axis=0)
    raw = np.array([200.0, -500.0]) * (1 + change / 100)
    percent = standardize(raw - raw.mean(axis=0), "psc", mean=raw.mean(axis=0))
    np.testing.assert_allclose(percent, change * [1, -1], atol=1e-12)
    np.testing.assert_allclose(standardize(raw, "psc"), change * [1, -1], atol=1e-12)


@pytest.mark.parametrize("share", [0.05, 0.09, 0.11, 0.2])
def test_percent_signal_change_equals_nilearn_where_part_of_the_mean_is_left(signals, share):
    """Confounds that are not centred take a part of the mean: from nine tenths on, the mean counts as removed."""
    wave = np.sqrt(2) * np.sin(2 * np.pi * np.arange(N_VOLUMES) / N_VOLUMES)
    confounds = 1 + np.sqrt(share / (1 - share)) * wave[:, np.newaxis]
    options = {"confounds": confounds, "standardize_confounds": False, "standardize": "psc"}
    flat = 1000 + (signals - signals.mean(axis=0)) * np.linspace(0.1, 1, N_VOLUMES)[:, np.newaxis] * 0.01
    assert_close(clean(flat, **options), nilearn_clean(flat, **options), 1e-9)


def test_parcels_without_voxels_do_not_disturb_percent_signal_change(signals, kept):
    holed = signals.copy()
    holed[:, 3] = np.nan
    options = {"detrend": True, "sample_mask": kept, "standardize": "psc"}
    percent = clean(holed, **options)
    others = np.arange(20) != 3
    assert np.isnan(percent[:, 3]).all()
    assert_close(percent[:, others], nilearn_clean(signals[:, others], **options))


@pytest.mark.parametrize("method", ["zscore_sample", "zscore", "psc"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 0.1, 1234.5678, -3e5])
def test_constant_voxels_become_zero(confounds, method, dtype, offset):
    """What is left of a constant is the rounding of its offset; its size must not be taken for a standard deviation."""
    rng = np.random.default_rng(0)
    constant = np.full((N_VOLUMES, 5), offset)
    # One that resampling or smoothing rounded up and down.
    constant[:, 1] *= 1 + np.finfo(dtype).eps * rng.integers(-1, 2, size=N_VOLUMES)
    result = clean(constant.astype(dtype), confounds=confounds, detrend=True, standardize=method)
    if method == "psc":
        assert np.abs(result).max() < 1e-4  # percent
    else:
        np.testing.assert_array_equal(result, 0)


def test_small_but_real_signals_are_kept():
    values = (10000 + 0.05 * np.random.default_rng(0).normal(size=(N_VOLUMES, 3))).astype(np.float32)
    np.testing.assert_allclose(standardize(values, "zscore_sample").std(axis=0, ddof=1), 1, rtol=1e-5)


def test_missing_values_stay_missing(signals):
    holed = signals.copy()
    holed[5, 2] = np.nan
    for method in ("zscore_sample", "psc"):
        result = clean(holed, detrend=True, standardize=method)
        assert np.isnan(result[:, 2]).all()
        assert np.isfinite(np.delete(result, 2, axis=1)).all()


def test_baseline_is_the_mean_that_nilearn_uses(signals, kept):
    def mean(**options):
        return baseline(baseline_weights(N_VOLUMES, **options), signals)

    np.testing.assert_allclose(mean(), signals.mean(axis=0))
    np.testing.assert_allclose(mean(sample_mask=kept), signals[kept].mean(axis=0))
    filled = CubicSpline(np.flatnonzero(kept), signals[kept])(np.arange(3, N_VOLUMES))
    np.testing.assert_allclose(mean(sample_mask=kept, filtered=True), filled.mean(axis=0))


@pytest.mark.parametrize("filtered", [{}, {"low_pass": 0.1, "high_pass": 0.01, "t_r": T_R}])
@pytest.mark.parametrize("detrend", [True, False])
def test_scores_lead_back_to_the_signals(signals, confounds, kept, filtered, detrend):
    """Also where there are more voxels than are worked on at a time, and where a voxel is constant."""
    raw = (100 + np.tile(signals, (1, 150))).astype(np.float32)
    raw[:, 7] = 100
    operator = temporal_operator(N_VOLUMES, confounds=confounds, sample_mask=kept, detrend=detrend, **filtered)
    weights = baseline_weights(N_VOLUMES, sample_mask=kept, filtered=bool(filtered))
    cleaned = operator @ raw.astype(np.float64)
    scores = clean_to_scores(operator, weights, raw.copy())
    values = scores.basis @ scores.coordinates
    atol = 1e-5 * cleaned.std()
    np.testing.assert_allclose(scores.centre + scores.deviation * values, cleaned, atol=max(atol, 1e-5))
    expected = (cleaned - cleaned.mean(axis=0)) / cleaned.std(axis=0, ddof=1)
    expected[:, 7] = 0
    np.testing.assert_allclose(values, expected, atol=2e-5)
    np.testing.assert_allclose(scores.before, weights @ raw.astype(np.float64), rtol=1e-6)
    assert not scores.coordinates[:, 7].any()
    n_dimensions = scores.basis.shape[1]
    np.testing.assert_allclose(scores.basis.T @ scores.basis, np.eye(n_dimensions), atol=1e-12)
    assert n_dimensions < len(operator) - confounds.shape[1] + 1


def test_scores_of_what_cleaning_leaves_nothing_of_are_zero(signals):
    """An operator that keeps nothing but the mean."""
    operator = np.full((N_VOLUMES, N_VOLUMES), 0.5**10)  # exact, so that the rest is exactly zero
    scores = clean_to_scores(operator, baseline_weights(N_VOLUMES), signals.astype(np.float32))
    assert scores.coordinates.shape == (1, signals.shape[1])
    assert not scores.coordinates.any()
    assert not scores.deviation.any()


# -- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"low_pass": 0.1}, UsageError, "low_pass: a filter needs the repetition time"),
        ({"low_pass": 0.1, "t_r": 0.0}, UsageError, "t_r is 0"),
        ({"low_pass": 0.3, "t_r": 2.0}, UsageError, r"low_pass is 0.3 Hz.*Nyquist frequency, 0.25 Hz.* 2.0 s"),
        ({"high_pass": 0.25, "t_r": 2.0}, UsageError, "high_pass is 0.25 Hz"),
        ({"high_pass": 0.0, "t_r": 2.0}, UsageError, "must be above 0"),
        ({"high_pass": 0.1, "low_pass": 0.05, "t_r": 2.0}, UsageError, "must be lower than low_pass"),
        ({"high_pass": 0.1, "low_pass": 0.1, "t_r": 2.0}, UsageError, "must be lower than low_pass"),
        ({"sample_mask": np.zeros(40, dtype=bool)}, DataError, "keeps no volume"),
        ({"sample_mask": []}, DataError, "keeps no volume"),
        ({"sample_mask": np.ones(39, dtype=bool)}, UsageError, "40 volumes"),
        ({"sample_mask": np.arange(41) < 40}, UsageError, "40 volumes"),
        ({"sample_mask": [0, 40]}, UsageError, "allowed are 0 to 39"),
        ({"sample_mask": [-1, 3]}, UsageError, "holds -1 to 3"),
        ({"sample_mask": [3, 3]}, UsageError, "distinct indices"),
        ({"sample_mask": [0.5, 3]}, UsageError, "distinct indices"),
        ({"sample_mask": [3], "low_pass": 0.1, "t_r": 2.0}, DataError, "too few to interpolate"),
        ({"sample_mask": np.arange(33), "low_pass": 0.1, "high_pass": 0.01, "t_r": 2.0}, DataError, "more than 33"),
        ({"confounds": np.zeros((39, 2))}, DataError, r"shape \(39, 2\).*40 volumes"),
        ({"confounds": np.zeros((40, 2, 2))}, DataError, "shape"),
        ({"confounds": [np.nan] + 39 * [1.0]}, DataError, "1 values that are not finite, the first at volume 0"),
    ],
)
def test_impossible_operators_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        temporal_operator(40, **options)


def test_shortest_run_that_can_be_filtered():
    assert temporal_operator(34, t_r=2.0, low_pass=0.1, high_pass=0.01).shape == (34, 34)
    with pytest.raises(DataError, match="33 volumes, more than 33"):
        temporal_operator(33, t_r=2.0, low_pass=0.1, high_pass=0.01)


def test_confounds_without_columns_change_nothing():
    np.testing.assert_array_equal(temporal_operator(40, confounds=np.zeros((40, 0))), np.eye(40))


def test_impossible_standardisation_is_refused(signals):
    with pytest.raises(UsageError, match="'median'"):
        standardize(signals, "median")
    with pytest.raises(DataError, match="1 volume is too few"):
        standardize(signals[:1], "zscore_sample")


def test_operator_and_signals_must_fit(signals):
    with pytest.raises(DataError, match=f"{N_VOLUMES} volumes, the temporal operator 40"):
        apply_operator(np.eye(40), signals)
