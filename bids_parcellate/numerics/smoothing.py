"""Gaussian smoothing of volumes, as :func:`nilearn.image.smooth_img` does it, in compiled single precision.

The kernel is cut at four standard deviations and sums to one. At the borders the volume is reflected about the outer
face of its last voxel (``d c b a | a b c d | d c b a``), so constants are kept. Kernel and reflection are symmetric,
and with them smoothing as a linear map: the inner product of a smoothed volume with another one is that of the volume
with the smoothed other one.
"""

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from bids_parcellate.errors import UsageError

Single = NDArray[np.float32]
Indices = NDArray[np.intp]
Kernels = tuple[Single, Single, Single]

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))
TRUNCATION = 4.0  # standard deviations

# Weights to each side of the middle that one pass over the data adds up: fewer passes, less traffic to memory.
_TAPS = 3


class Smoother:
    """Smooth volumes with an isotropic Gaussian, where a mask holds voxels.

    Only the box around the mask is worked on, and what lies within reach of it.

    Parameters
    ----------
    mask : ndarray of shape (X, Y, Z), bool
        The voxels that are wanted; at least one.
    voxel_sizes : array-like of shape (3,)
        Size of the voxels along the three axes, in mm.
    fwhm : float or None
        Full width at half maximum of the Gaussian, in mm. Nothing is smoothed with 0 or None.

    Raises
    ------
    UsageError
        If ``fwhm`` is negative or a voxel size is not positive.
    """

    def __init__(self, mask: NDArray[np.bool_], voxel_sizes: ArrayLike, fwhm: float | None) -> None:
        self._shape = mask.shape
        self._kernels = _make_kernels(mask.shape, voxel_sizes, fwhm)
        voxels = np.nonzero(mask)
        self._lower = np.array([axis.min() for axis in voxels[::-1]])
        self._upper = np.array([axis.max() + 1 for axis in voxels[::-1]])
        inside = tuple(axis - lower for axis, lower in zip(voxels[::-1], self._lower, strict=True))
        self._positions = np.ravel_multi_index(inside, tuple(self._upper - self._lower))

    def __call__(self, volume: NDArray[np.number]) -> Single:
        """Smooth a volume.

        Parameters
        ----------
        volume : ndarray of shape (X, Y, Z)
            Values that are not finite count as 0. It is not changed. Fastest are float32 in Fortran order.

        Returns
        -------
        ndarray of shape (n_voxels,), float32
            The smoothed values of the mask's voxels, in the order of ``volume[mask]``.

        Raises
        ------
        UsageError
            If the volume has another shape than the mask.
        """
        if volume.shape != self._shape:
            raise UsageError(f"a volume of shape {volume.shape} does not fit a mask of shape {self._shape}")
        values = _transposed(volume)
        if self._kernels is None:
            box = tuple(slice(*bounds) for bounds in zip(self._lower, self._upper, strict=True))
            chosen = values[box].ravel()[self._positions]
            return np.where(np.isfinite(chosen), chosen, np.float32(0))
        smoothed = _smoothed_box(values, *self._kernels, self._lower, self._upper)
        return np.asarray(smoothed.ravel()[self._positions])


def smooth_volume(volume: NDArray[np.number], voxel_sizes: ArrayLike, fwhm: float | None) -> Single:
    """Smooth a whole volume with an isotropic Gaussian.

    Parameters
    ----------
    volume : ndarray of shape (X, Y, Z)
        Values that are not finite count as 0. It is not changed.
    voxel_sizes, fwhm
        As in :class:`Smoother`.

    Returns
    -------
    ndarray of shape (X, Y, Z), float32
        The smoothed volume; without smoothing, a copy of ``volume`` with finite values.

    Raises
    ------
    UsageError
        If ``fwhm`` is negative or a voxel size is not positive.
    """
    kernels = _make_kernels(volume.shape, voxel_sizes, fwhm)
    values = _transposed(volume)
    if kernels is None:
        return np.where(np.isfinite(values), values, np.float32(0)).T
    return np.asarray(_smoothed_box(values, *kernels, np.zeros(3, dtype=np.intp), np.array(values.shape)).T)


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


def _make_kernels(shape: tuple[int, ...], voxel_sizes: ArrayLike, fwhm: float | None) -> Kernels | None:
    """Sample the Gaussian along Z, Y and X: the weights from the middle on, and zeros up to full passes."""
    sizes = np.asarray(voxel_sizes, dtype=np.float64)
    if len(shape) != 3 or sizes.shape != (3,) or not np.all(sizes > 0):
        raise UsageError(f"a volume of shape {shape} needs 3 positive voxel sizes, but has {sizes.tolist()} mm")
    if fwhm is not None and not 0 <= fwhm < np.inf:
        raise UsageError(f"fwhm is {fwhm} mm; it must not be negative")
    if not fwhm:
        return None
    x, y, z = (_half_kernel(fwhm / FWHM_PER_SIGMA / size) for size in sizes)
    return z, y, x


