"""Agreement of two parcellations: of halves of the data, of a refit, of a reference atlas, of two participants."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.optimize import linear_sum_assignment

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.quality.sums import Double, Labels, divide


@dataclass(frozen=True)
class Agreement:
    """How far two parcellations agree.

    Parameters
    ----------
    adjusted_rand : float
        Adjusted Rand index: 1 for the same parcels, 0 on average by chance.
    normalized_mutual_information : float
        Mutual information divided by the mean of the two entropies, 0 to 1. It rises with the number of parcels, also
        by chance.
    partner : ndarray of int64, shape (n_parcels,)
        For each parcel of the first, the parcel of the second that it is matched with; 0 for none.
    dice : ndarray of shape (n_parcels,), float64
        Dice coefficient of each parcel of the first with its partner; 0 without one.
    """

    adjusted_rand: float
    normalized_mutual_information: float
    partner: NDArray[np.int64]
    dice: Double


def agreement(first: Labels, second: Labels) -> Agreement:
    """Compare two parcellations.

    Parameters
    ----------
    first, second : ndarray of int, shape (V,)
        The parcel of each voxel, from 1; 0 means none.

    Returns
    -------
    Agreement
        The adjusted Rand index and mutual information are those of the voxels that have a parcel in both. Each parcel
        is matched with one of the other at most, so that the sum of Dice coefficients is the largest.

    Raises
    ------
    UsageError
        If the parcellations are of different voxels.
    """
    counts = contingency(first, second)
    common = counts[1:, 1:]
    overlap = dice(counts)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    partner = np.zeros(len(overlap), dtype=np.int64)
    matched = np.zeros(len(overlap))
    touching = overlap[rows, columns] > 0
    partner[rows[touching]] = columns[touching] + 1
    matched[rows] = overlap[rows, columns]
    return Agreement(_adjusted_rand(common), _normalized_mutual_information(common), partner, matched)


def contingency(first: Labels, second: Labels) -> NDArray[np.int64]:
    """Count the voxels of each pair of labels.

    Parameters
    ----------
    first, second : ndarray of int, shape (V,)
        Labels from 0.

    Returns
    -------
    ndarray of int64, shape (1 + largest of first, 1 + largest of second)
        Numbers of voxels.

    Raises
    ------
    UsageError
        If the shapes differ, or a label is negative.
    """
    if first.shape != second.shape or min(first.min(initial=0), second.min(initial=0)) < 0:
        raise UsageError(
            f"two parcellations of {first.size} and {second.size} voxels cannot be compared: "
            "the same voxels are needed, with labels from 0"
        )
    n_rows, n_columns = int(first.max(initial=0)) + 1, int(second.max(initial=0)) + 1
    pairs = first.astype(np.int64) * n_columns + second
    return np.bincount(pairs, minlength=n_rows * n_columns).reshape(n_rows, n_columns)


def dice(counts: NDArray[np.int64]) -> Double:
    """Compute the Dice coefficient of each pair of parcels.

    Parameters
    ----------
    counts : ndarray of int, shape (1 + n_first, 1 + n_second)
        As `contingency` returns them.

    Returns
    -------
    ndarray of shape (n_first, n_second), float64
        Twice the common voxels, divided by the sum of both sizes. Voxels without a parcel in the other count in the
        size of theirs.
    """
    sizes = counts.sum(axis=1)[1:, np.newaxis] + counts.sum(axis=0)[1:]
    return np.asarray(2 * counts[1:, 1:] / np.maximum(sizes, 1))


def _adjusted_rand(counts: NDArray[np.int64]) -> float:
    """Hubert and Arabie's index (1985), from numbers of pairs of voxels."""
    together = _n_pairs(counts)
    in_first, in_second = _n_pairs(counts.sum(axis=1)), _n_pairs(counts.sum(axis=0))
    all_pairs = _n_pairs(counts.sum())
    if in_first == in_second == together:  # the same partition, trivial ones included
        return 1.0
    by_chance = in_first * in_second / all_pairs
    return float((together - by_chance) / ((in_first + in_second) / 2 - by_chance))


def _n_pairs(sizes: NDArray[np.int64]) -> float:
    return float((sizes * (sizes - 1.0)).sum() / 2)


def _normalized_mutual_information(counts: NDArray[np.int64]) -> float:
    shares = counts / max(counts.sum(), 1)
    first, second = (special.entr(shares.sum(axis=axis)).sum() for axis in (1, 0))
    common = first + second - special.entr(shares).sum()
    if first + second == 0:  # one parcel each: nothing is uncertain
        return 1.0
    return float(np.clip(2 * common / (first + second), 0, 1))


@dataclass(frozen=True)
class WithinBetween:
    """Agreement of parcellations of the same and of different participants.

    Parameters
    ----------
    within, between : ndarray of float64
        Adjusted Rand index of each pair of parcellations.
    """

    within: Double
    between: Double

    @property
    def difference(self) -> float:
        """Mean within less mean between participants; NaN if there is no such pair."""
        means = [float(divide(values.sum(), values.size)) for values in (self.within, self.between)]
        return means[0] - means[1]


def within_and_between(labelings: Sequence[Labels], participants: Sequence[str]) -> WithinBetween:
    """Compare all pairs of individual parcellations.

    Parameters
    ----------
    labelings : sequence of ndarray of int, shape (V,)
        Parcellations, for example one of each session.
    participants : sequence of str
        Whose each is.

    Returns
    -------
    WithinBetween
        Adjusted Rand indices, in the order of the pairs.

    Raises
    ------
    UsageError
        If there are not as many participants as parcellations.
    """
    if len(labelings) != len(participants):
        raise UsageError(f"{len(labelings)} parcellations of {len(participants)} participants: one name each is needed")
    pairs = list(combinations(range(len(labelings)), 2))
    values = np.array([_adjusted_rand(contingency(labelings[i], labelings[j])[1:, 1:]) for i, j in pairs])
    same = np.array([participants[i] == participants[j] for i, j in pairs], dtype=bool)
    return WithinBetween(values[same], values[~same])
