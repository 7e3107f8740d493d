"""What the group needs to know of one run: its reduction, and the signals of parcels without reading the run again."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.portrait import RunPortrait
from bids_parcellate.numerics.reduction import SignalReduction
from bids_parcellate.numerics.signals import Labels, parcel_means

Single = NDArray[np.float32]
Double = NDArray[np.float64]


@dataclass(frozen=True)
class Units:
    """What turns z-scores of voxels back into their cleaned signals: ``centre + deviation * scores``.

    Parameters
    ----------
    centre, deviation : ndarray of float32, shape (n_voxels,)
        Mean and standard deviation over time.
    before : ndarray of float32, shape (n_voxels,)
        Mean over time before cleaning.
    """

    centre: Single
    deviation: Single
    before: Single


@dataclass(frozen=True)
class RunReduction:
    """A run, reduced.

    Parameters
    ----------
    signals : SignalReduction
        The reduced signals of the run's voxels: cleaned and standardized.
    voxels : ndarray of int64, shape (n_voxels,)
        Flat C-order positions of these voxels in the group's grid, ascending.
    units : Units or None
        What turns the signals back; None where they are no z-scores.
    kept : ndarray of bool, shape (n_volumes,)
        The volumes that were not censored.
    mean_fd : float, default=nan
        Mean framewise displacement of the kept volumes in mm; NaN where it is not known.
    portrait : RunPortrait, optional
        What a report shows of the run.
    """

    signals: SignalReduction
    voxels: NDArray[np.int64]
    units: Units | None
    kept: NDArray[np.bool_]
    mean_fd: float = math.nan
    portrait: RunPortrait | None = None

    @property
    def holds_signals(self) -> bool:
        """Whether the cleaned signals can be had back."""
        return self.units is not None and self.signals.is_complete

    def columns(self, voxels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find voxels in this run.

        Parameters
        ----------
        voxels : ndarray of int64, shape (n_wanted,)
            Flat C-order positions in the group's grid, ascending.

        Returns
        -------
        ndarray of int64, shape (n_wanted,)
            Which of the run's voxels each is; -1 where the run lacks it.
        """
        positions = np.minimum(np.searchsorted(self.voxels, voxels), len(self.voxels) - 1)
        return np.where(self.voxels[positions] == voxels, positions, -1)

    def voxel_signals(self) -> Single:
        """Give the cleaned signals of the voxels, where :attr:`holds_signals`.

        Returns
        -------
        ndarray of float32, shape (n_kept, n_voxels)
            Not standardized.

        Raises
        ------
        UsageError
            If the reduction is not of z-scores.
        """
        units = self._known_units()
        time_courses = self.signals.time_courses * self.signals.singular_values.astype(np.float32)
        signals = time_courses @ self.signals.components
        signals *= units.deviation
        signals += units.centre
        return signals

    def parcel_signals(self, labels: Labels, n_parcels: int) -> tuple[Double, Double]:
        """Average the cleaned signals of each parcel's voxels, where :attr:`holds_signals`.

        Parameters
        ----------
        labels : ndarray of int, shape (n_voxels,)
            The parcel of each voxel, from 1 to ``n_parcels``; 0 for none.
        n_parcels : int
            Number of parcels.

        Returns
        -------
        means : ndarray of float64, shape (n_kept, n_parcels)
            NaN for a parcel without voxels.
        before : ndarray of float64, shape (n_parcels,)
            Their temporal means before cleaning.

        Raises
        ------
        UsageError
            If the reduction is not of z-scores.
        """
        units = self._known_units()
        loadings = parcel_means(self.signals.components * units.deviation, labels, n_parcels)
        time_courses = self.signals.time_courses * self.signals.singular_values
        centre, before = parcel_means(np.stack([units.centre, units.before]), labels, n_parcels)
        return time_courses @ loadings + centre, before

    def _known_units(self) -> Units:
        if self.units is None:
            raise UsageError("this reduction does not hold the signals it was made of")
        return self.units
