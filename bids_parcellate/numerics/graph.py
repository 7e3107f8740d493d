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


def from_edges(pairs: NDArray[np.integer], n_voxels: int) -> sparse.coo_array:
    """Make a graph of a list of edges.

    Parameters
    ----------
    pairs : ndarray of int, shape (E, 2)
        The ends of each edge.
    n_voxels : int
        Number of voxels V.

    Returns
    -------
    coo_array of bool, shape (V, V)
        One entry for each edge.
    """
    return sparse.coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(n_voxels, n_voxels))


def separate(adjacency: sparse.sparray, groups: NDArray[np.integer]) -> sparse.csr_array:
    """Take out the edges between voxels of different groups, so that no contiguous parcel crosses from one to another.

    Parameters
    ----------
    adjacency : sparse array, shape (V, V)
        The graph.
    groups : ndarray of int, shape (V,)
        The group of each voxel, for example those of `hemispheres`.

    Returns
    -------
    csr_array, shape (V, V)
        The edges within groups.
    """
    entries = sparse.coo_array(adjacency)
    row, column = entries.coords
    within = groups[row] == groups[column]
    return sparse.coo_array((entries.data[within], (row[within], column[within])), shape=entries.shape).tocsr()


def hemispheres(x: NDArray[np.floating], adjacency: sparse.sparray, *, min_size: int = 1) -> NDArray[np.int32]:
    """Tell the left side from the right, without fragments.

    A side of a mask may have fragments at the midline that hang on to the other side only. Those of fewer
    than ``min_size`` voxels are given to the other side: each would need a parcel of its own.

    Parameters
    ----------
    x : ndarray of float, shape (V,)
        World coordinate of each voxel in millimetres, increasing to the right (RAS+).
    adjacency : sparse array, shape (V, V)
        The graph.
    min_size : int, default=1
        The fewest voxels of a fragment that stays on its side. Whole pieces of the mask that do not touch
        the other side stay, whatever their size.

    Returns
    -------
    ndarray of int32, shape (V,)
        0 for the left (x < 0), 1 for the right (x >= 0).
    """
    side = (np.asarray(x) >= 0).astype(np.int32)
    n_fragments, fragment = connected_pieces(separate(adjacency, side))
    fragments = from_edges(fragment[edges(adjacency)], n_fragments)  # those that touch lie on different sides
    sizes = np.bincount(fragment, minlength=n_fragments)
    side_of = np.zeros(n_fragments, dtype=np.int32)
    side_of[fragment] = side
    while (smallest := _smallest_piece(fragments, side_of, sizes, min_size)) is not None:
        side_of[smallest] = 1 - side_of[smallest]
    return side_of[fragment]


def _smallest_piece(
    adjacency: sparse.sparray, side: NDArray[np.int32], sizes: NDArray[np.integer], min_size: int
) -> NDArray[np.bool_] | None:
    """Find the smallest piece of one side, if it is below a size, that touches the other side."""
    _, piece = connected_pieces(separate(adjacency, side))
    totals = np.bincount(piece, weights=sizes)
    ends = piece[edges(adjacency)]
    touches = np.zeros(len(totals), dtype=bool)
    touches[ends[ends[:, 0] != ends[:, 1]]] = True
    totals[~touches] = np.inf
    smallest = int(totals.argmin())
    return piece == smallest if totals[smallest] < min_size else None


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
    n_pieces, piece = connected_pieces(separate(adjacency, labels))
    label_of_piece = np.empty(n_pieces, dtype=labels.dtype)
    label_of_piece[piece] = labels
    found, n_found = np.unique(label_of_piece, return_counts=True)
    return found[n_found > 1]
