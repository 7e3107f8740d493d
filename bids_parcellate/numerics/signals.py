"""Signals of parcels: the mean, the median or the first eigenvariate of their voxels.

Parcels are numbered from 1 to ``n_parcels``; 0 means no parcel. Voxels that a run lacks are left out by the caller, or
get the label 0: a value that is not finite makes its parcel's signal so.

The mean is linear, so it may be taken before cleaning. The median and the first eigenvariate are not: they are taken of
cleaned voxels.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

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
    sizes = _fitting_sizes(signals, labels, n_parcels)
    means = np.full((len(signals), n_parcels), np.nan)
    for volume, mean in zip(signals, means, strict=True):
        np.divide(volume_parcel_sums(volume, labels, n_parcels), sizes, out=mean, where=sizes > 0)
    return means


def parcel_medians(signals: NDArray[np.floating], labels: Labels, n_parcels: int) -> Double:
    """Find the median over the voxels of each parcel, volume by volume.

    Parameters
    ----------
    signals : ndarray of shape (n_volumes, n_voxels)
        Cleaned signals of voxels: without their mean over time. Else the median follows the voxel whose mean lies in
        the middle.
    labels : ndarray of int, shape (n_voxels,)
        The parcel of each voxel.
    n_parcels : int
        Number of parcels.

    Returns
    -------
    ndarray of shape (n_volumes, n_parcels), float64
        Signals of parcels, in the units of the voxels; NaN for a parcel without voxels.

    Raises
    ------
    UsageError
        If the labels do not fit the signals, or are not between 0 and ``n_parcels``.
    """
    return _summarize(_median, signals, labels, n_parcels)


def parcel_eigenvariates(signals: NDArray[np.floating], labels: Labels, n_parcels: int) -> Double:
    r"""Find the first eigenvariate of each parcel: the time course that explains most of its voxels' variance.

    Parameters
    ----------
    signals : ndarray of shape (n_volumes, n_voxels)
        Cleaned signals of voxels: without their mean over time. They are not centred here.
    labels : ndarray of int, shape (n_voxels,)
        The parcel of each voxel.
    n_parcels : int
        Number of parcels.

    Returns
    -------
    ndarray of shape (n_volumes, n_parcels), float64
        Signals of parcels, in the units of the voxels. Their product with the parcel's mean is positive. NaN for a
        parcel without voxels, and for one with a value that is not finite.

    Raises
    ------
    UsageError
        If the labels do not fit the signals, or are not between 0 and ``n_parcels``.

    Notes
    -----
    Of the singular value decomposition :math:`X = \sum_i s_i u_i v_i^\top` of a parcel's :math:`n` voxels, it is
    :math:`u_1 s_1 / \sqrt n`, with the sign for which :math:`v_1` has a positive sum. This is the scale and the sign
    of SPM's volume of interest (``spm_regions`` [1]_). Where all voxels have the same signal, it is that signal, as the
    mean is. Where the mean is 0, the sign means nothing.

    Given a decomposition of all voxels, ``signals = U @ A`` with orthonormal columns in ``U``, it is ``U`` times the
    first eigenvariates of ``A``. A :class:`~bids_parcellate.numerics.reduction.SignalReduction` holds both: its time
    courses, and its singular values times its components.

    References
    ----------
    .. [1] Statistical Parametric Mapping, ``spm_regions.m``. https://github.com/spm/spm
    """
    return _summarize(_first_eigenvariate, signals, labels, n_parcels)


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


def _fitting_sizes(signals: NDArray[np.floating], labels: Labels, n_parcels: int) -> NDArray[np.int64]:
    """Count the voxels of each parcel, once it is sure that each voxel has a label."""
    if labels.shape != signals.shape[1:]:
        raise UsageError(f"labels have the shape {labels.shape}, the volumes of the signals {signals.shape[1:]}")
    return parcel_sizes(labels, n_parcels)


def _summarize(
    summary: Callable[[Double], Double], signals: NDArray[np.floating], labels: Labels, n_parcels: int
) -> Double:
    """Summarize the voxels of each parcel over all volumes; one parcel at a time is copied, in double precision."""
    sizes = _fitting_sizes(signals, labels, n_parcels)
    voxels = np.argsort(labels, kind="stable")
    ends = np.count_nonzero(labels == 0) + np.cumsum(sizes)
    summaries = np.full((len(signals), n_parcels), np.nan)
    for parcel in np.flatnonzero(sizes):
        members = voxels[ends[parcel] - sizes[parcel] : ends[parcel]]
        summaries[:, parcel] = summary(signals[:, members].astype(np.float64))
    return summaries


def _median(signals: Double) -> Double:
    return np.asarray(np.median(signals, axis=1))


def _first_eigenvariate(signals: Double) -> Double:
    """Find it by the Gram matrix of the short side: exact enough, since what is squared is the largest direction."""
    n_volumes, n_voxels = signals.shape
    if not np.isfinite(signals).all():
        return np.full(n_volumes, np.nan)
    eigenvariate: Double
    if n_volumes <= n_voxels:
        variance, direction = _leading_direction(signals @ signals.T)
        eigenvariate = direction * np.sqrt(variance / n_voxels)
    else:
        _, weights = _leading_direction(signals.T @ signals)
        eigenvariate = signals @ weights / np.sqrt(n_voxels)
    return eigenvariate if eigenvariate @ signals.sum(axis=1) >= 0 else -eigenvariate


def _leading_direction(gram: Double) -> tuple[float, Double]:
    """Give the largest eigenvalue and its eigenvector."""
    last = len(gram) - 1
    eigenvalues, vectors = linalg.eigh(gram, subset_by_index=[last, last])
    return max(0.0, float(eigenvalues[0])), vectors[:, 0]
