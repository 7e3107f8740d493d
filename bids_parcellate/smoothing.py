"""Gaussian smoothing of volumes, as :func:`nilearn.image.smooth_img` does it, in compiled single precision.

The kernel is cut at four standard deviations and sums to one. At the borders the volume is reflected about the outer
face of its last voxel (``d c b a | a b c d | d c b a``), so constants are kept. Kernel and reflection are symmetric,
and with them smoothing as a linear map: the inner product of a smoothed volume with another one is that of the volume
with the smoothed other one. A parcel's weights can thus be smoothed once in place of every volume.
"""

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from bids_parcellate.errors import UsageError

Single = NDArray[np.float32]

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))
TRUNCATION = 4.0  # standard deviations


def smooth_volume(volume: NDArray[np.number], voxel_sizes: ArrayLike, fwhm: float | None) -> NDArray[np.float32]:
    """Smooth a volume with an isotropic Gaussian.

    Parameters
    ----------
    volume : ndarray of shape (X, Y, Z)
        Values that are not finite count as 0. It is not changed.
    voxel_sizes : array-like of shape (3,)
        Size of the voxels along the three axes, in mm.
    fwhm : float or None
        Full width at half maximum of the Gaussian, in mm. Nothing is smoothed with 0 or None.

    Returns
    -------
    ndarray of shape (X, Y, Z), float32
        The smoothed volume; without smoothing, a copy of ``volume`` with finite values.

    Raises
    ------
    UsageError
        If ``fwhm`` is negative or a voxel size is not positive.
    """
    sizes = np.asarray(voxel_sizes, dtype=np.float64)
    if volume.ndim != 3 or sizes.shape != (3,) or not np.all(sizes > 0):
        raise UsageError(f"a volume of shape {volume.shape} needs 3 positive voxel sizes, but has {sizes.tolist()} mm")
    if fwhm is not None and not 0 <= fwhm < np.inf:
        raise UsageError(f"fwhm is {fwhm} mm; it must not be negative")
    values = np.require(volume, dtype=np.float32, requirements=["C", "W"])
    if not fwhm:
        return np.where(np.isfinite(values), values, np.float32(0))
    kernels = [gaussian_kernel(fwhm / FWHM_PER_SIGMA / size).astype(np.float32) for size in sizes]
    return np.asarray(_smoothed(values, *kernels))


def gaussian_kernel(sigma: float) -> NDArray[np.float64]:
    """Sample a Gaussian.

    Parameters
    ----------
    sigma : float
        Standard deviation, in voxels.

    Returns
    -------
    ndarray of shape (2 * radius + 1,)
        Weights that sum to 1, up to 4 standard deviations from the middle.
    """
    radius = int(TRUNCATION * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(weights / weights.sum())


@njit(cache=True, nogil=True)
def _smoothed(volume: Single, along_x: Single, along_y: Single, along_z: Single) -> Single:
    """Convolve a volume along its axes: Z and Y plane by plane, so that a plane stays in the cache, and then X."""
    plane = np.empty(volume.shape[1:], dtype=np.float32)
    planes = np.empty(volume.shape, dtype=np.float32)
    for x in range(len(volume)):
        _convolve_columns(volume[x], along_z, plane)
        _convolve_rows(plane, along_y, planes[x])
    smoothed = np.empty(volume.shape, dtype=np.float32)
    _convolve_rows(planes.reshape(len(volume), -1), along_x, smoothed.reshape(len(volume), -1))
    return smoothed


@njit(cache=True, nogil=True)
def _convolve_columns(values: Single, kernel: Single, target: Single) -> None:
    """Convolve (n, m) along m: lay out each row with its reflected ends, and add up shifted copies of it.

    Values that are not finite count as 0.
    """
    radius = len(kernel) // 2
    source = _reflected(values.shape[1], radius)
    row = np.empty(len(source), dtype=np.float32)
    for i in range(values.shape[0]):
        for j in range(len(source)):
            value = values[i, source[j]]
            row[j] = value if np.isfinite(value) else np.float32(0)
        total = target[i]
        for j in range(values.shape[1]):
            total[j] = kernel[radius] * row[radius + j]
        for k in range(1, radius + 1):
            for j in range(values.shape[1]):
                total[j] += kernel[radius + k] * (row[radius + j - k] + row[radius + j + k])


@njit(cache=True, nogil=True)
def _convolve_rows(values: Single, kernel: Single, target: Single) -> None:
    """Convolve (n, m) along n: add up whole rows, which are contiguous."""
    radius = len(kernel) // 2
    source = _reflected(values.shape[0], radius)
    for i in range(values.shape[0]):
        total, middle = target[i], values[i]
        for j in range(values.shape[1]):
            total[j] = kernel[radius] * middle[j]
        for k in range(1, radius + 1):
            before, after = values[source[i + radius - k]], values[source[i + radius + k]]
            for j in range(values.shape[1]):
                total[j] += kernel[radius + k] * (before[j] + after[j])


@njit(cache=True, nogil=True)
def _reflected(n: int, radius: int) -> NDArray[np.intp]:
    """Give, for each position from ``-radius`` to ``n + radius - 1``, the one within ``n`` that it mirrors."""
    positions = np.arange(-radius, n + radius) % (2 * n)
    return np.minimum(positions, 2 * n - 1 - positions)
