"""Agglomerative clustering of features on a graph: Ward, complete and average linkage.

The two neighbouring clusters of the smallest height are merged, again and again, until no edge is left. Every edge
between two clusters is in one binary heap that always holds its present height, so that nothing is pushed
twice and nothing stale is popped; the clusters' neighbours are linked lists of which the shorter is spliced
into the longer. All arrays are allocated once.
"""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import row_norms
from sklearn.utils.validation import check_is_fitted

from bids_parcellate import graph
from bids_parcellate.cluster.base import (
    FeatureClusterer,
    FloatArray,
    check_n_clusters,
    check_reachable,
    feature_edges,
    number_by_first_feature,
)
from bids_parcellate.errors import UsageError

Linkage = Literal["ward", "complete", "average"]
_Floats = NDArray[np.float64]
_Records = NDArray[Any]  # structured: the fields are those of _CLUSTER, _CELL, _EDGE or _ENTRY

_WARD, _COMPLETE, _AVERAGE = range(3)
_CODES: dict[str, int] = {"ward": _WARD, "complete": _COMPLETE, "average": _AVERAGE}
_NOTHING = -1
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
    Ward computes the heights of all neighbours of a merged cluster anew, so that time grows faster than linearly where
    one cluster takes up its neighbours one by one, as it does with voxels of very different variances.

    Memory is ``8 * n_features * n_samples`` bytes for Ward and about 64 bytes an edge. Ties are broken as in
    scikit-learn's Ward: the pair whose younger node is the older comes first, then the one whose older
    node is. For complete and average linkage scikit-learn leaves ties to the layout of its heap.

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
    ) -> None:
        self.n_clusters = n_clusters
        self.linkage = linkage
        self.connectivity = connectivity

    def _cluster(self, columns: FloatArray) -> NDArray[np.int32]:
        if self.linkage not in get_args(Linkage):
            raise UsageError(f"linkage={self.linkage!r} is none of {', '.join(get_args(Linkage))}.")
        n_leaves = columns.shape[0]
        pairs = feature_edges(self.connectivity, n_leaves)
        self.children_, self.distances_ = _grow_tree(columns, pairs, self.linkage)
        self.n_leaves_ = n_leaves
        self.n_connected_components_ = n_leaves - len(self.children_)
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
            Cluster of each feature, numbered in the order of their first features. Cuts are nested.

        Raises
        ------
        UsageError
            If there is no such cut.
        """
        check_is_fitted(self, "children_")
        check_n_clusters(n_clusters, n_features=self.n_leaves_)
        check_reachable(n_clusters, n_pieces=self.n_connected_components_)
        n_merges = self.n_leaves_ - n_clusters
        child = self.children_[:n_merges].ravel()
        parent = np.repeat(np.arange(self.n_leaves_, self.n_leaves_ + n_merges), 2)
        n_nodes = self.n_leaves_ + n_merges
        links = sparse.coo_array((np.ones(child.size, dtype=bool), (child, parent)), shape=(n_nodes, n_nodes))
        _, labels = graph.connected_pieces(links)
        return number_by_first_feature(labels[: self.n_leaves_])


def _grow_tree(
    columns: FloatArray, pairs: NDArray[np.int32], linkage: Linkage
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Merge the features (n_features, n_samples) along the edges (n_edges, 2) until none is left."""
    n_leaves, n_samples = columns.shape
    if linkage == "ward":
        sums = np.array(columns, dtype=np.float64, order="C")
        heights = _ward_heights(sums, pairs)
    else:
        sums = np.empty((0, n_samples))
        heights = _distances(columns, pairs)
    children = np.empty((n_leaves - 1, 2), dtype=np.int64)
    distances = np.empty(n_leaves - 1)
    n_merges = _merge_all(_initial_state(pairs, heights, n_leaves), sums, _CODES[linkage], children, distances)
    children, distances = children[:n_merges], distances[:n_merges]  # on a forest there are fewer merges
    return children, np.sqrt(2.0 * distances) if linkage == "ward" else distances


def _distances(columns: FloatArray, pairs: NDArray[np.int32]) -> NDArray[np.float64]:
    """Measure the edges: Euclidean distance, in the precision of the data as scikit-learn does."""
    rows = np.ascontiguousarray(columns)
    distances = np.empty(len(pairs))
    for start in range(0, len(pairs), _BLOCK):
        larger, smaller = pairs[start : start + _BLOCK].T
        distances[start : start + _BLOCK] = row_norms(rows[larger] - rows[smaller])
    return distances


# A merged cluster keeps the place of one of its children.
_CLUSTER = np.dtype(
    [
        ("node", np.int64),  # number in the tree
        ("size", np.float64),  # number of features
        ("first", np.int32),  # first cell of the list of neighbours
        ("degree", np.int32),  # length of that list
    ]
)
# The neighbours are doubly linked lists. Edge e is two cells: 2e in the list of its first end, 2e + 1 in that of
# its second. So cell ^ 1 is the twin of a cell, and cell >> 1 its edge.
_CELL = np.dtype([("target", np.int32), ("following", np.int32), ("preceding", np.int32)])
_EDGE = np.dtype([("height", np.float64), ("spot", np.int64)])  # spot: where in the heap it is
# The keys are lower bounds of the heights, which grow many times before they matter.
_ENTRY = np.dtype([("key", np.float64), ("rank", np.int64), ("edge", np.int64)])


