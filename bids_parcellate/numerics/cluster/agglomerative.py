"""Agglomerative clustering of features on a graph: Ward, complete and average linkage."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics import graph
from bids_parcellate.numerics.cluster.base import (
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


@dataclass(frozen=True)
class Tree:
    """All merges of features, of which every clustering is a cut.

    Attributes
    ----------
    children : ndarray of int64, shape (n_merges, 2)
        The two nodes that each merge joins, the older first. Nodes below the number of features are features; those
        that merges make follow.
    distances : ndarray of float64, shape (n_merges,)
        Height of each merge, scaled as in scikit-learn.
    piece_sizes : ndarray of int, shape (n_pieces,)
        Number of features in each piece of the graph.
    min_size : int
        The fewest features of a cluster.
    leaves : FeatureGraph or None
        The features, where ``min_size`` is above 1.
    """

    children: NDArray[np.int64]
    distances: NDArray[np.float64]
    piece_sizes: NDArray[np.integer]
    min_size: int
    leaves: FeatureGraph | None

    def cut(self, n_clusters: int) -> NDArray[np.int32]:
        """Undo the last merges until there are so many clusters.

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
        n_features = int(self.piece_sizes.sum())
        check_n_clusters(n_clusters, n_features=n_features)
        check_reachable(n_clusters, self.piece_sizes, min_size=self.min_size)
        sizes = np.ones(n_features, dtype=np.int64)
        if self.leaves is None:
            labels = cut_tree(self.children, sizes, n_clusters)
        else:
            labels = cut_and_attach(self.children, sizes, self.leaves, n_clusters, min_size=self.min_size)
            labels = split(labels, self.leaves, n_clusters, min_size=self.min_size)
        return number_by_first_feature(labels)


def grow_tree(
    columns: FloatArray,
    masses: NDArray[np.float64],
    n_clusters: int,
    *,
    linkage: Linkage,
    connectivity: sparse.sparray | None,
    min_size: int = 1,
) -> Tree:
    """Merge neighbouring features bottom-up and keep the whole tree.

    Parameters
    ----------
    columns : ndarray of float32 or float64, shape (n_features, n_samples)
        The features, often the view ``X.T``.
    masses : ndarray of float64, shape (n_features,)
        How much each feature counts.
    n_clusters : int
        The largest number of clusters that the tree will be cut into: checked before the work.
    linkage : {"ward", "complete", "average"}
        The height of a merge.
    connectivity : sparse array, shape (n_features, n_features), or None
        The features that are neighbours; None makes all of them neighbours.
    min_size : int, default=1
        The fewest features of a cluster.

    Returns
    -------
    Tree
        On a graph of several pieces it is a forest.

    Raises
    ------
    UsageError
        If the linkage is unknown, or the graph cannot have such clusters.
    """
    if linkage not in get_args(Linkage):
        raise UsageError(f"linkage={linkage!r} is none of {', '.join(get_args(Linkage))}.")
    pairs = feature_edges(connectivity, len(columns))
    piece_sizes = np.bincount(graph.connected_pieces(graph.from_edges(pairs, len(columns)))[1])
    check_reachable(n_clusters, piece_sizes, min_size=min_size)
    rows = contiguous_rows(columns)
    if linkage == "ward":
        children, heights = ward_tree(rows, pairs, masses)
        distances = np.sqrt(2.0 * heights)
    else:
        average = linkage == "average"
        children, distances = linkage_tree(_lengths(rows, pairs), pairs, masses, average=average)
    return Tree(
        children, distances, piece_sizes, min_size, FeatureGraph(columns, pairs, masses) if min_size > 1 else None
    )


def _lengths(rows: FloatArray, pairs: NDArray[np.int32]) -> NDArray[np.float64]:
    """Measure the edges: Euclidean distance, in the precision of the data as scikit-learn does."""
    lengths = np.empty(len(pairs))
    for start in range(0, len(pairs), _BLOCK):
        larger, smaller = pairs[start : start + _BLOCK].T
        gaps = rows[larger] - rows[smaller]
        lengths[start : start + _BLOCK] = np.sqrt(np.einsum("ij,ij->i", gaps, gaps))
    return lengths
