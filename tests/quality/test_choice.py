"""The number of parcels that is chosen is that of the simulation."""

import numpy as np
import pytest

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.cluster import parcellate
from bids_parcellate.numerics.graph import voxel_adjacency
from bids_parcellate.numerics.quality.agreement import agreement
from bids_parcellate.numerics.quality.choice import Curve, choose_n_parcels
from bids_parcellate.numerics.quality.folds import split_halves
from bids_parcellate.numerics.quality.nulls import random_parcellations
from bids_parcellate.numerics.quality.variance import explained_variance
from bids_parcellate.numerics.simulation.brain import grow_parcels, make_brain, smooth_field

CANDIDATES = [6, 10, 15, 20, 25, 32, 40, 55, 75]
N_RANDOM = 5


def simulate(n_parcels, noise, n_participants=8, n_volumes=50):
    rng = np.random.default_rng(n_parcels)
    mask = make_brain(9.0).mask
    truth = grow_parcels(mask, n_parcels, rng)[mask]
    runs = []
    for _ in range(n_participants):
        fields = np.stack([smooth_field(mask.shape, 0.7, rng)[mask] for _ in range(n_volumes)])
        run = rng.normal(size=(n_volumes, n_parcels))[:, truth - 1] + noise * fields
        runs.append((run - run.mean(axis=0)) / run.std(axis=0))
    return np.stack(runs), voxel_adjacency(mask)


def fit(runs, adjacency):
    labels = parcellate(np.concatenate(runs), "ward", CANDIDATES, adjacency=adjacency)
    return [labels[n] + 1 for n in CANDIDATES]


def measure(runs, adjacency):
    participants = [f"{number:02d}" for number in range(len(runs))]
    explained, explained_random = [], []
    for held_out in split_halves(participants, 4):
        test, labelings = np.concatenate(runs[held_out]), fit(runs[~held_out], adjacency)
        explained.append([result.overall for result in explained_variance(test, labelings)])
        random = np.stack([random_parcellations(labels, adjacency, N_RANDOM) for labels in labelings], axis=1)
        explained_random.append([[result.overall for result in explained_variance(test, list(one))] for one in random])
    alike, alike_random = [], []
    for half in split_halves(participants, 3):
        first, second = fit(runs[half], adjacency), fit(runs[~half], adjacency)
        alike.append([agreement(a, b).adjusted_rand for a, b in zip(first, second, strict=True)])
    for seed in range(N_RANDOM):
        pairs = [random_parcellations(labels, adjacency, 2, seed=seed) for labels in first]
        alike_random.append([agreement(*pair).adjusted_rand for pair in pairs])
    return (
        Curve(np.array(explained), np.mean(explained_random, axis=0)),
        Curve(np.array(alike), np.array(alike_random)),
    )


@pytest.mark.parametrize(("n_parcels", "noise"), [(15, 1.0), (25, 2.0), (40, 1.5)])
def test_the_truth_is_chosen(n_parcels, noise):
    choice = choose_n_parcels(CANDIDATES, *measure(*simulate(n_parcels, noise)))
    assert choice.n_parcels == n_parcels
    assert choice.above_chance[CANDIDATES.index(n_parcels)]
    assert str(n_parcels) in choice.reason


def test_the_rule_is_what_it_says():
    explained = Curve(np.array([[0.3, 0.5, 0.61], [0.3, 0.5, 0.59]]), np.array([[0.1, 0.2, 0.3], [0.12, 0.22, 0.28]]))
    alike = Curve(np.array([[0.5, 0.8, 0.8], [0.5, 0.8, 0.8]]), np.array([[0.2, 0.2, 0.2], [0.2, 0.2, 0.22]]))
    choice = choose_n_parcels([10, 20, 30], explained, alike)
    np.testing.assert_allclose(explained.gain, [0.19, 0.29, 0.31])
    np.testing.assert_allclose(choice.score, [(19 / 31 + 0.3 / 0.6) / 2, (29 / 31 + 1) / 2, (1 + 0.59 / 0.6) / 2])
    np.testing.assert_allclose(choice.score_error, [0, 0, 0.01 / 0.31 / 2], atol=1e-12)
    assert choice.n_parcels == 30
    assert "end of the range" in choice.reason
    noisy = Curve(np.array([[0.3, 0.45, 0.65], [0.3, 0.55, 0.55]]), explained.random)
    assert choose_n_parcels([10, 20, 30], noisy, alike).n_parcels == 20


def test_chance_is_called_chance():
    rng = np.random.default_rng(0)
    nothing = Curve(0.2 + 0.01 * rng.normal(size=(4, 3)), 0.25 + 0.01 * rng.normal(size=(9, 3)))
    choice = choose_n_parcels([10, 20, 30], nothing, nothing)
    assert not choice.above_chance.any()
    assert "not clearly better than random" in choice.reason


def test_what_does_not_fit_is_refused():
    curve = Curve(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(UsageError, match="ascend"):
        choose_n_parcels([10, 30, 20], curve, curve)
    with pytest.raises(UsageError, match="shape"):
        choose_n_parcels([10, 20], curve, curve)
    with pytest.raises(UsageError, match="finite"):
        choose_n_parcels([10, 20, 30], curve, Curve(np.full((2, 3), np.nan), np.zeros((2, 3))))
