"""Fits to halves of the participants: what they explain in the other half, and how far they agree."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bids_parcellate.numerics.quality.agreement import agreement
from bids_parcellate.numerics.quality.choice import Curve
from bids_parcellate.numerics.quality.nulls import random_parcellations
from bids_parcellate.numerics.quality.variance import explained_variance

logger = logging.getLogger(__name__)

Single = npt.NDArray[np.float32]
Labelings = Mapping[int, npt.NDArray[np.int32]]
Halves = tuple[Labelings, Labelings]


@dataclass(frozen=True)
class SplitHalves:
    """What fits to halves of the participants show, one split after another.

    Parameters
    ----------
    fits : list of tuple of mapping
        For each split the parcels of both halves: for each number of parcels the labels, from 1.
    explained_variance : dict of int to Curve
        For each number of parcels, in one column: the share of the variance of the half that a fit has not seen that
        its parcels explain, and that random parcels of the same sizes do.
    adjusted_rand, normalized_mutual_information : dict of int to Curve
        For each number of parcels, in one column: how far the two fits of a split agree, and random parcels do.
    """

    fits: list[Halves]
    explained_variance: dict[int, Curve]
    adjusted_rand: dict[int, Curve]
    normalized_mutual_information: dict[int, Curve]


def fit_halves(
    splits: Sequence[npt.NDArray[np.bool_]],
    find_features: Callable[[npt.NDArray[np.intp]], Single],
    cluster: Callable[[Single], Labelings],
    adjacency: sparse.sparray,
    *,
    n_random: int,
    seed: int,
) -> SplitHalves:
    """Fit both halves of each split, and compare them.

    Parameters
    ----------
    splits : sequence of ndarray of bool, shape (n_runs,)
        The runs of each split's first half.
    find_features : callable
        Gives the features, of shape (k, n_voxels), of runs by their numbers.
    cluster : callable
        Gives for each number of parcels the labels, from 1.
    adjacency : sparse array, shape (n_voxels, n_voxels)
        The voxels that are neighbours.
    n_random : int
        Number of random parcellations of each half.
    seed : int
        Their seed.

    Returns
    -------
    SplitHalves
        The fits and the figures.
    """
    fits: list[Halves] = []
    rows: list[dict[int, _Figures]] = []
    for number, is_first in enumerate(splits):
        logger.info("Fitting two halves of the participants (%d of %d).", number + 1, len(splits))
        features = [find_features(np.flatnonzero(half)) for half in (is_first, ~is_first)]
        first, second = (cluster(each) for each in features)
        fits.append((first, second))
        rows.append(
            {
                n_parcels: _compare((first[n_parcels], second[n_parcels]), features, adjacency, n_random, seed + number)
                for n_parcels in first
            }
        )
    numbers = list(fits[0][0])
    return SplitHalves(
        fits,
        {n: _curve([row[n].variances for row in rows]) for n in numbers},
        {n: _curve([row[n].rand for row in rows]) for n in numbers},
        {n: _curve([row[n].information for row in rows]) for n in numbers},
    )


@dataclass(frozen=True)
class _Figures:
    """Figures of one split: the observed value first, then those of random parcels; in a column for each fold."""

    variances: npt.NDArray[np.float64]
    rand: npt.NDArray[np.float64]
    information: npt.NDArray[np.float64]


def _compare(
    labels: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
    features: Sequence[Single],
    adjacency: sparse.sparray,
    n_random: int,
    seed: int,
) -> _Figures:
    random = [random_parcellations(each, adjacency, n_random, seed=seed) for each in labels]
    variances = [
        [each.overall for each in explained_variance(held_out, [own, *draws])]
        for held_out, own, draws in zip(features[::-1], labels, random, strict=True)
    ]
    pairs = [agreement(*each) for each in zip([labels[0], *random[0]], [labels[1], *random[1]], strict=True)]
    return _Figures(
        np.array(variances).T,
        np.array([[pair.adjusted_rand] for pair in pairs]),
        np.array([[pair.normalized_mutual_information] for pair in pairs]),
    )


def _curve(figures: Sequence[npt.NDArray[np.float64]]) -> Curve:
    """Put the figures of all splits together: folds as rows of a single column, random parcels averaged over folds."""
    joined = np.concatenate(figures, axis=1)
    return Curve(joined[0][:, np.newaxis], joined[1:].mean(axis=1, keepdims=True))


def join_curves(curves: Mapping[int, Curve]) -> Curve:
    """Put the curves of single numbers of parcels side by side.

    Parameters
    ----------
    curves : mapping of int to Curve
        In the order of the numbers, each with one column.

    Returns
    -------
    Curve
        With a column for each number.
    """
    return Curve(
        np.hstack([curve.observed for curve in curves.values()]), np.hstack([curve.random for curve in curves.values()])
    )
