"""Divide the runs of a study by participants: the runs of one are never on both sides."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.errors import DataError, UsageError

Bool = NDArray[np.bool_]


def leave_participants_out(participants: Sequence[str], n_folds: int, *, seed: int = 0) -> list[Bool]:
    """Divide runs into folds.

    Parameters
    ----------
    participants : sequence of str
        The participant of each run.
    n_folds : int
        Number of folds, at least 2. With fewer participants each is a fold.
    seed : int, default=0
        Seed of the division. It does not depend on the order of the runs.

    Returns
    -------
    list of ndarray of bool, shape (n_runs,)
        The runs that each fold holds out: each run once, all those of a participant together, and as equal numbers of
        participants as can be.

    Raises
    ------
    UsageError
        If ``n_folds`` is less than 2.
    DataError
        If there are fewer than two participants.
    """
    if n_folds < 2:
        raise UsageError(f"n_folds is {n_folds}; it must be at least 2")
    names, who = _participants(participants)
    order = np.random.default_rng(seed).permutation(names.size)
    return [np.isin(who, held_out) for held_out in np.array_split(order, min(n_folds, names.size))]


def split_halves(participants: Sequence[str], n_splits: int, *, seed: int = 0) -> list[Bool]:
    """Divide runs into two halves, again and again.

    Parameters
    ----------
    participants : sequence of str
        The participant of each run.
    n_splits : int
        Number of divisions, at least 1.
    seed : int, default=0
        Seed.

    Returns
    -------
    list of ndarray of bool, shape (n_runs,)
        The runs of the first half; of an odd number of participants it has the smaller part.

    Raises
    ------
    UsageError
        If ``n_splits`` is less than 1.
    DataError
        If there are fewer than two participants.
    """
    if n_splits < 1:
        raise UsageError(f"n_splits is {n_splits}; it must be at least 1")
    names, who = _participants(participants)
    rng = np.random.default_rng(seed)
    return [np.isin(who, rng.permutation(names.size)[: names.size // 2]) for _ in range(n_splits)]


def bootstrap(participants: Sequence[str], n_samples: int, *, seed: int = 0) -> list[NDArray[np.int64]]:
    """Draw participants with replacement.

    Parameters
    ----------
    participants : sequence of str
        The participant of each run.
    n_samples : int
        Number of samples, at least 1.
    seed : int, default=0
        Seed.

    Returns
    -------
    list of ndarray of int64, shape (n_runs,)
        How often each run counts in each sample: the same for all runs of a participant, 0 for those not drawn.

    Raises
    ------
    UsageError
        If ``n_samples`` is less than 1.
    DataError
        If there are fewer than two participants.
    """
    if n_samples < 1:
        raise UsageError(f"n_samples is {n_samples}; it must be at least 1")
    names, who = _participants(participants)
    rng = np.random.default_rng(seed)
    draws = rng.integers(names.size, size=(n_samples, names.size))
    return [np.bincount(draw, minlength=names.size)[who] for draw in draws]


def _participants(participants: Sequence[str]) -> tuple[NDArray[np.str_], NDArray[np.intp]]:
    names, who = np.unique(np.asarray(participants), return_inverse=True)
    if names.size < 2:
        raise DataError(
            f"there is {names.size} participant: at least two are needed to hold some of them out",
            "Runs of one participant are not independent evidence for a group parcellation.",
        )
    return names, who
