"""Colours of parcels: far apart for neighbouring numbers, to those who see few colours, too; and tables of them.

References
----------
Ottosson B (2020). A perceptual color space for image processing (OKLab, and its polar form).
"""

import math

import pandas as pd

# Found by search: numbers up to 4 apart differ to normal, red-blind, green-blind and blue-blind eyes alike, those up to
# 24 apart to normal ones. Who sees few hues still sees lightness, hence its large steps.
_LIGHTNESS = (0.42, 0.78, 0.54, 0.90, 0.66)
_TURN, _FIRST_HUE = 0.68, 0.551  # of a full circle: 25 hues
_BLOCK = 25  # after as many numbers lightness and chroma shift a little, so that colours do not repeat


def parcel_color(number: int) -> str:
    """Choose the colour of a parcel.

    Parameters
    ----------
    number : int
        From 0 on. A number always has the same colour.

    Returns
    -------
    str
        Hexadecimal RGB.
    """
    block, place = divmod(number, _BLOCK)
    lightness = _LIGHTNESS[place % len(_LIGHTNESS)] + 0.04 * ((0.618034 * block) % 1 - 0.5)
    chroma = 0.11 + 0.04 * ((0.7548777 * block) % 1)
    hue = math.tau * ((_TURN * place + _FIRST_HUE) % 1)
    while min(linear := _linear_rgb(lightness, chroma, hue)) < 0 or max(linear) > 1:
        chroma -= 0.005  # the most vivid colour of this hue and lightness that a screen has
    return "#" + "".join(f"{round(255 * _encode(channel)):02x}" for channel in linear)


def _linear_rgb(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """Convert from OKLab in polar form to linear sRGB."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _encode(channel: float) -> float:
    """Encode a linear channel as sRGB does."""
    return 12.92 * channel if channel <= 0.0031308 else 1.055 * channel ** (1 / 2.4) - 0.055


def fsleyes_table(parcels: pd.DataFrame) -> str:
    """Write the colours of parcels as FSLeyes reads them.

    Parameters
    ----------
    parcels : DataFrame
        With the columns ``index``, ``name`` and ``color``.

    Returns
    -------
    str
        A line for each parcel: value, red, green and blue from 0 to 1, name.
    """
    return "".join(
        f"{index} {' '.join(f'{channel / 255:.5f}' for channel in _channels(color))} {name}\n"
        for index, name, color in _rows(parcels)
    )


def freesurfer_table(parcels: pd.DataFrame) -> str:
    """Write the colours of parcels as FreeSurfer reads them.

    Parameters
    ----------
    parcels : DataFrame
        With the columns ``index``, ``name`` and ``color``.

    Returns
    -------
    str
        A line for each parcel, and one for what is outside: value, name, red, green and blue up to 255, and 0.
    """
    lines = ["0 Unknown 0 0 0 0\n"]
    lines += [f"{index} {name} {' '.join(map(str, _channels(color)))} 0\n" for index, name, color in _rows(parcels)]
    return "".join(lines)


def _rows(parcels: pd.DataFrame) -> list[tuple[int, str, str]]:
    """Give value, name and colour of each parcel; names in these tables have no spaces."""
    return [
        (int(index), "_".join(str(name).split()), str(color))
        for index, name, color in parcels[["index", "name", "color"]].itertuples(index=False)
    ]


def _channels(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color.removeprefix("#")))
