"""Signals of one run, of its voxels or of parcels: read, smoothed, cleaned and standardized."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from bids_parcellate.errors import DataError, ParcellateError, UsageError
from bids_parcellate.io.masking import Mask
from bids_parcellate.numerics.cleaning import (
    Signals,
    Standardization,
    apply_operator,
    baseline,
    baseline_weights,
    clean_to_scores,
    degrees_of_freedom,
    kept_volumes,
    standardize,
    temporal_operator,
)
from bids_parcellate.numerics.portrait import sketch
from bids_parcellate.numerics.reduction import reduce_signals
from bids_parcellate.numerics.run_reduction import RunReduction, Units
from bids_parcellate.numerics.signals import Labels
from bids_parcellate.runs.extraction import read_parcel_means, read_signals
from bids_parcellate.runs.inputs import InputRun, InputTypeError
from bids_parcellate.runs.parameters import FromEstimator

logger = logging.getLogger(__name__)

_STANDARDIZATIONS: dict[object, Standardization] = {
    None: None,
    False: None,
    True: "zscore_sample",
    "zscore_sample": "zscore_sample",
    "zscore": "zscore",
    "psc": "psc",
}


@dataclass(frozen=True)
class Preprocessing(FromEstimator):
    """How the signals of runs are smoothed and cleaned: the parameters of nilearn's maskers.

    Parameters
    ----------
    smoothing_fwhm : float or None
        Full width at half maximum of the Gaussian, in mm.
    standardize : {"zscore_sample", "zscore", "psc", True, False, None}
        How signals are scaled; kept as what :func:`bids_parcellate.numerics.cleaning.standardize` takes. The one volume
        of a 3-D image has no deviation, and stays as it is.
    standardize_confounds, detrend, low_pass, high_pass, t_r
        As in :func:`bids_parcellate.numerics.cleaning.temporal_operator`.

    Raises
    ------
    UsageError
        If ``standardize`` or ``smoothing_fwhm`` has a value that is not allowed.
    """

    smoothing_fwhm: float | None
    standardize: Standardization
    standardize_confounds: bool
    detrend: bool
    low_pass: float | None
    high_pass: float | None
    t_r: float | None

    def __post_init__(self) -> None:
        if self.standardize not in _STANDARDIZATIONS:
            raise UsageError(
                f"standardize is {self.standardize!r}; "
                "allowed are 'zscore_sample', 'zscore', 'psc', True (as 'zscore_sample'), None and False"
            )
        for name in ("smoothing_fwhm", "low_pass", "high_pass", "t_r"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number | None):
                raise InputTypeError(f"{name} is {value!r}; a number or None is allowed")
        if self.smoothing_fwhm is not None and not 0 <= self.smoothing_fwhm < np.inf:
            raise UsageError(f"smoothing_fwhm is {self.smoothing_fwhm} mm; it must not be negative")
        object.__setattr__(self, "standardize", _STANDARDIZATIONS[self.standardize])

    def standardizing(self, method: Standardization) -> Self:
        """Change how signals are standardized.

        Parameters
        ----------
        method : {"zscore_sample", "zscore", "psc"} or None
            How they are scaled.

        Returns
        -------
        Preprocessing
            Otherwise the same.
        """
        return replace(self, standardize=method)

    def operator(self, run: InputRun, min_degrees_of_freedom: int = 1) -> npt.NDArray[np.float64]:
        """Build the matrix that cleans a run: trend, filter, confounds and censoring in one.

        Parameters
        ----------
        run : InputRun
            The run.
        min_degrees_of_freedom : int, default=1
            How many it must leave.

        Returns
        -------
        ndarray of float64, shape (n_kept, n_volumes)
            The operator.

        Raises
        ------
        ParcellateError
            If the run cannot be cleaned so, or too little is left of it.
        """
        with _naming(run):
            operator = temporal_operator(
                run.n_volumes,
                t_r=self.t_r,
                confounds=run.confounds,
                sample_mask=run.sample_mask,
                detrend=self.detrend,
                low_pass=self.low_pass,
                high_pass=self.high_pass,
                standardize_confounds=self.standardize_confounds,
            )
        freedom = degrees_of_freedom(operator)
        if freedom < min_degrees_of_freedom:
            n_confounds = 0 if run.confounds is None else run.confounds.shape[1]
            raise DataError(
                f"{run}: {len(operator)} kept volumes, {n_confounds} confounds and the filter leave {freedom} degrees "
                f"of freedom; at least {min_degrees_of_freedom} are needed.",
                "Choose fewer confounds, a wider band, or less censoring.",
            )
        return operator

    def cleaned_signals(self, run: InputRun, mask: Mask) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Extract the cleaned signals of voxels, not standardized.

        Parameters
        ----------
        run : InputRun
            The run.
        mask : Mask
            The voxels. Images on another grid are resampled to it (spline).

        Returns
        -------
        signals : ndarray of float32, shape (n_kept, n_voxels)
            The signals of the volumes that are kept.
        before : ndarray of float64, shape (n_voxels,)
            Their temporal means before cleaning.

        Raises
        ------
        ParcellateError
            If the run cannot be read, or cannot be cleaned so.
        """
        operator = self.operator(run)
        raw = read_signals(run.images, mask, self.smoothing_fwhm)
        return self._apply(operator, run, raw), baseline(self._baseline_weights(run), raw)

    def voxel_signals(self, run: InputRun, mask: Mask) -> npt.NDArray[np.float32]:
        """Extract the signals of voxels: cleaned and standardized.

        Parameters
        ----------
        run : InputRun
            The run.
        mask : Mask
            The voxels. Images on another grid are resampled to it (spline).

        Returns
        -------
        ndarray of float32, shape (n_kept, n_voxels)
            The signals of the volumes that are kept.

        Raises
        ------
        ParcellateError
            If the run cannot be read, or cannot be cleaned so.
        """
        return self._scale(run, *self.cleaned_signals(run, mask))

    def parcel_signals(
        self, run: InputRun, mask: Mask, labelings: Sequence[Labels], n_parcels: Sequence[int]
    ) -> list[npt.NDArray[np.float64]]:
        """Extract the signals of parcels: cleaning is linear, so it is their few means that are cleaned.

        Parameters
        ----------
        run : InputRun
            The run.
        mask : Mask
            The voxels. Images on another grid are resampled to it (spline).
        labelings : sequence of ndarray of int, shape (n_voxels,)
            Of each parcellation the parcel of each voxel, from 1 to its number of parcels.
        n_parcels : sequence of int
            Numbers of parcels.

        Returns
        -------
        list of ndarray of float64, shape (n_kept, n_parcels)
            The signals of the volumes that are kept; NaN for a parcel without voxels.

        Raises
        ------
        ParcellateError
            If the run cannot be read, or cannot be cleaned so.
        """
        operator = self.operator(run)
        all_means = read_parcel_means(run.images, mask, self.smoothing_fwhm, labelings, n_parcels)
        all_signals = []
        for means in all_means:
            exists = ~np.isnan(means).all(axis=0)
            signals = np.full((len(operator), means.shape[1]), np.nan)
            signals[:, exists] = self._clean(operator, run, means[:, exists])
            all_signals.append(signals)
        return all_signals

    def parcel_signals_of(self, reduction: RunReduction, labels: Labels, n_parcels: int) -> npt.NDArray[np.float64]:
        """Take the signals of parcels from a reduction that holds them.

        Parameters
        ----------
        reduction : RunReduction
            The run's.
        labels : ndarray of int, shape (n_voxels,)
            The parcel of each of the reduction's voxels, from 1 to ``n_parcels``; 0 for none.
        n_parcels : int
            Number of parcels.

        Returns
        -------
        ndarray of float64, shape (n_kept, n_parcels)
            As :meth:`parcel_signals`, up to rounding to single precision.
        """
        means, before = reduction.parcel_signals(labels, n_parcels)
        exists = ~np.isnan(before)
        signals = np.full(means.shape, np.nan)
        signals[:, exists] = standardize(means[:, exists], self.standardize, mean=before[exists])
        return signals

    def reduce(
        self,
        run: InputRun,
        mask: Mask,
        operator: npt.NDArray[np.float64],
        n_components: int,
        *,
        drop_constant: bool,
        n_threads: int = 1,
    ) -> RunReduction:
        """Reduce the signals of voxels.

        Parameters
        ----------
        run : InputRun
            The run.
        mask : Mask
            The voxels.
        operator : ndarray of float64, shape (n_kept, n_volumes)
            What :meth:`operator` gives.
        n_components : int
            Largest number of components.
        drop_constant : bool
            Whether voxels are left out whose signals do not vary over time, before they are cleaned. The one volume of
            a 3-D image says nothing about that.
        n_threads : int, default=1
            Threads for smoothing and decomposition. The result does not depend on it.

        Returns
        -------
        RunReduction
            The leading components of the cleaned signals.

        Raises
        ------
        ParcellateError
            If the run cannot be read, cleaned so, or reduced.
        """
        raw = read_signals(run.images, mask, self.smoothing_fwhm, n_threads=n_threads)
        voxels = mask.voxels
        if drop_constant and len(raw) > 1:
            varies = raw.min(axis=0) < raw.max(axis=0)
            if not varies.any():
                raise DataError(f"{run} does not vary over time in any voxel of its mask.", "Check image and mask.")
            if not varies.all():
                logger.info("%s: %d of %d voxels are constant and not used.", run, (~varies).sum(), len(voxels))
                raw, voxels = raw[:, varies], voxels[varies]
        kept = kept_volumes(run.n_volumes, run.sample_mask)
        drawn = sketch(raw)
        if self.standardize != "zscore_sample" or len(operator) < 2:
            signals = self._clean(operator, run, raw)
            portrait = drawn.finish(signals[:, drawn.rows])
            with _naming(run):
                return RunReduction(reduce_signals(signals, n_components), voxels, None, kept, portrait=portrait)
        scores = clean_to_scores(operator, self._baseline_weights(run), raw)
        with _naming(run):
            reduction = reduce_signals(scores.coordinates, n_components, basis=scores.basis, n_threads=n_threads)
        units = Units(*(each.astype(np.float32) for each in (scores.centre, scores.deviation, scores.before)))
        portrait = drawn.finish(scores.basis @ scores.coordinates[:, drawn.rows])
        return RunReduction(reduction, voxels, units, kept, portrait=portrait)

    def _clean(self, operator: npt.NDArray[np.float64], run: InputRun, raw: Signals) -> Signals:
        before = baseline(self._baseline_weights(run), raw)
        return self._scale(run, self._apply(operator, run, raw), before)

    @staticmethod
    def _apply(operator: npt.NDArray[np.float64], run: InputRun, raw: Signals) -> Signals:
        changes_nothing = np.array_equal(operator, np.eye(run.n_volumes))
        return raw if changes_nothing else apply_operator(operator, raw)

    def _scale(self, run: InputRun, cleaned: Signals, before: npt.NDArray[np.float64]) -> Signals:
        method = self.standardize if run.n_volumes > 1 else None
        with _naming(run):
            return standardize(cleaned, method, mean=before)

    def _baseline_weights(self, run: InputRun) -> npt.NDArray[np.float64]:
        filtered = self.low_pass is not None or self.high_pass is not None
        return baseline_weights(run.n_volumes, sample_mask=run.sample_mask, filtered=filtered)


@contextmanager
def _naming(run: InputRun) -> Iterator[None]:
    """Put the run's name before what goes wrong."""
    try:
        yield
    except ParcellateError as error:
        raise type(error)(f"{run}: {error.message}", error.hint) from error
