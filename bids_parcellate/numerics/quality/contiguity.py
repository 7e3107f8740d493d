"""Move a voxel from one parcel to another without tearing the first apart: the compiled test that this needs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bids_parcellate.numerics.kernels import kernel

Graph = tuple[NDArray[np.int32], NDArray[np.int32]]

# Voxels of the parcel that are looked at, at most, for a way around the voxel that is to leave.
_REACH = 1000


def neighbour_lists(adjacency: sparse.sparray) -> Graph:
    """List the neighbours of each voxel, for compiled code.

    Parameters
    ----------
    adjacency : sparse array, shape (V, V)
        Symmetric; every stored entry is an edge.

    Returns
    -------
    starts : ndarray of int32, shape (V + 1,)
        The neighbours of voxel v are ``neighbours[starts[v]:starts[v + 1]]``.
    neighbours : ndarray of int32, shape (n_entries,)
        Voxels.
    """
    rows = sparse.csr_array(adjacency)
    return rows.indptr.astype(np.int32), rows.indices.astype(np.int32)


def scratch(n_voxels: int) -> Graph:
    """Make the memory that :func:`can_leave` works in.

    Parameters
    ----------
    n_voxels : int
        Number of voxels.

    Returns
    -------
    marks, queue : ndarray of int32
        Of the shapes (V,) and (reach,).
    """
    return np.full(n_voxels, -1, dtype=np.int32), np.empty(_REACH, dtype=np.int32)


@kernel()
def can_leave(voxel: int, labels: Any, graph: Graph, memory: Graph) -> bool:
    """Tell whether the rest of a voxel's parcel hangs together without it.

    The way around the voxel is looked for within a limited number of voxels of the parcel. If there is none so short,
    the answer is no: a parcel is never torn, but in a large one a move may be refused that would do no harm.

    Parameters
    ----------
    voxel : int
        The voxel.
    labels : ndarray of int, shape (V,)
        The parcel of each voxel. The voxel's own parcel hangs together.
    graph : tuple of ndarray
        As `neighbour_lists` returns it.
    memory : tuple of ndarray
        As `scratch` returns it. All marks are -1, and are so again afterwards.

    Returns
    -------
    bool
        False also if the voxel is all that its parcel has.
    """
    starts, neighbours = graph
    marks, queue = memory
    n_wanted, tail = 0, 0
    for position in range(starts[voxel], starts[voxel + 1]):
        neighbour = neighbours[position]
        if labels[neighbour] == labels[voxel]:
            n_wanted += 1
            queue[0] = neighbour
    if n_wanted < 2:
        return n_wanted == 1
    marks[voxel] = voxel
    marks[queue[0]] = voxel
    head, tail, n_found = 0, 1, 1
    while head < tail and n_found < n_wanted:
        here = queue[head]
        head += 1
        for position in range(starts[here], starts[here + 1]):
            neighbour = neighbours[position]
            if labels[neighbour] == labels[voxel] and marks[neighbour] != voxel and tail < queue.size:
                marks[neighbour] = voxel
                queue[tail] = neighbour
                tail += 1
                n_found += _touch(voxel, neighbour, graph)
    for position in range(tail):
        marks[queue[position]] = -1
    marks[voxel] = -1
    return n_found == n_wanted


@kernel()
def _touch(voxel: int, other: int, graph: Graph) -> bool:
    starts, neighbours = graph
    for position in range(starts[voxel], starts[voxel + 1]):  # noqa: SIM110 - generators are not compiled
        if neighbours[position] == other:
            return True
    return False
