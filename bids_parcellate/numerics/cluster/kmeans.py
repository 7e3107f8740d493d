"""K-means clustering of features, made contiguous where asked."""

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn import cluster as sklearn_cluster
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from threadpoolctl import threadpool_limits

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics import graph
from bids_parcellate.numerics.cluster.base import (
    FeatureClusterer,
    FloatArray,
    check_reachable,
    contiguous_rows,
    feature_edges,
)
from bids_parcellate.numerics.cluster.contiguity import FeatureGraph, make_contiguous

_SAMPLE = 25  # features of the sample, for each cluster
_MIN_SAMPLE = 10_000  # of fewer features than twice this, all are the sample
_STEPS = 10


class KMeans(FeatureClusterer):
    """K-means (Lloyd, k-means++) of the features, with exactly ``n_clusters`` clusters or an error.

    Clusters are not spatial, a parcel may lie in several places, unless a graph is given: then its connected
    pieces are merged by Ward's criterion until ``n_clusters`` contiguous clusters are left (see `make_contiguous`).

    Parameters
    ----------
    n_clusters : int, default=2
        Number of clusters.
    random_state : int, RandomState or None, default=0
        Seed of the initial means. An int makes the result reproducible.
    n_init : int, default=1
        Number of starts, of which the one with the lowest inertia is kept.
    connectivity : sparse array, shape (n_features, n_features), or None, default=None
        The features that are neighbours, for contiguous clusters: every stored entry is an edge.
    min_size : int, default=1
        The fewest features of a cluster; above 1 it needs the graph.

    Attributes
    ----------
    labels_ : ndarray of int32, shape (n_features,)
        Cluster of each feature.
    n_clusters_ : int
        Number of clusters.

    Notes
    -----
    Up to twice 10,000 features, or twice 25 a cluster, it is `sklearn.cluster.KMeans`. Of more, the initial means are
    those of a sample of 10,000, or 25 a cluster, and at most 10 steps with all features follow. That costs about as
    much as `sklearn.cluster.MiniBatchKMeans` and ends at a lower inertia, within 3 % of that of k-means++ and all
    steps on all features. A step costs O(n_features * n_samples * n_clusters). It runs in one thread: the last bits of
    scikit-learn's means, and so labels, depend on the number of threads, and k-means++ makes so many small products
    that threads of BLAS which wait for each other can cost many times what they save.
    """

    def __init__(
        self,
        n_clusters: int = 2,
        *,
        random_state: int | np.random.RandomState | None = 0,
        n_init: int = 1,
        connectivity: sparse.sparray | None = None,
        min_size: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.random_state = random_state
        self.n_init = n_init
        self.connectivity = connectivity
        self.min_size = min_size

    def _cluster(self, columns: FloatArray, masses: NDArray[np.float64]) -> NDArray[np.int32]:
        rows = contiguous_rows(columns)
        space = check_space(self.connectivity, rows, masses, n_clusters=self.n_clusters, min_size=self.min_size)
        random_state = check_random_state(self.random_state)
        labels = k_means(rows, masses, self.n_clusters, random_state=random_state, n_init=self.n_init)
        return labels if space is None else make_contiguous(labels, space, self.n_clusters, min_size=self.min_size)


def check_space(
    connectivity: sparse.sparray | None,
    rows: FloatArray,
    masses: NDArray[np.float64],
    *,
    n_clusters: int,
    min_size: int,
) -> FeatureGraph | None:
    """Put together what contiguous clusters are made of, before the work starts.

    Parameters
    ----------
    connectivity : sparse array, shape (n_features, n_features), or None
        The graph, or None if clusters need not be contiguous.
    rows : ndarray of float32 or float64, shape (n_features, n_samples)
        The features.
    masses : ndarray of float64, shape (n_features,)
        How much each feature counts.
    n_clusters : int
        Number of clusters.
    min_size : int
        The fewest features of a cluster.

    Returns
    -------
    FeatureGraph or None
        The features with their graph.

    Raises
    ------
    UsageError
        If the graph cannot have such clusters, or there is a ``min_size`` but no graph.
    """
    if connectivity is None:
        if min_size != 1:
            raise UsageError(f"min_size={min_size} needs contiguous clusters.", hint="Ask for contiguous parcels, too.")
        return None
    pairs = feature_edges(connectivity, len(rows))
    piece_sizes = np.bincount(graph.connected_pieces(graph.from_edges(pairs, len(rows)))[1])
    check_reachable(n_clusters, piece_sizes, min_size=min_size)
    return FeatureGraph(rows, pairs, masses)


def k_means(
    rows: FloatArray,
    masses: NDArray[np.float64],
    n_clusters: int,
    *,
    random_state: np.random.RandomState,
    n_init: int = 1,
) -> NDArray[np.int32]:
    """Cluster rows with k-means; no cluster is empty.

    Parameters
    ----------
    rows : ndarray of float32 or float64, shape (n_rows, n_samples)
        The points, C-contiguous.
    masses : ndarray of float64, shape (n_rows,)
        How much each point counts.
    n_clusters : int
        Number of clusters, at most ``n_rows``.
    random_state : RandomState
        Source of the initial means.
    n_init : int, default=1
        Number of starts.

    Returns
    -------
    ndarray of int32, shape (n_rows,)
        Cluster of each row, 0 to ``n_clusters - 1``.

    Raises
    ------
    DataError
        If there are fewer distinct rows than clusters.
    """
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        # Warns of clusters that are lost to identical rows; what can be done about them is done below.
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        estimator = sklearn_cluster.KMeans(n_clusters, n_init=n_init, random_state=random_state)
        n_sampled = max(_SAMPLE * n_clusters, _MIN_SAMPLE)
        if len(rows) > 2 * n_sampled:
            chosen = random_state.choice(len(rows), n_sampled, replace=False)
            estimator.set_params(max_iter=_STEPS).fit(rows[chosen], sample_weight=masses[chosen])
            estimator.set_params(init=estimator.cluster_centers_, n_init=1)
        labels = estimator.fit_predict(rows, sample_weight=masses)
    return _fill_empty_clusters(rows, labels, n_clusters)


def _fill_empty_clusters(rows: FloatArray, found: NDArray[np.int32], n_clusters: int) -> NDArray[np.int32]:
    """Give each empty cluster the row (and its copies) farthest from the first row of the cluster that it is in."""
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    labels = inverse.astype(np.int32)
    for empty in range(first.size, n_clusters):
        distances = np.square(rows - rows[first[labels]]).sum(axis=1)
        farthest = int(distances.argmax())
        if distances[farthest] == 0:
            raise DataError(
                f"n_clusters={n_clusters} is larger than the number of distinct features, {empty}.",
                hint="Ask for fewer clusters (parcels), or leave constant and duplicate voxels out of the mask.",
            )
        labels[(rows == rows[farthest]).all(axis=1)] = empty
        first = np.append(first, farthest)
    return labels
