"""Where the voxels of an image lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from bids_parcellate.errors import DataError, UsageError


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an image lie; two grids are equal when their voxels lie at the same places.

    Attributes
    ----------
    shape : tuple of int
        Number of voxels along each of the three axes.
    affine : ndarray of shape (4, 4), float64, read-only
        From voxel indices to mm.

    Raises
    ------
    DataError
        If an axis is empty or the affine has no inverse.
    """

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        affine.setflags(write=False)
        shape = tuple(int(size) for size in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise DataError(f"a grid has three axes of at least one voxel; this one has the shape {shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
            raise DataError(f"the affine is no 4 x 4 matrix with an inverse: {affine.tolist()}")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @property
    def voxel_sizes(self) -> npt.NDArray[np.float64]:
        """Voxel size along each axis in mm, shape (3,)."""
        sizes: npt.NDArray[np.float64] = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return sizes

    @property
    def key(self) -> tuple[float, ...]:
        """Shape and affine as plain numbers, exactly: for digests and dictionaries."""
        return (*self.shape, *self.affine.ravel().tolist())

    def matches(self, other: "Grid", atol: float = 1e-3) -> bool:
        """Tell whether every voxel lies at the same place as in another grid.

        Parameters
        ----------
        other : Grid
            The other grid.
        atol : float, default=1e-3
            Largest displacement in mm that counts as rounding.

        Returns
        -------
        bool
            Whether the shapes are equal and no voxel is displaced by more than ``atol`` along any axis.
        """
        if self is other:
            return True
        if self.shape != other.shape:
            return False
        displacement = (self.affine - other.affine) @ _corners(self.shape)
        return bool(np.abs(displacement).max() <= atol)

    def __eq__(self, other: object) -> bool:
        return self.matches(other) if isinstance(other, Grid) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equality has a tolerance: hash ``key`` instead


def target_grid(grid: Grid, target_affine: npt.ArrayLike, target_shape: Sequence[int] | None = None) -> Grid:
    """Complete an affine to a grid, by the rules of ``nilearn.image.resample_img``.

    Parameters
    ----------
    grid : Grid
        The grid of the image that is to be resampled.
    target_affine : array-like of shape (3, 3) or (4, 4)
        Axes of the new voxels in mm. With (3, 3), the origin is a corner of the box around ``grid``.
    target_shape : sequence of 3 int, optional
        Number of voxels, for an affine of shape (4, 4). By default, large enough to reach the last voxel
        of ``grid``.

    Returns
    -------
    Grid
        The grid to resample to.

    Raises
    ------
    UsageError
        If a shape comes without an origin, or the new grid reaches no voxel of the old one.
    """
    axes = np.asarray(target_affine, dtype=np.float64)
    if axes.shape not in ((3, 3), (4, 4)) or (axes.shape == (3, 3) and target_shape is not None):
        raise UsageError(
            f"target_affine of shape {axes.shape} with target_shape={target_shape}",
            "give an affine of shape (4, 4), or one of shape (3, 3) without target_shape",
        )
    affine = np.eye(4)
    affine[: len(axes), : len(axes)] = axes
    corners = (np.linalg.inv(affine) @ grid.affine @ _corners(grid.shape))[:3]
    first, last = corners.min(axis=1), corners.max(axis=1)
    if axes.shape == (3, 3):
        affine[:3, 3] = axes @ first
        last = last - first
    if (last < 0).any():
        raise UsageError(f"target_affine {axes.tolist()} leaves the whole image outside", "check its origin")
    x, y, z = np.ceil(last).astype(int) + 1 if target_shape is None else target_shape
    return Grid(shape=(x, y, z), affine=affine)


def grid_with_resolution(grid: Grid, mm: float) -> Grid:
    """Cover the same field of view, in the same orientation, with isotropic voxels.

    Parameters
    ----------
    grid : Grid
        The field of view: from the outer edge of the first voxel to that of the last.
    mm : float
        The new voxel size in mm.

    Returns
    -------
    Grid
        As many voxels as cover the field of view, about the same centre.

    Raises
    ------
    UsageError
        If the voxel size is not positive.
    """
    if not 0 < mm < np.inf:
        raise UsageError(f"a voxel size of {mm} mm; it must be larger than 0")
    extent = grid.voxel_sizes * grid.shape
    shape = np.ceil(np.round(extent / mm, 6))  # rounded, so that 97 x 2 mm are 194 voxels of 1 mm, not 195
    affine = np.eye(4)
    affine[:3, :3] = grid.affine[:3, :3] / grid.voxel_sizes * mm
    centre = (grid.affine @ [*(np.array(grid.shape) - 1) / 2, 1])[:3]
    affine[:3, 3] = centre - affine[:3, :3] @ (shape - 1) / 2
    x, y, z = shape.astype(int)
    return Grid(shape=(x, y, z), affine=affine)


def _corners(shape: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """Homogeneous voxel indices of the eight corner voxels, shape (4, 8)."""
    ends = product(*((0, size - 1) for size in shape))
    return np.array([(*corner, 1) for corner in ends], dtype=np.float64).T
