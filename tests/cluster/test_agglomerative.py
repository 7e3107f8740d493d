"""Against scikit-learn, and against a plain reference on forests."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.cluster.estimators import Agglomerative
from bids_parcellate.numerics.graph import connected_pieces, edges, voxel_adjacency
from tests.cluster.simulation import brain, graph_of, smooth_features

LINKAGES = ("ward", "complete", "average")


def sklearn_labels(features, linkage, n_clusters, adjacency):
    model = AgglomerativeClustering(n_clusters=n_clusters, linkage=linkage, connectivity=adjacency)
    return model.fit(features.T).labels_


@pytest.mark.parametrize("linkage", LINKAGES)
class TestAgainstScikitLearn:
    @given(st.integers(0, 10**6), st.sampled_from([np.float32, np.float64]))
    @settings(deadline=None, max_examples=6)
    def test_every_cut_is_the_same_on_a_connected_graph(self, linkage, seed, dtype):
        mask = brain((5, 5, 4), holes=0.25, seed=seed)
        features, adjacency = smooth_features(mask, 12, seed=seed, dtype=dtype), graph_of(mask)
        tree = Agglomerative(2, linkage=linkage, connectivity=adjacency).fit(features)
        for n_clusters in (1, 2, 5, 20, mask.sum() // 2):
            expected = sklearn_labels(features, linkage, n_clusters, adjacency)
            assert adjusted_rand_score(expected, tree.cut(n_clusters)) == 1

    def test_a_larger_mask(self, linkage):
        mask = brain((15, 14, 12))
        features, adjacency = smooth_features(mask, 30, dtype=np.float32), graph_of(mask)
        tree = Agglomerative(2, linkage=linkage, connectivity=adjacency).fit(features)
        for n_clusters in (10, 100, 500):
            expected = sklearn_labels(features, linkage, n_clusters, adjacency)
            assert adjusted_rand_score(expected, tree.cut(n_clusters)) == 1

    def test_heights_are_the_same(self, linkage):
        mask = brain((6, 7, 5))
        features, adjacency = smooth_features(mask), graph_of(mask)
        ours = Agglomerative(2, linkage=linkage, connectivity=adjacency).fit(features)
        theirs = AgglomerativeClustering(2, linkage=linkage, connectivity=adjacency, compute_distances=True)
        np.testing.assert_allclose(ours.distances_, theirs.fit(features.T).distances_, rtol=1e-6)

    def test_without_a_graph(self, linkage):
        features = np.random.default_rng(0).normal(size=(6, 40))
        ours = Agglomerative(5, linkage=linkage).fit(features).labels_
        theirs = AgglomerativeClustering(5, linkage=linkage).fit(features.T).labels_
        assert adjusted_rand_score(theirs, ours) == 1


@pytest.mark.parametrize("linkage", LINKAGES)
def test_cuts_are_nested(linkage):
    mask = brain()
    tree = Agglomerative(2, linkage=linkage, connectivity=graph_of(mask)).fit(smooth_features(mask))
    finest = tree.cut(100)
    for n_clusters in (50, 10, 1):
        pairs = set(zip(finest, tree.cut(n_clusters), strict=True))
        assert len(pairs) == 100


@pytest.mark.parametrize("linkage", LINKAGES)
def test_a_forest_is_the_trees_of_its_pieces(linkage):
    """scikit-learn joins the pieces of a graph in silence, so that one label can lie in two of them."""
    mask = brain((9, 6, 5), holes=0, pieces=3)
    features, adjacency = smooth_features(mask), graph_of(mask)
    n_pieces, piece = connected_pieces(adjacency)
    tree = Agglomerative(n_pieces, linkage=linkage, connectivity=adjacency).fit(features)
    assert tree.n_connected_components_ == n_pieces
    assert adjusted_rand_score(piece, tree.cut(n_pieces)) == 1
    labels = tree.cut(25)
    for number in range(n_pieces):
        inside = piece == number
        budget = len(np.unique(labels[inside]))
        rows = np.flatnonzero(inside)
        expected = sklearn_labels(features[:, inside], linkage, budget, adjacency[rows][:, rows])
        assert adjusted_rand_score(expected, labels[inside]) == 1


@pytest.mark.filterwarnings("ignore:the number of connected components:UserWarning")
def test_scikit_learn_s_own_labels_cross_the_pieces():
    mask = brain((9, 6, 5), holes=0, pieces=3)
    features, adjacency = smooth_features(mask), graph_of(mask)
    _, piece = connected_pieces(adjacency)
    labels = sklearn_labels(features, "ward", 2, adjacency)
    assert max(len(np.unique(piece[labels == label])) for label in range(2)) > 1


def test_ties_are_broken_in_the_same_way_each_time():
    mask = np.ones((8, 8, 1), dtype=bool)
    features = np.zeros((3, 64))
    first, second = (Agglomerative(9, connectivity=graph_of(mask)).fit(features).labels_ for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first)) == 9


def plain_tree(features, pairs, linkage):
    """Merge the pair of the smallest (height, younger node, older node), looked for among all, until none is left."""
    n_leaves = features.shape[1]
    members = {leaf: [leaf] for leaf in range(n_leaves)}
    heights = {(i, j): np.linalg.norm(features[:, i] - features[:, j]) for i, j in pairs.tolist()}
    children = []
    while heights:
        younger, older = min(heights, key=lambda pair: (heights[pair], *pair))
        merged = n_leaves + len(children)
        children.append((older, younger))
        around = {node: {} for node in (younger, older)}
        for pair in [pair for pair in heights if younger in pair or older in pair]:
            mine, other = pair if pair[0] in around else pair[::-1]
            around[mine][other] = heights.pop(pair)
        for other in (around[younger].keys() | around[older].keys()) - {younger, older}:
            both = [(around[node][other], len(members[node])) for node in (younger, older) if other in around[node]]
            if len(both) == 1 or linkage == "complete":
                heights[merged, other] = max(height for height, _ in both)
            else:
                heights[merged, other] = sum(size * height for height, size in both) / sum(size for _, size in both)
        members[merged] = members.pop(younger) + members.pop(older)
    return np.array(children)


@pytest.mark.parametrize("linkage", ["complete", "average"])
@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=15)
def test_the_tree_is_that_of_a_plain_reference_with_ties_and_islands(linkage, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((5, 4, 3)) > 0.3
    features = rng.integers(0, 3, size=(2, mask.sum())).astype(float)
    adjacency = graph_of(mask)
    tree = Agglomerative(mask.sum(), linkage=linkage, connectivity=adjacency).fit(features)
    np.testing.assert_array_equal(tree.children_, plain_tree(features, edges(adjacency), linkage))


@given(st.integers(0, 10**6), st.sampled_from([np.float32, np.float64, np.int64]))
@settings(deadline=None, max_examples=15)
def test_ward_s_tree_is_that_of_scikit_learn_to_the_last_bit(seed, dtype):
    """Also with ties: the features that are integers have many, and whole regions of duplicate voxels."""
    mask = brain((6, 5, 5), seed=seed)
    rng = np.random.default_rng(seed)
    features = (rng.integers(0, 2, (3, mask.sum())) if dtype == np.int64 else rng.normal(size=(9, mask.sum()))).astype(
        dtype
    )
    ours = Agglomerative(2, connectivity=graph_of(mask)).fit(features)
    theirs = AgglomerativeClustering(2, connectivity=graph_of(mask), compute_distances=True).fit(features.T)
    np.testing.assert_array_equal(ours.children_, theirs.children_)
    np.testing.assert_array_equal(ours.distances_, theirs.distances_)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_ward_s_tree_of_weighted_features_is_that_of_a_plain_reference(seed):
    """On a sparse tree of features, where heavy clusters lose their last neighbour and inherit those of light ones."""
    rng = np.random.default_rng(seed)
    pairs = np.array([(feature, rng.integers(max(0, feature - 3), feature)) for feature in range(1, 15)])
    adjacency = sparse.coo_array((np.ones(14), pairs.T), shape=(15, 15))
    features, weights = rng.normal(size=(2, 15)), rng.choice([1.0, 2.0, 50.0], size=15)
    ours = Agglomerative(1, connectivity=adjacency).fit(features, weights=weights)

    means, masses = [*features.T], [*weights]
    edges_left, children, heights = {tuple(pair) for pair in pairs.tolist()}, [], []
    while edges_left:
        costs = {
            (i, j): masses[i] * masses[j] / (masses[i] + masses[j]) * np.sum((means[i] - means[j]) ** 2)
            for i, j in edges_left
        }
        first, second = min(costs, key=costs.get)
        children.append(sorted((first, second)))
        heights.append(np.sqrt(2 * costs[first, second]))
        mass = masses[first] + masses[second]
        means.append((masses[first] * means[first] + masses[second] * means[second]) / mass)
        masses.append(mass)
        renamed = {first: len(means) - 1, second: len(means) - 1}
        moved = [(renamed.get(i, i), renamed.get(j, j)) for i, j in edges_left]
        edges_left = {pair for pair in moved if pair[0] != pair[1]}
    np.testing.assert_array_equal(ours.children_, children)
    np.testing.assert_allclose(ours.distances_, heights)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1, 0), (1e-3, 1e4), (1e-3, -1e4), (1e25, 0), (1e-25, 0)],
    ids=["plain", "offset", "below zero", "huge", "tiny"],
)
def test_bounds_hold_whatever_the_scale(dtype, scale, offset):
    """Ward's bounds are computed in the precision of the data, where these overflow, vanish or lose all digits."""
    mask = brain((9, 8, 7))
    features = (scale * smooth_features(mask, 25) + offset).astype(dtype)
    ours = Agglomerative(2, connectivity=graph_of(mask)).fit(features)
    theirs = AgglomerativeClustering(2, connectivity=graph_of(mask), compute_distances=True).fit(features.T)
    np.testing.assert_array_equal(ours.children_, theirs.children_)
    np.testing.assert_array_equal(ours.distances_, theirs.distances_)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_no_graph_edge_at_all(linkage):
    adjacency = voxel_adjacency(np.eye(4, dtype=bool)[..., None])
    tree = Agglomerative(4, linkage=linkage, connectivity=adjacency).fit(np.ones((2, 4)))
    assert len(tree.children_) == len(tree.distances_) == 0
    np.testing.assert_array_equal(tree.labels_, np.arange(4))


def test_cuts_that_do_not_exist_are_refused():
    adjacency = voxel_adjacency(np.array([1, 1, 0, 1, 1], dtype=bool)[:, None, None])
    tree = Agglomerative(3, connectivity=adjacency).fit(np.random.default_rng(0).normal(size=(2, 4)))
    for n_clusters, message in [(1, "smaller than the 2 pieces"), (5, "larger than n_features=4"), (2.0, "integer")]:
        with pytest.raises(UsageError, match=message):
            tree.cut(n_clusters)


def test_an_unknown_linkage_is_refused():
    with pytest.raises(UsageError, match="'single' is none of ward, complete, average"):
        Agglomerative(2, linkage="single").fit(np.ones((2, 4)))
