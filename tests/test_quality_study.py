"""The study of features: its measures against independent ones, its data against what they claim, and a tiny run."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality.__main__ import run_study
from benchmarks.quality.candidates import CANDIDATES
from benchmarks.quality.evaluation import PEERS, evaluate, explained_variance
from benchmarks.quality.experiments import SCENARIOS, Experiment, Run, one_participant, simulate, two_participants
from benchmarks.record import insert
from bids_parcellate.numerics.cleaning import standardize

TINY = replace(SCENARIOS[1], snr=1.0, lengths=(40,) * 4, n_parcels=8, voxel_size=10.0)


@pytest.fixture(scope="module")
def tiny() -> Experiment:
    """Four short runs and eight parcels."""
    return simulate(TINY, seed=0)


def crop(experiment):
    """Keep three slices."""
    inside = np.isin(np.nonzero(experiment.mask)[2], [9, 10, 11])
    halves = tuple(tuple(Run(run.participant, run.signals[:, inside]) for run in half) for half in experiment.halves)
    return replace(experiment, halves=halves, mask=experiment.mask[:, :, 9:12], truth=experiment.truth[inside])


def test_explained_variance_is_that_of_a_regression_on_parcels(tiny):
    """Of each volume, on indicators of the parcels."""
    labels, runs = tiny.truth, tiny.halves[0]
    indicators = np.eye(8)[labels]
    left = whole = 0.0
    for run in runs:
        signals = standardize(run.signals.astype(np.float64), "zscore_sample").T
        fitted = indicators @ np.linalg.lstsq(indicators, signals, rcond=None)[0]
        left, whole = left + np.sum((signals - fitted) ** 2), whole + np.sum(signals**2)
    assert explained_variance(labels, runs) == pytest.approx(1 - left / whole, abs=1e-5)


def test_results_are_those_of_fits_that_do_not_see_what_they_are_scored_on(tiny):
    """Noise in place of the second half leaves nothing to explain for the first's parcels, nor to agree on."""
    rng = np.random.default_rng(0)
    noise = tuple(Run(run.participant, rng.normal(size=run.signals.shape).astype(np.float32)) for run in tiny.halves[1])
    (good,) = evaluate(tiny, "scaled", ["ward"])
    (bad,) = evaluate(replace(tiny, halves=(tiny.halves[0], noise)), "scaled", ["ward"])
    assert good.truth > 0.7
    assert good.agreement > 0.6
    assert good.explained > 0.25
    assert bad.agreement < good.agreement / 3
    assert bad.explained < good.explained / 2


def test_simulations_are_what_they_claim():
    """The variance within true parcels is that of the noise, the variance of their means that of the signal."""
    experiment = simulate(replace(TINY, shift=0.0, lengths=(400, 400), snr=0.8), seed=1)
    signals, labels = experiment.halves[0][0].signals, experiment.truth
    means = np.stack([signals[:, labels == parcel].mean(axis=1) for parcel in range(8)], axis=1)
    assert np.sqrt(means.var(axis=0).mean()) == pytest.approx(0.8, rel=0.1)
    assert (signals - means[:, labels]).std() == pytest.approx(1.0, rel=0.05)
    assert sorted(set(labels)) == list(range(8))


@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates_find_parcels(tiny, name):
    (result,) = evaluate(tiny, name, ["ward"])
    assert result.truth > 0.6


def test_the_reliable_candidate_keeps_what_halves_share_and_drops_the_rest():
    """Three patterns that all runs have, in noise of the same size: three components are left."""
    rng = np.random.default_rng(0)
    patterns = np.linalg.qr(rng.normal(size=(300, 3)))[0].T * np.sqrt(300)
    runs = tuple(
        Run(str(n), (rng.normal(size=(100, 3)) @ patterns + rng.normal(size=(100, 300))).astype(np.float32))
        for n in range(6)
    )
    power = np.square(CANDIDATES["reliable"](runs)).sum(axis=1)
    assert power[:3].sum() > 0.9 * power.sum()
    assert CANDIDATES["reliable"](runs[:1]) is None


def test_runs_of_real_data_are_halved(shared_data):
    (experiment,) = one_participant(shared_data / "real" / "haxby2001_1slice", (20,), n_splits=1)
    assert [len(half) for half in experiment.halves] == [6, 6]
    assert experiment.mask.sum() == experiment.halves[0][0].signals.shape[1] == 469
    early, apart = two_participants(shared_data / "real" / "twosub_mni4mm", (20,))
    assert [len(run.signals) for half in early.halves for run in half] == [41, 32, 41, 32]
    assert [run.participant for half in apart.halves for run in half] == ["sub-ds205s03", "sub-feeds"]


def test_tiny_study(tiny, tmp_path):
    tables = run_study(iter([crop(tiny)]), n_jobs=1)
    for name in (*CANDIDATES, *PEERS, "ward", "rena", tiny.name):
        assert name in tables
    page = tmp_path / "page.md"
    page.write_text("Before\n<!-- study: begin -->\nold\n<!-- study: end -->\nafter\n")
    insert(page, "study", tables)
    assert page.read_text() == f"Before\n<!-- study: begin -->\n\n{tables}\n<!-- study: end -->\nafter\n"
    insert(page, "study", tables)
    assert page.read_text().count("<!-- study: begin -->") == 1


def test_nilearns_class_is_what_is_compared_with(tiny):
    """The package's "nilearn" features cluster as nilearn's class does; their ward trees are the same algorithm."""
    (ours,), (theirs,) = (evaluate(crop(tiny), name, ["ward"]) for name in ("nilearn", "nilearn's class"))
    assert ours.explained == pytest.approx(theirs.explained, abs=0.02)
