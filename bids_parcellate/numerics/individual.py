"""Individual parcellations: the group's parcels, with each participant's own boundaries.

Labels are the parcels of voxels, numbered from 1; 0 means that a voxel has none.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.graph import scattered_labels
from bids_parcellate.numerics.kernels import kernel
from bids_parcellate.numerics.quality.contiguity import Graph, can_leave, neighbour_lists, scratch
from bids_parcellate.numerics.quality.sums import Labels, parcel_sums, present_labels, voxel_rows

_LEAST_GAIN = 1e-6  # moves that gain less are rounding noise, and might go on for ever


@dataclass(frozen=True)
class IndividualParcellation:
    """A participant's own parcels.

    Parameters
    ----------
    labels : ndarray of int32, shape (V,)
        The parcel of each voxel, with the group's numbers. None is empty.
    n_moved : int
        Number of voxels whose parcel is not the group's.
    n_sweeps : int
        Number of passes over the voxels, the last one without a move if it converged.
    converged : bool
        Whether no move was left that improves anything.
    """

    labels: NDArray[np.int32]
    n_moved: int
    n_sweeps: int
    converged: bool


def individual_parcels(
    features: NDArray[np.floating],
    labels: Labels,
    adjacency: sparse.sparray,
    *,
    prior_weight: float = 0.1,
    smoothness: float = 0.02,
    max_sweeps: int = 100,
) -> IndividualParcellation:
    """Move the boundaries of the group's parcels to where a participant has them.

    Parameters
    ----------
    features : ndarray of shape (k, V), float32 or float64
        The participant's components times their singular values. Voxels of zeros, which the participant lacks,
        have only the prior and their neighbours to follow.
    labels : ndarray of int, shape (V,)
        The group's parcels, contiguous.
    adjacency : sparse array, shape (V, V)
        The voxels that are neighbours.
    prior_weight : float, default=0.1
        What it costs a voxel to leave its group parcel, in units of correlation. With a large weight nothing moves.
    smoothness : float, default=0.02
        What each pair of neighbours in two parcels costs, in the same units. It makes up for the noise of short runs.
    max_sweeps : int, default=100
        Largest number of passes over the voxels.

    Returns
    -------
    IndividualParcellation
        The same parcels, each contiguous and none empty. Voxels without a group parcel stay without.

    Raises
    ------
    UsageError
        If the labels do not fit, or a weight is negative.
    DataError
        If a group parcel is not contiguous.

    Notes
    -----
    With features of unit length, so that products are correlations, it raises the sum over voxels of the correlation
    with the direction of their parcel's sum, plus ``prior_weight`` for each voxel in its group parcel, less
    ``smoothness`` for each edge between parcels. Up to constants this is the logarithm of the posterior probability of
    a mixture of von Mises-Fisher distributions with a Potts prior, as in [2]_, where the participant's profiles replace
    the group's step by step, as in [1]_. Voxels at boundaries move one at a time to the parcel that
    raises it most [3]_, and the directions follow at once. Each move raises it, so the passes come to an end. A move
    that would tear or empty a parcel is not made.

    The default weights are a compromise, from simulations of 60 parcels in 8,333 voxels, with noise of 4 to 9 times the
    signal's variance. Where a participant's boundaries are the group's, the adjusted Rand index to them stays at 0.92
    (40 volumes) and 1.00 (100 volumes); where they are shifted it rises from 0.52 and 0.51, which the group's labels
    have, to 0.70 and 0.97.

    References
    ----------
    .. [1] Wang D et al. (2015). Parcellating cortical functional networks in individuals. Nat Neurosci 18:1853-1860.
    .. [2] Kong R et al. (2019). Spatial topography of individual-specific cortical networks predicts human cognition,
       personality, and emotion. Cereb Cortex 29:2533-2551.
    .. [3] Besag J (1986). On the statistical analysis of dirty pictures. J R Stat Soc B 48:259-302.
    """
    if min(prior_weight, smoothness) < 0:
        raise UsageError(f"prior_weight ({prior_weight}) and smoothness ({smoothness}) must not be negative")
    group = present_labels(labels, features.shape[1], None).astype(np.int32)
    _check_contiguous(group, adjacency)
    rows = voxel_rows(features, unit=True)
    n_parcels = int(group.max(initial=0))
    sums = np.zeros((n_parcels + 1, rows.shape[1]))
    sums[1:] = parcel_sums(rows, group, n_parcels)
    own = group.copy()
    graph, memory = neighbour_lists(adjacency), scratch(group.size)
    n_sweeps, n_moves = 0, -1
    while n_moves != 0 and n_sweeps < max_sweeps:
        n_moves = _sweep(rows, own, group, sums, (prior_weight, smoothness), (graph, memory))
        n_sweeps += 1
    return IndividualParcellation(own, int(np.count_nonzero(own != group)), n_sweeps, n_moves == 0)


def _check_contiguous(labels: NDArray[np.int32], adjacency: sparse.sparray) -> None:
    scattered = scattered_labels(labels, adjacency)
    scattered = scattered[scattered > 0]
    if scattered.size:
        raise DataError(
            f"{scattered.size} group parcels are not contiguous, such as {scattered[0]}",
            "Fit the group with a spatial method, or make its parcels contiguous first.",
        )


@kernel()
def _sweep(rows: Any, own: Any, group: Any, sums: Any, weights: tuple[float, float], space: tuple[Graph, Graph]) -> int:
    """Pass over all voxels once, and move those that gain by it; return their number."""
    graph, memory = space
    n_moves = 0
    for voxel in range(own.size):
        if own[voxel] > 0:
            best = _best_parcel(voxel, rows, own, group, sums, weights, graph)
            if best != own[voxel] and can_leave(voxel, own, graph, memory):
                sums[own[voxel]] -= rows[voxel]
                sums[best] += rows[voxel]
                own[voxel] = best
                n_moves += 1
    return n_moves


@kernel()
def _best_parcel(
    voxel: int, rows: Any, own: Any, group: Any, sums: Any, weights: tuple[float, float], graph: Graph
) -> int:
    """Find which of the parcels around a voxel it should be in, its own included."""
    starts, neighbours = graph
    here = own[voxel]
    stay = _change(rows[voxel], sums[here], -1) - _value(voxel, here, own, group, weights, graph)
    best, largest = here, _LEAST_GAIN
    for position in range(starts[voxel], starts[voxel + 1]):
        there = own[neighbours[position]]
        if there > 0 and there != here and there != best:  # noqa: PLR1714 - not compiled as a tuple
            gain = stay + _change(rows[voxel], sums[there], 1) + _value(voxel, there, own, group, weights, graph)
            if gain > largest:
                best, largest = there, gain
    return int(best)


@kernel()
def _change(row: Any, total: Any, sign: int) -> float:
    """By how much the length of a parcel's sum changes if a voxel's features are added (sign 1) or taken (-1)."""
    before, after = 0.0, 0.0
    for feature in range(total.size):
        before += total[feature] ** 2
        after += (total[feature] + sign * row[feature]) ** 2
    return float(np.sqrt(after) - np.sqrt(before))


@kernel()
def _value(voxel: int, parcel: int, own: Any, group: Any, weights: tuple[float, float], graph: Graph) -> float:
    """Weigh what the prior and the neighbours say for a parcel."""
    starts, neighbours = graph
    n_alike = 0
    for position in range(starts[voxel], starts[voxel + 1]):
        n_alike += own[neighbours[position]] == parcel
    return float(weights[0] * (group[voxel] == parcel) + weights[1] * n_alike)
