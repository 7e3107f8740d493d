"""From an image to the signals of its voxels: read, resample, smooth and mask, one volume at a time."""

import numpy as np
import numpy.typing as npt

from bids_parcellate.grids import resample
from bids_parcellate.images import ImageLike, iter_volumes, read_info
from bids_parcellate.masking import Mask
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
    info = read_info(image)
    is_on_grid = info.grid.matches(mask.grid)
    signals = np.empty((info.n_volumes, mask.n_voxels), dtype=np.float32)
    for index, raw in enumerate(iter_volumes(image)):
        volume = raw if is_on_grid else resample(raw, info.grid, mask.grid)
        signals[index] = mask.apply(smooth_volume(volume, mask.grid.voxel_sizes, fwhm))
    return signals
