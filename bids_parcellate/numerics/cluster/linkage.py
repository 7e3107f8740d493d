"""Trees of features on a graph by complete and average linkage.

Their heights follow from those before, so that only edges are handled. Every edge between two clusters is in one
binary heap, so that nothing is pushed twice and nothing stale is popped; of two clusters' lists of neighbours the
shorter is spliced into the longer, so that a cluster which takes up all others costs no more than a balanced tree.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bids_parcellate.numerics.cluster.neighbours import CELL, NOTHING, Records, link, link_edges, unlink
from bids_parcellate.numerics.kernels import kernel

_Floats = NDArray[np.float64]

_CLUSTER = np.dtype(
    [
        ("mass", np.float64),
        ("node", np.int64),  # number in the tree
        ("first", np.int32),  # first cell of the list of neighbours
        ("degree", np.int32),  # length of that list
    ]
)
_EDGE = np.dtype([("height", np.float64), ("spot", np.int64)])  # spot: where in the heap it is
# The keys are lower bounds of the heights, which grow many times before they matter.
_ENTRY = np.dtype([("key", np.float64), ("rank", np.int64), ("edge", np.int64)])


class _State(NamedTuple):
    """What the kernels work on."""

    clusters: Records  # of _CLUSTER, (n_leaves,)
    cells: Records  # of CELL, (2 n_edges,)
    edges: Records  # of _EDGE, (n_edges,)
    heap: Records  # of _ENTRY, (n_edges,)


def linkage_tree(
    lengths: _Floats, pairs: NDArray[np.int32], masses: _Floats, *, average: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Merge the two neighbouring clusters of the smallest height, until no edge is left.

    Parameters
    ----------
    lengths : ndarray of float64, shape (n_edges,)
        Distance between the two ends of each edge.
    pairs : ndarray of int32, shape (n_edges, 2)
        The features that are neighbours, each pair once.
    masses : ndarray of float64, shape (n_leaves,)
        How much each feature counts in an average, above 0.
    average : bool
        Whether a height is the mean of distances, not the largest of them.

    Returns
    -------
    children : ndarray of int64, shape (n_merges, 2)
        The nodes that each merge joins, the older first.
    heights : ndarray of float64, shape (n_merges,)
        The height of each merge.
    """
    n_leaves = len(masses)
    children, heights = np.empty((n_leaves - 1, 2), dtype=np.int64), np.empty(n_leaves - 1)
    n_merges = _merge_all(_initial_state(pairs, lengths, masses), average, children, heights)
    return children[:n_merges], heights[:n_merges]  # on a forest there are fewer merges


def _initial_state(pairs: NDArray[np.int32], lengths: _Floats, masses: _Floats) -> _State:
    """Make every feature a cluster, chain the cells of each, and put the edges in the heap."""
    clusters, cells = np.empty(len(masses), dtype=_CLUSTER), np.empty(pairs.size, dtype=CELL)
    clusters["mass"], clusters["node"], clusters["first"] = masses, np.arange(len(masses)), NOTHING
    clusters["degree"] = np.bincount(pairs.ravel(), minlength=len(masses))
    link_edges(clusters, cells, pairs)
    ends = pairs.astype(np.int64)
    rank = ends.max(axis=1) << 32 | ends.min(axis=1)
    order = np.lexsort((rank, lengths))  # a sorted array is a heap
    edges, heap = np.empty(order.size, dtype=_EDGE), np.empty(order.size, dtype=_ENTRY)
    edges["height"] = lengths
    edges["spot"][order] = np.arange(order.size)
    heap["key"], heap["rank"], heap["edge"] = lengths[order], rank[order], order
    return _State(clusters, cells, edges, heap)


@njit(nogil=True)
def _settle(edges: Records, heap: Records, n_edges: int, spot: int) -> None:
    """Move an entry of the heap up or down to its place."""
    key, rank, edge = heap[spot].key, heap[spot].rank, heap[spot].edge
    while spot > 0 and _precedes(key, rank, heap[(spot - 1) >> 1]):
        heap[spot] = heap[(spot - 1) >> 1]
        edges[heap[spot].edge].spot = spot
        spot = (spot - 1) >> 1
    while 2 * spot + 1 < n_edges:
        child = 2 * spot + 1
        if child + 1 < n_edges and _precedes(heap[child + 1].key, heap[child + 1].rank, heap[child]):
            child += 1
        if _precedes(key, rank, heap[child]):
            break
        heap[spot] = heap[child]
        edges[heap[spot].edge].spot = spot
        spot = child
    heap[spot].key, heap[spot].rank, heap[spot].edge = key, rank, edge
    edges[edge].spot = spot


