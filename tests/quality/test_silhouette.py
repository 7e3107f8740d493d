import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import silhouette_samples

from bids_parcellate.numerics.graph import voxel_adjacency
from bids_parcellate.numerics.quality.silhouette import silhouette


def complete_graph(n_voxels):
    return sparse.csr_array(~np.eye(n_voxels, dtype=bool))


def correlation_distances(features):
    return np.clip(1 - np.corrcoef(features.T), 0, None) * (1 - np.eye(features.shape[1]))


@pytest.mark.parametrize("seed", range(4))
def test_where_all_parcels_touch_it_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = np.append(rng.integers(1, 5, 40), 5)  # the last parcel has one voxel
    features = rng.normal(size=(25, 41)) + rng.normal(size=(25, 6))[:, labels]
    features -= features.mean(axis=0)
    result = silhouette(features, labels, complete_graph(41))
    expected = silhouette_samples(correlation_distances(features), labels, metric="precomputed")
    np.testing.assert_allclose(result.per_voxel, expected, atol=1e-10)
    assert result.overall == pytest.approx(expected.mean())
    np.testing.assert_allclose(result.per_parcel, [expected[labels == label].mean() for label in range(1, 6)])


def test_only_neighbouring_parcels_are_compared():
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 2, 3], 5)
    features = rng.normal(size=(30, 3))[:, [0, 1, 0]].repeat(5, axis=1) + 0.3 * rng.normal(size=(30, 15))
    features -= features.mean(axis=0)
    line = voxel_adjacency(np.ones((15, 1, 1), dtype=bool))
    result = silhouette(features, labels, line)
    distances = correlation_distances(features)
    own = distances[:5, :5].sum(axis=1) / 4
    nearest = distances[:5, 5:10].mean(axis=1)  # parcel 2; parcel 3, which is as parcel 1, does not touch it
    np.testing.assert_allclose(result.per_voxel[:5], (nearest - own) / np.maximum(own, nearest), rtol=1e-9)
    assert result.per_parcel.min() > 0.5
    assert silhouette(features, labels, complete_graph(15)).per_parcel[0] < 0.2


def test_where_nothing_can_be_compared_it_is_not_defined():
    features = np.random.default_rng(0).normal(size=(10, 6))
    features[:, 5] = 0
    gap = voxel_adjacency(np.array([1, 1, 0, 1, 1, 1, 1], dtype=bool).reshape(-1, 1, 1))
    result = silhouette(features, np.array([1, 1, 2, 2, 3, 3]), gap)
    np.testing.assert_array_equal(np.isnan(result.per_voxel), [True, True, False, False, False, True])
    assert result.per_voxel[4] == 0  # alone in its parcel, since its fellow has no signal
    both = result + result
    np.testing.assert_allclose(both.per_voxel, result.per_voxel)
    np.testing.assert_array_equal(both.n_runs, [0, 0, 2, 2, 2, 0])
