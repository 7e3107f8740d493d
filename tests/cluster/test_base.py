"""What all six methods have in common."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.regions.hierarchical_kmeans_clustering import HierarchicalKMeans as NilearnHierarchicalKMeans
from scipy import sparse
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from bids_parcellate import config
from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.cluster import METHODS, parcellate
from bids_parcellate.numerics.cluster.estimators import (
    Agglomerative,
    HierarchicalKMeans,
    KMeans,
    ReNA,
    make_clusterer,
)
from bids_parcellate.numerics.graph import connected_pieces, scattered_labels
from tests.cluster.simulation import brain, graph_of, smooth_features, voronoi

SPATIAL = ("ward", "complete", "average", "rena")


@parametrize_with_checks(
    [
        Agglomerative(),
        Agglomerative(linkage="complete"),
        Agglomerative(linkage="average"),
        KMeans(),
        HierarchicalKMeans(),
        ReNA(),
    ]
)
def test_scikit_learn_accepts_the_estimators(estimator, check):
    check(estimator)


@pytest.mark.parametrize("method", METHODS)
class TestEveryMethod:
    def test_exactly_as_many_parcels_as_asked(self, method):
        mask = brain((4, 4, 3), holes=0)
        features = smooth_features(mask)
        found = parcellate(features, method, range(1, mask.sum() + 1), adjacency=graph_of(mask))
        for n_parcels, labels in found.items():
            np.testing.assert_array_equal(np.unique(labels), np.arange(n_parcels))
            assert labels.dtype == np.int32

    def test_more_parcels_than_samples(self, method):
        mask = brain((12, 12, 6), holes=0.1)
        features = smooth_features(mask, n_samples=10)
        labels = parcellate(features, method, [300], adjacency=graph_of(mask))[300]
        assert len(np.unique(labels)) == 300

    def test_labels_are_numbered_by_their_first_voxel(self, method):
        mask = brain()
        labels = parcellate(smooth_features(mask), method, [15], adjacency=graph_of(mask))[15]
        _, first = np.unique(labels, return_index=True)
        assert list(first) == sorted(first)

    def test_known_parcels_are_found(self, method):
        mask = brain((14, 12, 10), holes=0.05)
        features, truth = voronoi(mask, 12, noise=0.4)
        labels = parcellate(features, method, [12], adjacency=graph_of(mask))[12]
        assert adjusted_rand_score(truth, labels) > (0.75 if "kmeans" in method else 0.95)

    def test_the_same_input_gives_the_same_labels(self, method):
        mask = brain()
        features = smooth_features(mask)
        first, second = (parcellate(features, method, [20], adjacency=graph_of(mask))[20] for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_transform_is_the_mean_and_its_inverse_paints_it_back(self, method):
        mask = brain()
        features = smooth_features(mask)
        clusterer = make_clusterer(method, 10, adjacency=graph_of(mask)).fit(features)
        means = clusterer.transform(features)
        expected = [features[:, clusterer.labels_ == label].mean(axis=1) for label in range(10)]
        np.testing.assert_allclose(means, np.transpose(expected))
        np.testing.assert_allclose(clusterer.inverse_transform(means), means[:, clusterer.labels_])

    def test_more_parcels_than_voxels_are_refused(self, method):
        mask = brain((3, 3, 3), holes=0)
        with pytest.raises(UsageError, match=r"28.*27"):
            parcellate(smooth_features(mask), method, [28], adjacency=graph_of(mask))

    def test_single_precision_gives_nearly_the_same(self, method):
        mask = brain((10, 10, 8))
        features, _ = voronoi(mask, 8, noise=0.3)
        double = parcellate(features, method, [8], adjacency=graph_of(mask))[8]
        single = parcellate(features.astype(np.float32), method, [8], adjacency=graph_of(mask))[8]
        assert adjusted_rand_score(double, single) > 0.98

    def test_clone_and_refit(self, method):
        mask = brain()
        features = smooth_features(mask)
        clusterer = make_clusterer(method, 7, adjacency=graph_of(mask)).fit(features)
        np.testing.assert_array_equal(clone(clusterer).fit(features).labels_, clusterer.labels_)


@pytest.mark.parametrize("method", SPATIAL)
class TestSpatialMethods:
    @given(st.integers(0, 10**6), st.floats(0, 0.6), st.integers(1, 40))
    @settings(deadline=None, max_examples=25)
    def test_parcels_are_contiguous_and_exact_on_any_mask(self, method, seed, holes, n_more):
        mask = brain((6, 5, 4), holes=holes, pieces=0 if seed % 2 else 1, seed=seed) if seed % 2 == 0 else None
        mask = np.random.default_rng(seed).random((6, 5, 4)) > holes if mask is None else mask
        if not mask.any():
            return
        adjacency = graph_of(mask)
        n_pieces, _ = connected_pieces(adjacency)
        n_parcels = min(n_pieces + n_more, mask.sum())
        labels = parcellate(smooth_features(mask, seed=seed), method, [n_parcels], adjacency=adjacency)[n_parcels]
        assert len(np.unique(labels)) == n_parcels
        assert len(scattered_labels(labels, adjacency)) == 0

    def test_fewer_parcels_than_pieces_are_refused(self, method):
        mask = brain((9, 5, 5), holes=0, pieces=3)
        adjacency = graph_of(mask)
        n_pieces, _ = connected_pieces(adjacency)
        assert n_pieces > 2
        with pytest.raises(UsageError, match=rf"2.*{n_pieces}|{n_pieces}.*2"):
            parcellate(smooth_features(mask), method, [2], adjacency=adjacency)

    def test_duplicate_voxels_are_merged_first(self, method):
        """nilearn's ReNA drops zero distances out of its sparse graph, so twins are never merged first."""
        mask = np.ones((12, 1, 1), dtype=bool)
        features = np.random.default_rng(0).normal(size=(5, 12))
        features[:, 1::2] = features[:, ::2]
        labels = parcellate(features, method, [6], adjacency=graph_of(mask))[6]
        np.testing.assert_array_equal(labels, np.repeat(np.arange(6), 2))


