"""Agglomerative clustering of features on a graph: Ward, complete and average linkage.

The two neighbouring clusters of the smallest height are merged, again and again, until no edge is left. Every edge
between two clusters is in one binary heap that always holds its present height, so that nothing is pushed
twice and nothing stale is popped; the clusters' neighbours are linked lists of which the shorter is spliced
into the longer. All arrays are allocated once.
"""

from typing import Literal, NamedTuple, get_args

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
    Memory is ``8 * n_features * n_samples`` bytes for Ward and about 60 bytes an edge. Ties are broken as in
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
    nodes, sizes = np.arange(n_leaves), np.ones(n_leaves)
    clusters = _Clusters(nodes, sizes, sums, np.empty(n_samples), np.empty(n_samples))
    neighbours = _link_neighbours(pairs, n_leaves)
    children = np.empty((n_leaves - 1, 2), dtype=np.int64)
    distances = np.empty(n_leaves - 1)
    n_merges = _merge_all(clusters, neighbours, _queue(heights, pairs), children, distances, _CODES[linkage])
    if linkage == "ward":
        distances = np.sqrt(2.0 * distances)
    return children[:n_merges], distances[:n_merges]


def _distances(columns: FloatArray, pairs: NDArray[np.int32]) -> NDArray[np.float64]:
    """Measure the edges: Euclidean distance, in the precision of the data as scikit-learn does."""
    rows = np.ascontiguousarray(columns)
    distances = np.empty(len(pairs))
    for start in range(0, len(pairs), _BLOCK):
        larger, smaller = pairs[start : start + _BLOCK].T
        distances[start : start + _BLOCK] = row_norms(rows[larger] - rows[smaller])
    return distances


class _Clusters(NamedTuple):
    """The clusters; a merged one keeps the place of one of its children."""

    node: NDArray[np.int64]  # (n_leaves,) number in the tree
    size: NDArray[np.float64]  # (n_leaves,) number of features
    sums: NDArray[np.float64]  # (n_leaves, n_samples) sum of the features; Ward only
    mean: NDArray[np.float64]  # (n_samples,) work space
    terms: NDArray[np.float64]  # (n_samples,) work space


class _Neighbours(NamedTuple):
    """The neighbours of each cluster, as doubly linked lists.

    Edge e is two cells: 2e in the list of its first end, 2e + 1 in that of its second. So ``cell ^ 1`` is the
    twin of a cell, and ``cell >> 1`` its edge.
    """

    first: NDArray[np.int32]  # (n_leaves,) first cell of each list
    degree: NDArray[np.int32]  # (n_leaves,) length of each list
    target: NDArray[np.int32]  # (2 n_edges,) the neighbour
    following: NDArray[np.int32]  # (2 n_edges,)
    preceding: NDArray[np.int32]  # (2 n_edges,)


class _Queue(NamedTuple):
    """The edges in a binary heap of which the keys are lower bounds: most heights change often before they matter."""

    height: NDArray[np.float64]  # (n_edges,) present height of each edge
    place: NDArray[np.int32]  # (n_edges,) where in the heap each edge is
    order: NDArray[np.int32]  # (n_edges,) the heap: edge
    key: NDArray[np.float64]  # (n_edges,) the heap: height when the edge was last put in its place
    rank: NDArray[np.int64]  # (n_edges,) the heap: what decides between equal keys


def _link_neighbours(pairs: NDArray[np.int32], n_leaves: int) -> _Neighbours:
    """List the neighbours of every feature: sort all cells by their owners, and chain those of the same."""
    owner = pairs.ravel()
    cells = np.argsort(owner, kind="stable").astype(np.int32)
    opens = np.diff(owner[cells], prepend=_NOTHING) > 0
    first = np.full(n_leaves, _NOTHING, dtype=np.int32)
    following = np.full(owner.size, _NOTHING, dtype=np.int32)
    preceding = np.full(owner.size, _NOTHING, dtype=np.int32)
    first[owner[cells[opens]]] = cells[opens]
    before, after = cells[:-1][~opens[1:]], cells[1:][~opens[1:]]
    following[before] = after
    preceding[after] = before
    degree = np.bincount(owner, minlength=n_leaves).astype(np.int32)
    return _Neighbours(first, degree, pairs[:, ::-1].ravel(), following, preceding)


