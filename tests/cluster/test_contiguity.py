"""Exactly K contiguous parcels of a minimal size, with islands, hemispheres and weights, for every method."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.cluster import METHODS, parcellate
from bids_parcellate.numerics.cluster.contiguity import FeatureGraph, average_rows, make_contiguous, split
from bids_parcellate.numerics.cluster.estimators import Agglomerative, KMeans, make_clusterer
from bids_parcellate.numerics.graph import connected_pieces, edges, hemispheres, scattered_labels, separate
from tests.cluster.simulation import brain, graph_of, smooth_features, voronoi


def without_small_pieces(mask, min_size):
    _, piece = connected_pieces(graph_of(mask))
    kept = mask.copy()
    kept[mask] = np.bincount(piece)[piece] >= min_size
    return kept


@pytest.mark.parametrize("method", METHODS)
class TestEveryMethod:
    @given(st.integers(0, 10**6), st.floats(0, 0.6), st.integers(0, 30))
    @settings(deadline=None, max_examples=12)
    def test_parcels_are_contiguous_and_exact_on_any_mask(self, method, seed, holes, n_more):
        mask = np.random.default_rng(seed).random((6, 5, 4)) >= holes
        adjacency = graph_of(mask)
        n_parcels = min(connected_pieces(adjacency)[0] + n_more, mask.sum())
        features = smooth_features(mask, seed=seed)
        labels = parcellate(features, method, [n_parcels], adjacency=adjacency, contiguous=True)[n_parcels]
        np.testing.assert_array_equal(np.unique(labels), np.arange(n_parcels))
        assert len(scattered_labels(labels, adjacency)) == 0

    @given(st.integers(0, 10**6), st.floats(0, 0.5), st.integers(2, 9))
    @settings(deadline=None, max_examples=12)
    def test_no_parcel_is_below_the_minimal_size(self, method, seed, holes, min_size):
        mask = without_small_pieces(np.random.default_rng(seed).random((7, 6, 5)) >= holes, min_size)
        assume(mask.any())
        adjacency = graph_of(mask)
        n_pieces = connected_pieces(adjacency)[0]
        n_parcels = n_pieces + (mask.sum() // min_size - n_pieces) // 4  # far from the most that fit
        features = smooth_features(mask, seed=seed)
        labels = parcellate(features, method, [n_parcels], adjacency=adjacency, contiguous=True, min_size=min_size)[
            n_parcels
        ]
        np.testing.assert_array_equal(np.unique(labels), np.arange(n_parcels))
        assert np.bincount(labels).min() >= min_size
        assert len(scattered_labels(labels, adjacency)) == 0

    def test_hemispheres_are_kept_apart(self, method):
        mask = brain((10, 8, 6), holes=0.1)
        x = np.argwhere(mask)[:, 0] - 4.5
        side = hemispheres(x, graph_of(mask), min_size=10)
        adjacency = separate(graph_of(mask), side)
        labels = parcellate(smooth_features(mask), method, [12], adjacency=adjacency, contiguous=True)[12]
        assert all(len(np.unique(side[labels == label])) == 1 for label in range(12))

    def test_unit_weights_change_nothing(self, method):
        mask = brain()
        features, adjacency = smooth_features(mask), graph_of(mask)
        weights = np.ones(mask.sum())
        expected = parcellate(features, method, [9], adjacency=adjacency)[9]
        np.testing.assert_array_equal(
            parcellate(features, method, [9], adjacency=adjacency, weights=weights)[9], expected
        )

    @pytest.mark.parametrize(("weights", "message"), [(np.ones(3), r"\(3,\)"), (np.zeros(4), "above 0")])
    def test_weights_that_are_none_are_refused(self, method, weights, message):
        clusterer = make_clusterer(method, 2, adjacency=graph_of(np.ones((4, 1, 1), dtype=bool)))
        with pytest.raises(UsageError, match=message):
            clusterer.fit(np.random.default_rng(0).normal(size=(3, 4)), weights=weights)

    def test_a_piece_below_the_minimal_size_is_refused(self, method):
        mask = np.array([1, 1, 1, 1, 0, 1, 1], dtype=bool)[:, None, None]
        with pytest.raises(UsageError, match=r"min_size=3 .* 1 of the 2 pieces .* smallest has 2"):
            parcellate(np.ones((2, 6)), method, [2], adjacency=graph_of(mask), contiguous=True, min_size=3)


@pytest.mark.parametrize("method", ["ward", "average", "kmeans", "hierarchical_kmeans", "rena"])
def test_a_weight_counts_like_copies(method):
    """Two groups of voxels with one in between, which goes where the weights draw the means."""
    values = np.array([0.0, 0.2, 1.1, 2.2, 2.4])
    mask = np.ones((5, 1, 1), dtype=bool)
    weights = np.array([1.0, 4.0, 1.0, 1.0, 1.0])
    labels = parcellate(values[None], method, [2], adjacency=graph_of(mask), weights=weights)[2]
    copies = np.repeat(np.arange(5), weights.astype(int))
    copied = parcellate(values[None, copies], method, [2], adjacency=graph_of(np.ones((8, 1, 1), dtype=bool)))[2]
    np.testing.assert_array_equal(labels[copies], copied)


@pytest.mark.parametrize("linkage", ["ward", "average"])
@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=15)
def test_weights_in_a_tree_are_those_of_copies(linkage, seed):
    """Copies are neighbours of each other, so that they are merged first, at height 0."""
    rng = np.random.default_rng(seed)
    features, weights = rng.normal(size=(4, 12)), rng.integers(1, 4, 12)
    copies = np.repeat(np.arange(12), weights)
    ours = Agglomerative(4, linkage=linkage).fit(features, weights=weights)
    copied = Agglomerative(4, linkage=linkage).fit(features[:, copies])
    np.testing.assert_array_equal(ours.labels_[copies], copied.labels_)
    np.testing.assert_allclose(ours.distances_, copied.distances_[-11:])


def test_contiguous_parcels_keep_what_k_means_found_in_one_piece():
    mask = brain((14, 12, 10), holes=0.05)
    features, truth = voronoi(mask, 12, noise=1.5)
    free = KMeans(12).fit(features).labels_
    contiguous = KMeans(12, connectivity=graph_of(mask)).fit(features).labels_
    assert len(scattered_labels(free, graph_of(mask))) > 0
    assert adjusted_rand_score(truth, contiguous) >= adjusted_rand_score(truth, free)


def test_contiguous_clusters_stay_and_are_split_within_themselves():
    mask = np.ones((8, 4, 1), dtype=bool)
    rows = np.random.default_rng(0).normal(size=(32, 3))
    features = FeatureGraph(rows, edges(graph_of(mask)), np.ones(32))
    halves = (np.argwhere(mask)[:, 0] >= 4).astype(np.int32)
    assert adjusted_rand_score(halves, make_contiguous(halves, features, 2)) == 1
    parts = split(halves, features, 6, min_size=1)
    assert len(np.unique(parts)) == 6
    assert all(len(np.unique(halves[parts == part])) == 1 for part in range(6))


def test_fragments_go_to_the_neighbours_that_they_are_like():
    mask = np.ones((9, 1, 1), dtype=bool)
    rows = np.array([0.0, 0, 0, 4, 0.1, 0, 9, 9, 9])[:, None]
    features = FeatureGraph(rows, edges(graph_of(mask)), np.ones(9))
    labels = make_contiguous(np.array([0, 0, 0, 1, 0, 0, 1, 1, 1]), features, 2)
    np.testing.assert_array_equal(labels == labels[0], [1, 1, 1, 1, 1, 1, 0, 0, 0])


def test_larger_parcels_are_split_where_small_ones_are_merged():
    mask = np.ones((8, 1, 1), dtype=bool)
    rows = np.array([0.0, 0, 0, 5, 5, 5, 9, 7])[:, None]
    features = FeatureGraph(rows, edges(graph_of(mask)), np.ones(8))
    labels = make_contiguous(np.array([0, 0, 0, 0, 0, 0, 1, 2]), features, 3, min_size=2)
    np.testing.assert_array_equal(np.bincount(labels)[labels], [3, 3, 3, 3, 3, 3, 2, 2])


def test_sizes_that_no_tree_has_are_an_error_with_numbers():
    """A star: whatever is cut off its centre is a single voxel."""
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[1, 1, :] = mask[1, :, 1] = mask[:, 1, 1] = True
    features = smooth_features(mask)
    for method in METHODS:
        with pytest.raises(DataError, match=r"n_clusters=3 .* min_size=2 .* only 1"):
            parcellate(features, method, [3], adjacency=graph_of(mask), contiguous=True, min_size=2)


def test_a_minimal_size_needs_contiguous_parcels():
    with pytest.raises(UsageError, match="min_size=2 needs contiguous"):
        KMeans(2, min_size=2).fit(np.ones((2, 6)))


@pytest.mark.parametrize("min_size", [0, 2.0, True])
def test_a_minimal_size_that_is_none_is_refused(min_size):
    mask = np.ones((6, 1, 1), dtype=bool)
    with pytest.raises(UsageError, match="min_size"):
        Agglomerative(2, connectivity=graph_of(mask), min_size=min_size).fit(np.ones((2, 6)))


def test_too_many_parcels_of_a_size_are_refused():
    mask = np.ones((6, 1, 1), dtype=bool)
    with pytest.raises(UsageError, match=r"n_clusters=4 .* min_size=2 .* 6"):
        Agglomerative(4, connectivity=graph_of(mask), min_size=2).fit(np.ones((2, 6)))


def test_averages_are_weighted():
    rng = np.random.default_rng(0)
    rows, labels, masses = rng.normal(size=(30, 4)), rng.permutation(30) % 5, rng.uniform(0.5, 2, 30)
    means, totals = average_rows(rows, labels, masses)
    for label in range(5):
        inside = labels == label
        np.testing.assert_allclose(means[label], np.average(rows[inside], axis=0, weights=masses[inside]))
        assert totals[label] == pytest.approx(masses[inside].sum())
