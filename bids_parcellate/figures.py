"""Pictures of parcellations: arrays in, matplotlib figures out. Nothing here is read, written or shown.

Figures are made without pyplot, so that drawing neither needs a display nor leaves anything behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from bids_parcellate.atlas import Parcellation
from bids_parcellate.errors import UsageError

# The axes that axial, coronal and sagittal planes cut across. The left and right ends of a plane across each axis.
_PLANES = (2, 1, 0)
_ENDS = (("P", "A"), ("L", "R"), ("L", "R"))

# In inches: a figure of several columns, and of one; the room for a title, and for the positions above a row.
_WIDTH, _SINGLE_WIDTH = 11.0, 6.0
_TITLE_HEIGHT, _LABEL_HEIGHT = 0.4, 0.28

_PAPER, _INK = "black", "white"

# What is shown around the parcels, as a share of their extent on each side.
_MARGIN = 0.05

# Of parcels over a background.
_OPACITY = 0.8

# Pixels along the longer side of a slice, about; lines between parcels are one pixel wide, and so much darker.
_PIXELS = 320
_LINE_SHADE = 0.3

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Volume:
    """Labels over grey values from 0 to 1, cropped, with axes that run to the right, to the front and up."""

    labels: npt.NDArray[np.int32]
    grey: FloatArray
    affine: FloatArray
    opacity: float

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


def draw_parcellation(
    parcellation: Parcellation,
    *,
    background: npt.NDArray[Any] | None = None,
    title: str | None = None,
    n_cuts: int = 6,
) -> Figure:
    """Draw slices through a parcellation.

    Parameters
    ----------
    parcellation : Parcellation
        The parcels, in the colours of their table. The grid may be flipped or have permuted axes: the left
        hemisphere is always on the left (neurological convention), the front is up or to the right. Slices of
        an oblique grid follow the grid, and their positions (≈) are those of their middle.
    background : ndarray of shape (X, Y, Z), optional
        What is drawn in grey below the parcels, such as a mean image, on the same grid.
    title : str, optional
        Text above the slices.
    n_cuts : int, default=6
        Number of axial, of coronal and of sagittal slices; fewer where there are not as many. A grid that is one
        slice thick gives that slice.

    Returns
    -------
    Figure
        On black, as brains are usually shown, with the position of each slice in mm.

    Raises
    ------
    UsageError
        If the background is not on the parcellation's grid.
    """
    volume = _upright(parcellation, background)
    palette = _palette(parcellation, volume.opacity)
    rows = [(axis, volume.cuts(axis, n_cuts)) for axis in volume.planes]
    n_columns = max(len(cuts) for _, cuts in rows)

    # In inches; all slices have one scale.
    width = _WIDTH if n_columns > 1 else _SINGLE_WIDTH
    column = width / n_columns
    scale = column / max(volume.in_plane(axis)[0] for axis, _ in rows)
    top = _TITLE_HEIGHT if title else 0
    height = top + sum(_LABEL_HEIGHT + volume.in_plane(axis)[1] * scale for axis, _ in rows)
    figure = Figure((width, height), facecolor=_PAPER)
    if title:
        figure.text(
            0.5, 1 - top / 2 / height, title, color=_INK, fontsize=13, ha="center", va="center", parse_math=False
        )
    for axis, cuts in rows:
        across, up = volume.in_plane(axis) * scale
        top += _LABEL_HEIGHT + up
        for number, cut in enumerate(cuts):
            left = (number + 0.5) * column - across / 2
            ax = figure.add_axes((left / width, 1 - top / height, across / width, up / height))
            _draw_slice(ax, volume, axis, cut, palette)
            if number == 0:
                _mark_ends(ax, axis)
    return figure


def _upright(parcellation: Parcellation, background: npt.NDArray[Any] | None) -> _Volume:
    grid = parcellation.grid
    if background is None:
        grey, opacity = np.zeros(grid.shape), 1.0
    elif background.shape == grid.shape:
        grey, opacity = _as_grey(background), _OPACITY
    else:
        raise UsageError(f"a background of shape {background.shape} does not fit labels of shape {grid.shape}")
    orientation = io_orientation(grid.affine)
    labels = apply_orientation(parcellation.labels, orientation)
    affine = grid.affine @ inv_ornt_aff(orientation, grid.shape)

    inside = np.argwhere(labels)
    first, last = inside.min(axis=0), inside.max(axis=0)
    margin = np.ceil(_MARGIN * (last - first + 1)).astype(int)
    start, stop = np.maximum(first - margin, 0), np.minimum(last + margin + 1, labels.shape)
    box = tuple(map(slice, start, stop))
    affine[:3, 3] += affine[:3, :3] @ start
    return _Volume(labels[box], apply_orientation(grey, orientation)[box], affine, opacity)


def _as_grey(background: npt.NDArray[Any]) -> FloatArray:
    """Scale a background from 0 (black) to 1 (white); few extreme values do not count."""
    values = np.nan_to_num(background.astype(np.float64), posinf=0, neginf=0)
    low, high = np.percentile(values, [1, 99.5])
    if low == high:  # a mask of few voxels
        low, high = values.min(), values.max()
    grey: FloatArray = np.clip((values - low) / ((high - low) or 1), 0, 1)
    return grey


def _palette(parcellation: Parcellation, opacity: float) -> FloatArray:
    """Colours and opacity by label, shape (largest label + 1, 4); 0 is transparent."""
    palette = np.zeros((int(parcellation.labels.max()) + 1, 4))
    palette[parcellation.table["index"]] = [to_rgba(color, opacity) for color in parcellation.table["color"]]
    return palette


def _draw_slice(ax: Axes, volume: _Volume, axis: int, cut: int, palette: FloatArray) -> None:
    size = volume.in_plane(axis)
    labels, grey = (np.take(values, cut, axis=axis).T for values in (volume.labels, volume.grey))
    picture = _paint(labels, grey, palette, size)
    ax.imshow(picture, origin="lower", extent=(0.0, size[0], 0.0, size[1]), interpolation="antialiased")
    ax.set_title(volume.describe_cut(axis, cut), color=_INK, fontsize=9, pad=3)
    ax.set_axis_off()


def _paint(
    labels: npt.NDArray[np.int32], grey: FloatArray, palette: FloatArray, size: FloatArray
) -> npt.NDArray[np.uint8]:
    """Colour a slice, with a thin line around each parcel: neighbours may have similar colours."""
    columns, rows = np.maximum(1, np.round(_PIXELS * size / size.max() / labels.shape[::-1])).astype(int)
    labels = labels.repeat(rows, axis=0).repeat(columns, axis=1)
    grey = grey.repeat(rows, axis=0).repeat(columns, axis=1)
    opacity = palette[labels, 3:]
    colors = opacity * palette[labels, :3] + (1 - opacity) * grey[..., np.newaxis]
    colors[_borders(labels)] *= _LINE_SHADE
    return np.rint(255 * colors).astype(np.uint8)


def _borders(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Find the pixels whose neighbour above or to the right has another label."""
    borders = np.zeros(labels.shape, dtype=bool)
    borders[:-1] |= labels[:-1] != labels[1:]
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return borders


