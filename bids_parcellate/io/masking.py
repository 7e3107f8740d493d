"""Which voxels are used: the masks of runs, and of a group of runs."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import SpatialImage

from bids_parcellate.errors import DataError, MissingInputError, UsageError
from bids_parcellate.io.images import ImageLike, iter_volumes, read_info, read_volume
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.numerics.mask_strategies import (
    BoolArray,
    compute_background_mask,
    compute_epi_mask,
    compute_mask,
    compute_template_mask,
    label_pieces,
)
from bids_parcellate.numerics.resampling import resample

__all__ = [
    "Mask",
    "compute_background_mask",
    "compute_epi_mask",
    "compute_mask",
    "compute_template_mask",
    "drop_small_pieces",
    "group_mask",
    "mean_volume",
    "read_mask",
    "run_mask",
]


@dataclass(frozen=True, eq=False)
class Mask:
    """The voxels of a grid that are used, listed in C order, as ``volume[mask.data]`` lists them.

    Attributes
    ----------
    data : ndarray of shape (X, Y, Z), bool, read-only
        True for the voxels that are used.
    grid : Grid
        Where the voxels lie.

    Raises
    ------
    DataError
        If it holds no voxel, or its shape is not that of the grid.
    """

    data: BoolArray
    grid: Grid

    def __post_init__(self) -> None:
        data = np.array(self.data, dtype=bool, order="C")
        data.setflags(write=False)
        if data.shape != self.grid.shape:
            raise DataError(f"a mask of shape {data.shape} does not fit a grid of shape {self.grid.shape}")
        if not data.any():
            raise DataError("the mask is empty: it holds no voxel")
        object.__setattr__(self, "data", data)

    @cached_property
    def voxels(self) -> npt.NDArray[np.int64]:
        """Flat indices of the voxels in C order, ascending, shape (V,)."""
        return np.flatnonzero(self.data).astype(np.int64)

    @cached_property
    def _fortran_voxels(self) -> npt.NDArray[np.intp]:
        return np.ravel_multi_index(np.nonzero(self.data), self.grid.shape, order="F")

    @property
    def n_voxels(self) -> int:
        """Number of voxels V."""
        return self.voxels.size

    def apply(self, volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Take the values of the voxels out of a volume.

        Parameters
        ----------
        volume : ndarray of shape (X, Y, Z)
            The values; fastest in Fortran order, as `bids_parcellate.io.images.iter_volumes` gives them.

        Returns
        -------
        ndarray of shape (V,)
            The values of the voxels.

        Raises
        ------
        UsageError
            If the volume is not on the grid of the mask.
        """
        if volume.shape != self.grid.shape:
            raise UsageError(f"a volume of shape {volume.shape} does not fit a mask of shape {self.grid.shape}")
        if volume.flags.f_contiguous:
            return volume.ravel(order="F")[self._fortran_voxels]
        return volume.ravel()[self.voxels]

    def unmask(self, values: npt.NDArray[Any], fill: float = 0) -> npt.NDArray[Any]:
        """Put values of the voxels, such as labels, into a volume.

        Parameters
        ----------
        values : ndarray of shape (V,)
            One value for each voxel.
        fill : float, default=0
            The value of all other voxels of the grid.

        Returns
        -------
        ndarray of shape (X, Y, Z)
            A volume of the type of ``values``.
        """
        volume = np.full(self.grid.shape, fill, dtype=values.dtype)
        volume[self.data] = values
        return volume


