"""Choose the number of parcels from what held-out participants say, beside what chance would give."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.quality.sums import Double

RULE = (
    "The gain of a number of parcels is its mean over folds less the mean of random parcels of the same sizes. "
    "The score is the mean of the gain in held-out explained variance and the gain in reproducibility, each divided by "
    "its largest value. Chosen is the smallest number whose score is within one standard error of the highest score."
)
"""The rule of :func:`choose_n_parcels`, in words."""


@dataclass(frozen=True)
class Curve:
    """A figure at several numbers of parcels. Columns are in the order of the numbers.

    Parameters
    ----------
    observed : ndarray of shape (n_folds, n_candidates), float64
        The figure, in each fold or split of the participants.
    random : ndarray of shape (n_random, n_candidates), float64
        The same of random parcels of the same sizes.
    """

    observed: Double
    random: Double

    @property
    def mean(self) -> Double:
        """Mean over folds, shape (n_candidates,)."""
        return np.asarray(self.observed.mean(axis=0))

    @property
    def error(self) -> Double:
        """Standard error of the mean over folds, shape (n_candidates,)."""
        return np.asarray(self.observed.std(axis=0, ddof=1) / np.sqrt(len(self.observed)))

    @property
    def random_mean(self) -> Double:
        """Mean over random parcels, shape (n_candidates,)."""
        return np.asarray(self.random.mean(axis=0))

    @property
    def random_sd(self) -> Double:
        """Standard deviation over random parcels, shape (n_candidates,)."""
        return np.asarray(self.random.std(axis=0, ddof=1))

    @property
    def gain(self) -> Double:
        """Mean over folds less that of random parcels, shape (n_candidates,)."""
        return self.mean - self.random_mean


@dataclass(frozen=True)
class Choice:
    """The number of parcels that was chosen, and all that it was chosen from.

    Parameters
    ----------
    n_parcels : int
        The number.
    reason : str
        Why it was chosen, with the figures, in one or two sentences.
    candidates : ndarray of int64, shape (n_candidates,)
        Numbers of parcels, ascending. All arrays below are in this order.
    explained_variance, reproducibility : Curve
        The figures compared.
    score, score_error : ndarray of shape (n_candidates,), float64
        What the rule looks at, 1 at most, and its standard error.
    above_chance : ndarray of bool, shape (n_candidates,)
        Whether both gains exceed two standard deviations of random parcels.
    """

    n_parcels: int
    reason: str
    candidates: NDArray[np.int64]
    explained_variance: Curve
    reproducibility: Curve
    score: Double
    score_error: Double
    above_chance: NDArray[np.bool_]


def choose_n_parcels(candidates: ArrayLike, explained_variance: Curve, reproducibility: Curve) -> Choice:
    """Choose the number of parcels.

    Parameters
    ----------
    candidates : array-like of int, shape (n_candidates,)
        Numbers of parcels, ascending.
    explained_variance : Curve
        Overall explained variance in the participants that a fold holds out, of parcels fitted to the others.
    reproducibility : Curve
        Adjusted Rand index between fits to two halves of the participants. The random ones are indices between two
        random parcellations.

    Returns
    -------
    Choice
        The number, and a table of what was compared.

    Raises
    ------
    UsageError
        If the candidates do not ascend, the curves do not fit them, hold values that are not finite, or have fewer
        than two folds or random parcellations.

    Notes
    -----
    Explained variance rises with the number of parcels whatever the data, and so does that of random parcels. Up to the
    number of parcels that the brain has, cutting along its boundaries gains more than cutting anywhere; from then
    on less. Reproducibility is high at that number, and also at smaller ones where parcels form larger units. The two
    together are more robust than either. Where voxels' noise is smooth, or parcels differ between people, the gain in
    explained variance alone may rise to the end.

    The error of the score takes folds for independent, which they are not quite; it is a guide, not a test.
    The rule of one standard error is that of [1]_.

    References
    ----------
    .. [1] Breiman L, Friedman J, Olshen R, Stone C (1984). Classification and regression trees.
       Wadsworth. Section 3.4.3.
    """
    numbers = np.asarray(candidates, dtype=np.int64)
    if not numbers.size or (np.diff(numbers) <= 0).any():
        raise UsageError(f"the numbers of parcels must ascend, but they are {numbers.tolist()}")
    curves = (explained_variance, reproducibility)
    for curve in curves:
        _check(curve, numbers.size)
    relative = [_relative(curve) for curve in curves]
    score = (relative[0][0] + relative[1][0]) / 2
    error = np.hypot(relative[0][1], relative[1][1]) / 2
    above = np.logical_and.reduce([curve.gain > 2 * curve.random_sd for curve in curves])
    best = int(score.argmax())
    chosen = int(np.flatnonzero(score >= score[best] - error[best])[0])
    reason = _explain(numbers, score, error, chosen=chosen, best=best, is_above=bool(above[chosen]))
    return Choice(int(numbers[chosen]), reason, numbers, *curves, score, error, above)


def _check(curve: Curve, n_candidates: int) -> None:
    for values in (curve.observed, curve.random):
        if values.ndim != 2 or values.shape[1] != n_candidates or len(values) < 2 or not np.isfinite(values).all():
            raise UsageError(
                f"a curve has the shape {values.shape}; at least two rows of {n_candidates} finite numbers are needed, "
                "one for each number of parcels"
            )


def _relative(curve: Curve) -> tuple[Double, Double]:
    """Divide a curve's gain and its error by the largest gain; 0 if there is none above random parcels."""
    largest = curve.gain.max()
    if largest <= 0:
        return np.zeros_like(curve.gain), np.zeros_like(curve.gain)
    return curve.gain / largest, curve.error / largest


def _explain(
    numbers: NDArray[np.int64], score: Double, error: Double, *, chosen: int, best: int, is_above: bool
) -> str:
    reason = (
        f"{numbers[best]} parcels have the highest score, {score[best]:.3f} (standard error {error[best]:.3f}); "
        f"{numbers[chosen]} is the smallest number within one standard error of it, with {score[chosen]:.3f}."
    )
    if not is_above:
        reason += " But its parcels are not clearly better than random ones of the same sizes."
    elif chosen in (0, len(numbers) - 1) and len(numbers) > 1:
        reason += " It is at the end of the range that was tried: a wider one may hold a better number."
    return reason
