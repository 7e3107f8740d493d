"""Explained variance: how much of the voxels' signals their parcels' means hold."""

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
class ExplainedVariance:
    """Sums of squares by parcel. Those of several runs are added: ``sum(runs[1:], runs[0])``.

    Parameters
    ----------
    explained : ndarray of shape (n_parcels,), float64
        Of the voxels' signals, each replaced by its parcel's mean.
    total : ndarray of shape (n_parcels,), float64
        Of the voxels' signals.
    """

    explained: Double
    total: Double

    def __add__(self, other: Self) -> Self:
        return type(self)(self.explained + other.explained, self.total + other.total)

    @property
    def per_parcel(self) -> Double:
        """Share of each parcel's variance that its mean explains, 0 to 1; NaN for a parcel that no run has."""
        return divide(self.explained, self.total)

    @property
    def overall(self) -> float:
        """Share of the variance of all voxels with a parcel that the means explain, 0 to 1."""
        return float(divide(self.explained.sum(), self.total.sum()))


def explained_variance(
    features: NDArray[np.floating], labelings: Sequence[Labels], *, available: NDArray[np.bool_] | None = None
) -> list[ExplainedVariance]:
    """Find how much of a run's variance parcellations explain.

    Parameters
    ----------
    features : ndarray of shape (k, V), float32 or float64
        The run's components times their singular values, ``S C``. What reduction cut off counts neither as explained
        nor as total.
    labelings : sequence of ndarray of int, shape (V,)
        Parcellations: several numbers of parcels, random ones. In each the parcels are numbered from 1; 0 means none.
    available : ndarray of bool, shape (V,), optional
        Whether the run has the voxel. All voxels by default.

    Returns
    -------
    list of ExplainedVariance
        One for each parcellation.

    Raises
    ------
    UsageError
        If labels or ``available`` do not fit the features.

    Notes
    -----
    A run's signals are ``U S C`` with orthonormal columns in U, so sums of squares over time are those over
    components: the mean signal of a parcel of n voxels, whose features sum to ``s``, has the sum of squares
    ``|s|^2 / n^2``, and explains ``|s|^2 / n`` of its voxels'.
    """
    rows = voxel_rows(features)
    squares = squared_norms(rows)
    results = []
    for labels in labelings:
        n_parcels = int(labels.max(initial=0))
        present = present_labels(labels, len(rows), available)
        sums = parcel_sums(rows, present, n_parcels)
        explained = np.nan_to_num(divide(squared_norms(sums), count_voxels(present, n_parcels)))
        total = np.bincount(present, weights=squares, minlength=n_parcels + 1)[1:]
        results.append(ExplainedVariance(explained, total.astype(np.float64, copy=False)))
    return results
