"""What a report shows of one run: a mean volume, the global signal, and carpets before and after cleaning."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]
Bytes = NDArray[np.uint8]

N_ROWS = 300
"""Voxels in a carpet, at most."""

CARPET_LIMIT = 2.0
"""Standard deviations that black and white of a carpet stand for."""


@dataclass(frozen=True)
class RunPortrait:
    """A run, small enough to be kept for its report.

    Parameters
    ----------
    mean_volume : ndarray of float32, shape (n_voxels,)
        Mean of each voxel over time, before cleaning.
    global_signal : ndarray of float32, shape (n_volumes,)
        Mean of each volume over the voxels, before cleaning.
    carpet : ndarray of uint8, shape (n_rows, n_volumes)
        Signals of some voxels before cleaning, in standard deviations from their means: 0 is ``-CARPET_LIMIT`` or
        less, 255 is ``CARPET_LIMIT`` or more. The rows are sorted by their correlation with the mean of all rows.
    cleaned_carpet : ndarray of uint8, shape (n_rows, n_kept)
        The same voxels after cleaning, in the same order, in standard deviations of their own.
    """

    mean_volume: Single
    global_signal: Single
    carpet: Bytes
    cleaned_carpet: Bytes


@dataclass(frozen=True)
class Sketch:
    """A run before it is cleaned: what becomes a :class:`RunPortrait`.

    Parameters
    ----------
    portrait : RunPortrait
        Without the carpet after cleaning.
    rows : ndarray of int64, shape (n_rows,)
        The voxels of the carpet, in its order.
    """

    portrait: RunPortrait
    rows: NDArray[np.int64]

    def finish(self, cleaned: NDArray[np.floating]) -> RunPortrait:
        """Add the signals after cleaning.

        Parameters
        ----------
        cleaned : ndarray of float, shape (n_kept, n_rows)
            Those of the voxels :attr:`rows`; they may be standardized.

        Returns
        -------
        RunPortrait
            Complete.
        """
        rows = np.ascontiguousarray(cleaned.T, dtype=np.float32)
        return replace(self.portrait, cleaned_carpet=_to_bytes(_scores(rows)))


def sketch(raw: NDArray[np.floating]) -> Sketch:
    """Take down what a report shows of a run before it is cleaned.

    Parameters
    ----------
    raw : ndarray of float, shape (n_volumes, n_voxels)
        Its signals. They are not changed, and may be overwritten afterwards.

    Returns
    -------
    Sketch
        To be finished with the cleaned signals.

    Notes
    -----
    Sorting by the correlation with the global signal shows what all voxels share, such as respiration and motion, as
    vertical stripes, and which voxels share it [1]_. Carpets go back to [2]_.

    References
    ----------
    .. [1] Aquino KM, Fulcher BD, Parkes L, Sabaroedin K, Fornito A (2020). Identifying and removing widespread signal
       deflections from fMRI data. NeuroImage 212:116614.
    .. [2] Power JD (2017). A simple but useful way to assess fMRI scan qualities. NeuroImage 154:150-158.
    """
    n_voxels = raw.shape[1]
    rows = np.unique(np.linspace(0, n_voxels - 1, min(N_ROWS, n_voxels)).astype(np.int64))
    scores = _scores(_rows_of(raw, rows))
    shared = scores.mean(axis=0)
    order = np.argsort(-np.einsum("rt,t->r", scores, shared), kind="stable")
    portrait = RunPortrait(
        mean_volume=raw.mean(axis=0).astype(np.float32),
        global_signal=raw.mean(axis=1).astype(np.float32),
        carpet=_to_bytes(scores[order]),
        cleaned_carpet=np.empty((len(rows), 0), dtype=np.uint8),
    )
    return Sketch(portrait, rows[order])


def _rows_of(signals: NDArray[np.floating], rows: NDArray[np.int64]) -> Single:
    return np.ascontiguousarray(signals[:, rows].T, dtype=np.float32)


def _scores(rows: Single) -> Single:
    """Centre each row and divide it by its standard deviation; a row that does not vary becomes zeros."""
    if not rows.size:
        return rows
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    deviations = centred.std(axis=1, keepdims=True)
    scores: Single = np.divide(centred, deviations, out=np.zeros_like(centred), where=deviations > 0)
    return scores


def _to_bytes(scores: Single) -> Bytes:
    shares = (np.clip(scores, -CARPET_LIMIT, CARPET_LIMIT) + CARPET_LIMIT) / (2 * CARPET_LIMIT)
    quantized: Bytes = np.rint(255 * shares).astype(np.uint8)
    return quantized
