"""Labels that keep their meaning: their order in space, their parents at a coarser scale, their match in another fit.

Labels are integers from 0, one for each voxel; a negative one stands for no parcel.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from bids_parcellate.errors import UsageError

_ONE_SIDED = 2 / 3  # share of a parcel's voxels that makes it one of that hemisphere


@dataclass(frozen=True)
class Parents:
    """The parcels of a coarse parcellation that hold those of a fine one.

    Parameters
    ----------
    parents : ndarray of int32, shape (n_fine,)
        For each fine parcel the coarse one that holds most of its voxels; -1 if none does.
    shares : ndarray of float64, shape (n_fine,)
        The share of its voxels that lie there: 1 where parcels are nested.
    """

    parents: NDArray[np.int32]
    shares: NDArray[np.float64]


@dataclass(frozen=True)
class Match:
    """New numbers for labels, those of the reference's parcels that they match.

    Parameters
    ----------
    numbers : ndarray of int32, shape (n_labels,)
        The new number of each label: that of its match, or one that the reference does not have.
    dice : ndarray of float64, shape (n_labels,)
        Dice coefficient of each label and its match; 0 for a label without one.
    """

    numbers: NDArray[np.int32]
    dice: NDArray[np.float64]

    def apply(self, labels: NDArray[np.integer]) -> NDArray[np.int32]:
        """Give labels their new numbers.

        Parameters
        ----------
        labels : ndarray of int, shape (V,)
            The labels that were matched.

        Returns
        -------
        ndarray of int32, shape (V,)
            The new numbers; no parcel (-1) stays no parcel.
        """
        return renumber(labels, self.numbers)


def renumber(labels: NDArray[np.integer], numbers: NDArray[np.integer]) -> NDArray[np.int32]:
    """Give labels new numbers.

    Parameters
    ----------
    labels : ndarray of int, shape (V,)
        Label of each voxel.
    numbers : ndarray of int, shape (n_labels,)
        The new number of each label.

    Returns
    -------
    ndarray of int32, shape (V,)
        The new numbers, and -1 where the label is negative.
    """
    table = np.append(numbers, -1).astype(np.int32)
    renumbered: NDArray[np.int32] = table[np.maximum(labels, -1)]
    return renumbered


def nested_parents(fine: NDArray[np.integer], coarse: NDArray[np.integer]) -> Parents:
    """Find the coarse parcel that holds each fine one, or most of it.

    Parameters
    ----------
    fine, coarse : ndarray of int, shape (V,)
        Labels of the same voxels at two scales.

    Returns
    -------
    Parents
        Of equal shares the parcel of the lower number is taken.

    Raises
    ------
    UsageError
        If they are not of the same voxels.
    """
    overlap = _overlap(fine, coarse).toarray()
    sizes = np.bincount(fine[fine >= 0], minlength=len(overlap))
    parents = overlap.argmax(axis=1)
    held = overlap[np.arange(len(overlap)), parents]
    shares = np.divide(held, sizes, out=np.zeros(len(sizes)), where=sizes > 0)
    return Parents(np.where(held > 0, parents, -1).astype(np.int32), shares)


def match_labels(labels: NDArray[np.integer], reference: NDArray[np.integer]) -> Match:
    """Match parcels with those of a reference, one to one, so that as many voxels as possible keep their number.

    Parcels that share no voxel are no match. The numbers of parcels can differ: those without a match get the
    next numbers after the reference's, in their order.

    Parameters
    ----------
    labels, reference : ndarray of int, shape (V,)
        Labels of the same voxels, for example of two fits.

    Returns
    -------
    Match
        The new numbers.

    Raises
    ------
    UsageError
        If they are not of the same voxels.

    References
    ----------
    .. [1] Kuhn HW (1955). The Hungarian method for the assignment problem. Nav Res Logist Q 2:83-97.
    """
    overlap = _overlap(labels, reference).toarray()
    row, column = optimize.linear_sum_assignment(overlap, maximize=True)
    touching = overlap[row, column] > 0
    row, column = row[touching], column[touching]
    n_labels, n_reference = overlap.shape
    numbers, dice = np.full(n_labels, -1, dtype=np.int32), np.zeros(n_labels)
    numbers[row] = column
    unmatched = numbers < 0
    numbers[unmatched] = n_reference + np.arange(np.count_nonzero(unmatched))
    sizes = np.bincount(labels[labels >= 0], minlength=n_labels)
    sizes_reference = np.bincount(reference[reference >= 0], minlength=n_reference)
    dice[row] = 2 * overlap[row, column] / (sizes[row] + sizes_reference[column])
    return Match(numbers, dice)


def spatial_order(labels: NDArray[np.integer], coordinates: NDArray[np.floating]) -> NDArray[np.int32]:
    """Order parcels by their place: those of the left hemisphere, of the right, of both; in each from front to back.

    A parcel is of one hemisphere if two thirds of its voxels are, which small changes seldom turn over; within
    a hemisphere, neighbours in the order may swap. `match_labels` keeps numbers from fit to fit altogether.

    Parameters
    ----------
    labels : ndarray of int, shape (V,)
        Label of each voxel; none is left out from 0 to the largest.
    coordinates : ndarray of float, shape (V, 3)
        World coordinates of the voxels in millimetres (RAS+).

    Returns
    -------
    ndarray of int32, shape (n_labels,)
        The new number of each label, from 0: for `renumber`.
    """
    inside = labels >= 0
    labels, coordinates = labels[inside], coordinates[inside]
    sizes = np.bincount(labels)
    centres = np.stack([np.bincount(labels, weights=axis) for axis in coordinates.T]) / sizes
    share_left = np.bincount(labels, weights=coordinates[:, 0] < 0) / sizes
    side = np.select([share_left >= _ONE_SIDED, share_left <= 1 - _ONE_SIDED], [0, 1], default=2)
    order = np.lexsort((centres[0], -centres[2], -centres[1], side))
    numbers = np.empty(len(sizes), dtype=np.int32)
    numbers[order] = np.arange(len(sizes))
    return numbers


def _overlap(labels: NDArray[np.integer], others: NDArray[np.integer]) -> sparse.coo_array:
    """Count the voxels that each label shares with each other one, shape (n_labels, n_others)."""
    if labels.shape != others.shape:
        raise UsageError(f"The labels are of {labels.shape} and of {others.shape} voxels: give those of the same.")
    shape = (int(labels.max(initial=-1)) + 1, int(others.max(initial=-1)) + 1)
    both = (labels >= 0) & (others >= 0)
    ones = np.ones(np.count_nonzero(both), dtype=np.int64)
    return sparse.coo_array((ones, (labels[both], others[both])), shape=shape)