class _State(NamedTuple):
    """What the kernels work on."""

    clusters: _Records  # of _CLUSTER, (n_leaves,)
    cells: _Records  # of _CELL, (2 n_edges,)
    edges: _Records  # of _EDGE, (n_edges,)
    heap: _Records  # of _ENTRY, (n_edges,)


def _initial_state(pairs: NDArray[np.int32], heights: NDArray[np.float64], n_leaves: int) -> _State:
    """Make every feature a cluster, chain the cells of each, and put the edges in the heap."""
    owner = pairs.ravel()
    by_owner = np.argsort(owner, kind="stable")
    opens = np.diff(owner[by_owner], prepend=_NOTHING) > 0
    before, after = by_owner[:-1][~opens[1:]], by_owner[1:][~opens[1:]]
    cells = np.empty(owner.size, dtype=_CELL)
    cells["target"] = pairs[:, ::-1].ravel()
    cells["following"] = cells["preceding"] = _NOTHING
    cells["following"][before] = after
    cells["preceding"][after] = before

    clusters = np.empty(n_leaves, dtype=_CLUSTER)
    clusters["node"] = np.arange(n_leaves)
    clusters["size"] = 1.0
    clusters["degree"] = np.bincount(owner, minlength=n_leaves)
    clusters["first"] = _NOTHING
    clusters["first"][owner[by_owner[opens]]] = by_owner[opens]

    order = np.argsort(heights, kind="stable")  # a sorted array is a heap, and pairs come in the order of their ranks
    edges, heap = np.empty(order.size, dtype=_EDGE), np.empty(order.size, dtype=_ENTRY)
    edges["height"] = heights
    edges["spot"][order] = np.arange(order.size)
    younger, older = pairs[order].T.astype(np.int64)
    heap["key"], heap["rank"], heap["edge"] = heights[order], younger << 32 | older, order
    return _State(clusters, cells, edges, heap)


# The kernels. Those that only other kernels call are compiled into them and need no cache of their own.


@njit(nogil=True, error_model="numpy")
def _ward_height(mean: _Floats, size: float, sums: _Floats, other: int, size_other: float, terms: _Floats) -> float:
    """Return how much the sum of squares within clusters grows if one of this mean and size is merged with another."""
    # Divided and added up in this order, the result is scikit-learn's to the last bit, and so are its ties. Two loops,
    # because the divisions can be vectorised while the sum must not be.
    for sample in range(len(terms)):
        gap = mean[sample] - sums[other, sample] / size_other
        terms[sample] = gap * gap
    distance = 0.0
    for sample in range(len(terms)):
        distance += terms[sample]
    return distance * (size * size_other / (size + size_other))


@njit(cache=True, nogil=True, error_model="numpy")
def _ward_heights(features: _Floats, pairs: NDArray[np.int32]) -> _Floats:
    """Return the heights of all edges between single features."""
    heights = np.empty(len(pairs))
    terms = np.empty(features.shape[1])
    for edge in range(len(pairs)):
        heights[edge] = _ward_height(features[pairs[edge, 0]], 1.0, features, pairs[edge, 1], 1.0, terms)
    return heights


@njit(nogil=True, error_model="numpy")
def _settle(edges: _Records, heap: _Records, n_edges: int, spot: int) -> None:
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


@njit(nogil=True, error_model="numpy")
def _precedes(key: float, rank: int, entry: Any) -> bool:
    """Tell whether a key comes before that of an entry; equal keys by rank."""
    before: bool = key < entry.key or (key == entry.key and rank < entry.rank)
    return before


@njit(nogil=True, error_model="numpy")
def _set_height(edges: _Records, heap: _Records, n_edges: int, edge: int, height: float) -> None:
    """Change the height of an edge; that it has grown is left for `_first_edge` to find."""
    grows = height >= edges[edge].height
    edges[edge].height = height
    spot = edges[edge].spot
    if not grows and height < heap[spot].key:
        heap[spot].key = height
        _settle(edges, heap, n_edges, spot)


@njit(nogil=True, error_model="numpy")
def _first_edge(clusters: _Records, cells: _Records, edges: _Records, heap: _Records, n_edges: int) -> int:
    """Return the edge to merge along: the first in the heap that is not there on mere bounds."""
    while True:
        edge: int = heap[0].edge
        if heap[0].key == edges[edge].height:
            node, other = clusters[cells[2 * edge].target].node, clusters[cells[2 * edge + 1].target].node
            rank = max(node, other) << 32 | min(node, other)
            if heap[0].rank == rank:
                return edge
            heap[0].rank = rank
        heap[0].key = edges[edge].height
        _settle(edges, heap, n_edges, edges[edge].spot)


