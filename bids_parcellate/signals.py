"""Signals of parcels, and their correlations.

Parcels are numbered from 1 to ``n_parcels``; 0 means no parcel. Voxels that a run lacks are left out by the caller, or
get the label 0: a value that is not finite makes its parcel's signal so.
"""

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.cleaning import standardize
from bids_parcellate.errors import UsageError

Double = NDArray[np.float64]
Labels = NDArray[np.integer]


def parcel_means(signals: NDArray[np.floating], labels: Labels, n_parcels: int) -> Double:
    """Average the voxels of each parcel, volume by volume.

    Parameters
    ----------
    signals : ndarray of shape (n_volumes, n_voxels)
        Signals of voxels.
    labels : ndarray of int, shape (n_voxels,)
        The parcel of each voxel.
    n_parcels : int
        Number of parcels.

    Returns
    -------
    ndarray of shape (n_volumes, n_parcels), float64
        Signals of parcels; NaN for a parcel without voxels.

    Raises
    ------
    UsageError
        If the labels do not fit the signals, or are not between 0 and ``n_parcels``.
    """
    if labels.shape != signals.shape[1:]:
        raise UsageError(f"labels have the shape {labels.shape}, the volumes of the signals {signals.shape[1:]}")
    sizes = parcel_sizes(labels, n_parcels)
    means = np.full((len(signals), n_parcels), np.nan)
    for volume, mean in zip(signals, means, strict=True):
        np.divide(volume_parcel_sums(volume, labels, n_parcels), sizes, out=mean, where=sizes > 0)
    return means


def volume_parcel_sums(volume: NDArray[np.floating], labels: Labels, n_parcels: int) -> Double:
    """Add up the voxels of each parcel in one volume: with :func:`parcel_sizes`, the means of a stream of volumes.

    Parameters
    ----------
    volume : ndarray of shape (n_voxels,)
        Values of voxels.
    labels : ndarray of int, shape (n_voxels,)
        The parcel of each voxel, from 0 to ``n_parcels``.
    n_parcels : int
        Number of parcels.

    Returns
    -------
    ndarray of shape (n_parcels,), float64
        The sums, taken in double precision.
    """
    return np.bincount(labels, weights=volume, minlength=n_parcels + 1)[1:].astype(np.float64, copy=False)


def parcel_sizes(labels: Labels, n_parcels: int) -> NDArray[np.int64]:
    """Count the voxels of each parcel.

    Parameters
    ----------
    labels : ndarray of int, shape (n_voxels,)
        The parcel of each voxel.
    n_parcels : int
        Number of parcels.

    Returns
    -------
    ndarray of shape (n_parcels,), int64
        Numbers of voxels.

    Raises
    ------
    UsageError
        If the labels are not between 0 and ``n_parcels``.
    """
    if labels.size and not 0 <= labels.min() <= labels.max() <= n_parcels:
        raise UsageError(f"labels go from {labels.min()} to {labels.max()}; allowed are 0 to {n_parcels}")
    return np.bincount(labels, minlength=n_parcels + 1)[1:]


def coverage(labels: Labels, available: NDArray[np.bool_], n_parcels: int) -> Double:
    """Find the share of each parcel's voxels that a run has.

    Parameters
    ----------
    labels : ndarray of int, shape (n_voxels,)
        The parcel of each voxel.
    available : ndarray of bool, shape (n_voxels,)
        Whether the run has the voxel.
    n_parcels : int
        Number of parcels.

    Returns
    -------
    ndarray of shape (n_parcels,), float64
        Shares from 0 to 1; NaN for a parcel without voxels.

    Raises
    ------
    UsageError
        If the labels are not between 0 and ``n_parcels``.
    """
    sizes = parcel_sizes(labels, n_parcels)
    present = parcel_sizes(labels[available], n_parcels)
    return np.asarray(np.divide(present, sizes, out=np.full(n_parcels, np.nan), where=sizes > 0))


def pearson(signals: NDArray[np.floating]) -> Double:
    """Correlate the signals of parcels.

    Parameters
    ----------
    signals : ndarray of shape (n_volumes, n_parcels)
        Signals of parcels, at least two volumes.

    Returns
    -------
    ndarray of shape (n_parcels, n_parcels), float64
        Pearson correlations: exactly symmetric, exactly 1 on the diagonal. NaN in the row and the column of a parcel
        whose signal is constant or not finite.

    Raises
    ------
    DataError
        If there are fewer than two volumes.
    """
    finite = np.where(np.isfinite(signals), signals, np.nan).astype(np.float64)
    scores = standardize(finite, "zscore_sample")
    varies = scores.any(axis=0) & np.isfinite(scores).all(axis=0)
    scores[:, ~varies] = 0
    products = scores.T @ scores / (len(scores) - 1)
    correlations = np.clip((products + products.T) / 2, -1, 1)
    np.fill_diagonal(correlations, 1)
    correlations[~varies, :] = np.nan
    correlations[:, ~varies] = np.nan
    return np.asarray(correlations)
