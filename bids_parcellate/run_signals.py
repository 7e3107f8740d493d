"""Signals of one run, of its voxels or of parcels: read, smoothed, cleaned and standardized."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from bids_parcellate.cleaning import (
    Signals,
    Standardization,
    apply_operator,
    baseline,
    degrees_of_freedom,
    standardize,
    temporal_operator,
)
from bids_parcellate.errors import DataError, ParcellateError, UsageError
from bids_parcellate.extraction import read_parcel_means, read_signals
from bids_parcellate.inputs import InputRun, InputTypeError
from bids_parcellate.masking import Mask
from bids_parcellate.reduction import Reduction, reduce_signals
from bids_parcellate.signals import Labels

_STANDARDIZATIONS: dict[object, Standardization] = {
    None: None,
    False: None,
    True: "zscore_sample",
    "zscore_sample": "zscore_sample",
    "zscore": "zscore",
    "psc": "psc",
}


@dataclass(frozen=True)
class Preprocessing:
    """How the signals of runs are smoothed and cleaned: the parameters of nilearn's maskers.

    Parameters
    ----------
    smoothing_fwhm : float or None
        Full width at half maximum of the Gaussian, in mm.
    standardize : {"zscore_sample", "zscore", "psc", True, False, None}
        How signals are scaled; kept as what :func:`bids_parcellate.cleaning.standardize` takes. The one volume of a
        3-D image has no deviation, and stays as it is.
    standardize_confounds, detrend, low_pass, high_pass, t_r
        As in :func:`bids_parcellate.cleaning.temporal_operator`.

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

    @classmethod
    def of(cls, estimator: object) -> Self:
        """Take the parameters of an estimator that has them.

        Parameters
        ----------
        estimator : object
            It has an attribute for each parameter.

        Returns
        -------
        Preprocessing
            With the values of now.
        """
        return cls(**{field.name: getattr(estimator, field.name) for field in fields(cls)})

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

    def voxel_signals(self, run: InputRun, mask: Mask) -> npt.NDArray[np.float32]:
        """Extract the signals of voxels.

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
        operator = self._operator(run)
        return self._clean(operator, run, self._read(run, mask))

    def parcel_signals(self, run: InputRun, mask: Mask, labels: Labels, n_parcels: int) -> npt.NDArray[np.float64]:
        """Extract the signals of parcels: cleaning is linear, so it is their few means that are cleaned.

        Parameters
        ----------
        run : InputRun
            The run.
        mask : Mask
            The voxels. Images on another grid are resampled to it (spline).
        labels : ndarray of int, shape (n_voxels,)
            The parcel of each voxel, from 1 to ``n_parcels``.
        n_parcels : int
            Number of parcels.

        Returns
        -------
        ndarray of float64, shape (n_kept, n_parcels)
            The signals of the volumes that are kept; NaN for a parcel without voxels.

        Raises
        ------
        ParcellateError
            If the run cannot be read, or cannot be cleaned so.
        """
        operator = self._operator(run)
        means = np.concatenate(
            [read_parcel_means(image, mask, self.smoothing_fwhm, labels, n_parcels) for image in run.images]
        )
        exists = ~np.isnan(means).all(axis=0)
        signals = np.full((len(operator), n_parcels), np.nan)
        signals[:, exists] = self._clean(operator, run, means[:, exists])
        return signals

    def reduce(self, run: InputRun, mask: Mask, n_components: int) -> tuple[Reduction, npt.NDArray[np.bool_]]:
        """Reduce the signals of voxels.

        Parameters
        ----------
        run : InputRun
            The run.
        mask : Mask
            The voxels.
        n_components : int
            Largest number of components.

        Returns
        -------
        reduction : Reduction
            The leading components of the cleaned signals.
        varies : ndarray of bool, shape (n_voxels,)
            Whether the voxel's signal, before it was cleaned, varies over time. The one volume of a 3-D image says
            nothing about that, and all voxels count as varying.

        Raises
        ------
        ParcellateError
            If the run cannot be read, cleaned so, or reduced.
        """
        operator = self._operator(run)
        raw = self._read(run, mask)
        varies = raw.min(axis=0) < raw.max(axis=0) if len(raw) > 1 else np.ones(mask.n_voxels, dtype=bool)
        cleaned = self._clean(operator, run, raw)
        with _naming(run):
            return reduce_signals(cleaned, n_components), varies

    def _operator(self, run: InputRun) -> npt.NDArray[np.float64]:
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
        if not degrees_of_freedom(operator):
            raise DataError(
                f"{run}: confounds, filter and trend leave nothing of the {len(operator)} volumes that are kept",
                "Choose fewer confounds, a wider band, or less censoring.",
            )
        return operator

    def _read(self, run: InputRun, mask: Mask) -> npt.NDArray[np.float32]:
        pieces = [read_signals(image, mask, self.smoothing_fwhm) for image in run.images]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _clean(self, operator: npt.NDArray[np.float64], run: InputRun, raw: Signals) -> Signals:
        filtered = self.low_pass is not None or self.high_pass is not None
        before = baseline(raw, sample_mask=run.sample_mask, filtered=filtered)
        changes_nothing = np.array_equal(operator, np.eye(run.n_volumes))
        cleaned = raw if changes_nothing else apply_operator(operator, raw)
        method = self.standardize if run.n_volumes > 1 else None
        with _naming(run):
            return standardize(cleaned, method, mean=before)


@contextmanager
def _naming(run: InputRun) -> Iterator[None]:
    """Put the run's name before what goes wrong."""
    try:
        yield
    except ParcellateError as error:
        raise type(error)(f"{run}: {error.message}", error.hint) from error
