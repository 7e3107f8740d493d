"""Temporal cleaning of signals: everything that is linear in time, as one small matrix.

Interpolation of censored volumes, detrending, filtering, censoring and confound regression are linear in time and the
same for every voxel. Applied to the identity they give one ``(n_kept, n_volumes)`` matrix, the temporal operator: it is
built once for a run, and cleaning the run is one matrix product. The steps and their order are those of
:func:`nilearn.signal.clean`, after the recommendations of Lindquist et al. [1]_:

1. with a filter, censored volumes are replaced by a cubic spline through those that are kept (the ends, where a spline
   would have to extrapolate, are dropped); without a filter they are simply left out;
2. the linear trend is removed;
3. Butterworth filter, order 5, forwards and backwards;
4. censored volumes are left out;
5. confounds, which went through steps 1 to 4 themselves, are projected out.

Signals have the shape (volumes, voxels or parcels).

References
----------
.. [1] Lindquist MA, Geuter S, Wager TD, Caffo BS (2019). Modular preprocessing pipelines can reintroduce artifacts into
   fMRI data. Human Brain Mapping 40:2358-2376. https://doi.org/10.1002/hbm.24528
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.filters import butterworth, filter_both_ways

Floats = NDArray[np.float64]
Signals = TypeVar("Signals", NDArray[np.float32], NDArray[np.float64])
Standardization = Literal["zscore_sample", "zscore", "psc", "none"] | None

FILTER_ORDER = 5

# Columns (voxels) that are worked on at a time: 200 volumes of them fit into a CPU's cache.
_BLOCK = 2048

# A deviation below this many units of rounding, relative to what it deviates from, is rounding noise. Storing a number
# costs at most half a unit; the rest is margin.
_ROUNDING_UNITS = 4


@dataclass(frozen=True)
class Scores:
    """Cleaned signals with mean 0 and standard deviation 1, in an orthonormal basis of what cleaning leaves.

    ``basis @ coordinates`` are the z-scores, and ``centre + deviation * scores`` the cleaned signals.

    Parameters
    ----------
    basis : ndarray of float64, shape (n_kept, n_dimensions)
        Orthonormal columns, orthogonal to a constant.
    coordinates : ndarray of float32, shape (n_dimensions, n_voxels)
        Constant signals are zero.
    centre, deviation : ndarray of float64, shape (n_voxels,)
        Mean and standard deviation of the cleaned signals over time; the deviation of constant signals is 0.
    before : ndarray of float64, shape (n_voxels,)
        Their temporal mean before cleaning.
    """

    basis: Floats
    coordinates: NDArray[np.float32]
    centre: Floats
    deviation: Floats
    before: Floats


def temporal_operator(  # noqa: PLR0913 -- the parameters of nilearn.signal.clean
    n_volumes: int,
    *,
    t_r: float | None = None,
    confounds: ArrayLike | None = None,
    sample_mask: ArrayLike | None = None,
    detrend: bool = False,
    low_pass: float | None = None,
    high_pass: float | None = None,
    standardize_confounds: bool = True,
    extrapolate: bool = False,
) -> Floats:
    """Build the matrix that cleans the signals of one run.

    Parameters
    ----------
    n_volumes : int
        Number of volumes of the run.
    t_r : float, optional
        Repetition time in seconds. Only filters need it.
    confounds : array-like of shape (n_volumes, n_confounds), optional
        Signals to regress out, of all volumes, censored ones included.
    sample_mask : array-like, optional
        Volumes to keep: their indices in ascending order, or a boolean for each volume. All by default.
    detrend : bool, default=False
        Remove the linear trend and the mean.
    low_pass, high_pass : float, optional
        Cut-off frequencies in Hz.
    standardize_confounds : bool, default=True
        Centre the confounds, so that regressing them out leaves the mean of a signal as it is.
    extrapolate : bool, default=False
        Let the spline also fill in censored volumes before the first and after the last that is kept, in place of
        dropping them before the filter. A spline is wild outside its knots.

    Returns
    -------
    operator : ndarray of shape (n_kept, n_volumes)
        Its columns of censored volumes are zero: what was censored influences nothing.

    Raises
    ------
    UsageError
        If an option is impossible: a filter without ``t_r``, a cut-off at or above the Nyquist frequency, an invalid
        ``sample_mask``.
    DataError
        If the run is too short for the filter, no volume is kept, or confounds are not finite or of another length.

    See Also
    --------
    degrees_of_freedom : How much of a signal the operator leaves.

    Notes
    -----
    As in nilearn, without a filter the trend is linear in the index of the kept volumes. Unlike nilearn 0.14.1, which
    indexes with the complement of integers, every censored volume is interpolated before filtering; there, a censored
    volume keeps its own values where its mirror image in time is censored too.
    """
    kept = _kept_volumes(n_volumes, sample_mask)
    filtered = low_pass is not None or high_pass is not None
    operator = _uncensored(n_volumes, kept, filtered=filtered, extrapolate=extrapolate)
    if detrend:
        operator = _detrended(operator)
    if filtered:
        design = butterworth(FILTER_ORDER, t_r, low_pass=low_pass, high_pass=high_pass)
        first = 0 if extrapolate else kept[0]
        operator = filter_both_ways(design, operator)[kept - first]
    if confounds is not None:
        raw = _checked_confounds(n_volumes, confounds)
        cleaned = apply_operator(operator, raw)
        noise = _filter_noise(n_volumes) * np.abs(raw).max(axis=0, initial=0.0)
        basis = _orthonormal_basis(cleaned, noise, centre=standardize_confounds)
        operator = operator - basis @ (basis.T @ operator)
    return operator


def degrees_of_freedom(operator: Floats) -> int:
    """Count the degrees of freedom that a temporal operator leaves to a signal.

    Parameters
    ----------
    operator : ndarray of shape (n_kept, n_volumes)
        What :func:`temporal_operator` returns.

    Returns
    -------
    int
        Number of singular values of the operator above one half. A run with none left holds nothing but rounding noise.

    Notes
    -----
    Where the operator only projects (censoring, trend, confounds), its singular values are 0 and 1, and this is
    ``n_kept`` minus the rank of what is removed. A filter damps and does not remove. Run forwards and backwards, a
    Butterworth filter damps its cut-off frequency by one half, so those frequencies count that lie in its band:
    about ``2 * n_volumes * t_r * (low_pass - high_pass)``.
    """
    return int(np.count_nonzero(np.linalg.eigvalsh(operator @ operator.T) > 0.5**2))


def apply_operator(operator: Floats, signals: Signals) -> Signals:
    """Clean signals: multiply them by a temporal operator.

    Parameters
    ----------
    operator : ndarray of shape (n_kept, n_volumes)
        What :func:`temporal_operator` returns.
    signals : ndarray of shape (n_volumes, n_voxels), float32 or float64
        They may sit on a large offset: the product is taken of their deviations from the temporal mean, and what the
        operator makes of the mean is added. So rounding is relative to the deviations, also in float32.

    Returns
    -------
    cleaned : ndarray of shape (n_kept, n_voxels), dtype of ``signals``
        A voxel with a value that is not finite comes out as not finite.

    Raises
    ------
    DataError
        If the signals have another number of volumes than the operator.
    """
    n_kept, n_volumes = operator.shape
    if len(signals) != n_volumes:
        raise DataError(f"the signals have {len(signals)} volumes, the temporal operator {n_volumes}")
    gain = operator.sum(axis=1, keepdims=True).astype(signals.dtype)
    operator = operator.astype(signals.dtype, copy=False)
    cleaned = np.empty((n_kept, signals.shape[1]), dtype=signals.dtype)
    for start in range(0, signals.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        mean = signals[:, block].mean(axis=0, dtype=np.float64).astype(signals.dtype)
        cleaned[:, block] = operator @ (signals[:, block] - mean)
        cleaned[:, block] += gain * mean
    return cleaned


def baseline_weights(
    n_volumes: int,
    *,
    sample_mask: ArrayLike | None = None,
    filtered: bool = False,
    extrapolate: bool = False,
) -> Floats:
    """Give the weights of volumes in the temporal mean before cleaning: what percent signal change refers to.

    Parameters
    ----------
    n_volumes : int
        Number of volumes of the run.
    sample_mask, extrapolate
        As in :func:`temporal_operator`.
    filtered : bool, default=False
        Whether the signals will be filtered, so that censored volumes count with their interpolated values.

    Returns
    -------
    ndarray of float64, shape (n_volumes,)
        ``weights @ signals`` is the mean.
    """
    kept = _kept_volumes(n_volumes, sample_mask)
    return np.asarray(_uncensored(n_volumes, kept, filtered=filtered, extrapolate=extrapolate).mean(axis=0))


def baseline(weights: Floats, signals: NDArray[np.floating]) -> Floats:
    """Average signals over time as they are before cleaning.

    Parameters
    ----------
    weights : ndarray of shape (n_volumes,)
        What :func:`baseline_weights` returns.
    signals : ndarray of shape (n_volumes, n_voxels)
        Signals that are not cleaned yet.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        The temporal mean, in double precision.
    """
    return np.asarray(np.einsum("t,tv->v", weights, signals, dtype=np.float64))


def clean_to_scores(operator: Floats, weights: Floats, signals: NDArray[np.float32]) -> Scores:
    """Clean signals and z-score them, some voxels at a time, in the memory that they lie in.

    Filters and confounds leave fewer dimensions than there are volumes. Working in these saves what the others would
    cost, here and in all that follows.

    Parameters
    ----------
    operator : ndarray of shape (n_kept, n_volumes)
        What :func:`temporal_operator` returns; at least two volumes are kept.
    weights : ndarray of shape (n_volumes,)
        What :func:`baseline_weights` returns.
    signals : ndarray of float32, shape (n_volumes, n_voxels)
        The signals of one run. They are overwritten.

    Returns
    -------
    Scores
        As :func:`standardize` makes them by ``zscore_sample``, up to rounding to single precision.
    """
    basis, rows = _centred_dimensions(operator)
    n_dimensions, n_voxels = len(rows), signals.shape[1]
    rows = np.vstack([rows, operator.mean(axis=0), weights])
    gains, rows = rows.sum(axis=1, keepdims=True).astype(np.float32), rows.astype(np.float32)
    centre, before, deviation = (np.empty(n_voxels) for _ in range(3))
    for start in range(0, n_voxels, _BLOCK):
        block = slice(start, start + _BLOCK)
        raw = signals[:, block]
        mean = raw.mean(axis=0)
        raw -= mean  # so that rounding is relative to deviations; what the rows make of the mean is added
        values = rows @ raw
        values += gains * mean
        coordinates, centre[block], before[block] = values[:n_dimensions], values[-2], values[-1]
        spread = np.sqrt(np.einsum("tv,tv->v", coordinates, coordinates) / (len(operator) - 1), dtype=np.float64)
        spread[spread <= _rounding_noise(np.maximum(np.abs(before[block]), np.abs(centre[block])), raw.dtype)] = 0
        np.multiply(coordinates, _reciprocal(spread).astype(np.float32), out=signals[:n_dimensions, block])
        deviation[block] = spread
    return Scores(basis, signals[:n_dimensions], centre, deviation, before)


def _centred_dimensions(operator: Floats) -> tuple[Floats, Floats]:
    """Split an operator and the removal of the mean into an orthonormal basis and what leads to it.

    Dimensions that are damped to the rounding of single precision are left out.
    """
    left, gains, right = linalg.svd(operator - operator.mean(axis=0), full_matrices=False)
    n_left = max(1, int(np.count_nonzero(gains > np.finfo(np.float32).eps * gains[0])))
    return left[:, :n_left], gains[:n_left, np.newaxis] * right[:n_left]


def standardize(signals: Signals, method: Standardization, *, mean: Floats | None = None) -> Signals:
    """Scale each signal.

    Parameters
    ----------
    signals : ndarray of shape (n_volumes, n_voxels), float32 or float64
        Cleaned signals.
    method : {"zscore_sample", "zscore", "psc", "none"} or None
        Mean 0 and standard deviation 1 (with ``n_volumes - 1`` or ``n_volumes`` in its denominator), percent signal
        change, or nothing.
    mean : ndarray of shape (n_voxels,), optional
        Temporal mean of the signals before they were cleaned (:func:`baseline`); by default, that of ``signals``.
        Percent signal change refers to it where cleaning removed the mean; and it is the yardstick for which signals
        are constant.

    Returns
    -------
    ndarray of shape (n_volumes, n_voxels), dtype of ``signals``
        Constant signals become zero.

    Raises
    ------
    UsageError
        If the method is none of those above.
    DataError
        If there are fewer than two volumes.

    Notes
    -----
    A signal is constant if its standard deviation is below 4 units of rounding, in its own dtype, of its mean. What is
    left of a constant voxel is the rounding of its offset; dividing by its standard deviation would make noise of unit
    variance of it. In float32 the limit is 5e-7 of the mean, a thousand times below what a scanner can resolve.
    """
    if method is None or method == "none":
        return signals
    if method not in ("zscore_sample", "zscore", "psc"):
        raise UsageError(
            f"standardize is {method!r}; allowed are 'zscore_sample', 'zscore', 'psc', 'none' and None",
        )
    if len(signals) < 2:
        raise DataError(f"{len(signals)} volume is too few to standardize; at least 2 are needed")
    if method == "psc":
        own_mean = signals.mean(axis=0, dtype=np.float64)
        return _percent_signal_change(
            signals, own_mean, own_mean if mean is None else np.asarray(mean, dtype=np.float64)
        )
    return _zscores(signals, mean, ddof=1 if method == "zscore_sample" else 0)


def clean(  # noqa: PLR0913 -- the parameters of nilearn.signal.clean
    signals: Signals,
    *,
    t_r: float | None = None,
    confounds: ArrayLike | None = None,
    sample_mask: ArrayLike | None = None,
    detrend: bool = False,
    low_pass: float | None = None,
    high_pass: float | None = None,
    standardize_confounds: bool = True,
    extrapolate: bool = False,
    standardize: Standardization = None,
) -> Signals:
    """Clean and standardize signals, as :func:`nilearn.signal.clean` does.

    Parameters
    ----------
    signals : ndarray of shape (n_volumes, n_voxels), float32 or float64
        The signals of one run.
    t_r, confounds, sample_mask, detrend, low_pass, high_pass, standardize_confounds, extrapolate
        As in :func:`temporal_operator`.
    standardize : {"zscore_sample", "zscore", "psc", "none"} or None
        As in :func:`standardize`.

    Returns
    -------
    ndarray of shape (n_kept, n_voxels), dtype of ``signals``
        The cleaned signals.

    Raises
    ------
    UsageError, DataError
        As in :func:`temporal_operator` and :func:`standardize`.
    """
    operator = temporal_operator(
        len(signals),
        t_r=t_r,
        confounds=confounds,
        sample_mask=sample_mask,
        detrend=detrend,
        low_pass=low_pass,
        high_pass=high_pass,
        standardize_confounds=standardize_confounds,
        extrapolate=extrapolate,
    )
    filtered = low_pass is not None or high_pass is not None
    weights = baseline_weights(len(signals), sample_mask=sample_mask, filtered=filtered, extrapolate=extrapolate)
    return _standardize(apply_operator(operator, signals), standardize, mean=baseline(weights, signals))


_standardize = standardize  # `clean` has a parameter of that name


def kept_volumes(n_volumes: int, sample_mask: ArrayLike | None) -> NDArray[np.bool_]:
    """Say for each volume whether it is kept.

    Parameters
    ----------
    n_volumes : int
        Number of volumes of the run.
    sample_mask : array-like or None
        As in :func:`temporal_operator`.

    Returns
    -------
    ndarray of bool, shape (n_volumes,)
        All True without a mask.

    Raises
    ------
    UsageError, DataError
        As in :func:`temporal_operator`.
    """
    kept = np.zeros(n_volumes, dtype=bool)
    kept[_kept_volumes(n_volumes, sample_mask)] = True
    return kept


def _kept_volumes(n_volumes: int, sample_mask: ArrayLike | None) -> NDArray[np.intp]:
    """Give the indices of the volumes that are kept."""
    if sample_mask is None:
        return np.arange(n_volumes)
    mask = np.asarray(sample_mask)
    if mask.dtype == np.bool_:
        if mask.shape != (n_volumes,):
            raise UsageError(f"sample_mask has the shape {mask.shape}, but the run has {n_volumes} volumes")
        mask = np.flatnonzero(mask)
    if mask.size == 0:
        raise DataError("sample_mask keeps no volume", "Censor less strictly, or leave out this run.")
    kept = mask.astype(np.intp)
    if mask.ndim != 1 or np.any(kept != mask) or np.any(np.diff(kept) <= 0):
        raise UsageError("sample_mask must hold booleans, or distinct indices in ascending order")
    if kept[0] < 0 or kept[-1] >= n_volumes:
        raise UsageError(f"sample_mask holds {kept[0]} to {kept[-1]}; allowed are 0 to {n_volumes - 1}")
    return kept


def _uncensored(n_volumes: int, kept: NDArray[np.intp], *, filtered: bool, extrapolate: bool) -> Floats:
    """Start an operator: leave censored volumes out or, where a filter follows, interpolate them."""
    if not filtered or len(kept) == n_volumes:
        return np.eye(n_volumes)[kept]
    if len(kept) < 2:
        raise DataError(f"sample_mask keeps {len(kept)} of {n_volumes} volumes, too few to interpolate and filter")
    from scipy.interpolate import CubicSpline  # noqa: PLC0415 - few runs need it, and it takes a sixth of a second to load

    times = np.arange(n_volumes) if extrapolate else np.arange(kept[0], kept[-1] + 1)
    return np.asarray(CubicSpline(kept, np.eye(n_volumes)[kept])(times))


def _detrended(series: Floats) -> Floats:
    """Remove the mean and the linear trend of each column."""
    if len(series) < 2:
        return series
    trend = np.arange(len(series)) - (len(series) - 1) / 2
    trend /= np.linalg.norm(trend)
    centred = series - series.mean(axis=0)
    return np.asarray(centred - np.outer(trend, trend @ centred))


def _filter_noise(n_volumes: int) -> float:
    """Bound the rounding noise that the steps of an operator leave where the exact result is zero."""
    return 16 * n_volumes * float(np.finfo(np.float64).eps)


def _checked_confounds(n_volumes: int, confounds: ArrayLike) -> Floats:
    raw = np.asarray(confounds, dtype=np.float64)
    if raw.ndim == 1:
        raw = raw[:, np.newaxis]
    if raw.ndim != 2 or len(raw) != n_volumes:
        raise DataError(f"confounds have the shape {raw.shape}, but the run has {n_volumes} volumes")
    bad = ~np.isfinite(raw)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise DataError(
            f"confounds hold {bad.sum()} values that are not finite, the first at volume {row}, column {column}",
            "Derivatives have no value at the first volume: fill it in, for instance with 0.",
        )
    return raw


def _orthonormal_basis(confounds: Floats, noise: Floats, *, centre: bool) -> Floats:
    """Span the cleaned confounds; those that are below ``noise``, or depend on others, add nothing."""
    if centre:
        confounds = confounds - confounds.mean(axis=0)
    size = np.abs(confounds).max(axis=0, initial=0.0)
    left = size > noise
    if not left.any():
        return np.zeros((len(confounds), 0))
    q, r, _ = linalg.qr(confounds[:, left] / size[left], mode="economic", pivoting=True)
    importance = np.abs(np.diag(r))
    independent = importance > max(confounds.shape) * np.finfo(np.float64).eps * importance[0]
    return np.asarray(q[:, independent])


def _zscores(signals: Signals, mean: Floats | None, *, ddof: int) -> Signals:
    """Centre and divide by the standard deviation; zero where that is rounding noise of the offset."""
    centre = signals.mean(axis=0, dtype=np.float64)
    offset = np.abs(centre) if mean is None else np.maximum(np.abs(mean), np.abs(centre))
    values = _centred(signals, centre)
    deviation = np.sqrt(np.einsum("tv,tv->v", values, values, dtype=np.float64) / (len(signals) - ddof))
    deviation[deviation <= _rounding_noise(offset, signals.dtype)] = 0
    values *= _reciprocal(deviation).astype(signals.dtype)
    return values


def _reciprocal(values: Floats) -> Floats:
    """Divide 1 by values; 0 where they are 0."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values != 0)


