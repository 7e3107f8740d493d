"""Compare a figure with those of random parcellations."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.quality.sums import Double


@dataclass(frozen=True)
class NullComparison:
    """A figure, or one for each parcel, beside its random counterparts. All arrays have the figure's shape.

    Parameters
    ----------
    observed : ndarray of float64
        The figure.
    mean, sd : ndarray of float64
        Mean and standard deviation (``n - 1``) of the random ones.
    z : ndarray of float64
        Standard deviations that the figure lies above the mean; NaN if the random ones do not vary.
    percentile : ndarray of float64
        Percent of the random ones that are below the figure; those equal to it count half.
    p_value : ndarray of float64
        ``(b + 1) / (n + 1)``, where b of the n random ones reach the figure: never 0.
    """

    observed: Double
    mean: Double
    sd: Double
    z: Double
    percentile: Double
    p_value: Double


def compare_with_null(observed: ArrayLike, null: ArrayLike) -> NullComparison:
    """Compare a figure of which larger is better with those of random parcellations.

    Parameters
    ----------
    observed : array-like of shape (...)
        The figure; of each parcel, or a single one. NaN stays NaN.
    null : array-like of shape (n_random, ...)
        The same of random parcellations. Values that are NaN are left out.

    Returns
    -------
    NullComparison
        Mean, deviation, z, percentile and p-value.

    Raises
    ------
    UsageError
        If there are fewer than two random parcellations, or the shapes do not fit.

    References
    ----------
    Phipson B, Smyth GK (2010). Permutation p-values should never be zero. Stat Appl Genet Mol Biol 9:39.
    """
    value, random = np.asarray(observed, dtype=np.float64), np.asarray(null, dtype=np.float64)
    if random.ndim != value.ndim + 1 or random.shape[1:] != value.shape or len(random) < 2:
        raise UsageError(
            f"the figure has the shape {value.shape}, the random ones {random.shape}: "
            "at least two are needed, of the same shape as the figure"
        )
    exists = ~np.isnan(random)
    n_random = exists.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN where fewer than two exist or nothing varies
        mean = np.where(exists, random, 0).sum(axis=0) / n_random
        sd = np.sqrt(np.square(np.where(exists, random - mean, 0)).sum(axis=0) / (n_random - 1))
        z = np.where(sd > 0, (value - mean) / sd, np.nan)
        below = (random < value).sum(axis=0) + (random == value).sum(axis=0) / 2
        percentile = 100 * below / n_random
        p_value = ((random >= value).sum(axis=0) + 1) / (n_random + 1)
    undefined = np.isnan(value)
    return NullComparison(
        value, mean, sd, z, np.where(undefined, np.nan, percentile), np.where(undefined, np.nan, p_value)
    )