def group_mask(masks: Iterable[BoolArray], threshold: float) -> BoolArray:
    """Find the voxels that are in a share of the masks.

    A voxel is kept if at least ``ceil(threshold * n)`` of the n masks hold it, and at least one: 0.9 of 10
    masks are 9, and 0.5 of 2 are 1. (nilearn asks for more than the share: 0.5 of 2 are 2 there.)

    Parameters
    ----------
    masks : iterable of ndarray of shape (X, Y, Z), bool
        Masks on one grid, read one at a time.
    threshold : float
        The share, from 0 to 1.

    Returns
    -------
    ndarray of shape (X, Y, Z), bool
        The mask of the group.

    Raises
    ------
    UsageError
        If the share is not from 0 to 1.
    DataError
        If there is no mask, the shapes differ, or no voxel is left.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"a mask threshold of {threshold}; it must be from 0 to 1")
    n_masks, votes = 0, np.zeros(0, dtype=np.int32)
    for mask in masks:
        if n_masks == 0:
            votes = np.zeros(mask.shape, dtype=np.int32)
        if mask.shape != votes.shape:
            raise DataError(f"masks of the shapes {votes.shape} and {mask.shape} are not on one grid")
        votes += mask.astype(bool)
        n_masks += 1
    if n_masks == 0:
        raise DataError("no group mask: there is no run mask to make it from")
    needed = max(1, math.ceil(threshold * n_masks - 1e-9))  # 0.07 * 100 is a little more than 7
    group = votes >= needed
    if not group.any():
        raise DataError(
            f"the group mask is empty: no voxel is in {needed} of {n_masks} run masks",
            "lower the mask threshold, or leave out the runs whose masks do not fit the others",
        )
    return group


def drop_small_pieces(mask: BoolArray, min_share: float = 0.01) -> tuple[BoolArray, int, int]:
    """Remove the pieces that hold only a small share of a mask's voxels.

    Voxels that touch at a face belong to one piece. The largest piece always stays.

    Parameters
    ----------
    mask : ndarray of shape (X, Y, Z), bool
        The mask.
    min_share : float, default=0.01
        A piece that holds a smaller share of the voxels than this is removed.

    Returns
    -------
    mask : ndarray of shape (X, Y, Z), bool
        The mask without these pieces.
    n_pieces : int
        Number of pieces removed.
    n_voxels : int
        Number of voxels removed.
    """
    pieces, sizes = label_pieces(mask)
    is_kept = sizes >= min_share * sizes.sum()
    is_kept[sizes.argmax()] = True
    is_kept[0] = False  # what is outside the mask
    kept = is_kept[pieces]
    return kept, int((~is_kept[1:]).sum()), int(sizes[~is_kept].sum())


def mean_volume(image: ImageLike) -> npt.NDArray[np.float64]:
    """Compute the mean over time of an image, reading one volume at a time.

    Parameters
    ----------
    image : path or nibabel image
        A run, or a 3-D image, which is its own mean.

    Returns
    -------
    ndarray of shape (X, Y, Z), float64
        The mean; not finite where any volume is not.
    """
    volumes = iter_volumes(image)
    total, n_volumes = next(volumes).astype(np.float64), 1
    with np.errstate(invalid="ignore"):  # infinity - infinity is NaN, which says enough
        for volume in volumes:
            total += volume
            n_volumes += 1
    return total / n_volumes


def read_mask(image: ImageLike, grid: Grid | None = None) -> Mask:
    """Read a mask from an image, and bring it to a grid.

    Parameters
    ----------
    image : path or nibabel image
        A 3-D image of 0 (or NaN) and one other value.
    grid : Grid, optional
        Where voxels are wanted; a mask on another grid is resampled (nearest neighbour). By default, the
        grid of the image.

    Returns
    -------
    Mask
        The voxels that are not 0.

    Raises
    ------
    MissingInputError
        If the file or its content is not there.
    DataError
        If it is no mask, is empty, or holds no voxel of the grid.
    """
    name = "the mask image" if isinstance(image, SpatialImage) else image
    values, source = read_volume(image)
    values[~np.isfinite(values)] = 0
    distinct = np.unique(values)
    if distinct.size > 2 or (distinct.size == 2 and 0 not in distinct):
        raise DataError(
            f"{name} is no mask: it holds {distinct.size} values, from {distinct[0]} to {distinct[-1]}",
            "give an image of 0 and 1, for example a probability map after a threshold",
        )
    if not distinct.any():
        raise DataError(f"{name} is an empty mask: all its voxels are 0", "give another mask")
    mask = values != 0
    if grid is None:
        return Mask(mask, source)
    mask = resample(mask, source, grid, interpolation="nearest")
    if not mask.any():
        raise DataError(f"{name} holds no voxel of the data's grid", "check that both are in the same space")
    return Mask(mask, grid)


def run_mask(
    image: ImageLike,
    strategy: str,
    *,
    brain_mask: ImageLike | None = None,
    grid: Grid | None = None,
    mask_args: Mapping[str, float] | None = None,
) -> Mask:
    """Find the mask of one run, from its own brain mask or from its volumes.

    Parameters
    ----------
    image : path or nibabel image
        The run.
    strategy : {"group", "epi", "background"}
        "group" reads ``brain_mask``, the others compute a mask from the mean over time.
    brain_mask : path or nibabel image, optional
        The run's brain mask; needed for "group".
    grid : Grid, optional
        Where voxels are wanted. A brain mask on another grid is resampled (nearest neighbour), and so is
        the mean over time (spline), before its mask is computed. By default, the grid of the run.
    mask_args : mapping, optional
        Arguments of `compute_epi_mask` or `compute_background_mask`, by name.

    Returns
    -------
    Mask
        The voxels of the run.

    Raises
    ------
    UsageError
        If the strategy or one of its arguments is not offered.
    MissingInputError
        If a file is not there, or the brain mask is needed and not given.
    DataError
        If a file cannot be used, or no voxel remains.
    """
    source = read_info(image).grid
    grid = source if grid is None else grid
    if strategy == "group":
        if brain_mask is None:
            raise MissingInputError(f"there is no brain mask for {image}", "use the mask strategy 'epi' instead")
        return read_mask(brain_mask, grid)
    if strategy not in ("epi", "background"):
        raise UsageError(f"mask strategy {strategy!r} is none of group, epi, background")
    mean = resample(mean_volume(image), source, grid)
    try:
        return Mask(compute_mask(mean, strategy, mask_args), grid)
    except DataError as error:
        raise DataError(f"{image}: {error.message}", error.hint) from error
