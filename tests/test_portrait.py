"""What is kept of a run for its report."""

import numpy as np
import pytest

from bids_parcellate.numerics.portrait import CARPET_LIMIT, N_ROWS, sketch


@pytest.fixture
def raw():
    """A signal that all voxels share to different degrees, over different levels."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(60, 1))
    share = np.linspace(0, 2, 900)
    return (100 + np.arange(900) + shared * share + rng.normal(size=(60, 900))).astype(np.float32)


def scores(rows):
    return (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)


def values_of(carpet):
    return carpet / 255 * 2 * CARPET_LIMIT - CARPET_LIMIT


def test_means_are_those_of_the_signals(raw):
    portrait = sketch(raw).portrait
    np.testing.assert_allclose(portrait.mean_volume, raw.astype(np.float64).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(portrait.global_signal, raw.astype(np.float64).mean(axis=1), rtol=1e-5)


def test_carpets_are_scores_of_the_same_voxels_before_and_after(raw):
    drawn = sketch(raw)
    cleaned = (3 * raw[5:] + 7).astype(np.float32)
    portrait = drawn.finish(cleaned[:, drawn.rows])
    assert portrait.carpet.shape == (N_ROWS, 60)
    assert portrait.cleaned_carpet.shape == (N_ROWS, 55)
    for carpet, signals in ((portrait.carpet, raw), (portrait.cleaned_carpet, cleaned)):
        expected = np.clip(scores(signals[:, drawn.rows].T.astype(np.float64)), -CARPET_LIMIT, CARPET_LIMIT)
        np.testing.assert_allclose(values_of(carpet), expected, atol=2 * CARPET_LIMIT / 255)
    assert len(set(drawn.rows.tolist())) == N_ROWS


def test_rows_are_sorted_by_what_they_share(raw):
    drawn = sketch(raw)
    shared = scores(raw[:, drawn.rows].T.astype(np.float64)).mean(axis=0)
    correlations = [np.corrcoef(row, shared)[0, 1] for row in raw[:, drawn.rows].T]
    assert np.all(np.diff(correlations) < 1e-6)
    assert drawn.rows[:50].mean() > drawn.rows[-50:].mean() + 300


def test_the_signals_may_be_overwritten_afterwards(raw):
    drawn = sketch(raw.copy())
    expected = drawn.finish(raw[:, drawn.rows])
    overwritten = raw.copy()
    drawn = sketch(overwritten)
    overwritten[:] = 0
    portrait = drawn.finish(raw[:, drawn.rows])
    for name in ("mean_volume", "global_signal", "carpet", "cleaned_carpet"):
        np.testing.assert_array_equal(getattr(portrait, name), getattr(expected, name))


def test_few_voxels_and_constant_ones_are_no_problem():
    raw = np.ones((10, 4), dtype=np.float32)
    raw[:, 1] = np.arange(10)
    drawn = sketch(raw)
    portrait = drawn.finish(raw[:, drawn.rows])
    assert portrait.carpet.shape == (4, 10)
    middles = (portrait.carpet == portrait.carpet[:, :1]).all(axis=1)
    assert middles.sum() == 3
