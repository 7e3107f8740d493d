"""Pictures of voxels inside a page: slices, carpets and matrices, as SVG that holds PNG files."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from bids_parcellate.numerics.portrait import CARPET_LIMIT
from bids_parcellate.report.pixels import color_correlations, color_shares, data_uri, shrink
from bids_parcellate.report.slices import Slice

# In units of the SVG: as wide as a chart, and with the plot's left and right ends where a chart has them.
_WIDTH, _LEFT, _RIGHT = 720, 64, 14
_TITLE_HEIGHT, _CARPET_HEIGHT = 20, 150

# Slices of one column only are not drawn over the whole width.
_MOST_SLICE_WIDTH = 360

_MATRIX_PIXELS = 240
_MOST_NAMES, _NAMED_ROW = 30, 15
_CENSORED = (214, 126, 28)


def draw_slices(rows: Sequence[Sequence[Slice]], *, label: str) -> Markup:
    """Draw slices below each other.

    Parameters
    ----------
    rows : sequence of sequence of Slice
        A row for each plane; all have one scale.
    label : str
        What they show, for those who do not see it.

    Returns
    -------
    Markup
        An inline SVG on black.
    """
    column = min(_WIDTH / max(map(len, rows)), _MOST_SLICE_WIDTH)
    scale = column / max(row[0].size[0] for row in rows)
    offset = (_WIDTH - column * max(map(len, rows))) / 2
    parts, top = [], 0.0
    for row in rows:
        width, height = (length * scale for length in row[0].size)
        for number, each in enumerate(row):
            left = offset + (number + 0.5) * column - width / 2
            parts += [
                _image(data_uri(each.pixels[::-1]), (left, top + _TITLE_HEIGHT, width, height)),
                _text((left + width / 2, top + 14), each.title, "middle"),
            ]
            if number == 0:
                foot = top + _TITLE_HEIGHT + height - 5
                parts += [_text((left + 3, foot), each.ends[0], "side")]
                parts += [_text((left + width - 3, foot), each.ends[1], "side end")]
        top += _TITLE_HEIGHT + height
    return _svg("slices", top, label, parts)


def draw_carpet(
    carpet: npt.NDArray[np.uint8], *, name: str, kept: npt.NDArray[np.bool_], is_cleaned: bool = False
) -> Markup:
    """Draw a carpet: voxels by volumes.

    Parameters
    ----------
    carpet : ndarray of uint8, shape (n_rows, n_volumes), or (n_rows, n_kept) if it is cleaned
        Grey values; see :class:`bids_parcellate.numerics.portrait.RunPortrait`.
    name : str
        What it is.
    kept : ndarray of bool, shape (n_volumes,)
        False for censored volumes.
    is_cleaned : bool, default=False
        Whether it only has the volumes that were kept; the others are drawn in orange.

    Returns
    -------
    Markup
        An inline SVG whose volumes lie below those of a chart.
    """
    pixels = np.empty((len(carpet), len(kept), 3), dtype=np.uint8)
    pixels[:] = _CENSORED
    pixels[:, kept if is_cleaned else slice(None)] = carpet[..., np.newaxis]
    limits = f"black is {-CARPET_LIMIT:g}, white {CARPET_LIMIT:g} standard deviations".replace("-", "\N{MINUS SIGN}")
    left, width = _LEFT, _WIDTH - _LEFT - _RIGHT
    half = width / max(len(kept) - 1, 1) / 2  # the middle of a pixel is the place of its volume
    box = (left - half, float(_TITLE_HEIGHT), width + 2 * half, float(_CARPET_HEIGHT))
    parts = [
        _text((left, 14), f"{name} ({limits})", "name"),
        _image(data_uri(pixels), box),
        Markup('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" class="frame"/>').format(*box),
    ]
    label = f"Carpet of {len(carpet)} voxels by {len(kept)} volumes: {name}; {limits}."
    return _svg("carpet", _TITLE_HEIGHT + _CARPET_HEIGHT + 4, label, parts)


def draw_matrix(matrix: npt.NDArray[np.floating], *, label: str) -> Markup:
    """Draw correlations between parcels.

    Parameters
    ----------
    matrix : ndarray of float, shape (n_parcels, n_parcels)
        From -1 to 1; NaN where there is none. Large matrices are averaged over blocks.
    label : str
        What they are, for those who do not see it.

    Returns
    -------
    Markup
        An inline SVG.
    """
    uri = data_uri(color_correlations(shrink(matrix, _MATRIX_PIXELS)))
    return Markup('<svg class="matrix" viewBox="0 0 240 240" role="img" aria-label="{}">{}</svg>').format(
        label, _image(uri, (0, 0, 240, 240))
    )


def draw_coverage(coverage: npt.NDArray[np.floating], names: Sequence[str], *, label: str) -> Markup:
    """Draw which share of each parcel participants have.

    Parameters
    ----------
    coverage : ndarray of float, shape (n_participants, n_parcels)
        From 0 to 1. Many participants or parcels are averaged over blocks.
    names : sequence of str
        Of the participants; more than 30 are not written.
    label : str
        What it shows, for those who do not see it.

    Returns
    -------
    Markup
        An inline SVG: a row for each participant.
    """
    shares = shrink(coverage, 2 * _MATRIX_PIXELS)
    is_named = len(names) <= _MOST_NAMES
    left = 16 + 7 * max(map(len, names)) if is_named else 0
    height = min(_NAMED_ROW * len(names), _NAMED_ROW * _MOST_NAMES)
    parts = [_image(data_uri(color_shares(shares)), (left, 0, _WIDTH - left, height))]
    if is_named:
        parts += [_text((left - 8, _NAMED_ROW * (row + 0.75)), name, "end") for row, name in enumerate(names)]
    return _svg("coverage", height, label, parts)


def _svg(kind: str, height: float, label: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        kind, _WIDTH, f"{height:.1f}", label, Markup().join(parts)
    )


def _image(uri: str, box: tuple[float, float, float, float]) -> Markup:
    x, y, width, height = (f"{value:.2f}" for value in box)
    return Markup('<image href="{}" x="{}" y="{}" width="{}" height="{}" preserveAspectRatio="none"/>').format(
        uri, x, y, width, height
    )


def _text(place: tuple[float, float], text: str, name: str) -> Markup:
    x, y = (f"{value:.1f}" for value in place)
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(x, y, name, text)
