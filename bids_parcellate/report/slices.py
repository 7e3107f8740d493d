"""Slices through a parcellation as pixels, whatever way its grid lies: arrays in, arrays out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.parcels.atlas import Parcellation

# The axes that axial, coronal and sagittal planes cut across. The left and right ends of a plane across each axis.
_PLANES = (2, 1, 0)
_ENDS = (("P", "A"), ("L", "R"), ("L", "R"))

# What is shown around the parcels, as a share of their extent on each side.
_MARGIN = 0.05

# Of parcels over a background.
_OPACITY = 0.8

# Lines between parcels are one pixel wide, and so much darker.
_LINE_SHADE = 0.3

FloatArray = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Slice:
    """A slice, seen from the side, from behind or from above.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
        Colours. The first row is the lowest.
    size : tuple of float
        Width and height in mm.
    title : str
        Where it lies, such as ``z = 12 mm``.
    ends : tuple of str
        What lies at its left and at its right: L and R, or P and A.
    """

    pixels: Pixels
    size: tuple[float, float]
    title: str
    ends: tuple[str, str]


@dataclass(frozen=True)
class Layers:
    """Labels in colours, over a background in grey.

    Parameters
    ----------
    labels : ndarray of int32, shape (X, Y, Z)
        0 outside; not all are.
    grid : Grid
        Where the voxels lie.
    palette : ndarray of float, shape (largest label + 1, 4)
        Red, green, blue and opacity of each label, from 0 to 1.
    background : ndarray of shape (X, Y, Z), optional
        Black by default.
    line : tuple of float, optional
        Red, green and blue of the lines around labels, from 0 to 1; by default they are darker than the labels.
    """

    labels: npt.NDArray[np.int32]
    grid: Grid
    palette: FloatArray
    background: npt.NDArray[Any] | None = None
    line: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class _Volume:
    """Labels over grey values from 0 to 1, cropped, with axes that run to the right, to the front and up."""

    labels: npt.NDArray[np.int32]
    grey: FloatArray
    affine: FloatArray

    @property
    def voxel_sizes(self) -> FloatArray:
        sizes: FloatArray = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return sizes

    def in_plane(self, axis: int) -> FloatArray:
        """Size in mm, to the right and up, of a slice across an axis."""
        return np.delete(self.voxel_sizes * self.labels.shape, axis)

    @property
    def is_oblique(self) -> bool:
        axes = np.abs(self.affine[:3, :3] / self.voxel_sizes)
        return not np.allclose(axes, np.eye(3), atol=1e-3)

    @property
    def planes(self) -> tuple[int, ...]:
        """Axes to cut across: all, but for a grid that is one slice thick only that slice."""
        thin = tuple(axis for axis in _PLANES if self.labels.shape[axis] == 1)
        return thin[:1] or _PLANES

    def cuts(self, axis: int, n_cuts: int) -> list[int]:
        """Positions of evenly spaced slices between the ends of the parcels."""
        others = tuple(other for other in range(3) if other != axis)
        first, last = np.flatnonzero(self.labels.any(axis=others))[[0, -1]]
        return sorted({int(cut) for cut in np.linspace(first, last, n_cuts + 2)[1:-1].round()})

    def describe_cut(self, axis: int, cut: int) -> str:
        """Say where the middle of a slice lies along its axis."""
        voxel = [*(np.array(self.labels.shape) - 1) / 2, 1]
        voxel[axis] = cut
        position = round(float(self.affine[axis] @ voxel), 1) + 0.0  # which makes a zero of a minus zero
        return f"{'xyz'[axis]} {'≈' if self.is_oblique else '='} {position:g} mm".replace("-", "\N{MINUS SIGN}")

    def slice_at(self, axis: int, cut: int, layers: Layers, n_pixels: int) -> Slice:
        """Cut across an axis."""
        labels, grey = (np.take(values, cut, axis=axis).T for values in (self.labels, self.grey))
        width, height = map(float, self.in_plane(axis))
        pixels = _paint(labels, grey, (width, height), layers, n_pixels)
        return Slice(pixels, (width, height), self.describe_cut(axis, cut), _ENDS[axis])


def cut_parcels(
    parcellation: Parcellation,
    *,
    background: npt.NDArray[Any] | None = None,
    n_cuts: int = 6,
    n_pixels: int = 320,
) -> list[list[Slice]]:
    """Cut a parcellation into slices.

    Parameters
    ----------
    parcellation : Parcellation
        The parcels, in the colours of their table.
    background : ndarray of shape (X, Y, Z), optional
        What is drawn in grey below the parcels, such as a mean image, on the same grid.
    n_cuts, n_pixels
        As in :func:`cut_layers`.

    Returns
    -------
    list of list of Slice
        As :func:`cut_layers`; thin dark lines are around the parcels.

    Raises
    ------
    UsageError
        If the background is not on the parcellation's grid.
    """
    palette = np.zeros((int(parcellation.labels.max()) + 1, 4))
    colors = [[int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)] for color in parcellation.table["color"]]
    palette[parcellation.table["index"], :3] = colors
    palette[parcellation.table["index"], 3] = 1.0 if background is None else _OPACITY
    layers = Layers(parcellation.labels, parcellation.grid, palette, background)
    return cut_layers(layers, n_cuts=n_cuts, n_pixels=n_pixels)


def cut_layers(layers: Layers, *, n_cuts: int = 6, n_pixels: int = 320) -> list[list[Slice]]:
    """Cut labels over a background into slices.

    Parameters
    ----------
    layers : Layers
        What is cut. The grid may be flipped or have permuted axes: the left hemisphere is always on the left
        (neurological convention), the front is up or to the right. Slices of an oblique grid follow the grid, and
        their positions (≈) are those of their middle.
    n_cuts : int, default=6
        Number of axial, of coronal and of sagittal slices; fewer where there are not as many. A grid that is one
        slice thick gives that slice.
    n_pixels : int, default=320
        Pixels along the longer side of a slice, about.

    Returns
    -------
    list of list of Slice
        A row for each of the planes: axial, coronal, sagittal.

    Raises
    ------
    UsageError
        If the background is not on the labels' grid.
    """
    volume = _upright(layers)
    return [
        [volume.slice_at(axis, cut, layers, n_pixels) for cut in volume.cuts(axis, n_cuts)] for axis in volume.planes
    ]


def _upright(layers: Layers) -> _Volume:
    grid, background = layers.grid, layers.background
    if background is None:
        grey = np.zeros(grid.shape)
    elif background.shape == grid.shape:
        grey = as_grey(background)
    else:
        raise UsageError(f"a background of shape {background.shape} does not fit labels of shape {grid.shape}")
    orientation = io_orientation(grid.affine)
    labels = apply_orientation(layers.labels, orientation)
    affine = grid.affine @ inv_ornt_aff(orientation, grid.shape)

    inside = np.argwhere(labels)
    first, last = inside.min(axis=0), inside.max(axis=0)
    margin = np.ceil(_MARGIN * (last - first + 1)).astype(int)
    start, stop = np.maximum(first - margin, 0), np.minimum(last + margin + 1, labels.shape)
    box = tuple(map(slice, start, stop))
    affine[:3, 3] += affine[:3, :3] @ start
    return _Volume(labels[box], apply_orientation(grey, orientation)[box], affine)


def as_grey(background: npt.NDArray[Any]) -> FloatArray:
    """Scale an image from 0 (black) to 1 (white); few extreme values do not count.

    Parameters
    ----------
    background : ndarray of any shape
        The image. Values that are not finite become the darkest or the brightest.

    Returns
    -------
    ndarray of float64
        Of the same shape.
    """
    values = np.nan_to_num(background.astype(np.float64), posinf=0, neginf=0)
    low, high = np.percentile(values, [1, 99.5])
    if low == high:  # a mask of few voxels
        low, high = values.min(), values.max()
    grey: FloatArray = np.clip((values - low) / ((high - low) or 1), 0, 1)
    return grey


def _paint(
    labels: npt.NDArray[np.int32], grey: FloatArray, size: tuple[float, float], layers: Layers, n_pixels: int
) -> Pixels:
    """Colour a slice, with a thin line around each label: neighbours may have similar colours."""
    columns, rows = np.maximum(1, np.round(n_pixels * np.array(size) / max(size) / labels.shape[::-1])).astype(int)
    opacity = layers.palette[labels, 3:]
    colors = opacity * layers.palette[labels, :3] + (1 - opacity) * grey[..., np.newaxis]
    pixels = np.rint(255 * colors).astype(np.uint8).repeat(rows, axis=0).repeat(columns, axis=1)
    borders = _borders(labels.repeat(rows, axis=0).repeat(columns, axis=1))
    line = pixels[borders] * _LINE_SHADE if layers.line is None else 255 * np.array(layers.line)
    pixels[borders] = np.rint(line).astype(np.uint8)
    return pixels


def _borders(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Find the pixels whose neighbour above or to the right has another label."""
    borders = np.zeros(labels.shape, dtype=bool)
    borders[:-1] |= labels[:-1] != labels[1:]
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return borders
