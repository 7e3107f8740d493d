"""Arrays as pictures in a page: PNG files as data URIs, without a plotting library."""

import base64
import struct
import zlib

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

# Of a correlation from -1 to 1, and of a share from 0 to 1: colours from low to high.
_DIVERGING = (
    (0.0, (33, 77, 156)),
    (0.25, (107, 160, 214)),
    (0.5, (247, 247, 247)),
    (0.75, (239, 138, 98)),
    (1.0, (165, 15, 30)),
)
_SHARE = ((0.0, (160, 20, 40)), (0.5, (232, 150, 80)), (0.8, (235, 225, 150)), (1.0, (38, 120, 110)))

_MISSING = (150, 150, 150)


def data_uri(pixels: Pixels) -> str:
    """Make a picture part of a page.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width) or (height, width, 3)
        Grey values or colours. The first row is the highest.

    Returns
    -------
    str
        A PNG file as a data URI; the same for the same pixels.
    """
    return f"data:image/png;base64,{base64.b64encode(to_png(pixels)).decode()}"


def to_png(pixels: Pixels) -> bytes:
    """Encode a picture.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width) or (height, width, 3)
        Grey values or colours. The first row is the highest.

    Returns
    -------
    bytes
        A PNG file.

    References
    ----------
    W3C (2003). Portable Network Graphics (PNG) specification, second edition. ISO/IEC 15948.
    """
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    # Each row as its difference to the one above: rows that repeat become zeros.
    filtered = np.full((height, rows.shape[1] + 1), 2, dtype=np.uint8)
    filtered[:, 1:] = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 2)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def color_correlations(matrix: npt.NDArray[np.floating]) -> Pixels:
    """Colour correlations: blue for -1, white for 0, red for 1, grey where there is none.

    Parameters
    ----------
    matrix : ndarray of float, shape (n, m)
        From -1 to 1, or NaN.

    Returns
    -------
    ndarray of uint8, shape (n, m, 3)
        Colours.
    """
    return _color((matrix + 1) / 2, _DIVERGING)


def color_shares(shares: npt.NDArray[np.floating]) -> Pixels:
    """Colour shares: green for 1, red for 0, grey where there is none.

    Parameters
    ----------
    shares : ndarray of float, shape (n, m)
        From 0 to 1, or NaN.

    Returns
    -------
    ndarray of uint8, shape (n, m, 3)
        Colours.
    """
    return _color(shares, _SHARE)


def _color(values: npt.NDArray[np.floating], stops: tuple[tuple[float, tuple[int, int, int]], ...]) -> Pixels:
    places, colors = [place for place, _ in stops], np.array([color for _, color in stops])
    known = np.nan_to_num(values)
    channels = [np.interp(known, places, colors[:, channel]) for channel in range(3)]
    pixels: Pixels = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    pixels[np.isnan(values)] = _MISSING
    return pixels


def shrink(values: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.float64]:
    """Average blocks of rows and columns, so that neither are more than a number.

    Parameters
    ----------
    values : ndarray of float, shape (n, m)
        The values; NaN are left out of the means.
    size : int
        Largest number of rows, and of columns.

    Returns
    -------
    ndarray of float64, shape (min(n, size), min(m, size))
        NaN where a block holds nothing else.
    """
    known = ~np.isnan(values)
    sums, numbers = np.where(known, values, 0.0), known.astype(np.float64)
    for axis in (0, 1):
        starts = np.unique(np.linspace(0, values.shape[axis], min(values.shape[axis], size) + 1)[:-1].astype(int))
        sums, numbers = (np.add.reduceat(each, starts, axis=axis) for each in (sums, numbers))
    means: npt.NDArray[np.float64] = np.divide(sums, numbers, out=np.full_like(sums, np.nan), where=numbers > 0)
    return means
