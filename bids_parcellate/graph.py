"""Graphs of voxels: which touch which, and which hang together.

A graph is a sparse matrix with one row for each voxel: an entry is an edge, whatever its value.
Nothing here adds an edge that is not in the data.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph


def voxel_adjacency(mask: NDArray[np.bool_]) -> sparse.csr_array:
    """Connect the voxels of a mask that share a face.

    Parameters
    ----------
    mask : ndarray of bool, shape (X, Y, Z)
        The voxels to connect. A single slice (an axis of length 1) is as good as a volume.

    Returns
    -------
    csr_array of bool, shape (V, V)
        Symmetric, without a diagonal. Voxels are numbered in C order of the mask.
    """
    mask = np.asarray(mask, dtype=bool)
    n_voxels = np.count_nonzero(mask)
    number = np.full(mask.shape, -1, dtype=np.int32)
    number[mask] = np.arange(n_voxels, dtype=np.int32)
    pairs = np.concatenate([_neighbours_along(number, axis) for axis in range(mask.ndim)], axis=1)
    ends = np.concatenate([pairs, pairs[::-1]], axis=1)
    entries = np.ones(ends.shape[1], dtype=bool)
    return sparse.coo_array((entries, (ends[0], ends[1])), shape=(n_voxels, n_voxels)).tocsr()


def _neighbours_along(number: NDArray[np.int32], axis: int) -> NDArray[np.int32]:
    """Return the pairs of voxels that follow each other along an axis, shape (2, n_pairs)."""
    lines = np.moveaxis(number, axis, 0)
    inside = (lines[:-1] >= 0) & (lines[1:] >= 0)
    return np.stack([lines[:-1][inside], lines[1:][inside]])


def edges(adjacency: sparse.sparray) -> NDArray[np.int32]:
    """List every edge of a graph once.

    Parameters
    ----------
    adjacency : sparse array, shape (V, V)
        Every stored entry off the diagonal is an edge, also an explicit zero; one of (i, j) and (j, i) is enough.

    Returns
    -------
    ndarray of int32, shape (E, 2)
        The ends of each edge, the larger first; rows in lexicographic order.
    """
    entries = sparse.coo_array(adjacency)
    row, column = entries.coords
    larger, smaller = np.maximum(row, column), np.minimum(row, column)
    proper = larger != smaller
    lower = (np.ones(np.count_nonzero(proper), dtype=bool), (larger[proper], smaller[proper]))
    # The conversion to rows sorts the edges and drops those that are listed twice.
    once = sparse.coo_array(lower, shape=entries.shape).tocsr().tocoo()
    return np.column_stack(once.coords).astype(np.int32)


def connected_pieces(adjacency: sparse.sparray) -> tuple[int, NDArray[np.int32]]:
    """Find the pieces of a graph: the sets of voxels that hang together.

    Parameters
    ----------
    adjacency : sparse array, shape (V, V)
        The graph.

    Returns
    -------
    n_pieces : int
        Number of pieces; a voxel without neighbours is one.
    labels : ndarray of int32, shape (V,)
        The piece of each voxel, 0 to ``n_pieces - 1``.
    """
    n_pieces, labels = csgraph.connected_components(adjacency, directed=False)
    return int(n_pieces), labels


def scattered_labels(labels: NDArray[np.integer], adjacency: sparse.sparray) -> NDArray[np.integer]:
    """Find the labels whose voxels do not hang together.

    Parameters
    ----------
    labels : ndarray of int, shape (V,)
        Label of each voxel.
    adjacency : sparse array, shape (V, V)
        The graph.

    Returns
    -------
    ndarray of int, shape (n_scattered,)
        The labels that lie in several pieces, sorted; empty where every parcel is contiguous.
    """
    entries = sparse.coo_array(adjacency)
    row, column = entries.coords
    within = labels[row] == labels[column]
    inner = (entries.data[within], (row[within], column[within]))
    n_pieces, piece = connected_pieces(sparse.coo_array(inner, shape=entries.shape))
    label_of_piece = np.empty(n_pieces, dtype=labels.dtype)
    label_of_piece[piece] = labels
    found, n_found = np.unique(label_of_piece, return_counts=True)
    return found[n_found > 1]
