"""Random contiguous parcellations with the sizes of a given one: what any parcellation reaches by chance.

A connected region is cut in two by a surface between two of its voxels, so that each side has as many voxels as the
parcels that it is to hold, and each side is cut again until every parcel has its own. The features play no part.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.graph import connected_pieces
from bids_parcellate.numerics.kernels import kernel
from bids_parcellate.numerics.quality.contiguity import Graph, can_leave, neighbour_lists, scratch

Labels = NDArray[np.integer]
Int = NDArray[np.int32]

_SMALLEST_SIDE = 1 / 3  # share of a region's parcels that go to one side of a cut, at least
_N_ATTEMPTS = 16  # cuts of a region, and draws of a parcellation, until one has the right numbers of voxels
_NONE = -1
_FAR = np.iinfo(np.int32).max


@dataclass(frozen=True)
class _Parts:
    """What each piece of the mask holds of each parcel, in the order of the pieces."""

    labels: Int
    sizes: Int
    piece: Int
    piece_sizes: Int
    voxels: Int  # grouped by piece


class _Work(NamedTuple):
    """Memory of the compiled code, an entry for each voxel where nothing else is said."""

    graph: Any
    region: Any
    level: Any  # steps from one end of a region less those from the other
    distance: Any
    queue: Any
    memory: Any  # of `can_leave`


def random_parcellations(
    labels: Labels, adjacency: sparse.sparray, n_random: int, *, seed: int = 0
) -> NDArray[np.int32]:
    """Draw random parcellations whose parcels have the sizes of given ones.

    Parameters
    ----------
    labels : ndarray of int, shape (V,)
        The parcel of each voxel, from 1; 0 means none, here and in what is drawn.
    adjacency : sparse array, shape (V, V)
        The voxels that are neighbours.
    n_random : int
        Number of parcellations.
    seed : int, default=0
        Seed. The first of many are the same as few drawn with that seed.

    Returns
    -------
    ndarray of int32, shape (n_random, V)
        Parcels with the same numbers and sizes. Where the voxels with labels lie in several pieces, each piece holds as
        many voxels of each parcel as it does in ``labels``, and these are contiguous; so parcels are contiguous if
        those given do not go across pieces.

    Raises
    ------
    UsageError
        If the labels do not fit the graph, hold no parcel, or ``n_random`` is negative.

    Notes
    -----
    Sizes are exact but in masks of threads one voxel thick, where it may be that of 16 parcellations drawn none has
    all of them right: there the nearest is taken. Contiguity holds always, and no parcel is empty.

    A cut is the surface of equal difference of the distances to two voxels, counted in steps inside the region: a
    random one, and the one that is farthest from it. So regions are cut across. How many of the parcels, in random
    order, go to either side is random from a third to two thirds.

    Random parcels are a little less compact than those of clustering: in simulated noise without any parcels, the
    compactness (:func:`bids_parcellate.numerics.quality.shape.shapes`) was 0.78, that of Ward's parcels 0.81 to 0.85.
    In smooth images compact parcels explain more, there 0.118 against 0.115 of the variance, and 0.39 against 0.35 in
    very smooth ones. The boundary coefficient was the same (0.000 against 0.000).
    """
    if labels.shape != (adjacency.shape[0],) or labels.min(initial=0) < 0 or not labels.any():
        raise UsageError(
            f"labels must be parcels from 1 (or 0 for none) of the {adjacency.shape[0]} voxels of the graph, "
            f"but they have the shape {labels.shape} and go from {labels.min(initial=0)} to {labels.max(initial=0)}"
        )
    if n_random < 0:
        raise UsageError(f"n_random is {n_random}; it must not be negative")
    inside = np.flatnonzero(labels > 0)
    inner = sparse.csr_array(adjacency)[inside][:, inside]
    parts = _find_parts(labels[inside], inner)
    graph = neighbour_lists(inner)
    drawn = np.zeros((n_random, labels.size), dtype=np.int32)
    for number, one in enumerate(drawn):
        one[inside] = _draw_fitting(parts, graph, np.random.default_rng([seed, number]))
    return drawn


def _find_parts(labels: Labels, adjacency: sparse.sparray) -> _Parts:
    _, piece = connected_pieces(adjacency)
    n_labels = int(labels.max()) + 1
    pairs, sizes = np.unique(piece.astype(np.int64) * n_labels + labels, return_counts=True)
    piece_sizes = np.bincount(piece)
    voxels = np.argsort(piece, kind="stable")
    as_int = (array.astype(np.int32) for array in (pairs % n_labels, sizes, pairs // n_labels, piece_sizes, voxels))
    return _Parts(*as_int)


def _draw_fitting(parts: _Parts, graph: Graph, rng: np.random.Generator) -> Int:
    """Draw one parcellation, anew if sizes are not exact; return the label of each voxel, those that are off least."""
    best, least_error = np.empty(0, dtype=np.int32), np.inf
    for _ in range(_N_ATTEMPTS):
        order = np.lexsort((rng.random(parts.sizes.size), parts.piece))  # of the parts of each piece, at random
        part = _draw(parts, order, graph, rng)
        error = np.abs(np.bincount(part) - parts.sizes[order]).sum()
        if error < least_error:
            best, least_error = parts.labels[order][part], error
        if error == 0:
            break
    return best


def _draw(parts: _Parts, order: NDArray[np.intp], graph: Graph, rng: np.random.Generator) -> Int:
    """Give each voxel a part, numbered in the order given."""
    n_voxels, n_parts = parts.voxels.size, parts.sizes.size
    region = np.empty(n_voxels, dtype=np.int32)
    region[parts.voxels] = np.repeat(np.arange(parts.piece_sizes.size), parts.piece_sizes)
    level, distance, queue = np.zeros((3, n_voxels), dtype=np.int32)
    work = _Work(graph, region, level, distance, queue, scratch(n_voxels))
    draws = rng.random((n_parts, _N_ATTEMPTS, 2))
    return np.asarray(_divide(parts.voxels.copy(), parts.piece_sizes, parts.sizes[order], draws, work))


@kernel()
def _divide(voxels: Any, piece_sizes: Any, sizes: Any, draws: Any, work: _Work) -> Any:
    """Cut the pieces, of which ``voxels`` are those of the first, of the second ..., until each part has its region."""
    part = np.empty(voxels.size, dtype=np.int32)
    waiting = np.empty((piece_sizes.size + sizes.size, 4), dtype=np.int64)
    n_waiting = _list_pieces(piece_sizes, sizes, waiting)
    n_cuts = 0
    while n_waiting > 0:
        n_waiting -= 1
        start, stop, first, last = waiting[n_waiting]
        if last - first == 1:
            part[voxels[start:stop]] = first
            continue
        n_left, size = _separate(voxels[start:stop], sizes[first:last], draws[n_cuts], piece_sizes.size + n_cuts, work)
        n_cuts += 1
        waiting[n_waiting] = start, start + size, first, first + n_left
        waiting[n_waiting + 1] = start + size, stop, first + n_left, last
        n_waiting += 2
    return part


@kernel()
def _list_pieces(piece_sizes: Any, sizes: Any, waiting: Any) -> int:
    """Put each piece with its parts on the list of what is to be cut; return their number."""
    start, first = 0, 0
    for piece in range(piece_sizes.size):
        last, missing = first, piece_sizes[piece]
        while missing > 0:
            missing -= sizes[last]
            last += 1
        waiting[piece] = start, start + piece_sizes[piece], first, last
        start, first = start + piece_sizes[piece], last
    return len(piece_sizes)


@kernel()
def _draw_between(draw: float, n_parts: int) -> int:
    """Turn a number from 0 to 1 into how many parts go to the left side."""
    least = max(1, int(n_parts * _SMALLEST_SIDE))
    return least + int(draw * (n_parts - 2 * least + 1))


@kernel()
def _share(n_voxels: int, sizes: Any, n_left: int) -> int:
    """Find how many of a region's voxels the left side gets: what its parts need, if the region has its due size."""
    total = sizes.sum()
    share = (n_voxels * sizes[:n_left].sum() + total // 2) // total
    return int(min(max(share, n_left), n_voxels - (sizes.size - n_left)))


@kernel()
def _separate(voxels: Any, sizes: Any, draws: Any, left: int, work: _Work) -> tuple[int, int]:
    """Cut a region, put the voxels of the left side first; return how many parts and how many voxels that side has.

    Of several cuts the first is taken that gives both sides what their parts need, or the one that is nearest to it.
    """
    right, n_parts = work.region[voxels[0]], sizes.size
    best, least_error = _NONE, voxels.size
    for attempt in range(len(draws)):
        n_left = _draw_between(draws[attempt, 0], n_parts)
        goal = _share(voxels.size, sizes, n_left)
        n_voxels = _cut(voxels, goal, draws[attempt, 1], right, left, work)
        error = abs(n_voxels - goal)
        if error < least_error and n_left <= n_voxels <= voxels.size - (n_parts - n_left):
            best, least_error = attempt, error
        if error == 0:
            break
        work.region[voxels] = right
    if best == _NONE:  # part a single voxel: without the farthest one, all others hang together
        n_left, n_voxels = 1, 1
        work.region[_spread(voxels[0], voxels, work)] = left
    elif least_error > 0:
        n_left = _draw_between(draws[best, 0], n_parts)
        n_voxels = _cut(voxels, _share(voxels.size, sizes, n_left), draws[best, 1], right, left, work)
    _put_first(voxels, left, work)
    return n_left, n_voxels


@kernel()
def _cut(voxels: Any, goal: int, draw: float, right: int, left: int, work: _Work) -> int:
    """Cut a region ``right``; return how many voxels the left side got, ``goal`` if it can be had."""
    one_end = voxels[int(draw * voxels.size)]
    other_end = _spread(one_end, voxels, work)
    for voxel in voxels:
        work.level[voxel] = work.distance[voxel]
    _spread(other_end, voxels, work)
    for voxel in voxels:
        work.level[voxel] -= work.distance[voxel]
    surface, n_left = _level_of_rank(voxels, goal, work)
    # A step towards one end never leads to a higher level, one towards the other end never to a lower one: both sides
    # hang together.
    for voxel in voxels:
        if work.level[voxel] < surface:
            work.region[voxel] = left
    if n_left < goal:
        n_left += _shift(voxels, goal - n_left, surface, right, left, work)
    else:
        n_left -= _shift(voxels, n_left - goal, surface, left, right, work)
    return n_left


@kernel()
def _spread(start: int, voxels: Any, work: _Work) -> int:
    """Count the steps from a voxel to all of its region; return the farthest one."""
    starts, neighbours = work.graph
    distance, queue = work.distance, work.queue
    for voxel in voxels:
        distance[voxel] = _FAR
    distance[start] = 0
    queue[0] = start
    head, tail = 0, 1
    while head < tail:
        here = queue[head]
        head += 1
        for position in range(starts[here], starts[here + 1]):
            neighbour = neighbours[position]
            if distance[neighbour] == _FAR:
                distance[neighbour] = distance[here] + 1
                queue[tail] = neighbour
                tail += 1
    return int(queue[tail - 1])


@kernel()
def _level_of_rank(voxels: Any, rank: int, work: _Work) -> tuple[int, int]:
    """Find the highest level that at most ``rank`` voxels, but at least one, are below of; return it and how many."""
    lowest, highest = work.level[voxels[0]], work.level[voxels[0]]
    for voxel in voxels:
        lowest, highest = min(lowest, work.level[voxel]), max(highest, work.level[voxel])
    counts = np.zeros(highest - lowest + 1, dtype=np.int64)
    for voxel in voxels:
        counts[work.level[voxel] - lowest] += 1
    level, n_below = 1, counts[0]
    while n_below + counts[level] <= rank:
        n_below += counts[level]
        level += 1
    return lowest + level, n_below


@kernel()
def _shift(voxels: Any, n_wanted: int, surface: int, giver: int, taker: int, work: _Work) -> int:
    """Move voxels from one side to the other, those near the surface first; return how many could be moved."""
    n_moved, width = 0, 0
    while n_moved < n_wanted and width <= 4 * voxels.size:
        before = n_moved
        for voxel in voxels:
            if (
                n_moved < n_wanted
                and work.region[voxel] == giver
                and abs(work.level[voxel] - surface) <= width
                and _borders(voxel, taker, work)
                and can_leave(voxel, work.region, work.graph, work.memory)
            ):
                work.region[voxel] = taker
                n_moved += 1
        if n_moved == before:
            width = 2 * width + 1
    return n_moved


@kernel()
def _borders(voxel: int, region: int, work: _Work) -> bool:
    starts, neighbours = work.graph
    for position in range(starts[voxel], starts[voxel + 1]):  # noqa: SIM110 - generators are not compiled
        if work.region[neighbours[position]] == region:
            return True
    return False


@kernel()
def _put_first(voxels: Any, left: int, work: _Work) -> None:
    """Sort the voxels of the left side before those of the right one, in their order."""
    n_left, n_right = 0, 0
    for voxel in voxels:
        if work.region[voxel] == left:
            voxels[n_left] = voxel
            n_left += 1
        else:
            work.queue[n_right] = voxel
            n_right += 1
    voxels[n_left:] = work.queue[:n_right]