@njit(nogil=True, error_model="numpy")
def _unlink(clusters: _Records, cells: _Records, owner: int, cell: int) -> None:
    """Take a cell out of its owner's list."""
    preceding, following = cells[cell].preceding, cells[cell].following
    if preceding == _NOTHING:
        clusters[owner].first = following
    else:
        cells[preceding].following = following
    if following != _NOTHING:
        cells[following].preceding = preceding
    clusters[owner].degree -= 1


@njit(nogil=True, error_model="numpy")
def _link(clusters: _Records, cells: _Records, owner: int, cell: int) -> None:
    """Put a cell at the front of a list."""
    following = clusters[owner].first
    cells[cell].preceding, cells[cell].following = _NOTHING, following
    if following != _NOTHING:
        cells[following].preceding = cell
    clusters[owner].first = cell
    clusters[owner].degree += 1


@njit(nogil=True, error_model="numpy")
def _find_edge(clusters: _Records, cells: _Records, cluster: int, other: int) -> int:
    """Return the edge between two clusters, or _NOTHING, looking through the shorter list."""
    if clusters[cluster].degree > clusters[other].degree:
        cluster, other = other, cluster
    cell: int = clusters[cluster].first
    while cell != _NOTHING and cells[cell].target != other:
        cell = cells[cell].following
    return cell >> 1  # which keeps _NOTHING as it is


@njit(nogil=True, error_model="numpy")
def _drop_edge(clusters: _Records, cells: _Records, edges: _Records, heap: _Records, n_edges: int, edge: int) -> None:
    """Take an edge out of both lists and out of the heap, of which the last entry takes its place."""
    _unlink(clusters, cells, cells[2 * edge + 1].target, 2 * edge)
    _unlink(clusters, cells, cells[2 * edge].target, 2 * edge + 1)
    spot = edges[edge].spot
    heap[spot] = heap[n_edges - 1]
    _settle(edges, heap, n_edges - 1, spot)


@njit(nogil=True, error_model="numpy")
def _absorb(state: _State, n_edges: int, keep: int, drop: int, linkage: int) -> int:
    """Give the neighbours of one cluster to another; return the number of edges that are left."""
    clusters, cells, edges, heap = state
    size, size_dropped = clusters[keep].size, clusters[drop].size
    cell = clusters[drop].first
    while cell != _NOTHING:
        following = cells[cell].following
        common = _find_edge(clusters, cells, keep, cells[cell].target)
        if common == _NOTHING:
            _unlink(clusters, cells, drop, cell)
            _link(clusters, cells, keep, cell)
            cells[cell ^ 1].target = keep
        else:
            height, other = edges[common].height, edges[cell >> 1].height
            if linkage == _COMPLETE:
                height = max(height, other)
            elif linkage == _AVERAGE:
                height = (size * height + size_dropped * other) / (size + size_dropped)
            _set_height(edges, heap, n_edges, common, height)
            _drop_edge(clusters, cells, edges, heap, n_edges, cell >> 1)
            n_edges -= 1
        cell = following
    clusters[keep].size = size + size_dropped
    return n_edges


@njit(nogil=True, error_model="numpy")
def _update_ward(state: _State, n_edges: int, keep: int, sums: _Floats, mean: _Floats, terms: _Floats) -> None:
    """Compute the heights of all edges of a cluster anew."""
    clusters, cells, edges, heap = state
    size = clusters[keep].size
    for sample in range(len(mean)):
        mean[sample] = sums[keep, sample] / size
    cell = clusters[keep].first
    while cell != _NOTHING:
        other = cells[cell].target
        height = _ward_height(mean, size, sums, other, clusters[other].size, terms)
        _set_height(edges, heap, n_edges, cell >> 1, height)
        cell = cells[cell].following


@njit(cache=True, nogil=True, error_model="numpy")
def _merge_all(state: _State, sums: _Floats, linkage: int, children: NDArray[np.int64], heights: _Floats) -> int:
    """Merge along the first edge until there is none; write down the tree and return the number of merges."""
    clusters, cells, edges, heap = state
    mean, terms = np.empty(sums.shape[1]), np.empty(sums.shape[1])
    n_edges, n_merges = len(edges), 0
    while n_edges > 0:
        edge = _first_edge(clusters, cells, edges, heap, n_edges)
        keep, drop = cells[2 * edge].target, cells[2 * edge + 1].target
        if clusters[keep].degree < clusters[drop].degree:
            keep, drop = drop, keep
        children[n_merges, 0] = min(clusters[keep].node, clusters[drop].node)
        children[n_merges, 1] = max(clusters[keep].node, clusters[drop].node)
        heights[n_merges] = edges[edge].height
        clusters[keep].node = len(clusters) + n_merges
        n_merges += 1
        _drop_edge(clusters, cells, edges, heap, n_edges, edge)
        n_edges = _absorb(state, n_edges - 1, keep, drop, linkage)
        if linkage == _WARD:
            for sample in range(sums.shape[1]):
                sums[keep, sample] += sums[drop, sample]
            _update_ward(state, n_edges, keep, sums, mean, terms)
    return n_merges
