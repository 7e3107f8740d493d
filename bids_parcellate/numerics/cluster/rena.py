"""Recursive nearest-neighbour agglomeration (ReNA): many merges in every pass, in linear time."""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics import graph
from bids_parcellate.numerics.cluster.base import (
    FeatureClusterer,
    FloatArray,
    check_reachable,
    contiguous_rows,
    feature_edges,
)
from bids_parcellate.numerics.cluster.contiguity import FeatureGraph, average_rows, make_contiguous

_NONE = -1


class ReNA(FeatureClusterer):
    """Merge every cluster with its nearest neighbour, again and again.

    One pass joins each cluster to the neighbour that is nearest (squared Euclidean distance between means; ties go to
    the edge that comes first), so that no cluster outgrows the others. The last pass makes only its
    shortest merges, as many as lead to ``n_clusters``. No edge is added to the graph: clusters are contiguous.

    Parameters
    ----------
    n_clusters : int, default=2
        Number of clusters.
    connectivity : sparse array, shape (n_features, n_features), or None, default=None
        The features that are neighbours: every stored entry is an edge. None makes all of them
        neighbours, which needs memory for all pairs.
    n_iter : int or None, default=None
        Largest number of passes. None allows as many as are needed, at most ``log2(n_features / n_clusters)``
        on a connected graph and one more.
    scaling : bool, default=False
        Whether `transform` multiplies the mean of each cluster by the square root of its size, which keeps
        the Euclidean norm of data that are constant within clusters; `inverse_transform` divides by it.
    min_size : int, default=1
        The fewest features of a cluster: smaller ones are merged and others split (see `make_contiguous`).

    Attributes
    ----------
    labels_ : ndarray of int32, shape (n_features,)
        Cluster of each feature.
    n_clusters_ : int
        Number of clusters.
    n_iter_ : int
        Number of passes made.

    Notes
    -----
    A pass costs O(n_edges * n_samples), and each leaves at most half of the clusters that can still be merged. The mean
    of a cluster is that of its features, whereas nilearn averages the means of the clusters that were joined.

    References
    ----------
    .. [1] Hoyos-Idrobo A, Varoquaux G, Kahn J, Thirion B (2019). Recursive nearest agglomeration (ReNA): fast
       clustering for approximation of structured signals. IEEE Trans Pattern Anal Mach Intell 41:669-681.
       doi:10.1109/TPAMI.2018.2815524
    """

    def __init__(
        self,
        n_clusters: int = 2,
        *,
        connectivity: sparse.sparray | None = None,
        n_iter: int | None = None,
        scaling: bool = False,
        min_size: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.connectivity = connectivity
        self.n_iter = n_iter
        self.scaling = scaling
        self.min_size = min_size

    def _cluster(self, columns: FloatArray, masses: NDArray[np.float64]) -> NDArray[np.int32]:
        pairs = feature_edges(self.connectivity, len(columns))
        piece_sizes = np.bincount(_join(pairs, len(columns))[1])
        check_reachable(self.n_clusters, piece_sizes, min_size=self.min_size)
        features = FeatureGraph(contiguous_rows(columns), pairs, masses)
        labels = self._merge(features)
        if self.min_size > 1:
            labels = make_contiguous(labels, features, self.n_clusters, min_size=self.min_size)
        return labels

    def _merge(self, features: FeatureGraph) -> NDArray[np.int32]:
        """Make passes until so many clusters are left."""
        means, pairs, sizes = features
        n_left = len(means)
        labels = np.arange(n_left, dtype=np.int32)
        self.n_iter_ = 0
        while n_left > self.n_clusters:
            if self.n_iter is not None and self.n_iter_ >= self.n_iter:
                raise UsageError(
                    f"After n_iter={self.n_iter} passes ReNA has {n_left} clusters, not n_clusters={self.n_clusters}.",
                    hint="Allow more passes; n_iter=None allows as many as are needed.",
                )
            n_left, joined = _join(_shortest_merges(means, pairs, n_left - self.n_clusters), n_left)
            labels = joined[labels]
            pairs = graph.edges(graph.from_edges(joined[pairs], n_left))
            means, sizes = average_rows(means, joined, sizes)
            self.n_iter_ += 1
        return labels

    def _scale(self) -> NDArray[np.float64]:
        return np.sqrt(self._sizes()) if self.scaling else super()._scale()


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


@njit(cache=True, nogil=True)
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
