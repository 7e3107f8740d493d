"""Divide the runs of a study by participants: the runs of one are never on both sides."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.errors import DataError, UsageError

Bool = NDArray[np.bool_]


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
    list of ndarray of int64, shape (n_drawn,)
        The numbers of the runs in each sample, ascending: all runs of a participant as often as it was drawn.

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
    return [np.repeat(np.arange(who.size), np.bincount(draw, minlength=names.size)[who]) for draw in draws]


def _participants(participants: Sequence[str]) -> tuple[NDArray[np.str_], NDArray[np.intp]]:
    names, who = np.unique(np.asarray(participants), return_inverse=True)
    if names.size < 2:
        raise DataError(
            f"there is {names.size} participant: at least two are needed to hold some of them out",
            "Runs of one participant are not independent evidence for a group parcellation.",
        )
    return names, who