def _queue(heights: NDArray[np.float64], pairs: NDArray[np.int32]) -> _Queue:
    """Make the heap. The edges come in the order of their ranks, so a stable sort by height is one."""
    order = np.argsort(heights, kind="stable").astype(np.int32)
    place = np.empty_like(order)
    place[order] = np.arange(order.size, dtype=np.int32)
    younger, older = pairs[order].T.astype(np.int64)
    return _Queue(heights, place, order, heights[order], younger << 32 | older)


# The kernels. Those that only other kernels call are compiled into them and need no cache of their own.


@njit(nogil=True, error_model="numpy")
def _ward_height(mean, size, sums, size_other, terms):
    """Return how much the variance within clusters grows if a cluster is merged with another."""
    # Divided and added up in this order, the result is scikit-learn's to the last bit, and so are its ties. Two loops,
    # because the divisions can be vectorised while the sum must not be.
    for sample in range(len(terms)):
        gap = mean[sample] - sums[sample] / size_other
        terms[sample] = gap * gap
    distance = 0.0
    for sample in range(len(terms)):
        distance += terms[sample]
    return distance * (size * size_other / (size + size_other))


@njit(cache=True, nogil=True)
def _ward_heights(features, pairs):
    """Return the heights of all edges between single features."""
    heights = np.empty(len(pairs))
    terms = np.empty(features.shape[1])
    for edge in range(len(pairs)):
        heights[edge] = _ward_height(features[pairs[edge, 0]], 1.0, features[pairs[edge, 1]], 1.0, terms)
    return heights


@njit(nogil=True)
def _settle(queue, n_edges, spot):
    """Move an entry of the heap up or down to its place."""
    edge, key, rank = queue.order[spot], queue.key[spot], queue.rank[spot]
    parent = (spot - 1) >> 1
    while spot > 0 and _precedes(key, rank, queue, parent):
        _move(queue, parent, spot)
        spot, parent = parent, (parent - 1) >> 1
    child = _first_child(queue, n_edges, spot)
    while child < n_edges and not _precedes(key, rank, queue, child):
        _move(queue, child, spot)
        spot, child = child, _first_child(queue, n_edges, child)
    queue.order[spot], queue.key[spot], queue.rank[spot] = edge, key, rank
    queue.place[edge] = spot


@njit(nogil=True)
def _precedes(key, rank, queue, spot):
    """Tell whether an entry comes before the one at a spot of the heap."""
    return key < queue.key[spot] or (key == queue.key[spot] and rank < queue.rank[spot])


@njit(nogil=True)
def _first_child(queue, n_edges, spot):
    """Return the child that comes first; where there is none, a spot past the end."""
    child = 2 * spot + 1
    other = child + 1
    if other < n_edges and _precedes(queue.key[other], queue.rank[other], queue, child):
        return other
    return child


@njit(nogil=True)
def _move(queue, source, spot):
    """Copy an entry of the heap to another spot."""
    queue.order[spot], queue.key[spot], queue.rank[spot] = queue.order[source], queue.key[source], queue.rank[source]
    queue.place[queue.order[spot]] = spot


@njit(nogil=True)
def _set_height(queue, n_edges, edge, height):
    """Change the height of an edge; a larger one is left for `_first_edge` to find."""
    queue.height[edge] = height
    spot = queue.place[edge]
    if height < queue.key[spot]:
        queue.key[spot] = height
        _settle(queue, n_edges, spot)


@njit(nogil=True)
def _first_edge(clusters, neighbours, queue, n_edges):
    """Return the edge to merge along: the first of the heap of which the key is no mere bound."""
    while True:
        edge = queue.order[0]
        node, other = clusters.node[neighbours.target[2 * edge]], clusters.node[neighbours.target[2 * edge + 1]]
        rank = max(node, other) << 32 | min(node, other)
        if queue.key[0] == queue.height[edge] and queue.rank[0] == rank:
            return edge
        queue.key[0], queue.rank[0] = queue.height[edge], rank
        _settle(queue, n_edges, 0)


@njit(nogil=True)
def _unlink(neighbours, owner, cell):
    """Take a cell out of its owner's list."""
    before, after = neighbours.preceding[cell], neighbours.following[cell]
    if before == _NOTHING:
        neighbours.first[owner] = after
    else:
        neighbours.following[before] = after
    if after != _NOTHING:
        neighbours.preceding[after] = before
    neighbours.degree[owner] -= 1


