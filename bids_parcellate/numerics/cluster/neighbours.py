"""The neighbours of clusters that merge: doubly linked lists of which whole ones are spliced in constant time.

Edge e is two cells: 2e in the list of its first end, 2e + 1 in that of its second. So ``cell ^ 1`` is the twin of
a cell, and ``cell >> 1`` its edge. A merged cluster keeps the place of one of its children.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bids_parcellate.numerics.kernels import kernel

Records = NDArray[Any]  # structured: its fields are those of a dtype beside it
NOTHING = -1
CELL = np.dtype([("target", np.int32), ("following", np.int32), ("preceding", np.int32)])


# Kernels that only other kernels call are compiled into them and need no cache of their own.


@njit(nogil=True)
def link(clusters: Records, cells: Records, owner: int, cell: int) -> None:
    """Put a cell at the front of a list.

    Parameters
    ----------
    clusters : structured ndarray, shape (n_clusters,)
        Of any dtype with a field "first", the first cell of the cluster's list.
    cells : structured ndarray of CELL, shape (2 * n_edges,)
        The cells of all lists.
    owner : int
        Whose list.
    cell : int
        Which cell.
    """
    following = clusters[owner].first
    cells[cell].preceding, cells[cell].following = NOTHING, following
    if following != NOTHING:
        cells[following].preceding = cell
    clusters[owner].first = cell


@njit(nogil=True)
def unlink(clusters: Records, cells: Records, owner: int, cell: int) -> None:
    """Take a cell out of its owner's list.

    Parameters
    ----------
    clusters, cells, owner, cell
        As in `link`.
    """
    preceding, following = cells[cell].preceding, cells[cell].following
    if preceding == NOTHING:
        clusters[owner].first = following
    else:
        cells[preceding].following = following
    if following != NOTHING:
        cells[following].preceding = preceding


@kernel()  # Linkage calls it from outside of kernels, too.
def link_edges(clusters: Records, cells: Records, pairs: NDArray[np.int32]) -> None:
    """Fill the lists of all clusters.

    Parameters
    ----------
    clusters, cells
        As in `link`; every "first" is NOTHING.
    pairs : ndarray of int32, shape (n_edges, 2)
        The ends of each edge.
    """
    for edge in range(len(pairs)):
        for end in range(2):
            cells[2 * edge + end].target = pairs[edge, 1 - end]
            link(clusters, cells, pairs[edge, end], 2 * edge + end)
