"""Reduction of runs to a few components, and their merge into those of the group.

A run's signals ``X``, of shape (volumes, voxels), are reduced to the leading right singular vectors of their singular
value decomposition: the components. The group's components are those of all runs' components, scaled and stacked.
Runs are merged one after another, so memory does not grow with their number.

The decompositions go through the Gram matrix of the short side, ``X @ X.T``, whose eigenvalues are the squared singular
values: two matrix products and a small eigenvalue problem. Squaring costs accuracy only where directions are small. A
run's Gram matrix is in double precision: a singular value that is a share ``r`` of the largest one has a relative error
of about ``2e-16 / r**2``. Directions below ``n * 1.2e-7`` of the largest one, with ``n`` the length of the short side,
are dropped: they are rounding noise of single precision, which is also all that remains of dimensions that cleaning
removed. At that limit, with 200 volumes, the error is 4e-7: the precision in which components are stored.

Runs are merged in single precision, in half the time. The error is then about ``1e-7 / r**2``, and what a group's
components are used for, distances between voxels, weighs a direction by ``r``. Below ``r = 3e-4`` nothing but error is
left: such directions of a run, which filters have many of, are not merged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.threads import map_in_threads

Single = NDArray[np.float32]
Double = NDArray[np.float64]
Weighting = Literal["singular_values", "unit"]
Precision = type[np.float32] | type[np.float64]
Block = TypeVar("Block")

# Columns (voxels) that are worked on at a time: some hundred rows of them fit into a CPU's cache.
_BLOCK = 2048

# Directions that the running merge keeps beyond those asked for, as a share of them: what is cut off early cannot come
# back when later runs add to it.
_OVERSAMPLING = 0.5

# Directions of a run below this share of its largest one are lost in the rounding of a Gram matrix of single precision.
_LOST = float(np.sqrt(np.finfo(np.float32).eps))


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
class SignalReduction(Reduction):
    """The leading components of signals, with what is needed to have the signals back.

    Parameters
    ----------
    components, singular_values, n_volumes, total_variance
        As in :class:`Reduction`.
    time_courses : ndarray of shape (n_volumes, n_components), float32
        Orthonormal columns. Times the singular values times the components they are the signals, as far as the
        components hold them.
    """

    time_courses: Single

    @property
    def is_complete(self) -> bool:
        """Whether the components hold all of the signals, up to their rounding to single precision."""
        lost = self.total_variance - float(np.sum(self.singular_values**2))
        return lost <= self.n_volumes * (_noise_limit(self.n_volumes) * float(self.singular_values[0])) ** 2


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


def reduce_signals(
    signals: NDArray[np.floating], n_components: int, *, basis: Double | None = None, n_threads: int = 1
) -> SignalReduction:
    """Reduce the signals of a run to their leading components.

    Parameters
    ----------
    signals : ndarray of shape (n_volumes, n_voxels), float32 or float64
        Cleaned signals. They are not centred here.
    n_components : int
        Largest number of components. There are fewer if the rank of the signals is smaller.
    basis : ndarray of float64, shape (n_volumes, n_dimensions), optional
        Orthonormal columns, in which ``signals`` are coordinates of shape (n_dimensions, n_voxels). Their components
        are computed in single precision: of weak ones in z-scores little is asked.
    n_threads : int, default=1
        Blocks of voxels that are worked on at a time. The result does not depend on it.

    Returns
    -------
    SignalReduction
        The truncated singular value decomposition.

    Raises
    ------
    UsageError
        If ``n_components`` is less than 1.
    DataError
        If the signals are not finite, or all zero.
    """
    if n_components < 1:
        raise UsageError(f"n_components is {n_components}; it must be at least 1")
    n_rows, n_voxels = signals.shape
    gram = _gram(signals if n_rows <= n_voxels else signals.T, np.float64, n_threads)
    singular_values, vectors = _leading_directions(gram, n_components)
    if n_rows <= n_voxels:
        time_courses = vectors
        components = np.empty((len(singular_values), n_voxels), dtype=np.float32)
        precision: Precision = np.float64 if basis is None else np.float32
        _project(signals, vectors / singular_values, components, precision, n_threads)
    else:
        components = vectors.T.astype(np.float32)
        time_courses = signals.astype(np.float64) @ (vectors / singular_values)
    time_courses = time_courses * _fix_signs(components)
    if basis is not None:
        time_courses = basis @ time_courses
    return SignalReduction(
        components,
        singular_values,
        len(time_courses),
        float(np.trace(gram)),
        time_courses=time_courses.astype(np.float32),
    )


class Merger:
    """Merge the reductions of runs, one at a time.

    The components of runs wait until there are ``n_waiting`` of them; then they, and what was merged before, are
    decomposed anew and truncated. The result depends on the runs and on their order, and on nothing else.

    Parameters
    ----------
    n_voxels : int
        Number of voxels of the group.
    n_components : int
        Largest number of components of the result.
    n_waiting : int, optional
        Number of components of runs that wait; ``n_components`` by default. With fewer, less memory is used;
        with more, the result is closer to that of all runs at once. Memory is that of ``n_waiting`` and ``1.5 *
        n_components`` rows of all voxels in single precision.
    weighting : {"singular_values", "unit"}, default="singular_values"
        How the components of a run are scaled before they are stacked: by their singular values, so that the result is
        that of all volumes stacked, or not at all, so that weak components count as much as strong ones. The latter is
        what nilearn does (its ``do_cca=True``).
    n_threads : int, default=1
        Blocks of voxels that are worked on at a time. The result does not depend on it.
    """

    def __init__(
        self,
        n_voxels: int,
        n_components: int,
        *,
        n_waiting: int | None = None,
        weighting: Weighting = "singular_values",
        n_threads: int = 1,
    ) -> None:
        n_waiting = n_components if n_waiting is None else n_waiting
        if min(n_voxels, n_components, n_waiting) < 1:
            raise UsageError(
                f"n_voxels ({n_voxels}), n_components ({n_components}) and n_waiting ({n_waiting}) must be at least 1"
            )
        if weighting not in ("singular_values", "unit"):
            raise UsageError(f"weighting is {weighting!r}; allowed are 'singular_values' and 'unit'")
        self._n_components = n_components
        self._weighting = weighting
        self._n_threads = n_threads
        # Rows that are not written to take no memory: the operating system gives it when it is first used.
        self._rows = np.empty((round((1 + _OVERSAMPLING) * n_components) + n_waiting, n_voxels), dtype=np.float32)
        self._n_rows = 0
        # The first rows are those of the last merge: orthogonal, and as long as its singular values.
        self._lengths = np.empty(0)
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
        n_new, n_columns = reduction.components.shape
        if columns.shape != self._coverage.shape or columns.min() < -1 or columns.max() >= n_columns:
            raise UsageError(
                f"columns must hold {self._coverage.size} numbers from -1 to {n_columns - 1}, "
                f"but it holds {columns.size} from {columns.min()} to {columns.max()}"
            )
        missing = columns < 0
        scales, n_added = self._scales(reduction), 0
        while n_added < len(scales):
            if self._n_rows == len(self._rows):
                self._merge()
            rows = self._rows[self._n_rows :][: len(scales) - n_added]
            new = slice(n_added, n_added + len(rows))
            np.take(reduction.components[new], columns, axis=1, out=rows, mode="wrap")
            rows[:, missing] = 0
            rows *= scales[new, np.newaxis]
            self._n_rows += len(rows)
            n_added += len(rows)
        self._total_variance += reduction.total_variance if self._weighting == "singular_values" else n_new
        self._coverage[~missing] += reduction.n_volumes
        self._n_volumes += reduction.n_volumes

    def _scales(self, reduction: Reduction) -> Single:
        """Give what the components of a run are multiplied by: as many as are to be merged."""
        if self._weighting == "unit":
            return np.ones(len(reduction.components), dtype=np.float32)
        values = reduction.singular_values
        scales: Single = values[values > _LOST * values[0]].astype(np.float32)
        return scales

    def _merge(self) -> None:
        """Decompose all rows anew, and keep the leading ones."""
        rows, n_kept = self._rows[: self._n_rows], round((1 + _OVERSAMPLING) * self._n_components)
        self._lengths, vectors = _leading_directions(self._gram(), n_kept)
        self._n_rows = len(self._lengths)
        _project(rows, vectors, rows[: self._n_rows], np.float32, self._n_threads)

    def _gram(self) -> Double:
        """Multiply all rows by each other; products of merged ones are known but for rounding."""
        rows, n_merged = self._rows[: self._n_rows], len(self._lengths)

        def multiply_new(columns: slice) -> tuple[Single, Single]:
            merged, new = rows[:n_merged, columns], rows[n_merged:, columns]
            return new @ merged.T, new @ new.T

        gram = np.diag(np.pad(self._lengths**2, (0, len(rows) - n_merged)))
        for by_merged, by_new in map_in_threads(multiply_new, _blocks(rows), self._n_threads):
            gram[n_merged:, :n_merged] += by_merged
            gram[n_merged:, n_merged:] += by_new
        gram[:n_merged, n_merged:] = gram[n_merged:, :n_merged].T
        return gram

    def result(self) -> MergedReduction:
        """Decompose what was added, and end the merge.

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
        if not self._n_rows:
            raise DataError("there is no run to merge")
        rows = self._rows[: self._n_rows]
        if len(rows) <= rows.shape[1]:
            gram = _gram(rows, np.float32, self._n_threads)
            singular_values, vectors = _leading_directions(gram, self._n_components)
            _project(rows, vectors / singular_values, rows[: len(singular_values)], np.float32, self._n_threads)
            del rows
            # The largest array of a job is made the result, and what is behind that given back.
            components, self._rows = self._rows, np.empty((0, self._rows.shape[1]), dtype=np.float32)
            components.resize((len(singular_values), components.shape[1]), refcheck=False)
        else:
            singular_values, vectors = _leading_directions(_gram(rows.T, np.float32), self._n_components)
            components = vectors.T.astype(np.float32)
        self._n_rows = 0
        _fix_signs(components)
        return MergedReduction(
            components, singular_values, self._n_volumes, self._total_variance, coverage=self._coverage
        )