@njit(nogil=True)
def _link(neighbours, owner, cell):
    """Put a cell at the front of a list."""
    after = neighbours.first[owner]
    neighbours.preceding[cell] = _NOTHING
    neighbours.following[cell] = after
    if after != _NOTHING:
        neighbours.preceding[after] = cell
    neighbours.first[owner] = cell
    neighbours.degree[owner] += 1


@njit(nogil=True)
def _drop_edge(neighbours, queue, n_edges, edge):
    """Take an edge out of both lists and out of the heap, of which the last edge takes its place."""
    _unlink(neighbours, neighbours.target[2 * edge + 1], 2 * edge)
    _unlink(neighbours, neighbours.target[2 * edge], 2 * edge + 1)
    spot = queue.place[edge]
    _move(queue, n_edges - 1, spot)
    _settle(queue, n_edges - 1, spot)


@njit(nogil=True)
def _find_edge(neighbours, cluster, other):
    """Return the edge between two clusters, or _NOTHING, looking through the shorter list."""
    if neighbours.degree[cluster] > neighbours.degree[other]:
        cluster, other = other, cluster
    cell = neighbours.first[cluster]
    while cell != _NOTHING and neighbours.target[cell] != other:
        cell = neighbours.following[cell]
    return cell >> 1  # which keeps _NOTHING as it is


@njit(nogil=True, error_model="numpy")
def _absorb(clusters, neighbours, queue, n_edges, keep, drop, linkage):
    """Give the neighbours of one cluster to another; return the number of edges that are left."""
    size, size_dropped = clusters.size[keep], clusters.size[drop]
    cell = neighbours.first[drop]
    while cell != _NOTHING:
        following = neighbours.following[cell]
        edge, twin = cell >> 1, cell ^ 1
        common = _find_edge(neighbours, keep, neighbours.target[cell])
        if common == _NOTHING:
            _unlink(neighbours, drop, cell)
            _link(neighbours, keep, cell)
            neighbours.target[twin] = keep
        else:
            height, other = queue.height[common], queue.height[edge]
            if linkage == _COMPLETE:
                _set_height(queue, n_edges, common, max(height, other))
            elif linkage == _AVERAGE:
                mean = (size * height + size_dropped * other) / (size + size_dropped)
                _set_height(queue, n_edges, common, mean)
            _drop_edge(neighbours, queue, n_edges, edge)
            n_edges -= 1
        cell = following
    clusters.size[keep] = size + size_dropped
    return n_edges


@njit(nogil=True, error_model="numpy")
def _update_ward(clusters, neighbours, queue, n_edges, keep, drop):
    """Add up the features of two clusters and compute the heights of all edges of the first anew."""
    size = clusters.size[keep]
    for sample in range(len(clusters.mean)):
        clusters.sums[keep, sample] += clusters.sums[drop, sample]
        clusters.mean[sample] = clusters.sums[keep, sample] / size
    cell = neighbours.first[keep]
    while cell != _NOTHING:
        edge, other = cell >> 1, neighbours.target[cell]
        height = _ward_height(clusters.mean, size, clusters.sums[other], clusters.size[other], clusters.terms)
        _set_height(queue, n_edges, edge, height)
        cell = neighbours.following[cell]


@njit(cache=True, nogil=True)
def _merge_all(clusters, neighbours, queue, children, heights, linkage):
    """Merge along the first edge of the queue until there is none; return the number of merges."""
    n_leaves, n_edges, n_merges = len(clusters.node), len(queue.order), 0
    while n_edges > 0:
        edge = _first_edge(clusters, neighbours, queue, n_edges)
        keep, drop = neighbours.target[2 * edge], neighbours.target[2 * edge + 1]
        if neighbours.degree[keep] < neighbours.degree[drop]:
            keep, drop = drop, keep
        children[n_merges, 0] = min(clusters.node[keep], clusters.node[drop])
        children[n_merges, 1] = max(clusters.node[keep], clusters.node[drop])
        heights[n_merges] = queue.height[edge]
        clusters.node[keep] = n_leaves + n_merges
        n_merges += 1
        _drop_edge(neighbours, queue, n_edges, edge)
        n_edges = _absorb(clusters, neighbours, queue, n_edges - 1, keep, drop, linkage)
        if linkage == _WARD:
            _update_ward(clusters, neighbours, queue, n_edges, keep, drop)
    return n_merges