@pytest.mark.parametrize("method", ["kmeans", "hierarchical_kmeans"])
def test_fewer_distinct_voxels_than_parcels_are_refused(method):
    features = np.repeat(np.random.default_rng(0).normal(size=(5, 4)), 5, axis=1)
    with pytest.raises(DataError, match=r"5.*4"):
        parcellate(features, method, [5], adjacency=graph_of(np.ones((20, 1, 1), dtype=bool)))


def test_an_unknown_method_is_refused():
    with pytest.raises(UsageError, match=r"'magic'.*ward"):
        parcellate(np.ones((2, 3)), "magic", [1], adjacency=graph_of(np.ones((3, 1, 1), dtype=bool)))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hierarchical_kmeans_is_not_capped_by_the_number_of_components():
    """nilearn's caps the number of parcels at the number of samples, which is that of the group's components."""
    features = np.random.default_rng(0).normal(size=(20, 400)).astype(np.float32)
    theirs = NilearnHierarchicalKMeans(50, random_state=0).fit(features).labels_
    assert len(np.unique(theirs)) <= 20
    assert len(np.unique(HierarchicalKMeans(50).fit(features).labels_)) == 50


def test_the_methods_are_those_that_can_be_configured():
    assert set(METHODS) == set(config.METHODS)


@pytest.mark.parametrize("estimator", [Agglomerative(4), ReNA(4)])
class TestConnectivity:
    @pytest.mark.parametrize(
        "given",
        [
            sparse.coo_array,
            lambda upper: (upper + upper.T).toarray(),
            lambda upper: sparse.csr_matrix(upper + upper.T + sparse.eye_array(upper.shape[0])),
            lambda upper: sparse.csr_array((np.zeros(upper.nnz), upper.indices, upper.indptr), shape=upper.shape),
        ],
        ids=["one triangle", "dense", "diagonal", "explicit zeros"],
    )
    def test_every_entry_is_an_edge_however_it_is_given(self, estimator, given):
        mask = brain()
        features, adjacency = smooth_features(mask), graph_of(mask)
        expected = clone(estimator).set_params(connectivity=adjacency).fit(features).labels_
        upper = sparse.triu(adjacency, format="csr")
        labels = clone(estimator).set_params(connectivity=given(upper)).fit(features).labels_
        np.testing.assert_array_equal(labels, expected)

    def test_the_graph_of_another_mask_is_refused(self, estimator):
        adjacency = graph_of(np.ones((3, 3, 3), dtype=bool))
        with pytest.raises(UsageError, match=r"\(27, 27\), but X has n_features=26"):
            clone(estimator).set_params(connectivity=adjacency).fit(np.ones((2, 26)))


@pytest.mark.parametrize("n_clusters", [0, -1, 2.0, True, "2"])
def test_a_number_of_clusters_that_is_none_is_refused(n_clusters):
    with pytest.raises(UsageError, match=r"n_clusters=.* is not an integer"):
        KMeans(n_clusters).fit(np.ones((2, 4)))


def test_inverse_transform_of_another_number_of_clusters_is_refused():
    clusterer = KMeans(3).fit(np.random.default_rng(0).normal(size=(4, 9)))
    with pytest.raises(UsageError, match="2 columns, but there are 3 clusters"):
        clusterer.inverse_transform(np.ones((4, 2)))
