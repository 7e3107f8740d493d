"""Homogeneity: how much the voxels of a parcel resemble each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.numerics.quality.sums import (
    Double,
    Labels,
    count_voxels,
    divide,
    parcel_sums,
    present_labels,
    squared_norms,
    voxel_rows,
)


@dataclass(frozen=True)
class Homogeneity:
    """Sums of correlations by parcel. Those of several runs are added: ``sum(runs[1:], runs[0])``.

    Parameters
    ----------
    correlations : ndarray of shape (n_parcels,), float64
        Sum over all ordered pairs of two voxels of the parcel.
    n_pairs : ndarray of shape (n_parcels,), float64
        Number of such pairs: ``n * (n - 1)``.
    n_voxels : ndarray of shape (n_parcels,), float64
        Number of voxels.
    """

    correlations: Double
    n_pairs: Double
    n_voxels: Double

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.correlations + other.correlations, self.n_pairs + other.n_pairs, self.n_voxels + other.n_voxels
        )

    @property
    def per_parcel(self) -> Double:
        """Mean correlation of two voxels of each parcel; NaN for a parcel without two voxels."""
        return divide(self.correlations, self.n_pairs)

    @property
    def overall(self) -> float:
        """Mean over the parcels of at least two voxels, weighted by their numbers of voxels."""
        defined = self.n_pairs > 0
        weights = self.n_voxels[defined]
        return float(divide(weights @ self.per_parcel[defined], weights.sum()))


def homogeneity(
    features: NDArray[np.floating], labelings: Sequence[Labels], *, available: NDArray[np.bool_] | None = None
) -> list[Homogeneity]:
    """Find the mean correlation of two voxels of a parcel, in a run.

    Parameters
    ----------
    features : ndarray of shape (k, V), float32 or float64
        The run's components times their singular values. Correlations are those of the signals as far as the
        components hold them; noise that was cut off raises them.
    labelings : sequence of ndarray of int, shape (V,)
        Parcellations. In each the parcels are numbered from 1; 0 means none.
    available : ndarray of bool, shape (V,), optional
        Whether the run has the voxel. All by default, but for voxels whose features are all zero, which have no
        correlation.

    Returns
    -------
    list of Homogeneity
        One for each parcellation.

    Raises
    ------
    UsageError
        If labels or ``available`` do not fit the features.

    Notes
    -----
    With features of unit length, which sum to ``s``, the correlations of all ordered pairs of n voxels sum to
    ``|s|^2 - n``.

    Small parcels are homogeneous in any smooth image: compare with random parcels of the same sizes, not with 1.
    """
    rows = voxel_rows(features, unit=True)
    squares = squared_norms(rows)
    varies = squares > 0
    results = []
    for labels in labelings:
        n_parcels = int(labels.max(initial=0))
        present = present_labels(labels, len(rows), varies if available is None else available & varies)
        n_voxels = count_voxels(present, n_parcels)
        of_itself = np.bincount(present, weights=squares, minlength=n_parcels + 1)[1:]  # n, but for rounding
        correlations = squared_norms(parcel_sums(rows, present, n_parcels)) - of_itself
        results.append(Homogeneity(correlations, n_voxels * (n_voxels - 1), n_voxels))
    return results
