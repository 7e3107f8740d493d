"""The candidates: what voxels may be compared by. Two of them are the package's, the others are tried only here.

All can be computed from the reductions of runs, in a stream and in memory that does not grow with their number, but for
those with nilearn's weighting (``nilearn``, ``rows``), which needs all runs' components at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from benchmarks.quality.experiments import Half
from bids_parcellate.numerics.cleaning import standardize
from bids_parcellate.numerics.features import WEIGHTING, features
from bids_parcellate.numerics.reduction import MergedReduction, Merger, Reduction, Weighting, reduce_signals

Features = NDArray[np.float32]
Double = NDArray[np.float64]

_N_COMPONENTS = 200


def scaled(half: Half) -> Features:
    """Give the package's "scaled": voxels z-scored, singular values kept."""
    return features(_merge(_zscored(half)), "scaled")


def nilearn(half: Half) -> Features:
    """Give the package's "nilearn": voxels as they are, components of a run and of the group of equal variance."""
    return features(
        _merge([reduce_signals(run.signals, _N_COMPONENTS) for run in half], WEIGHTING["nilearn"]), "nilearn"
    )


def rows(half: Half) -> Features:
    """Z-score voxels; components of a run have equal variance (rows normalised), those of the group are scaled."""
    return features(_merge(_zscored(half), "unit"), "scaled")


def equal(half: Half) -> Features:
    """As "scaled", but every run counts the same, however many volumes it has."""
    return features(_merge([_rescaled(each, 1 / each.n_volumes) for each in _zscored(half)]), "scaled")


def rank(half: Half) -> Features:
    """As "scaled", but only components above the optimal hard threshold for white noise of unknown size.

    References
    ----------
    Gavish and Donoho (2014), IEEE Transactions on Information Theory 60(8), 5040-5053, doi:10.1109/TIT.2014.2323359.
    """
    n_volumes = sum(len(run.signals) for run in half)
    merged = _merge(_zscored(half, n_volumes), n_components=n_volumes)
    shape = merged.components.shape
    beta = min(shape) / max(shape)
    threshold = (0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43) * np.median(merged.singular_values)
    return features(merged, "scaled")[: max(1, np.count_nonzero(merged.singular_values > threshold))]


def held_out(half: Half) -> Features | None:
    """As "scaled", but with the standard deviation that components of some runs have in the others."""
    split = _split(half)
    return None if split is None else _weighted(split[0], np.sqrt(split[1]))


def reliable(half: Half) -> Features | None:
    """As "scaled", shrunk as a Wiener filter does by the share of variance that is signal.

    What components of some runs have in the others is signal and noise; the least of it is taken for the noise.
    """
    split = _split(half)
    if split is None:
        return None
    merged, variance = split
    signal = np.clip(variance - variance[-1], 0, None)
    return _weighted(merged, signal / np.sqrt(merged.singular_values[: len(signal)] ** 2 / merged.n_volumes))


CANDIDATES: Mapping[str, Callable[[Half], Features | None]] = {
    "scaled": scaled,
    "nilearn": nilearn,
    "rows": rows,
    "equal": equal,
    "rank": rank,
    "held-out": held_out,
    "reliable": reliable,
}


def _zscored(half: Half, n_components: int = _N_COMPONENTS) -> list[Reduction]:
    return [reduce_signals(standardize(run.signals, "zscore_sample"), n_components) for run in half]


def _rescaled(reduction: Reduction, factor: float) -> Reduction:
    """Multiply variances by a factor."""
    return replace(
        reduction,
        singular_values=reduction.singular_values * np.sqrt(factor),
        total_variance=reduction.total_variance * factor,
    )


def _merge(
    reductions: Sequence[Reduction], weighting: Weighting = "singular_values", n_components: int = _N_COMPONENTS
) -> MergedReduction:
    n_voxels = reductions[0].components.shape[1]
    n_rows = sum(len(each.components) for each in reductions)
    n_waiting = n_rows if weighting == "unit" else None
    merger = Merger(n_voxels, n_components, n_waiting=n_waiting, weighting=weighting)
    for each in reductions:
        merger.add(each, np.arange(n_voxels))
    return merger.result()


def _split(half: Half) -> tuple[MergedReduction, Double] | None:
    """Merge in two parts, of other participants or other runs: the whole, and its components' variance held out."""
    if len(half) == 1:
        return None
    reductions = _zscored(half)
    first, second = (_merge(reductions[start::2]) for start in (0, 1))
    merged = _merge([first, second])
    both = [_variance_along(second, first), _variance_along(first, second)]
    n_components = min(*map(len, both), len(merged.components))
    mean = np.mean([each[:n_components] for each in both], axis=0)
    falling = IsotonicRegression(increasing=False).fit_transform(np.arange(n_components), mean)
    return merged, np.asarray(falling)


def _variance_along(reduction: MergedReduction, directions: MergedReduction) -> Double:
    """Give the mean square over time along the components of another reduction."""
    cosines = directions.components @ reduction.components.T
    return np.asarray(cosines.astype(np.float64) ** 2 @ reduction.singular_values**2 / reduction.n_volumes)


def _weighted(merged: MergedReduction, weights: Double) -> Features:
    kept = weights > 1e-6 * weights.max()
    return merged.components[: len(weights)][kept] * weights[kept, np.newaxis].astype(np.float32)