@njit(nogil=True)
def _precedes(key: float, rank: int, entry: Any) -> bool:
    """Tell whether a key comes before that of an entry; equal keys by rank."""
    before: bool = key < entry.key or (key == entry.key and rank < entry.rank)
    return before


@njit(nogil=True)
def _set_height(edges: Records, heap: Records, n_edges: int, edge: int, height: float) -> None:
    """Change the height of an edge; that it has grown is left for `_first_edge` to find."""
    edges[edge].height = height
    spot = edges[edge].spot
    if height < heap[spot].key:
        heap[spot].key = height
        _settle(edges, heap, n_edges, spot)


@njit(nogil=True)
def _first_edge(state: _State, n_edges: int) -> int:
    """Return the edge to merge along: the first in the heap that is not there on mere bounds."""
    clusters, cells, edges, heap = state
    while True:
        edge: int = heap[0].edge
        if heap[0].key == edges[edge].height:
            node, other = clusters[cells[2 * edge].target].node, clusters[cells[2 * edge + 1].target].node
            rank = max(node, other) << 32 | min(node, other)
            if heap[0].rank == rank:
                return edge
            heap[0].rank = rank
        heap[0].key = edges[edge].height
        _settle(edges, heap, n_edges, 0)


@njit(nogil=True)
def _find_edge(clusters: Records, cells: Records, cluster: int, other: int) -> int:
    """Return the edge between two clusters, or NOTHING, looking through the shorter list."""
    if clusters[cluster].degree > clusters[other].degree:
        cluster, other = other, cluster
    cell: int = clusters[cluster].first
    while cell != NOTHING and cells[cell].target != other:
        cell = cells[cell].following
    return cell >> 1  # which keeps NOTHING as it is


@njit(nogil=True)
def _drop_edge(state: _State, n_edges: int, edge: int) -> None:
    """Take an edge out of both lists and out of the heap, of which the last entry takes its place."""
    clusters, cells, edges, heap = state
    for cell in (2 * edge, 2 * edge + 1):
        owner = cells[cell ^ 1].target
        unlink(clusters, cells, owner, cell)
        clusters[owner].degree -= 1
    spot = edges[edge].spot
    heap[spot] = heap[n_edges - 1]
    _settle(edges, heap, n_edges - 1, spot)


@njit(nogil=True, error_model="numpy")
def _absorb(state: _State, n_edges: int, keep: int, drop: int, average: bool) -> int:
    """Give the neighbours of one cluster to another; return the number of edges that are left."""
    clusters, cells, edges, heap = state
    mass, mass_dropped = clusters[keep].mass, clusters[drop].mass
    cell = clusters[drop].first
    while cell != NOTHING:
        following = cells[cell].following
        common = _find_edge(clusters, cells, keep, cells[cell].target)
        if common == NOTHING:
            unlink(clusters, cells, drop, cell)
            link(clusters, cells, keep, cell)
            clusters[keep].degree += 1
            cells[cell ^ 1].target = keep
        else:
            height, other = edges[common].height, edges[cell >> 1].height
            mean = (mass * height + mass_dropped * other) / (mass + mass_dropped)
            _set_height(edges, heap, n_edges, common, mean if average else max(height, other))
            _drop_edge(state, n_edges, cell >> 1)
            n_edges -= 1
        cell = following
    clusters[keep].mass = mass + mass_dropped
    return n_edges


@kernel(error_model="numpy")
def _merge_all(state: _State, average: bool, children: NDArray[np.int64], heights: _Floats) -> int:
    """Merge along the first edge until there is none; write down the tree and return the number of merges."""
    clusters, cells, edges, _ = state
    n_edges, n_merges = len(edges), 0
    while n_edges > 0:
        edge = _first_edge(state, n_edges)
        keep, drop = cells[2 * edge].target, cells[2 * edge + 1].target
        if clusters[keep].degree < clusters[drop].degree:
            keep, drop = drop, keep
        children[n_merges, 0] = min(clusters[keep].node, clusters[drop].node)
        children[n_merges, 1] = max(clusters[keep].node, clusters[drop].node)
        heights[n_merges] = edges[edge].height
        clusters[keep].node = len(clusters) + n_merges
        n_merges += 1
        _drop_edge(state, n_edges, edge)
        n_edges = _absorb(state, n_edges - 1, keep, drop, average)
    return n_merges
