"""Contiguous clusters out of any clusters, exactly as many, none below a minimal size."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bids_parcellate.errors import DataError
from bids_parcellate.numerics import graph
from bids_parcellate.numerics.cluster.tree import ORPHAN, cut_tree
from bids_parcellate.numerics.cluster.ward import ward_tree

_Floats = NDArray[np.float64]
_FloatRows = NDArray[np.floating]


class FeatureGraph(NamedTuple):
    """Features, what they weigh, and which are neighbours.

    Parameters
    ----------
    rows : ndarray of float32 or float64, shape (n_features, n_samples)
        The features.
    pairs : ndarray of int32, shape (n_edges, 2)
        The features that are neighbours, each pair once.
    masses : ndarray of float64, shape (n_features,)
        How much each feature counts, above 0.
    """

    rows: _FloatRows
    pairs: NDArray[np.int32]
    masses: _Floats


def make_contiguous(
    labels: NDArray[np.integer], features: FeatureGraph, n_clusters: int, *, min_size: int = 1
) -> NDArray[np.int32]:
    """Turn clusters into exactly so many contiguous ones.

    A cluster falls apart into its connected pieces, and the pieces are merged by Ward's criterion until ``n_clusters``
    are left: since what a merge costs grows with the sizes, the fragments go to the neighbours that they are most
    like, and large pieces stay. Every component of the graph keeps a cluster. Where that leaves too few of
    ``min_size``, those that are the least alike within are split.

    Parameters
    ----------
    labels : ndarray of int, shape (n_features,)
        The clusters: at least ``n_clusters`` pieces of them.
    features : FeatureGraph
        The features.
    n_clusters : int
        Number of clusters, at least that of the components.
    min_size : int, default=1
        The fewest features of a cluster; every component has as many.

    Returns
    -------
    ndarray of int32, shape (n_features,)
        The clusters, numbered from 0.

    Raises
    ------
    DataError
        If so many clusters of that size were not found.
    """
    _, piece = graph.connected_pieces(_inner_graph(labels, features.pairs))
    pieces = _contract(features, piece)
    children, _ = ward_tree(pieces.rows.copy(), pieces.pairs, pieces.masses)
    joined = cut_and_attach(children, np.bincount(piece), pieces, n_clusters, min_size=min_size)[piece]
    return split(joined, features, n_clusters, min_size=min_size)


def cut_and_attach(
    children: NDArray[np.int64], sizes: NDArray[np.int64], leaves: FeatureGraph, n_clusters: int, *, min_size: int
) -> NDArray[np.int32]:
    """Cut a tree, and attach what is too small for a cluster to the neighbours that it is most like.

    Parameters
    ----------
    children : ndarray of int64, shape (n_merges, 2)
        The tree, as in `cut_tree`.
    sizes : ndarray of int64, shape (n_leaves,)
        The size of each leaf.
    leaves : FeatureGraph
        The leaves.
    n_clusters : int
        Number of clusters.
    min_size : int
        The least size of a cluster.

    Returns
    -------
    ndarray of int32, shape (n_leaves,)
        The clusters, contiguous, numbered from 0; fewer where the tree has no more of that size.
    """
    labels = cut_tree(children, sizes, n_clusters, min_size=min_size)
    kept = labels != ORPHAN
    means, _ = average_rows(leaves.rows[kept], labels[kept], leaves.masses[kept])
    ends = np.concatenate([leaves.pairs, leaves.pairs[:, ::-1]])
    while (labels == ORPHAN).any():
        border = ends[(labels[ends[:, 0]] == ORPHAN) & (labels[ends[:, 1]] != ORPHAN)]
        leaf, candidate = border[:, 0], labels[border[:, 1]]
        distances = np.square(leaves.rows[leaf] - means[candidate]).sum(axis=1)
        order = np.lexsort((candidate, distances, leaf))
        leaf, candidate = leaf[order], candidate[order]
        nearest = np.diff(leaf, prepend=-1) > 0
        labels[leaf[nearest]] = candidate[nearest]
    return labels


def split(labels: NDArray[np.int32], features: FeatureGraph, n_clusters: int, *, min_size: int) -> NDArray[np.int32]:
    """Split contiguous clusters along Ward's tree of each, those first that are the least alike within.

    Parameters
    ----------
    labels : ndarray of int32, shape (n_features,)
        The clusters, numbered from 0.
    features : FeatureGraph
        The features.
    n_clusters : int
        Number of clusters wanted; if there are as many already, nothing is done.
    min_size : int
        The fewest features of a cluster.

    Returns
    -------
    ndarray of int32, shape (n_features,)
        The clusters, contiguous, numbered from 0.

    Raises
    ------
    DataError
        If so many clusters of that size were not found.
    """
    if labels.max() + 1 == n_clusters:
        return labels
    inner = features._replace(pairs=graph.edges(_inner_graph(labels, features.pairs)))
    children, _ = ward_tree(np.array(features.rows, order="C"), inner.pairs, features.masses)
    labels = cut_and_attach(children, np.ones(len(labels), dtype=np.int64), inner, n_clusters, min_size=min_size)
    n_found = int(labels.max()) + 1
    if n_found != n_clusters:
        raise DataError(
            f"n_clusters={n_clusters} clusters of min_size={min_size} features were not found, only {n_found} were.",
            hint="Ask for fewer clusters (parcels) or a smaller minimal size.",
        )
    return labels


def average_rows(rows: _FloatRows, labels: NDArray[np.integer], masses: _Floats) -> tuple[_FloatRows, _Floats]:
    """Average the rows of each cluster.

    Parameters
    ----------
    rows : ndarray of float32 or float64, shape (n_rows, n_samples)
        The rows.
    labels : ndarray of int, shape (n_rows,)
        The cluster of each row, from 0 without gaps.
    masses : ndarray of float64, shape (n_rows,)
        How much each row counts, above 0.

    Returns
    -------
    means : ndarray of the rows' dtype, shape (n_clusters, n_samples)
        The weighted means.
    totals : ndarray of float64, shape (n_clusters,)
        The sums of the masses.
    """
    totals = np.bincount(labels, weights=masses).astype(np.float64)
    weights = (masses / totals[labels]).astype(rows.dtype)
    shape = (len(totals), len(labels))
    membership = sparse.csr_array((weights, (labels, np.arange(len(labels)))), shape=shape)
    means: _FloatRows = membership @ rows
    return means, totals


def _inner_graph(labels: NDArray[np.integer], pairs: NDArray[np.int32]) -> sparse.coo_array:
    """Keep the edges within clusters."""
    return graph.from_edges(pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]], len(labels))


def _contract(features: FeatureGraph, piece: NDArray[np.int32]) -> FeatureGraph:
    """Make each piece one feature."""
    means, masses = average_rows(features.rows, piece, features.masses)
    pairs = graph.edges(graph.from_edges(piece[features.pairs], len(masses)))
    return FeatureGraph(means, pairs, masses)
