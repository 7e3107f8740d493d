"""Butterworth filters, against scipy's."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfiltfilt, sosfreqz

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.filters import butterworth, filter_both_ways

ORDERS = st.integers(1, 6)
REPETITION_TIMES = st.floats(0.4, 4)
SHARES = st.floats(0.002, 0.99)  # of the Nyquist frequency


@st.composite
def designs(draw):
    """Draw an order, a repetition time, and the cut-offs of one of the three kinds of filters."""
    order, t_r = draw(ORDERS), draw(REPETITION_TIMES)
    low, high = sorted(draw(st.tuples(SHARES, SHARES)))
    assume(high > 1.05 * low)
    cutoffs = {"low_pass": high * 0.5 / t_r, "high_pass": low * 0.5 / t_r}
    left_out = draw(st.sampled_from([None, *cutoffs]))
    return order, t_r, {name: None if name == left_out else cutoff for name, cutoff in cutoffs.items()}


def scipys(order, t_r, cutoffs):
    """Design the same filter with scipy."""
    frequencies = [cutoffs[name] for name in ("high_pass", "low_pass") if cutoffs[name] is not None]
    kind = "bandpass" if len(frequencies) == 2 else "highpass" if cutoffs["low_pass"] is None else "lowpass"
    return butter(order, frequencies if len(frequencies) == 2 else frequencies[0], kind, output="sos", fs=1 / t_r)


@settings(deadline=None)
@given(designs(), st.integers(0, 2**32 - 1))
def test_any_filter_equals_scipy(design, seed):
    order, t_r, cutoffs = design
    which = butterworth(order, t_r, **cutoffs)
    generator = np.random.default_rng(seed)
    series = generator.normal(50, 1, size=(generator.integers(which.padding + 1, 300), 2))
    expected = sosfiltfilt(scipys(*design), series, axis=0, padlen=which.padding)
    np.testing.assert_allclose(filter_both_ways(which, series), expected, atol=1e-9 * np.abs(series).max())


@settings(deadline=None)
@given(designs())
def test_gain_is_that_of_scipy_at_all_frequencies(design):
    order, t_r, cutoffs = design
    which = butterworth(order, t_r, **cutoffs)
    angles, expected = sosfreqz(scipys(*design), 64)
    z = np.exp(1j * angles)[:, np.newaxis]
    response = which.gain * np.prod((z - which.zeros) / (z - which.poles), axis=1)
    np.testing.assert_allclose(np.abs(response), np.abs(expected), atol=1e-8)


def test_padding_is_that_of_scipy():
    series = np.random.default_rng(0).normal(size=(120, 1))
    for cutoffs in ({"low_pass": 0.1, "high_pass": None}, {"low_pass": 0.1, "high_pass": 0.01}):
        expected = sosfiltfilt(scipys(5, 2.0, cutoffs), series, axis=0)
        np.testing.assert_allclose(filter_both_ways(butterworth(5, 2.0, **cutoffs), series), expected, atol=1e-12)


def test_shortest_series():
    which = butterworth(5, 2.0, low_pass=0.1, high_pass=0.01)
    assert filter_both_ways(which, np.ones((which.padding + 1, 1))).shape == (34, 1)
    with pytest.raises(DataError, match="33 volumes, more than 33 are needed"):
        filter_both_ways(which, np.ones((which.padding, 1)))


@pytest.mark.parametrize(
    ("t_r", "low_pass", "high_pass", "message"),
    [
        (None, 0.1, None, "low_pass: a filter needs the repetition time"),
        (0.0, 0.1, 0.01, "low_pass and high_pass: a filter needs"),
        (2.0, 0.25, None, "low_pass is 0.25 Hz; it must be above 0 and below the Nyquist frequency, 0.25 Hz"),
        (2.0, None, 0.0, "high_pass is 0.0 Hz"),
        (2.0, 0.1, 0.1, "must be lower than low_pass"),
    ],
)
def test_impossible_cutoffs_are_refused(t_r, low_pass, high_pass, message):
    with pytest.raises(UsageError, match=message):
        butterworth(5, t_r, low_pass=low_pass, high_pass=high_pass)