def _percent_signal_change(signals: Signals, mean: Floats, before: Floats) -> Signals:
    """Percent change from the mean; from ``before`` where cleaning removed the mean (nilearn's rule).

    The mean counts as removed if, over all signals, its average size fell below a tenth of what it was.
    """
    known = np.isfinite(mean)
    removed = np.abs(mean[known]).sum() < 0.1 * np.abs(before[known]).sum()
    reference = np.abs(before + mean if removed else mean)
    undefined = reference <= _rounding_noise(np.abs(signals).max(axis=0), signals.dtype)
    scale = np.divide(100.0, reference, out=np.zeros_like(reference), where=~undefined)
    change = _centred(signals, mean)
    change *= scale.astype(signals.dtype)
    return change


def _centred(signals: Signals, mean: Floats) -> Signals:
    """Subtract the mean, and then what rounding it to the dtype of the signals left of it."""
    centred = signals - mean.astype(signals.dtype)
    centred -= centred.mean(axis=0, dtype=np.float64).astype(signals.dtype)
    return np.asarray(centred)


def _rounding_noise(offset: NDArray[np.floating], dtype: np.dtype[np.floating]) -> Floats:
    """Bound the deviations that storing a constant ``offset`` in ``dtype`` may cause."""
    return np.asarray(_ROUNDING_UNITS * np.finfo(dtype).eps * offset, dtype=np.float64)
