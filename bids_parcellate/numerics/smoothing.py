"""Gaussian smoothing of volumes, as :func:`nilearn.image.smooth_img` does it, in compiled single precision.

The kernel is cut at four standard deviations and sums to one. At the borders the volume is reflected about the outer
face of its last voxel (``d c b a | a b c d | d c b a``), so constants are kept. Kernel and reflection are symmetric,
and with them smoothing as a linear map: the inner product of a smoothed volume with another one is that of the volume
with the smoothed other one.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.kernels import kernel

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
        reach = 0 if self._kernels is None else len(self._kernels[2]) - 1
        self._positions = np.ravel_multi_index(inside, tuple(self._upper - self._lower + [0, 0, 2 * reach]))

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
    smoothed = _smoothed_box(values, *kernels, np.zeros(3, dtype=np.intp), np.array(values.shape))
    return np.ascontiguousarray(smoothed[:, :, : values.shape[2]]).T


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
    """Give a volume of shape (Z, Y, X) in C order, as NIfTI files store it; read-only, as it is streamed."""
    values = np.ascontiguousarray(volume.T, dtype=np.float32).view()
    values.setflags(write=False)
    return values


@kernel()
def _smoothed_box(
    volume: Single, along_0: Single, along_1: Single, along_2: Single, lower: Indices, upper: Indices
) -> Single:
    """Convolve a volume: along axes 2 and 1 plane by plane, so that a plane stays in the cache, then along axis 0.

    A plane is worked on as one long row. Where rows of voxels meet, sums run over both of them: each row of the result
    ends in as many meaningless values as the kernel has beside its middle, to both sides.
    """
    source_0 = _sources(volume.shape[0], lower[0], upper[0], len(along_0) - 1)
    source_1 = _sources(volume.shape[1], lower[1], upper[1], len(along_1) - 1)
    source_2 = _sources(volume.shape[2], lower[2], upper[2], len(along_2) - 1)
    first, last = source_0.min(), source_0.max() + 1
    n_planes, n_rows, width = upper[0] - lower[0], upper[1] - lower[1], len(source_2)
    plane = np.zeros(len(source_1) * width + 2 * (len(along_2) - 1), dtype=np.float32)
    along_row = np.empty(len(source_1) * width, dtype=np.float32)
    planes = np.empty((last - first, n_rows * width), dtype=np.float32)
    for i in range(first, last):
        _copy_finite(volume[i], source_1, source_2, plane)
        _convolve(plane, 1, along_2, along_row)
        _convolve(along_row, width, along_1, planes[i - first])
    smoothed = np.empty((n_planes, n_rows * width), dtype=np.float32)
    _convolve_rows(planes, source_0 - first, along_0, smoothed)
    return smoothed.reshape(n_planes, n_rows, width)


@kernel()
def _sources(n: int, lower: int, upper: int, radius: int) -> Indices:
    """Find where the values lie that convolve a part of an axis, from ``lower - radius`` to ``upper + radius - 1``."""
    positions = np.arange(lower - radius, upper + radius) % (2 * n)
    return np.minimum(positions, 2 * n - 1 - positions)


@kernel()
def _copy_finite(plane: Single, source_1: Indices, source_2: Indices, target: Single) -> None:
    """Copy the values of a plane, one row after another; what is not finite becomes 0."""
    first, width = source_2[0], len(source_2)
    is_reflected = source_2[-1] - first != width - 1
    for j in range(len(source_1)):
        row, start = plane[source_1[j]], j * width
        if is_reflected:
            for k in range(width):
                value = row[source_2[k]]
                target[start + k] = value if value - value == 0 else np.float32(0)
        else:  # the same, faster
            for k in range(width):
                value = row[first + k]
                target[start + k] = value if value - value == 0 else np.float32(0)


@kernel()
def _convolve(values: Single, step: int, weights: Single, target: Single) -> None:
    """Add up shifted copies of a row, ``step`` apart: (n + 2 * radius * step,) to (n,)."""
    radius = len(weights) - 1
    _multiply(weights[0], values[radius * step :], target)
    for k in range(1, radius + 1, 3):
        before_1, after_1 = values[(radius - k) * step :], values[(radius + k) * step :]
        before_2, after_2 = values[(radius - k - 1) * step :], values[(radius + k + 1) * step :]
        before_3, after_3 = values[(radius - k - 2) * step :], values[(radius + k + 2) * step :]
        _add_taps(target, weights[k : k + 3], before_1, after_1, before_2, after_2, before_3, after_3)


@kernel()
def _convolve_rows(rows: Single, source: Indices, weights: Single, target: Single) -> None:
    """Convolve (m, n) along m, where ``source`` says which row lies where: add up whole rows."""
    radius = len(weights) - 1
    for i in range(len(target)):
        _multiply(weights[0], rows[source[i + radius]], target[i])
        for k in range(1, radius + 1, 3):
            before_1, after_1 = rows[source[i + radius - k]], rows[source[i + radius + k]]
            before_2, after_2 = rows[source[i + radius - k - 1]], rows[source[i + radius + k + 1]]
            before_3, after_3 = rows[source[i + radius - k - 2]], rows[source[i + radius + k + 2]]
            _add_taps(target[i], weights[k : k + 3], before_1, after_1, before_2, after_2, before_3, after_3)


@kernel()
def _multiply(weight: np.float32, values: Single, target: Single) -> None:
    for j in range(len(target)):
        target[j] = weight * values[j]


@kernel()
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
