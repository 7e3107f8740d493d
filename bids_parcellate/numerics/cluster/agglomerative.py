"""Agglomerative clustering of features on a graph: Ward, complete and average linkage."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import row_norms
from sklearn.utils.validation import check_is_fitted

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics import graph
from bids_parcellate.numerics.cluster.base import (
    FeatureClusterer,
    FloatArray,
    check_n_clusters,
    check_reachable,
    contiguous_rows,
    feature_edges,
    number_by_first_feature,
)
from bids_parcellate.numerics.cluster.contiguity import FeatureGraph, cut_and_attach, split
from bids_parcellate.numerics.cluster.linkage import linkage_tree
from bids_parcellate.numerics.cluster.tree import cut_tree
from bids_parcellate.numerics.cluster.ward import ward_tree

Linkage = Literal["ward", "complete", "average"]
_BLOCK = 8192  # edges whose distances are computed at once


class Agglomerative(FeatureClusterer):
    """Merge neighbouring features bottom-up and keep the whole tree.

    On a connected graph the tree is that of `sklearn.cluster.AgglomerativeClustering` (Euclidean distance). On a
    graph of several pieces it is a forest: no edge is added, so that every cluster is contiguous.

    Parameters
    ----------
    n_clusters : int, default=2
        Number of clusters.
    linkage : {"ward", "complete", "average"}, default="ward"
        The height of a merge. "ward": the increase of the variance within clusters. "complete" and "average": the
        largest or the mean distance, over those neighbours only that both clusters have in common.
    connectivity : sparse array, shape (n_features, n_features), or None, default=None
        The features that are neighbours: every stored entry is an edge. None makes all of them
        neighbours, which needs memory for all pairs.
    min_size : int, default=1
        The fewest features of a cluster. Only those merges are undone that join two clusters of this size; what is
        smaller and hangs between them goes, feature by feature, to the adjacent cluster with the nearest mean.
        Where the tree has too few such merges, clusters are split along Ward's trees of their own.

    Attributes
    ----------
    labels_ : ndarray of int32, shape (n_features,)
        Cluster of each feature.
    n_clusters_ : int
        Number of clusters.
    children_ : ndarray of int64, shape (n_merges, 2)
        The two nodes that each merge joins, the older first. Nodes below ``n_leaves_`` are features; node
        ``n_leaves_ + i`` is what merge i makes.
    distances_ : ndarray of float64, shape (n_merges,)
        Height of each merge, scaled as in scikit-learn. On a graph, heights need not ascend.
    n_leaves_ : int
        Number of features.
    n_connected_components_ : int
        Number of pieces of the graph: ``n_leaves_ - n_merges``.

    Notes
    -----
    Ward looks at all neighbours of a merged cluster anew, so that time grows faster than linearly where
    one cluster takes up its neighbours one by one, as it does with voxels of very different variances.

    Memory of Ward is a copy of the data, at most ``4 * n_features * n_samples`` bytes for sums, and about 32 bytes an
    edge; of the others about 64 bytes an edge. Ties are broken as in scikit-learn's Ward: the pair whose younger node
    is the older comes first, then the one whose older node is. For complete and average linkage scikit-learn leaves
    ties to the layout of its heap.

    With ``min_size`` above 1 the estimator keeps the data, for other cuts.

    References
    ----------
    .. [1] Ward JH (1963). Hierarchical grouping to optimize an objective function. J Am Stat Assoc 58:236-244.
    .. [2] Müllner D (2011). Modern hierarchical, agglomerative clustering algorithms. arXiv:1109.2378.
    """

    def __init__(
        self,
        n_clusters: int = 2,
        *,
        linkage: Linkage = "ward",
        connectivity: sparse.sparray | None = None,
        min_size: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.linkage = linkage
        self.connectivity = connectivity
        self.min_size = min_size

    def _cluster(self, columns: FloatArray, masses: NDArray[np.float64]) -> NDArray[np.int32]:
        if self.linkage not in get_args(Linkage):
            raise UsageError(f"linkage={self.linkage!r} is none of {', '.join(get_args(Linkage))}.")
        n_leaves = columns.shape[0]
        pairs = feature_edges(self.connectivity, n_leaves)
        self._piece_sizes = np.bincount(graph.connected_pieces(graph.from_edges(pairs, n_leaves))[1])
        check_reachable(self.n_clusters, self._piece_sizes, min_size=self.min_size)
        rows = contiguous_rows(columns)
        if self.linkage == "ward":
            self.children_, heights = ward_tree(rows, pairs, masses)
            self.distances_ = np.sqrt(2.0 * heights)
        else:
            average = self.linkage == "average"
            self.children_, self.distances_ = linkage_tree(_lengths(rows, pairs), pairs, masses, average=average)
        self.n_leaves_ = n_leaves
        self.n_connected_components_ = n_leaves - len(self.children_)
        self._leaves = FeatureGraph(columns, pairs, masses) if self.min_size > 1 else None
        return self.cut(self.n_clusters)

    def cut(self, n_clusters: int) -> NDArray[np.int32]:
        """Cut the fitted tree: undo the last merges until there are so many clusters.

        Parameters
        ----------
        n_clusters : int
            Number of clusters, from the number of pieces of the graph to the number of features.

        Returns
        -------
        ndarray of int32, shape (n_features,)
            Cluster of each feature, numbered in the order of their first features. Cuts are nested, but for the few
            features that a ``min_size`` moves.

        Raises
        ------
        UsageError
            If there is no such cut.
        DataError
            If so many clusters of ``min_size`` were not found.
        """
        check_is_fitted(self, "children_")
        check_n_clusters(n_clusters, n_features=self.n_leaves_)
        check_reachable(n_clusters, self._piece_sizes, min_size=self.min_size)
        sizes = np.ones(self.n_leaves_, dtype=np.int64)
        if self._leaves is None:
            labels = cut_tree(self.children_, sizes, n_clusters)
        else:
            labels = cut_and_attach(self.children_, sizes, self._leaves, n_clusters, min_size=self.min_size)
            labels = split(labels, self._leaves, n_clusters, min_size=self.min_size)
        return number_by_first_feature(labels)


def _lengths(rows: FloatArray, pairs: NDArray[np.int32]) -> NDArray[np.float64]:
    """Measure the edges: Euclidean distance, in the precision of the data as scikit-learn does."""
    lengths = np.empty(len(pairs))
    for start in range(0, len(pairs), _BLOCK):
        larger, smaller = pairs[start : start + _BLOCK].T
        lengths[start : start + _BLOCK] = row_norms(rows[larger] - rows[smaller])
    return lengths
