"""What all methods share: checks of what is asked for, the edges of a graph, the order of rows and labels."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics import graph

FloatArray = NDArray[np.floating]  # float32 or float64
_BLOCK = 64  # rows that are transposed at once


def check_weights(weights: ArrayLike | None, *, n_features: int) -> NDArray[np.float64]:
    """Check how much features count.

    Parameters
    ----------
    weights : array-like of float, shape (n_features,), or None
        None for 1 each.
    n_features : int
        Number of features.

    Returns
    -------
    ndarray of float64, shape (n_features,)
        The weights.

    Raises
    ------
    UsageError
        If they are not of these features, or one is not above 0.
    """
    if weights is None:
        return np.ones(n_features)
    masses = np.asarray(weights, dtype=np.float64)
    if masses.shape != (n_features,):
        raise UsageError(f"weights has shape {masses.shape}, but X has n_features={n_features}.")
    if not (np.isfinite(masses) & (masses > 0)).all():
        raise UsageError(
            f"weights are not all above 0 and finite: the smallest is {masses.min()}.",
            hint="Leave voxels that should not count out of the mask, or give them a small weight.",
        )
    return masses


def check_n_clusters(n_clusters: object, *, n_features: int) -> None:
    """Refuse a number of clusters that no clustering of the features can have.

    Parameters
    ----------
    n_clusters : object
        Number of clusters asked for.
    n_features : int
        Number of features.

    Raises
    ------
    UsageError
        If it is no integer between 1 and the number of features.
    """
    if not isinstance(n_clusters, int | np.integer) or isinstance(n_clusters, bool) or n_clusters < 1:
        raise UsageError(f"n_clusters={n_clusters!r} is not an integer of at least 1.")
    if n_clusters > n_features:
        raise UsageError(
            f"n_clusters={n_clusters} is larger than n_features={n_features}.",
            hint="Ask for at most as many clusters (parcels) as there are features (voxels).",
        )


def check_reachable(n_clusters: int, piece_sizes: NDArray[np.integer], *, min_size: object = 1) -> None:
    """Refuse a number or a size of contiguous clusters that a graph cannot have: no edge is ever added to it.

    Parameters
    ----------
    n_clusters : int
        Number of clusters asked for.
    piece_sizes : ndarray of int, shape (n_pieces,)
        Number of features in each connected component of the graph.
    min_size : int, default=1
        The fewest features of a cluster.

    Raises
    ------
    UsageError
        If there are more pieces than clusters, a piece is smaller than ``min_size``, or so many clusters
        of that size are more than all features.
    """
    if not isinstance(min_size, int | np.integer) or isinstance(min_size, bool) or min_size < 1:
        raise UsageError(f"min_size={min_size!r} is not an integer of at least 1.")
    n_pieces = len(piece_sizes)
    if n_clusters < n_pieces:
        raise UsageError(
            f"n_clusters={n_clusters} is smaller than the {n_pieces} pieces of the graph that do not touch each other.",
            hint=f"Ask for at least {n_pieces} clusters (parcels), or leave the small pieces out of the mask.",
        )
    too_small = piece_sizes < min_size
    if too_small.any():
        raise UsageError(
            f"min_size={min_size} is more than {too_small.sum()} of the {n_pieces} pieces of the graph have:"
            f" the smallest has {piece_sizes.min()} features.",
            hint="Leave the small pieces out of the mask, or ask for a smaller minimal size.",
        )
    if np.sum(piece_sizes // min_size) < n_clusters:
        raise UsageError(
            f"n_clusters={n_clusters} clusters of min_size={min_size} do not fit into {piece_sizes.sum()} features.",
            hint="Ask for fewer clusters (parcels) or a smaller minimal size.",
        )


def contiguous_rows(columns: FloatArray) -> FloatArray:
    """Copy the transpose of an array so that each row is one stretch of memory.

    Parameters
    ----------
    columns : ndarray of float32 or float64, shape (n_features, n_samples)
        Most often the view ``X.T``.

    Returns
    -------
    ndarray of the same dtype, shape (n_features, n_samples)
        A copy, C-contiguous.
    """
    rows = np.empty(columns.shape, dtype=columns.dtype)
    for start in range(0, len(rows), _BLOCK):  # small enough for the cache: several times faster than all at once
        rows[start : start + _BLOCK] = columns[start : start + _BLOCK]
    return rows


def feature_edges(connectivity: ArrayLike | sparse.sparray | None, n_features: int) -> NDArray[np.int32]:
    """List the pairs of features that may be merged.

    Parameters
    ----------
    connectivity : sparse array or array-like, shape (n_features, n_features), or None
        The graph of the features; None makes all of them neighbours.
    n_features : int
        Number of features.

    Returns
    -------
    ndarray of int32, shape (n_edges, 2)
        The ends of each edge, as `bids_parcellate.numerics.graph.edges` lists them.

    Raises
    ------
    UsageError
        If the graph is not one of these features.
    """
    if connectivity is None:
        return np.column_stack(np.tril_indices(n_features, k=-1)).astype(np.int32)
    adjacency = sparse.coo_array(connectivity)
    if adjacency.shape != (n_features, n_features):
        raise UsageError(f"connectivity has shape {adjacency.shape}, but X has n_features={n_features}.")
    return graph.edges(adjacency)


def exact_labels(labels: NDArray[np.integer], n_clusters: int, method: str) -> NDArray[np.int32]:
    """Check that there are exactly as many clusters as were asked for, and number them.

    Parameters
    ----------
    labels : ndarray of int, shape (n_features,)
        Any labels.
    n_clusters : int
        Number of clusters asked for.
    method : str
        What found them, for the message.

    Returns
    -------
    ndarray of int32, shape (n_features,)
        As `number_by_first_feature`.

    Raises
    ------
    DataError
        If there are more or fewer clusters.
    """
    numbered = number_by_first_feature(labels)
    n_found = int(numbered.max()) + 1
    if n_found != n_clusters:
        raise DataError(f"{method} found {n_found} clusters, not n_clusters={n_clusters}.")
    return numbered


def number_by_first_feature(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Give clusters new numbers, in the order of their first features.

    Parameters
    ----------
    labels : ndarray of int, shape (n_features,)
        Any labels.

    Returns
    -------
    ndarray of int32, shape (n_features,)
        The same partition, numbered from 0 without gaps.
    """
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    number = np.empty(first.size, dtype=np.int32)
    number[np.argsort(first)] = np.arange(first.size, dtype=np.int32)
    return number[inverse]
