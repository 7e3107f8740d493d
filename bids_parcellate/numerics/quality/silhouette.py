"""Silhouette: whether a voxel resembles its own parcel more than the neighbouring ones."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bids_parcellate.numerics import graph
from bids_parcellate.numerics.quality.sums import (
    Double,
    Labels,
    Rows,
    count_voxels,
    divide,
    parcel_sums,
    present_labels,
    voxel_rows,
)


@dataclass(frozen=True)
class Silhouette:
    """Sums of silhouettes by voxel. Those of several runs are added: ``sum(runs[1:], runs[0])``.

    Parameters
    ----------
    sums : ndarray of shape (V,), float64
        Sum over the runs that define a voxel's silhouette.
    n_runs : ndarray of shape (V,), int64
        Number of those runs.
    labels : ndarray of int, shape (V,)
        The parcel of each voxel, from 1; 0 means none.
    """

    sums: Double
    n_runs: NDArray[np.int64]
    labels: Labels

    def __add__(self, other: Self) -> Self:
        return type(self)(self.sums + other.sums, self.n_runs + other.n_runs, self.labels)

    @property
    def per_voxel(self) -> Double:
        """Mean over runs, -1 to 1; NaN where it is not defined."""
        return divide(self.sums, self.n_runs)

    @property
    def per_parcel(self) -> Double:
        """Mean over the voxels of each parcel where it is defined."""
        defined = self.n_runs > 0
        labels, n_parcels = self.labels[defined], int(self.labels.max(initial=0))
        sums = np.bincount(labels, weights=self.per_voxel[defined], minlength=n_parcels + 1)[1:]
        return divide(sums, count_voxels(labels, n_parcels))

    @property
    def overall(self) -> float:
        """Mean over all voxels where it is defined."""
        values = self.per_voxel[self.n_runs > 0]
        return float(divide(values.sum(), values.size))


def silhouette(
    features: NDArray[np.floating],
    labels: Labels,
    adjacency: sparse.sparray,
    *,
    available: NDArray[np.bool_] | None = None,
) -> Silhouette:
    """Find the silhouettes of voxels in a run, against the neighbouring parcels only.

    Parameters
    ----------
    features : ndarray of shape (k, V), float32 or float64
        The run's components times their singular values.
    labels : ndarray of int, shape (V,)
        The parcel of each voxel, from 1; 0 means none.
    adjacency : sparse array, shape (V, V)
        The voxels that are neighbours.
    available : ndarray of bool, shape (V,), optional
        Whether the run has the voxel. All by default, but for voxels whose features are all zero.

    Returns
    -------
    Silhouette
        Of one run.

    Raises
    ------
    UsageError
        If labels or ``available`` do not fit the features.

    Notes
    -----
    The distance of two voxels is 1 less their correlation. With ``a`` the mean distance of a voxel to the other voxels
    of its parcel, and ``b`` its mean distance to the voxels of that neighbouring parcel to which this is smallest, the
    silhouette is ``(b - a) / max(a, b)``. Parcels are neighbours if an edge joins two of their voxels. The silhouette
    is 0 in a parcel of one voxel [1]_, and not defined in a parcel without neighbours. The original compares with all
    other parcels, so that the two sides of the brain, which resemble each other, would make all silhouettes low.

    References
    ----------
    .. [1] Rousseeuw PJ (1987). Silhouettes: a graphical aid to the interpretation and validation of cluster analysis.
       J Comput Appl Math 20:53-65.
    """
    rows = voxel_rows(features, unit=True)
    varies = np.asarray(rows.any(axis=1))
    present = present_labels(labels, len(rows), varies if available is None else available & varies)
    n_parcels = int(labels.max(initial=0))
    sizes = count_voxels(present, n_parcels)
    means = (parcel_sums(rows, present, n_parcels) / np.maximum(sizes, 1)[:, np.newaxis]).astype(rows.dtype)
    order = np.argsort(present, kind="stable")
    stops = np.cumsum(np.bincount(present, minlength=n_parcels + 1))
    neighbours = _neighbouring_parcels(present, adjacency, n_parcels)
    values = np.full(len(rows), np.nan)
    for parcel, beside in enumerate(neighbours):
        voxels = order[stops[parcel] : stops[parcel + 1]]
        if voxels.size and beside.size:
            values[voxels] = _of_parcel(rows[voxels], means[parcel], means[beside])
    defined = ~np.isnan(values)
    return Silhouette(np.where(defined, values, 0), defined.astype(np.int64), labels)


def _neighbouring_parcels(labels: Labels, adjacency: sparse.sparray, n_parcels: int) -> list[NDArray[np.intp]]:
    """List for each parcel (numbered from 0) those that touch it."""
    one, other = labels[graph.edges(adjacency).T]
    between = (one != other) & (one > 0) & (other > 0)
    ends = np.concatenate([[one[between], other[between]], [other[between], one[between]]], axis=1) - 1
    touching = sparse.csr_array((np.ones(ends.shape[1], dtype=bool), tuple(ends)), shape=(n_parcels, n_parcels))
    touching.sum_duplicates()
    return np.split(touching.indices, touching.indptr[1:-1])


def _of_parcel(rows: Rows, mean: Rows, others: Rows) -> Double:
    """Compute the silhouettes of a parcel's voxels, given its mean features and those of its neighbours."""
    n_voxels = len(rows)
    if n_voxels == 1:
        return np.zeros(1)
    # The mean over the other voxels is that over all, without the voxel's correlation with itself, which is 1.
    own = 1 - (n_voxels * (rows @ mean) - 1) / (n_voxels - 1)
    nearest = 1 - (rows @ others.T).max(axis=1)
    larger = np.maximum(own, nearest)
    return np.asarray(np.divide(nearest - own, larger, out=np.zeros(n_voxels), where=larger > 0))
