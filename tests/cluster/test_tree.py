"""Cuts of trees, against a plain reference."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_parcellate.numerics.cluster.tree import ORPHAN, cut_tree


def random_tree(n_leaves, n_roots, seed):
    rng = np.random.default_rng(seed)
    nodes, children = list(range(n_leaves)), []
    while len(nodes) > n_roots:
        first, second = (nodes.pop(rng.integers(len(nodes))) for _ in range(2))
        children.append((min(first, second), max(first, second)))
        nodes.append(n_leaves + len(children) - 1)
    return np.array(children, dtype=np.int64).reshape(-1, 2), rng.integers(1, 4, n_leaves)


def plain_cut(children, sizes, n_clusters, min_size):
    """Undo merges from the last on, as sets of leaves."""
    members = [{leaf} for leaf in range(len(sizes))]
    for first, second in children:
        members.append(members[first] | members[second])
    roots = set(range(len(members))) - set(children.ravel().tolist())
    clusters = {frozenset(members[root]) for root in roots}
    for merge in range(len(children) - 1, -1, -1):
        parts = [members[child] for child in children[merge]]
        if len(clusters) < n_clusters and all(sum(sizes[leaf] for leaf in part) >= min_size for part in parts):
            # What is left of the cluster, besides the two, belongs to nobody from now on.
            clusters = {each for each in clusters if not (parts[0] | parts[1]) <= each} | {frozenset(p) for p in parts}
    return clusters


@given(st.integers(1, 30), st.data(), st.integers(0, 10**6))
@settings(deadline=None, max_examples=150)
def test_a_plain_reference_gives_the_same(n_leaves, data, seed):
    n_roots = data.draw(st.integers(1, n_leaves))
    n_clusters, min_size = data.draw(st.integers(n_roots, n_leaves)), data.draw(st.integers(1, 8))
    children, sizes = random_tree(n_leaves, n_roots, seed)
    labels = cut_tree(children, sizes, n_clusters, min_size=min_size)
    found = {frozenset(np.flatnonzero(labels == label).tolist()) for label in range(labels.max() + 1)}
    assert found == plain_cut(children, sizes, n_clusters, min_size)
    if min_size == 1:
        assert len(found) == n_clusters
        assert ORPHAN not in labels
