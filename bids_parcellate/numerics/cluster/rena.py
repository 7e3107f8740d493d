"""Recursive nearest-neighbour agglomeration (ReNA): many merges in every pass, in linear time."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics import graph
from bids_parcellate.numerics.cluster.base import (
    FloatArray,
    check_reachable,
    contiguous_rows,
    feature_edges,
)
from bids_parcellate.numerics.cluster.contiguity import FeatureGraph, average_rows, make_contiguous
from bids_parcellate.numerics.kernels import kernel

_NONE = -1


def merge_nearest(
    columns: FloatArray,
    masses: NDArray[np.float64],
    n_clusters: int,
    *,
    connectivity: sparse.sparray | None,
    n_iter: int | None = None,
    min_size: int = 1,
) -> tuple[NDArray[np.int32], int]:
    """Merge every cluster with its nearest neighbour, until so many are left.

    Parameters
    ----------
    columns : ndarray of float32 or float64, shape (n_features, n_samples)
        The features, often the view ``X.T``.
    masses : ndarray of float64, shape (n_features,)
        How much each feature counts.
    n_clusters : int
        Number of clusters.
    connectivity : sparse array, shape (n_features, n_features), or None
        The features that are neighbours; None makes all of them neighbours.
    n_iter : int or None, default=None
        Largest number of passes; None for as many as are needed.
    min_size : int, default=1
        The fewest features of a cluster.

    Returns
    -------
    labels : ndarray of int32, shape (n_features,)
        Cluster of each feature.
    n_passes : int
        Number of passes made.

    Raises
    ------
    UsageError
        If the graph cannot have such clusters, or the passes are too few.
    """
    pairs = feature_edges(connectivity, len(columns))
    check_reachable(n_clusters, np.bincount(_join(pairs, len(columns))[1]), min_size=min_size)
    features = FeatureGraph(contiguous_rows(columns), pairs, masses)
    labels, n_passes = _merge(features, n_clusters, n_iter)
    if min_size > 1:
        labels = make_contiguous(labels, features, n_clusters, min_size=min_size)
    return labels, n_passes


def _merge(features: FeatureGraph, n_clusters: int, n_iter: int | None) -> tuple[NDArray[np.int32], int]:
    """Make passes until so many clusters are left."""
    means, pairs, sizes = features
    n_left = len(means)
    labels = np.arange(n_left, dtype=np.int32)
    n_passes = 0
    while n_left > n_clusters:
        if n_iter is not None and n_passes >= n_iter:
            raise UsageError(
                f"After n_iter={n_iter} passes ReNA has {n_left} clusters, not n_clusters={n_clusters}.",
                hint="Allow more passes; n_iter=None allows as many as are needed.",
            )
        n_left, joined = _join(_shortest_merges(means, pairs, n_left - n_clusters), n_left)
        labels = joined[labels]
        pairs = graph.edges(graph.from_edges(joined[pairs], n_left))
        means, sizes = average_rows(means, joined, sizes)
        n_passes += 1
    return labels, n_passes


def _shortest_merges(means: FloatArray, pairs: NDArray[np.int32], n_most: int) -> NDArray[np.int32]:
    """Return the edges from clusters to their nearest neighbours: all, or the shortest if there are more than n_most.

    Every edge makes one cluster less: with ties in a fixed order, nearest neighbours form no cycle.
    """
    lengths, nearest = _measure_edges(means, pairs)
    is_nearest = np.zeros(len(pairs), dtype=bool)
    is_nearest[nearest[nearest != _NONE]] = True
    chosen = np.flatnonzero(is_nearest)
    by_length: NDArray[np.intp] = chosen[np.argsort(lengths[chosen], kind="stable")]
    return pairs[by_length[:n_most]]


@kernel()
def _measure_edges(means: FloatArray, pairs: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the squared length of each edge, and the edge from each cluster to its nearest neighbour."""
    lengths = np.empty(len(pairs))
    nearest = np.full(len(means), _NONE)
    for edge in range(len(pairs)):
        length = 0.0
        for sample in range(means.shape[1]):
            gap = means[pairs[edge, 0], sample] - means[pairs[edge, 1], sample]
            length += gap * gap
        lengths[edge] = length
        for end in pairs[edge]:
            if nearest[end] == _NONE or length < lengths[nearest[end]]:
                nearest[end] = edge
    return lengths, nearest


def _join(pairs: NDArray[np.int32], n_clusters: int) -> tuple[int, NDArray[np.int32]]:
    """Join the clusters along edges: return the number of those that result, and to which each goes."""
    return graph.connected_pieces(graph.from_edges(pairs, n_clusters))
