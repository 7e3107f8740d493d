"""Reduction of runs to a few components, and their merge into those of the group.

A run's signals ``X``, of shape (volumes, voxels), are reduced to the leading right singular vectors of their singular
value decomposition: the components. The group's components are those of all runs' components, scaled and stacked.
Runs are merged one after another, so memory does not grow with their number.

The decompositions go through the Gram matrix of the short side, ``X @ X.T``, whose eigenvalues are the squared singular
values: two matrix products and a small eigenvalue problem. Squaring costs accuracy only where directions are small: a
singular value that is a share ``r`` of the largest one has a relative error of about ``2e-16 / r**2``, since Gram
matrices are in double precision. Directions below ``n * 1.2e-7`` of the largest one, with ``n`` the length of the short
side, are dropped: they are rounding noise of single precision, which is also all that remains of dimensions that
cleaning removed. At that limit, with 200 volumes, the error is 4e-7: the precision in which components are stored.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from bids_parcellate.errors import DataError, UsageError

Single = NDArray[np.float32]
Double = NDArray[np.float64]
Weighting = Literal["singular_values", "unit"]
FeatureMode = Literal["scaled", "nilearn"]

# Columns (voxels) that are worked on at a time, in double precision.
_BLOCK = 4096

# Directions that the running merge keeps beyond those asked for, as a share of them: what is cut off early cannot come
# back when later runs add to it.
_OVERSAMPLING = 0.5


@dataclass(frozen=True)
class Reduction:
    """The leading components of a run, or of several.

    Parameters
    ----------
    components : ndarray of shape (n_components, n_voxels), float32
        Orthonormal rows. In each, the value of largest size is positive.
    singular_values : ndarray of shape (n_components,), float64
        In descending order.
    n_volumes : int
        Number of volumes that were reduced.
    total_variance : float
        Sum of squares of what was reduced; that of the singular values is the part of it that was kept.
    """

    components: Single
    singular_values: Double
    n_volumes: int
    total_variance: float


@dataclass(frozen=True)
class MergedReduction(Reduction):
    """The leading components of a group.

    Parameters
    ----------
    components, singular_values, n_volumes, total_variance
        As in :class:`Reduction`.
    coverage : ndarray of shape (n_voxels,), int64
        Number of volumes of the runs that have the voxel.
    """

    coverage: NDArray[np.int64]


def reduce_signals(signals: NDArray[np.floating], n_components: int) -> Reduction:
    """Reduce the signals of a run to their leading components.

    Parameters
    ----------
    signals : ndarray of shape (n_volumes, n_voxels), float32 or float64
        Cleaned signals. They are not centred here.
    n_components : int
        Largest number of components. There are fewer if the rank of the signals is smaller.

    Returns
    -------
    Reduction
        The truncated singular value decomposition, without the left singular vectors.

    Raises
    ------
    UsageError
        If ``n_components`` is less than 1.
    DataError
        If the signals are not finite, or all zero.
    """
    if n_components < 1:
        raise UsageError(f"n_components is {n_components}; it must be at least 1")
    components, singular_values, total_variance = _decompose([signals], n_components)
    return Reduction(components, singular_values, len(signals), total_variance)


class Merger:
    """Merge the reductions of runs, one at a time.

    Runs wait until a batch of them is full; then they, and what was merged before, are decomposed anew and truncated.
    The result depends on the runs and on their order, and on nothing else.

    Parameters
    ----------
    n_voxels : int
        Number of voxels of the group.
    n_components : int
        Largest number of components of the result.
    batch_size : int, default=2
        Number of runs that are merged at a time. Memory is bounded by ``3 + batch_size`` times the size of a run's
        components.
    weighting : {"singular_values", "unit"}, default="singular_values"
        How the components of a run are scaled before they are stacked: by their singular values, so that the result is
        that of all volumes stacked, or not at all, so that weak components count as much as strong ones. The latter is
        what nilearn does (its ``do_cca=True``).
    """

    def __init__(
        self, n_voxels: int, n_components: int, *, batch_size: int = 2, weighting: Weighting = "singular_values"
    ) -> None:
        if min(n_voxels, n_components, batch_size) < 1:
            raise UsageError(
                f"n_voxels ({n_voxels}), n_components ({n_components}) and batch_size ({batch_size}) must be at least 1"
            )
        if weighting not in ("singular_values", "unit"):
            raise UsageError(f"weighting is {weighting!r}; allowed are 'singular_values' and 'unit'")
        self._n_components = n_components
        self._batch_size = batch_size
        self._weighting = weighting
        self._merged = np.empty((0, n_voxels), dtype=np.float32)
        self._waiting: list[Single] = []
        self._coverage = np.zeros(n_voxels, dtype=np.int64)
        self._n_volumes = 0
        self._total_variance = 0.0

    def add(self, reduction: Reduction, columns: NDArray[np.integer]) -> None:
        """Add a run.

        Parameters
        ----------
        reduction : Reduction
            The run's, on its own voxels.
        columns : ndarray of int, shape (n_voxels,)
            For each voxel of the group, which column of ``reduction.components`` it is; -1 where the run lacks it.

        Raises
        ------
        UsageError
            If ``columns`` does not fit the group or the run.
        """
        n_columns = reduction.components.shape[1]
        if columns.shape != self._coverage.shape or columns.min() < -1 or columns.max() >= n_columns:
            raise UsageError(
                f"columns must hold {self._coverage.size} numbers from -1 to {n_columns - 1}, "
                f"but it holds {columns.size} from {columns.min()} to {columns.max()}"
            )
        if len(self._waiting) == self._batch_size:
            self._fold()
        missing = columns < 0
        rows = reduction.components[:, columns]
        rows[:, missing] = 0
        if self._weighting == "singular_values":
            rows *= reduction.singular_values.astype(np.float32)[:, np.newaxis]
            self._total_variance += reduction.total_variance
        else:
            self._total_variance += len(rows)
        self._waiting.append(rows)
        self._coverage[~missing] += reduction.n_volumes
        self._n_volumes += reduction.n_volumes

    def _fold(self) -> None:
        """Merge the runs that wait."""
        n_kept = round((1 + _OVERSAMPLING) * self._n_components)
        components, singular_values, _ = _decompose([self._merged, *self._waiting], n_kept)
        components *= singular_values.astype(np.float32)[:, np.newaxis]
        self._merged = components
        self._waiting.clear()

    def result(self) -> MergedReduction:
        """Decompose what was added so far. More runs can be added afterwards.

        Returns
        -------
        MergedReduction
            The components of the group. With ``weighting="unit"`` each component of a run counts as 1 in its
            ``total_variance``.

        Raises
        ------
        DataError
            If no run was added.
        """
        if not self._waiting:
            raise DataError("there is no run to merge")
        components, singular_values, _ = _decompose([self._merged, *self._waiting], self._n_components)
        return MergedReduction(
            components, singular_values, self._n_volumes, self._total_variance, coverage=self._coverage.copy()
        )


def features(merged: MergedReduction, mode: FeatureMode) -> Single:
    """Give each voxel the features that are clustered.

    Parameters
    ----------
    merged : MergedReduction
        The components of the group.
    mode : {"scaled", "nilearn"}
        'scaled': components times singular values, divided by the square root of the number of volumes, so that the sum
        of squares of a voxel's features is its mean square over time, as far as the components hold it. 'nilearn': the
        components alone, so that each has the same variance over the voxels.

    Returns
    -------
    ndarray of shape (n_components, n_voxels), float32
        The features, C-contiguous. They are corrected for :func:`coverage`.

    Raises
    ------
    UsageError
        If the mode is none of those above.
    """
    if mode not in ("scaled", "nilearn"):
        raise UsageError(f"features is {mode!r}; allowed are 'scaled' and 'nilearn'")
    values = merged.components * coverage_correction(merged.coverage, merged.n_volumes)
    if mode == "scaled":
        values *= (merged.singular_values / np.sqrt(merged.n_volumes)).astype(np.float32)[:, np.newaxis]
    return values


def coverage_correction(coverage: NDArray[np.integer], n_volumes: int) -> Single:
    """Find the factors that make up for volumes that lack a voxel.

    Such volumes enter the merge with zeros, which shrinks the voxel's sum of squares by the share that is missing.

    Parameters
    ----------
    coverage : ndarray of int, shape (n_voxels,)
        Number of volumes that have the voxel.
    n_volumes : int
        Number of all volumes.

    Returns
    -------
    ndarray of shape (n_voxels,), float32
        ``sqrt(n_volumes / coverage)``: exactly 1 where no volume is missing, and 0 where all are.
    """
    share = coverage / n_volumes
    return np.sqrt(np.divide(1.0, share, out=np.zeros_like(share), where=share > 0)).astype(np.float32)


def _decompose(pieces: Sequence[NDArray[np.floating]], n_components: int) -> tuple[Single, Double, float]:
    """Decompose stacked rows: leading right singular vectors, singular values, sum of squares."""
    n_rows, n_columns = sum(map(len, pieces)), pieces[0].shape[1]
    if n_rows <= n_columns:
        gram = sum((block @ block.T for _, block in _blocks(pieces)), np.zeros((n_rows, n_rows)))
        singular_values, vectors = _leading_directions(gram, n_components)
        components = _project(pieces, vectors / singular_values)
    else:
        stacked = np.concatenate(pieces).astype(np.float64)
        gram = stacked.T @ stacked
        singular_values, vectors = _leading_directions(gram, n_components)
        components = np.ascontiguousarray(vectors.T, dtype=np.float32)
    is_negative = -components.min(axis=1) > components.max(axis=1)
    components[is_negative] *= -1
    return components, singular_values, float(np.trace(gram))


def _leading_directions(gram: Double, n_components: int) -> tuple[Double, Double]:
    """Give square roots of eigenvalues, largest first, and eigenvectors; without those that are rounding noise."""
    if not np.isfinite(gram).all():
        raise DataError("the signals hold values that are not finite", "Leave those voxels out of the mask.")
    n = len(gram)
    eigenvalues, vectors = linalg.eigh(gram, subset_by_index=[max(0, n - n_components), n - 1])
    singular_values = np.sqrt(np.maximum(eigenvalues[::-1], 0))
    n_kept = np.count_nonzero(singular_values > n * np.finfo(np.float32).eps * singular_values[0])
    if n_kept == 0:
        raise DataError("the signals are all zero: cleaning left nothing to reduce")
    return singular_values[:n_kept], vectors[:, ::-1][:, :n_kept]


def _project(pieces: Sequence[NDArray[np.floating]], weights: Double) -> Single:
    """Multiply stacked rows by the transpose of ``weights``."""
    projected = np.empty((weights.shape[1], pieces[0].shape[1]), dtype=np.float32)
    for columns, block in _blocks(pieces):
        projected[:, columns] = weights.T @ block
    return projected


def _blocks(pieces: Sequence[NDArray[np.floating]]) -> Iterator[tuple[slice, Double]]:
    """Stack rows in double precision, some columns at a time."""
    for start in range(0, pieces[0].shape[1], _BLOCK):
        columns = slice(start, start + _BLOCK)
        yield columns, np.concatenate([piece[:, columns] for piece in pieces], dtype=np.float64)
