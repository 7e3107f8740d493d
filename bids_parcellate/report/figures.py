"""Figures of parcellations, as matplotlib makes them: to look at in a notebook, and to save.

Figures are made without pyplot, so that drawing neither needs a display nor leaves anything behind.
"""

from typing import Any

import numpy.typing as npt

from bids_parcellate.errors import UsageError
from bids_parcellate.parcels.atlas import Parcellation
from bids_parcellate.report.slices import Slice, cut_parcels

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as missing:
    raise UsageError(
        f"Figures need a library that is not installed: {missing.name}.",
        "Install it with the app: pip install 'bids-parcellate[plotting]'.",
    ) from missing

# In inches: a figure of several columns, and of one; the room for a title, and for the positions above a row.
_WIDTH, _SINGLE_WIDTH = 11.0, 6.0
_TITLE_HEIGHT, _LABEL_HEIGHT = 0.4, 0.28

_PAPER, _INK = "black", "white"


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
        The parcels; see :func:`bids_parcellate.report.slices.cut_parcels`.
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
    rows = cut_parcels(parcellation, background=background, n_cuts=n_cuts)
    n_columns = max(map(len, rows))

    # In inches; all slices have one scale.
    width = _WIDTH if n_columns > 1 else _SINGLE_WIDTH
    column = width / n_columns
    scale = column / max(row[0].size[0] for row in rows)
    top = _TITLE_HEIGHT if title else 0
    height = top + sum(_LABEL_HEIGHT + row[0].size[1] * scale for row in rows)
    figure = Figure((width, height), facecolor=_PAPER)
    if title:
        figure.text(
            0.5, 1 - top / 2 / height, title, color=_INK, fontsize=13, ha="center", va="center", parse_math=False
        )
    for row in rows:
        across, up = (length * scale for length in row[0].size)
        top += _LABEL_HEIGHT + up
        for number, each in enumerate(row):
            left = (number + 0.5) * column - across / 2
            ax = figure.add_axes((left / width, 1 - top / height, across / width, up / height))
            _draw_slice(ax, each)
            if number == 0:
                _mark_ends(ax, each)
    return figure


def _draw_slice(ax: Axes, each: Slice) -> None:
    width, height = each.size
    ax.imshow(each.pixels, origin="lower", extent=(0.0, width, 0.0, height), interpolation="antialiased")
    ax.set_title(each.title, color=_INK, fontsize=9, pad=3)
    ax.set_axis_off()


def _mark_ends(ax: Axes, each: Slice) -> None:
    """Write which side is which: L and R, or P and A."""
    for text, place, side in zip(each.ends, (0.02, 0.98), ("left", "right"), strict=True):
        ax.text(place, 0.02, text, transform=ax.transAxes, ha=side, va="bottom", color=_INK, fontsize=10, weight="bold")
