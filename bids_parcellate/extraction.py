"""From an image to the signals of its voxels or parcels: read, resample, smooth and mask, one volume at a time."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bids_parcellate.grids import resample
from bids_parcellate.images import ImageLike, iter_volumes, read_info
from bids_parcellate.masking import Mask
from bids_parcellate.signals import Labels, parcel_sizes, volume_parcel_sums
from bids_parcellate.smoothing import smooth_volume


def read_signals(image: ImageLike, mask: Mask, fwhm: float | None) -> npt.NDArray[np.float32]:
    """Read the signals of a mask's voxels.

    Parameters
    ----------
    image : path or nibabel image
        A run. On another grid than the mask it is resampled (spline).
    mask : Mask
        The voxels.
    fwhm : float or None
        Full width at half maximum of the smoothing in mm; None or 0 for none.

    Returns
    -------
    ndarray of float32, shape (n_volumes, n_voxels)
        What is not finite in the image counts as 0.

    Raises
    ------
    ParcellateError
        If the image cannot be read.
    """
    signals = np.empty((read_info(image).n_volumes, mask.n_voxels), dtype=np.float32)
    for index, values in enumerate(_iter_masked(image, mask, fwhm)):
        signals[index] = values
    return signals


def read_parcel_means(
    image: ImageLike, mask: Mask, fwhm: float | None, labels: Labels, n_parcels: int
) -> npt.NDArray[np.float64]:
    """Read the means of parcels, without ever holding the signals of all voxels.

    Parameters
    ----------
    image, mask, fwhm
        As in `read_signals`.
    labels : ndarray of int, shape (n_voxels,)
        The parcel of each voxel, from 1 to ``n_parcels``; 0 for none.
    n_parcels : int
        Number of parcels.

    Returns
    -------
    ndarray of float64, shape (n_volumes, n_parcels)
        As `bids_parcellate.signals.parcel_means` of those signals: NaN for a parcel without voxels.

    Raises
    ------
    ParcellateError
        If the image cannot be read.
    """
    sizes = parcel_sizes(labels, n_parcels)
    means = np.full((read_info(image).n_volumes, n_parcels), np.nan)
    for values, mean in zip(_iter_masked(image, mask, fwhm), means, strict=True):
        np.divide(volume_parcel_sums(values, labels, n_parcels), sizes, out=mean, where=sizes > 0)
    return means


def _iter_masked(image: ImageLike, mask: Mask, fwhm: float | None) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the smoothed values of a mask's voxels, volume by volume."""
    source = read_info(image).grid
    is_on_grid = source.matches(mask.grid)
    for raw in iter_volumes(image):
        volume = raw if is_on_grid else resample(raw, source, mask.grid)
        yield mask.apply(smooth_volume(volume, mask.grid.voxel_sizes, fwhm))
