"""K-means clustering of features, made contiguous where asked."""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics import graph
from bids_parcellate.numerics.cluster.base import (
    FloatArray,
    check_reachable,
    contiguous_rows,
    feature_edges,
)
from bids_parcellate.numerics.cluster.contiguity import FeatureGraph, make_contiguous

_SAMPLE = 25  # features of the sample, for each cluster
_MIN_SAMPLE = 10_000  # of fewer features than twice this, all are the sample
_STEPS = 10


FindClusters = Callable[[FloatArray, NDArray[np.float64], int], NDArray[np.int32]]


def partition(
    find: FindClusters,
    columns: FloatArray,
    masses: NDArray[np.float64],
    n_clusters: int,
    *,
    connectivity: sparse.sparray | None,
    min_size: int = 1,
) -> NDArray[np.int32]:
    """Cluster features with a method that knows no graph, and make the clusters contiguous if there is one.

    Parameters
    ----------
    find : callable
        Takes rows, their masses and a number of clusters, and gives the cluster of each row, as `k_means` does.
    columns : ndarray of float32 or float64, shape (n_features, n_samples)
        The features, often the view ``X.T``.
    masses : ndarray of float64, shape (n_features,)
        How much each feature counts.
    n_clusters : int
        Number of clusters.
    connectivity : sparse array, shape (n_features, n_features), or None
        The graph, or None if clusters need not be contiguous.
    min_size : int, default=1
        The fewest features of a cluster.

    Returns
    -------
    ndarray of int32, shape (n_features,)
        Cluster of each feature.

    Raises
    ------
    UsageError
        If the graph cannot have such clusters, or there is a ``min_size`` but no graph.
    DataError
        If there are fewer distinct features than clusters.
    """
    rows = contiguous_rows(columns)
    space = _check_space(connectivity, rows, masses, n_clusters=n_clusters, min_size=min_size)
    labels = find(rows, masses, n_clusters)
    return labels if space is None else make_contiguous(labels, space, n_clusters, min_size=min_size)


def _check_space(
    connectivity: sparse.sparray | None,
    rows: FloatArray,
    masses: NDArray[np.float64],
    *,
    n_clusters: int,
    min_size: int,
) -> FeatureGraph | None:
    """Put together what contiguous clusters are made of, before the work starts."""
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
    # Half of the time and memory that it takes to load this package: only where it is needed.
    from sklearn import cluster as sklearn_cluster  # noqa: PLC0415
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

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
