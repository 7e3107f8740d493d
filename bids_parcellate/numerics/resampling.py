"""How values get from one grid to another."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import linalg, ndimage

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.grids import Grid

Interpolation = Literal["continuous", "linear", "nearest"]

_SPLINE_ORDERS = {"continuous": 3, "linear": 1, "nearest": 0}


def resample(
    volume: npt.NDArray[Any], grid: Grid, target: Grid, *, interpolation: Interpolation = "continuous"
) -> npt.NDArray[Any]:
    """Resample a volume to another grid, with the results of ``nilearn.image.resample_img``.

    Outside the field of view the result is 0, and the range of the values (with 0) is never left. Values
    that are not finite do not spread: they are NaN where they are nearest.

    Parameters
    ----------
    volume : ndarray of shape (X, Y, Z)
        The values.
    grid : Grid
        Where the voxels of ``volume`` lie.
    target : Grid
        Where voxels are wanted.
    interpolation : {"continuous", "linear", "nearest"}, default="continuous"
        Spline of order 3, trilinear, or the value of the nearest voxel (for masks and labels).

    Returns
    -------
    ndarray of shape ``target.shape``
        A new array: of the type of ``volume`` with "nearest" and for float64, otherwise float32.

    Raises
    ------
    UsageError
        If the volume does not fit its grid, or the interpolation is none of those offered.
    """
    if interpolation not in _SPLINE_ORDERS:
        raise UsageError(f"interpolation={interpolation!r} is none of {', '.join(_SPLINE_ORDERS)}")
    if volume.shape != grid.shape:
        raise UsageError(f"a volume of shape {volume.shape} does not fit a grid of shape {grid.shape}")
    if interpolation != "nearest" and volume.dtype != np.float64:
        volume = volume.astype(np.float32, copy=False)
    if grid.matches(target):
        return volume.copy()

    is_finite = np.isfinite(volume)
    has_gaps = not is_finite.all()
    source = _fill_around(volume, is_finite) if has_gaps else volume
    resampled = _transform(source, grid, target, _SPLINE_ORDERS[interpolation])
    np.clip(resampled, min(source.min(), 0), max(source.max(), 0), out=resampled)
    if has_gaps:
        resampled[_transform(~is_finite, grid, target, 0)] = np.nan
    return resampled


def _transform(volume: npt.NDArray[Any], grid: Grid, target: Grid, order: int) -> npt.NDArray[Any]:
    is_shared = np.array_equal(grid.affine, target.affine)  # then no voxel is to be lost to rounding
    to_source = np.eye(4) if is_shared else linalg.inv(grid.affine) @ target.affine
    matrix, offset = to_source[:3, :3], to_source[:3, 3]
    if np.array_equal(matrix, np.diag(np.diag(matrix))):
        matrix = np.diag(matrix)  # scipy then takes the axes one by one, which is faster
    resampled: npt.NDArray[Any] = ndimage.affine_transform(
        volume, matrix, offset, output_shape=target.shape, order=order, mode="constant", cval=0
    )
    return resampled


def _fill_around(volume: npt.NDArray[Any], is_finite: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Continue the finite values two voxels outwards, so that splines near a gap stay defined; else 0."""
    faces = ndimage.generate_binary_structure(3, 1)
    filled = np.where(is_finite, volume, 0)
    is_known = is_finite
    for _ in range(2):
        total = ndimage.correlate(filled.astype(np.float64), faces, mode="constant")
        count = ndimage.correlate(is_known.astype(np.int64), faces, mode="constant")
        is_shell = ~is_known & (count > 0)
        filled[is_shell] = total[is_shell] / count[is_shell]
        is_known = is_known | is_shell
    return filled
