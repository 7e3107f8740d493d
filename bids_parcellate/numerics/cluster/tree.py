"""Cuts of a tree of merges: the parcellations that it holds."""

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.numerics.kernels import kernel

ORPHAN = -1


def cut_tree(
    children: NDArray[np.int64], sizes: NDArray[np.int64], n_clusters: int, *, min_size: int = 1
) -> NDArray[np.int32]:
    """Cut a tree (or forest): undo its last merges until there are so many clusters.

    Only merges of two clusters that both have ``min_size`` make two clusters when they are undone. Where a smaller
    one was merged above another merge that is undone, it belongs to neither side: it is an orphan.

    Parameters
    ----------
    children : ndarray of int64, shape (n_merges, 2)
        The two nodes that each merge joins. Nodes below n_leaves are leaves; node
        ``n_leaves + i`` is what merge i makes.
    sizes : ndarray of int64, shape (n_leaves,)
        The size of each leaf.
    n_clusters : int
        Number of clusters, at least that of the roots.
    min_size : int, default=1
        The least size of a cluster.

    Returns
    -------
    ndarray of int32, shape (n_leaves,)
        The cluster of each leaf, numbered from 0 without gaps; -1 for orphans, which only a ``min_size`` makes. There
        are fewer clusters than asked for where the tree has no more of that size.
    """
    n_leaves, n_merges = len(sizes), len(children)
    totals = _add_up(children, sizes)
    can_be_undone = np.flatnonzero((totals[children] >= min_size).all(axis=1))
    n_roots = n_leaves - n_merges
    undone = np.zeros(n_merges, dtype=bool)
    undone[can_be_undone[max(can_be_undone.size - (n_clusters - n_roots), 0) :]] = True
    return _spread(children, undone, n_leaves)


@kernel()
def _add_up(children: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the size of each node."""
    n_leaves = len(sizes)
    totals = np.empty(n_leaves + len(children), dtype=np.int64)
    totals[:n_leaves] = sizes
    for merge in range(len(children)):
        totals[n_leaves + merge] = totals[children[merge, 0]] + totals[children[merge, 1]]
    return totals


@kernel()
def _spread(children: NDArray[np.int64], undone: NDArray[np.bool_], n_leaves: int) -> NDArray[np.int32]:
    """Give numbers to the largest nodes in which nothing is undone, and to their leaves."""
    n_nodes = n_leaves + len(children)
    split = np.zeros(n_nodes, dtype=np.bool_)  # something is undone there or below
    for merge in range(len(children)):
        split[n_leaves + merge] = undone[merge] or split[children[merge, 0]] or split[children[merge, 1]]
    undecided = -2
    labels = np.full(n_nodes, undecided, dtype=np.int32)
    n_labels = 0
    for node in range(n_nodes - 1, -1, -1):
        if labels[node] == undecided and not split[node]:
            labels[node] = n_labels
            n_labels += 1
        if node < n_leaves:
            continue
        for child in children[node - n_leaves]:
            if not split[node]:
                labels[child] = labels[node]
            elif not undone[node - n_leaves] and not split[child]:
                labels[child] = ORPHAN
    return labels[:n_leaves]