def _gram(rows: NDArray[np.floating], precision: Precision, n_threads: int = 1) -> Double:
    """Multiply rows by each other: blocks of columns in the given precision, their sum in double precision."""

    def square(columns: slice) -> NDArray[np.floating]:
        block: NDArray[np.floating] = rows[:, columns].astype(precision, copy=False)
        return block @ block.T

    gram = np.zeros((len(rows), len(rows)))
    for product in map_in_threads(square, _blocks(rows), n_threads):
        gram += product
    return gram


def _leading_directions(gram: Double, n_components: int) -> tuple[Double, Double]:
    """Give square roots of eigenvalues, largest first, and eigenvectors; without those that are rounding noise."""
    if not np.isfinite(gram).all():
        raise DataError("the signals hold values that are not finite", "Leave those voxels out of the mask.")
    n = len(gram)
    if n_components > n / 3:  # all of them by divide and conquer are then faster than some of them
        eigenvalues, vectors = linalg.eigh(gram, driver="evd")
    else:
        eigenvalues, vectors = linalg.eigh(gram, subset_by_index=[n - n_components, n - 1])
    singular_values = np.sqrt(np.maximum(eigenvalues[::-1][:n_components], 0))
    n_kept = np.count_nonzero(singular_values > _noise_limit(n) * singular_values[0])
    if n_kept == 0:
        raise DataError("the signals are all zero: cleaning left nothing to reduce")
    return singular_values[:n_kept], vectors[:, ::-1][:, :n_kept]


def _noise_limit(n: int) -> float:
    """Bound what rounding to single precision leaves of a direction, as a share of the largest of ``n``."""
    return n * float(np.finfo(np.float32).eps)


def _project(rows: NDArray[np.floating], weights: Double, out: Single, precision: Precision, n_threads: int) -> None:
    """Multiply rows by the transpose of ``weights`` into ``out``, which may be some of the rows themselves."""
    weights = np.ascontiguousarray(weights.T, dtype=precision)

    def project(columns: slice) -> None:
        out[:, columns] = weights @ rows[:, columns].astype(precision, copy=False)

    for _ in map_in_threads(project, _blocks(rows), n_threads):
        pass


def _blocks(rows: NDArray[np.floating]) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, rows.shape[1], _BLOCK))


def _fix_signs(components: Single) -> NDArray[np.int64]:
    """Make the value of largest size in each row positive, in place; return what the rows were multiplied by."""
    signs = np.where(-components.min(axis=1) > components.max(axis=1), -1, 1)
    for row in np.flatnonzero(signs < 0):
        np.negative(components[row], out=components[row])
    return signs
