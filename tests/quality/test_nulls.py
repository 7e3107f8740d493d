"""Random parcellations have the sizes that were asked for, hang together, and take no side."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.graph import connected_pieces, scattered_labels, voxel_adjacency
from bids_parcellate.numerics.quality.contiguity import can_leave, neighbour_lists, scratch
from bids_parcellate.numerics.quality.nulls import random_parcellations
from bids_parcellate.numerics.quality.variance import explained_variance
from bids_parcellate.numerics.simulation.brain import grow_parcels, make_brain, smooth_field


@pytest.fixture(scope="module")
def brain():
    mask = make_brain(8.0).mask
    labels = grow_parcels(mask, 50, np.random.default_rng(0))[mask]
    return mask, labels, voxel_adjacency(mask)


def test_sizes_and_contiguity(brain):
    _, labels, adjacency = brain
    for drawn in random_parcellations(labels, adjacency, 30, seed=1):
        np.testing.assert_array_equal(np.bincount(drawn), np.bincount(labels))
        assert not scattered_labels(drawn, adjacency).size


def test_sizes_that_differ_much(brain):
    _, labels, adjacency = brain
    uneven = np.repeat([1, 2, *range(3, 43)], [len(labels) - 300, 260, *[1] * 40])
    for drawn in random_parcellations(uneven, adjacency, 10, seed=1):
        np.testing.assert_array_equal(np.bincount(drawn), np.bincount(uneven))
        assert not scattered_labels(drawn, adjacency).size


@given(seed=st.integers(0, 10_000), holes=st.floats(0, 0.25), n_parcels=st.integers(1, 25))
@settings(deadline=None, max_examples=40)
def test_pieces_of_the_mask_keep_what_they_hold(seed, holes, n_parcels):
    rng = np.random.default_rng(seed)
    mask = rng.random((9, 8, 7)) > holes
    mask[4] = False
    adjacency = voxel_adjacency(mask)
    labels = rng.integers(0, n_parcels + 1, mask.sum())
    inside = labels > 0
    if not inside.any():
        return
    (drawn,) = random_parcellations(labels, adjacency, 1, seed=seed)
    np.testing.assert_array_equal(drawn > 0, inside)
    _, piece = connected_pieces(adjacency[inside][:, inside])
    both = piece * (n_parcels + 1)
    # Labels at random leave threads of voxels, where no cut may fit: there sizes may be off, though not the parcels.
    given_parts, drawn_parts = both + labels[inside], both + drawn[inside]
    np.testing.assert_array_equal(np.unique(given_parts), np.unique(drawn_parts))
    assert not scattered_labels(drawn_parts, adjacency[inside][:, inside]).size
    wrong = np.abs(np.bincount(given_parts) - np.bincount(drawn_parts, minlength=given_parts.max() + 1)).sum() / 2
    assert wrong <= 0.1 * inside.sum()


def test_the_first_of_many_are_the_same_as_few(brain):
    _, labels, adjacency = brain
    many, few = random_parcellations(labels, adjacency, 4, seed=5), random_parcellations(labels, adjacency, 2, seed=5)
    np.testing.assert_array_equal(many[:2], few)
    assert (many[0] != many[1]).mean() > 0.5
    assert (random_parcellations(labels, adjacency, 1, seed=6)[0] != few[0]).mean() > 0.5


def test_only_the_sizes_of_the_given_parcels_matter(brain):
    """The ranks of a random parcellation among others of its sizes are uniform: the test has its nominal size."""
    mask, labels, adjacency = brain
    rng = np.random.default_rng(0)
    ranks = []
    for repeat in range(60):
        features = np.stack([smooth_field(mask.shape, 1.2, rng)[mask] for _ in range(4)])
        (given,) = random_parcellations(labels, adjacency, 1, seed=1000 + repeat)
        others = random_parcellations(given, adjacency, 9, seed=repeat)
        values = [result.overall for result in explained_variance(features, [given, *others])]
        ranks.append(np.sum(np.array(values[1:]) > values[0]))
    assert stats.chisquare(np.bincount(np.array(ranks) // 2, minlength=5)).pvalue > 0.01


def test_no_label_and_no_edge_is_preferred(brain):
    mask, _, adjacency = brain
    labels = np.repeat(np.arange(1, 11), -(-mask.sum() // 10))[: mask.sum()]
    drawn = random_parcellations(labels, adjacency, 300)
    places = np.argwhere(mask)
    spread = places.std(axis=0)
    for label in (1, 5, 9):  # in the given one they lie at one end, in the middle, at the other end
        centres = np.stack([places[one == label].mean(axis=0) for one in drawn])
        assert (np.abs(centres.mean(axis=0) - places.mean(axis=0)) < 0.2 * spread).all()
    ends = np.stack(adjacency.tocoo().coords)
    cut = (drawn[:, ends[0]] != drawn[:, ends[1]]).mean(axis=0)
    along = np.abs(places[ends[0]] - places[ends[1]]).argmax(axis=1)
    shares = [cut[along == axis].mean() for axis in range(3)]
    assert max(shares) < 1.5 * min(shares)


def test_leaving_is_told_as_scipy_tells_it():
    rng = np.random.default_rng(0)
    mask = rng.random((7, 7, 7)) > 0.3
    labels = rng.integers(0, 2, mask.sum()).astype(np.int32)
    adjacency = voxel_adjacency(mask)
    # Each piece of a label is a parcel of its own.
    same = adjacency.tocoo()
    row, column = same.coords
    inner = labels[row] == labels[column]
    adjacency_within = adjacency.copy().tolil()
    for i, j in zip(row[~inner], column[~inner], strict=True):
        adjacency_within[i, j] = False
    within = adjacency_within.tocsr()
    within.eliminate_zeros()
    _, parcels = connected_pieces(within)
    graph, memory = neighbour_lists(adjacency), scratch(parcels.size)
    for voxel in range(parcels.size):
        rest = np.flatnonzero((parcels == parcels[voxel]) & (np.arange(parcels.size) != voxel))
        expected = rest.size > 0 and connected_pieces(adjacency[rest][:, rest])[0] == 1
        assert can_leave(voxel, parcels, graph, memory) == expected
        assert (memory[0] == -1).all()


def test_a_long_way_round_is_not_looked_for():
    labels, memory = np.ones(3000, dtype=np.int32), scratch(3000)
    assert not can_leave(
        5, labels, neighbour_lists(_ring(3000)), memory
    )  # the rest hangs together, but along 2999 voxels
    assert can_leave(5, labels[:500], neighbour_lists(_ring(500)), scratch(500))
    assert (memory[0] == -1).all()


def _ring(n_voxels):
    last = n_voxels - 1
    return sparse.csr_array(
        sparse.diags_array([1.0, 1.0, 1.0, 1.0], offsets=[-1, 1, last, -last], shape=(n_voxels, n_voxels))
    )


def test_what_cannot_be_drawn_is_refused(brain):
    _, labels, adjacency = brain
    with pytest.raises(UsageError, match="from 0 to 0"):
        random_parcellations(np.zeros_like(labels), adjacency, 1)
    with pytest.raises(UsageError, match="voxels of the graph"):
        random_parcellations(labels[1:], adjacency, 1)
    with pytest.raises(UsageError, match="n_random is -1"):
        random_parcellations(labels, adjacency, -1)
    assert random_parcellations(labels, adjacency, 0).shape == (0, labels.size)
