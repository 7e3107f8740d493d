import numpy as np
import pytest
from scipy.spatial.distance import cdist

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.graph import voxel_adjacency
from bids_parcellate.numerics.quality.boundary import boundary_coefficient, pair_correlations, sample_pairs
from bids_parcellate.numerics.quality.nulls import random_parcellations
from bids_parcellate.numerics.simulation.brain import smooth_field

AXES = np.array([[2.0, 0, 0.5], [0, 3.0, 0], [0, 0, 2.5]])


def small_mask(seed=0, shape=(6, 5, 7)):
    return np.random.default_rng(seed).random(shape) > 0.3


def test_all_pairs_are_found_once_where_there_are_few():
    positions = np.argwhere(small_mask())
    pairs = sample_pairs(positions, AXES, max_distance=7, bin_width=1.5, n_per_bin=10**6)
    distances = cdist(positions @ AXES.T, positions @ AXES.T)
    wanted = {(i, j) for i, j in np.argwhere((distances <= 7) & (distances > 0)) if i < j}
    found = [tuple(sorted(pair)) for pair in pairs.ends.T.tolist()]
    assert len(found) == len(set(found))
    assert set(found) == wanted
    of_pairs = distances[tuple(pairs.ends)]
    order = np.unique((of_pairs / 1.5).astype(int), return_inverse=True)[1]
    np.testing.assert_array_equal(pairs.bins, order)
    means = [of_pairs[pairs.bins == bin_].mean() for bin_ in range(pairs.distances.size)]
    np.testing.assert_allclose(pairs.distances, means)


def test_it_is_the_weighted_difference_of_means():
    positions = np.argwhere(small_mask())
    rng = np.random.default_rng(1)
    signals = rng.normal(size=(20, len(positions)))
    signals -= signals.mean(axis=0)
    labels = rng.integers(0, 4, len(positions))
    pairs = sample_pairs(positions, AXES, max_distance=9, bin_width=2, n_per_bin=300)
    correlations = pair_correlations(signals, pairs)
    np.testing.assert_allclose(correlations.mean, np.corrcoef(signals.T)[tuple(pairs.ends)], atol=1e-12)
    result = boundary_coefficient(correlations, pairs, labels)
    weighted, total = 0.0, 0.0
    one, other = labels[pairs.ends]
    for bin_ in range(pairs.distances.size):
        chosen = (pairs.bins == bin_) & (one > 0) & (other > 0)
        within, between = (correlations.mean[chosen & same] for same in (one == other, one != other))
        if within.size and between.size:
            weight = 1 / (1 / within.size + 1 / between.size)
            weighted, total = weighted + weight * (within.mean() - between.mean()), total + weight
    assert result.coefficient == pytest.approx(weighted / total)


def test_it_tells_boundaries_from_smoothness():
    mask = np.ones((16, 16, 16), dtype=bool)
    rng = np.random.default_rng(0)
    noise = np.stack([smooth_field(mask.shape, 1.0, rng)[mask] for _ in range(60)])
    truth = (np.indices(mask.shape) // 4)[:, mask].T @ [16, 4, 1] + 1
    signals = noise + rng.normal(size=(60, 65))[:, truth]
    positions, adjacency = np.argwhere(mask), voxel_adjacency(mask)
    random = random_parcellations(truth, adjacency, 10)
    pairs = sample_pairs(positions, np.eye(3), max_distance=8, bin_width=0.5, n_per_bin=4000)

    def coefficients(data, labelings):
        correlations = pair_correlations(data, pairs)
        return [boundary_coefficient(correlations, pairs, labels).coefficient for labels in labelings]

    (true,) = coefficients(signals, [truth])
    assert true > 0.3
    assert np.abs(np.mean(coefficients(noise, [truth, *random]))) < 0.01
    assert max(coefficients(signals, random)) < true / 3


def test_runs_are_averaged_where_they_have_both_voxels():
    positions = np.argwhere(small_mask())
    pairs = sample_pairs(positions, AXES, max_distance=5)
    runs = [np.random.default_rng(seed).normal(size=(9, len(positions))) for seed in range(3)]
    runs[1][:, :40] = 0
    of_runs = [pair_correlations(run, pairs) for run in runs]
    together = sum(of_runs[1:], of_runs[0])
    lacking = (pairs.ends < 40).any(axis=0)
    np.testing.assert_array_equal(together.n_runs, np.where(lacking, 2, 3))
    expected = [
        np.einsum("ij,ij->j", *(run[:, ends] / np.linalg.norm(run[:, ends], axis=0) for ends in pairs.ends))
        for run in (runs[0], runs[2])
    ]
    np.testing.assert_allclose(together.mean[lacking], np.mean(expected, axis=0)[lacking])


def test_nothing_to_compare():
    pairs = sample_pairs(np.argwhere(np.ones((3, 3, 3))), np.eye(3), max_distance=2)
    result = boundary_coefficient(pair_correlations(np.ones((2, 27)), pairs), pairs, np.ones(27, dtype=int))
    assert np.isnan(result.coefficient)
    with pytest.raises(UsageError, match=r"at most 0\.5 mm"):
        sample_pairs(np.argwhere(np.ones((3, 3, 3))), np.eye(3), max_distance=0.5)
    with pytest.raises(UsageError, match="bin_width"):
        sample_pairs(np.argwhere(np.ones((3, 3, 3))), np.eye(3), bin_width=0)
