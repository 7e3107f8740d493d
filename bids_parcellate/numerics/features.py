"""What voxels are compared by when they are clustered: the components of a group, as each voxel takes part in them."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.reduction import MergedReduction, Weighting

Single = NDArray[np.float32]
FeatureMode = Literal["scaled", "nilearn"]

# How runs are weighted when they are merged for each kind of features.
WEIGHTING: Mapping[FeatureMode, Weighting] = {"scaled": "singular_values", "nilearn": "unit"}


def features(merged: MergedReduction, mode: FeatureMode) -> Single:
    """Give each voxel the features that are clustered.

    Parameters
    ----------
    merged : MergedReduction
        The components of the group, merged with the mode's ``WEIGHTING``.
    mode : {"scaled", "nilearn"}
        'scaled': components times singular values, divided by the square root of the number of volumes, so that the sum
        of squares of a voxel's features is its mean square over time, as far as the components hold it. 'nilearn': the
        components alone, so that each has the same variance over the voxels.

    Returns
    -------
    ndarray of shape (n_components, n_voxels), float32
        The features, C-contiguous, with the :func:`coverage_correction`.

    Raises
    ------
    UsageError
        If the mode is none of those above.
    """
    if mode not in WEIGHTING:
        raise UsageError(f"features is {mode!r}; allowed are {' and '.join(map(repr, WEIGHTING))}")
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
