"""Stability: how often a voxel keeps its parcel when the fit is repeated with other participants."""

import numpy as np

from bids_parcellate.numerics.quality.agreement import agreement
from bids_parcellate.numerics.quality.sums import Double, Labels, divide


class StabilityMap:
    """Count, one fit after another, in how many of them each voxel keeps its parcel.

    A fit's parcels are matched with the reference's so that the sum of their Dice coefficients is the largest, each
    with one other at most. A voxel keeps its parcel in a fit if it lies there in the one that is matched with its
    own.

    Parameters
    ----------
    reference : ndarray of int, shape (V,)
        The parcel of each voxel, from 1; 0 means none.
    """

    def __init__(self, reference: Labels) -> None:
        self._reference = reference
        self._n_kept = np.zeros(reference.size)
        self._n_fits = np.zeros(reference.size)

    def add(self, labels: Labels) -> None:
        """Add a fit, such as one to a bootstrap sample of the participants.

        Parameters
        ----------
        labels : ndarray of int, shape (V,)
            The parcel of each voxel, from 1; 0 where the fit lacks the voxel, which then does not count.

        Raises
        ------
        UsageError
            If the labels do not fit the reference.
        """
        partner = np.concatenate([[-1], agreement(self._reference, labels).partner])
        counts = (self._reference > 0) & (labels > 0)
        self._n_fits += counts
        self._n_kept += counts & (partner[self._reference] == labels)

    @property
    def share(self) -> Double:
        """Share of the fits in which each voxel keeps its parcel, shape (V,); NaN where none has the voxel."""
        return divide(self._n_kept, self._n_fits)