def _mark_ends(ax: Axes, axis: int) -> None:
    """Write which side is which: L and R, or P and A."""
    low, high = _ENDS[axis]
    for text, place, side in ((low, 0.02, "left"), (high, 0.98, "right")):
        ax.text(place, 0.02, text, transform=ax.transAxes, ha=side, va="bottom", color=_INK, fontsize=10, weight="bold")


def draw_sizes(parcellations: Sequence[Parcellation]) -> Figure:
    """Draw how large the parcels of one or several parcellations are.

    Parameters
    ----------
    parcellations : sequence of Parcellation
        At least one.

    Returns
    -------
    Figure
        A row for each: a tick for each parcel at its volume, a bar from the lower to the upper quartile, and a
        longer mark at the median. The ground is transparent.
    """
    figure = Figure((7.0, 0.75 + 0.45 * len(parcellations)), facecolor="none", layout="constrained")
    ax = figure.add_subplot(facecolor="none")
    for row, parcellation in enumerate(parcellations):
        volumes = parcellation.table["volume_mm3"].to_numpy(dtype=float)
        lower, median, upper = np.percentile(volumes, [25, 50, 75])
        ax.barh(row, upper - lower, left=lower, height=0.55, color="#9ec5e8")
        ax.vlines(volumes, row - 0.16, row + 0.16, color="black", linewidth=0.8, alpha=0.6)
        ax.vlines(median, row - 0.36, row + 0.36, color="#b3261e", linewidth=2.5)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("Volume of a parcel (mm³)")
    ax.set_yticks(range(len(parcellations)), [f"{each.n_parcels:,}" for each in parcellations])
    ax.set_ylabel("Parcels")
    ax.invert_yaxis()
    ax.spines[["top", "left", "right"]].set_visible(False)
    ax.tick_params("y", length=0)
    return figure