def _half_kernel(sigma: float) -> Single:
    kernel = gaussian_kernel(sigma)
    half = kernel[len(kernel) // 2 :]
    return np.pad(half, (0, (1 - len(half)) % _TAPS)).astype(np.float32)


def _transposed(volume: NDArray[np.number]) -> Single:
    """Give a volume of shape (Z, Y, X) in C order, which is how NIfTI files store it."""
    return np.require(volume.T, dtype=np.float32, requirements=["C", "W"])


@njit(cache=True, nogil=True)
def _smoothed_box(
    volume: Single, along_0: Single, along_1: Single, along_2: Single, lower: Indices, upper: Indices
) -> Single:
    """Convolve a volume: along axes 2 and 1 plane by plane, so that a plane stays in the cache, then along axis 0."""
    source_0, first_0, last_0 = _reach(volume.shape[0], lower[0], upper[0], len(along_0) - 1)
    source_1, first_1, last_1 = _reach(volume.shape[1], lower[1], upper[1], len(along_1) - 1)
    source_2, first_2, _ = _reach(volume.shape[2], lower[2], upper[2], len(along_2) - 1)
    shape = (upper[0] - lower[0], upper[1] - lower[1], upper[2] - lower[2])
    row = np.empty(len(source_2), dtype=np.float32)
    rows = np.empty((last_1 - first_1, shape[2]), dtype=np.float32)
    planes = np.empty((last_0 - first_0, shape[1], shape[2]), dtype=np.float32)
    for i in range(first_0, last_0):
        for j in range(first_1, last_1):
            values = volume[i, j, first_2:]
            for k in range(len(row)):
                value = values[source_2[k]]
                row[k] = value if np.isfinite(value) else np.float32(0)
            _convolve_row(row, along_2, rows[j - first_1])
        _convolve_rows(rows, source_1, along_1, planes[i - first_0])
    smoothed = np.empty(shape, dtype=np.float32)
    _convolve_rows(planes.reshape(len(planes), -1), source_0, along_0, smoothed.reshape(shape[0], shape[1] * shape[2]))
    return smoothed


@njit(cache=True, nogil=True)
def _reach(n: int, lower: int, upper: int, radius: int) -> tuple[Indices, int, int]:
    """Find what is needed to convolve the part of an axis: its first and last index, and where each source lies in it.

    The sources are those of the positions from ``lower - radius`` to ``upper + radius - 1``.
    """
    positions = np.arange(lower - radius, upper + radius) % (2 * n)
    mirrored = np.minimum(positions, 2 * n - 1 - positions)
    first = mirrored.min()
    return mirrored - first, first, mirrored.max() + 1


@njit(cache=True, nogil=True)
def _convolve_row(row: Single, kernel: Single, target: Single) -> None:
    """Convolve (n + 2 * radius,) to (n,): add up shifted copies."""
    radius = len(kernel) - 1
    for j in range(len(target)):
        target[j] = kernel[0] * row[radius + j]
    for k in range(1, radius + 1, 3):
        before_1, before_2, before_3 = row[radius - k :], row[radius - k - 1 :], row[radius - k - 2 :]
        after_1, after_2, after_3 = row[radius + k :], row[radius + k + 1 :], row[radius + k + 2 :]
        _add_taps(target, kernel[k : k + 3], before_1, after_1, before_2, after_2, before_3, after_3)


@njit(cache=True, nogil=True)
def _convolve_rows(rows: Single, source: Indices, kernel: Single, target: Single) -> None:
    """Convolve (m, n) along m, where ``source`` says which row lies where: add up whole rows."""
    radius = len(kernel) - 1
    for i in range(len(target)):
        total, middle = target[i], rows[source[i + radius]]
        for j in range(len(total)):
            total[j] = kernel[0] * middle[j]
        for k in range(1, radius + 1, 3):
            before_1, after_1 = rows[source[i + radius - k]], rows[source[i + radius + k]]
            before_2, after_2 = rows[source[i + radius - k - 1]], rows[source[i + radius + k + 1]]
            before_3, after_3 = rows[source[i + radius - k - 2]], rows[source[i + radius + k + 2]]
            _add_taps(total, kernel[k : k + 3], before_1, after_1, before_2, after_2, before_3, after_3)


@njit(cache=True, nogil=True)
def _add_taps(  # noqa: PLR0913, PLR0917 -- the rows of one pass
    total: Single,
    weights: Single,
    before_1: Single,
    after_1: Single,
    before_2: Single,
    after_2: Single,
    before_3: Single,
    after_3: Single,
) -> None:
    """Add three pairs of rows, weighted."""
    weight_1, weight_2, weight_3 = weights[0], weights[1], weights[2]
    for j in range(len(total)):
        total[j] += (
            weight_1 * (before_1[j] + after_1[j])
            + weight_2 * (before_2[j] + after_2[j])
            + weight_3 * (before_3[j] + after_3[j])
        )
