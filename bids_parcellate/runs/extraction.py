"""From an image to the signals of its voxels or parcels: read, resample, smooth and mask, one volume at a time."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from bids_parcellate.io.images import ImageLike, iter_volumes, read_info
from bids_parcellate.io.masking import Mask
from bids_parcellate.numerics.resampling import resample
from bids_parcellate.numerics.signals import Labels, parcel_sizes, volume_parcel_sums
from bids_parcellate.numerics.smoothing import Smoother
from bids_parcellate.numerics.threads import map_in_threads


def read_signals(
    images: Sequence[ImageLike], mask: Mask, fwhm: float | None, *, n_threads: int = 1
) -> npt.NDArray[np.float32]:
    """Read the signals of a mask's voxels.

    Parameters
    ----------
    images : sequence of path or nibabel image
        A run: images that follow each other in time. On another grid than the mask they are resampled (spline).
    mask : Mask
        The voxels.
    fwhm : float or None
        Full width at half maximum of the smoothing in mm; None or 0 for none.
    n_threads : int, default=1
        Volumes that are smoothed at a time, beside reading.

    Returns
    -------
    ndarray of float32, shape (n_volumes, n_voxels)
        What is not finite in an image counts as 0.

    Raises
    ------
    ParcellateError
        If an image cannot be read.
    """
    signals = np.empty((_count_volumes(images), mask.n_voxels), dtype=np.float32)
    for index, values in enumerate(_iter_masked(images, mask, fwhm, n_threads)):
        signals[index] = values
    return signals


def read_parcel_means(
    images: Sequence[ImageLike], mask: Mask, fwhm: float | None, labelings: Sequence[Labels], n_parcels: Sequence[int]
) -> list[npt.NDArray[np.float64]]:
    """Read the means of parcels, without ever holding the signals of all voxels.

    Parameters
    ----------
    images, mask, fwhm
        As in `read_signals`.
    labelings : sequence of ndarray of int, shape (n_voxels,)
        Of each parcellation the parcel of each voxel, from 1 to its number of parcels; 0 for none.
    n_parcels : sequence of int
        Numbers of parcels.

    Returns
    -------
    list of ndarray of float64, shape (n_volumes, n_parcels)
        As `bids_parcellate.numerics.signals.parcel_means` of those signals: NaN for a parcel without voxels.

    Raises
    ------
    ParcellateError
        If an image cannot be read.
    """
    sizes = [parcel_sizes(*each) for each in zip(labelings, n_parcels, strict=True)]
    means = [np.full((_count_volumes(images), number), np.nan) for number in n_parcels]
    for index, values in enumerate(_iter_masked(images, mask, fwhm)):
        for labels, size, mean in zip(labelings, sizes, means, strict=True):
            np.divide(volume_parcel_sums(values, labels, len(size)), size, out=mean[index], where=size > 0)
    return means


def _count_volumes(images: Sequence[ImageLike]) -> int:
    return sum(read_info(image).n_volumes for image in images)


def _iter_masked(
    images: Sequence[ImageLike], mask: Mask, fwhm: float | None, n_threads: int = 1
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the smoothed values of a mask's voxels, volume by volume."""
    smooth = Smoother(mask.data, mask.grid.voxel_sizes, fwhm)
    for image in images:
        source = read_info(image).grid
        is_on_grid = source.matches(mask.grid)
        volumes = iter_volumes(image)
        if not is_on_grid:
            volumes = (resample(volume, source, mask.grid) for volume in volumes)
        yield from map_in_threads(smooth, volumes, n_threads)
