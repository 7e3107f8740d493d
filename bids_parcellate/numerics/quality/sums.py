"""Sums of the features of each parcel's voxels, from which most figures follow in closed form."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.kernels import kernel

Labels = NDArray[np.integer]
Double = NDArray[np.float64]
Rows = NDArray[np.floating]


def voxel_rows(features: NDArray[np.floating], *, unit: bool = False) -> Rows:
    """Lay features out voxel by voxel, as sums over parcels read them.

    Parameters
    ----------
    features : ndarray of shape (k, V), float32 or float64
        One column for each voxel.
    unit : bool, default=False
        Whether each voxel's features are scaled to unit length. The products of such rows are correlations. A voxel
        whose features are all zero keeps them.

    Returns
    -------
    ndarray of shape (V, k)
        C-contiguous, of the same dtype.
    """
    rows = np.array(features.T, order="C")
    if unit:
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        rows /= np.where(lengths > 0, lengths, 1)[:, np.newaxis]
    return rows


def present_labels(labels: Labels, n_voxels: int, available: NDArray[np.bool_] | None) -> Labels:
    """Take the label from voxels that a run lacks.

    Parameters
    ----------
    labels : ndarray of int, shape (V,)
        The parcel of each voxel, from 1; 0 means none.
    n_voxels : int
        Number of voxels of the features.
    available : ndarray of bool, shape (V,), or None
        Whether the run has the voxel; None if it has all.

    Returns
    -------
    ndarray of int, shape (V,)
        The labels, 0 where the voxel is not available.

    Raises
    ------
    UsageError
        If the labels or ``available`` do not fit the features, or labels are negative.
    """
    wanted = (n_voxels,)
    if labels.shape != wanted or (available is not None and available.shape != wanted):
        shapes = labels.shape if available is None else f"{labels.shape} and {available.shape}"
        raise UsageError(f"labels (and available voxels) have the shape {shapes}; the features have {n_voxels} voxels")
    if labels.min(initial=0) < 0:
        raise UsageError(f"a label is {labels.min()}; parcels are numbered from 1, and 0 means none")
    return labels if available is None else np.where(available, labels, 0)


def parcel_sums(rows: Rows, labels: Labels, n_parcels: int) -> Double:
    """Add up the features of each parcel's voxels.

    Parameters
    ----------
    rows : ndarray of shape (V, k), float32 or float64
        Features, as `voxel_rows` lays them out.
    labels : ndarray of int, shape (V,)
        The parcel of each voxel, from 1 to ``n_parcels``; 0 means none.
    n_parcels : int
        Number of parcels.

    Returns
    -------
    ndarray of shape (n_parcels, k), float64
        The sums, taken in double precision; 0 for a parcel without voxels.
    """
    sums = np.zeros((n_parcels + 1, rows.shape[1]))
    _add_rows(rows, labels, sums)
    return sums[1:]


@kernel()
def _add_rows(rows: Any, labels: Any, sums: Any) -> None:
    for voxel in range(labels.size):
        for feature in range(rows.shape[1]):
            sums[labels[voxel], feature] += rows[voxel, feature]


def squared_norms(rows: NDArray[np.floating]) -> Double:
    """Sum the squares of each row.

    Parameters
    ----------
    rows : ndarray of shape (n, k)
        Rows.

    Returns
    -------
    ndarray of shape (n,), float64
        Sums of squares, taken in double precision.
    """
    return np.asarray(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))


def count_voxels(labels: Labels, n_parcels: int) -> Double:
    """Count the voxels of each parcel.

    Parameters
    ----------
    labels : ndarray of int, shape (V,)
        The parcel of each voxel, from 1 to ``n_parcels``; 0 means none.
    n_parcels : int
        Number of parcels.

    Returns
    -------
    ndarray of shape (n_parcels,), float64
        Numbers of voxels.
    """
    return np.bincount(labels, minlength=n_parcels + 1)[1:].astype(np.float64)


def divide(numerators: ArrayLike, denominators: ArrayLike) -> Double:
    """Divide where it can be done.

    Parameters
    ----------
    numerators, denominators : array-like of the same shape
        Numbers.

    Returns
    -------
    ndarray of float64
        Quotients; NaN where the denominator is 0.
    """
    below = np.asarray(denominators, dtype=np.float64)
    undefined = np.full(below.shape, np.nan)
    return np.asarray(np.divide(numerators, below, out=undefined, where=below > 0))
