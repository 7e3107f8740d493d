"""What the interactive viewer of a report shows: volumes, tables and signals, small enough to be part of a page."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_parcellate.io.images import volume_to_bytes
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.parcels.atlas import COLUMNS, Parcellation
from bids_parcellate.report.slices import as_grey

NIIVUE_VERSION = "0.69.0"
NIIVUE_SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"

# The page stays below 10 MB: larger backgrounds are thinned out, and with more parcels there are no correlations.
_MOST_BACKGROUND_VOXELS = 2_000_000
_MOST_CORRELATIONS = 2_000_000
_MOST_SAMPLES = 500_000

# Voxels around the parcels.
_MARGIN = 3

FloatArray = npt.NDArray[np.float64]
Box = tuple[slice, ...]


@dataclass(frozen=True)
class ParcelActivity:
    """What the viewer tells of the signals of a parcellation's parcels.

    Parameters
    ----------
    correlations : ndarray of float, shape (n_parcels, n_parcels)
        Between their signals, averaged over some runs; NaN where there are none.
    n_runs : int
        The number of these runs.
    series : ndarray of float, shape (n_volumes, n_parcels)
        Their signals in one run; NaN where there are none.
    series_of : str
        The name of this run.
    """

    correlations: FloatArray
    n_runs: int
    series: FloatArray
    series_of: str


def viewer_data(
    parcellations: Sequence[Parcellation],
    *,
    background: npt.NDArray[Any] | None = None,
    activities: Mapping[int, ParcelActivity] | None = None,
) -> dict[str, Any]:
    """Put together what the viewer shows.

    Parameters
    ----------
    parcellations : sequence of Parcellation
        At least one, all on one grid.
    background : ndarray of shape (X, Y, Z), optional
        What lies below the parcels.
    activities : Mapping of int to ParcelActivity, optional
        The signals, by number of parcels.

    Returns
    -------
    dict
        Plain values, to be written as JSON.
    """
    activities = activities or {}
    box = _box(parcellations)
    return {
        "background": None
        if background is None
        else _encode_background(*_crop(background, parcellations[0].grid, box)),
        "parcellations": [_describe(each, box, activities.get(each.n_parcels)) for each in parcellations],
    }


@cache
def niivue_gzip() -> bytes:
    """Give NiiVue's script, compressed by gzip.

    Returns
    -------
    bytes
        The content of a ``.js.gz`` file.
    """
    return files("bids_parcellate").joinpath("data/report/niivue/niivue.umd.js.gz").read_bytes()


def _box(parcellations: Sequence[Parcellation]) -> Box:
    """Find what holds all parcels, with a margin."""
    inside = np.argwhere(np.any([each.labels > 0 for each in parcellations], axis=0))
    start = np.maximum(inside.min(axis=0) - _MARGIN, 0)
    return tuple(map(slice, start, inside.max(axis=0) + _MARGIN + 1))


def _crop(volume: npt.NDArray[Any], grid: Grid, box: Box) -> tuple[npt.NDArray[Any], Grid]:
    cropped, affine = volume[box], grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [each.start for each in box]
    return cropped, Grid(cropped.shape, affine)


def _describe(parcellation: Parcellation, box: Box, activity: ParcelActivity | None) -> dict[str, Any]:
    table = parcellation.table
    places = _inner_places(parcellation)
    described: dict[str, Any] = {
        "title": f"{parcellation.n_parcels:,}",
        "image": _base64(volume_to_bytes(*_crop(parcellation.labels, parcellation.grid, box))),
        "names": parcellation.names,
        "colors": [str(color) for color in table["color"]],
        "places": places.round(2).tolist(),
        "start": _middle_parcel(table),
        "facts": _facts(table),
        "figures": _figures(table),
        "correlation": None,
        "series": None,
    }
    return described if activity is None else described | _encode_activity(activity)


def _facts(table: pd.DataFrame) -> list[dict[str, Any]]:
    sides = {"L": "left", "R": "right", "B": "both"}
    centroids = [
        ", ".join(f"{value:.0f}" for value in row).replace("-", "\N{MINUS SIGN}")
        for row in table[["x", "y", "z"]].to_numpy(dtype=float) + 0.0
    ]
    return [
        {"name": "Hemisphere", "unit": "", "values": [sides.get(side, str(side)) for side in table["hemisphere"]]},
        {"name": "Volume", "unit": "mm³", "values": _plain(table["volume_mm3"])},
        {"name": "Voxels", "unit": "", "values": _plain(table["n_voxels"])},
        {"name": "Centroid x, y, z", "unit": "mm", "values": centroids},
    ]


def _figures(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Take the columns of quality, whichever there are."""
    measures = [
        name
        for name in table.columns
        if name not in COLUMNS and pd.api.types.is_numeric_dtype(table[name]) and table[name].notna().any()
    ]
    return [
        {"name": str(name).replace("_", " ").capitalize(), "unit": "", "values": _plain(table[name])}
        for name in measures
    ]


def _plain(values: "pd.Series[Any]") -> list[float | None]:
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values.to_numpy(dtype=float)]


def _middle_parcel(table: pd.DataFrame) -> int:
    """Choose the parcel that is shown first: the one closest to the middle of all that lie on the left."""
    places = table[["x", "y", "z"]].to_numpy(dtype=float)
    left = (table["hemisphere"] == "L").to_numpy()
    candidates = np.flatnonzero(left) if left.any() else np.arange(len(table))
    distances = np.linalg.norm(places[candidates] - places[candidates].mean(axis=0), axis=1)
    return int(candidates[distances.argmin()])


def _inner_places(parcellation: Parcellation) -> FloatArray:
    """Find in each parcel the voxel closest to its centroid, which itself may lie outside; in mm."""
    inside = np.argwhere(parcellation.labels > 0)
    labels = parcellation.labels[parcellation.labels > 0]
    affine = parcellation.grid.affine
    world = inside @ affine[:3, :3].T + affine[:3, 3]
    index = np.searchsorted(parcellation.table["index"].to_numpy(), labels)
    centroids = parcellation.table[["x", "y", "z"]].to_numpy(dtype=np.float64)
    distances = np.square(world - centroids[index]).sum(axis=1)
    order = np.lexsort((distances, index))
    _, first = np.unique(index[order], return_index=True)
    return np.asarray(world[order[first]], dtype=np.float64)


def _encode_background(background: npt.NDArray[Any], grid: Grid) -> str:
    step = int(np.ceil(np.cbrt(background.size / _MOST_BACKGROUND_VOXELS)))
    thinned = np.rint(255 * as_grey(background[::step, ::step, ::step])).astype(np.uint8)
    affine = grid.affine @ np.diag([step, step, step, 1.0])
    return _base64(volume_to_bytes(thinned, Grid(thinned.shape, affine)))


def _encode_activity(activity: ParcelActivity) -> dict[str, Any]:
    correlations, series = activity.correlations, activity.series
    encoded: dict[str, Any] = {}
    if correlations.size <= _MOST_CORRELATIONS:
        scaled = np.where(np.isnan(correlations), -128, np.rint(127 * np.clip(np.nan_to_num(correlations), -1, 1)))
        encoded |= {"correlation": _gzip(scaled.astype(np.int8)), "n_runs": activity.n_runs}
    if series.size <= _MOST_SAMPLES:
        encoded |= {"series": _gzip(_to_bytes(series)), "series_of": activity.series_of}
    return encoded


def _to_bytes(series: FloatArray) -> npt.NDArray[np.uint8]:
    """Scale each column from 0 to 255; one that is missing or does not vary lies in the middle."""
    centred = np.nan_to_num(series - np.nan_to_num(series[:1]))
    low, high = centred.min(axis=0), centred.max(axis=0)
    shares = np.divide(centred - low, high - low, out=np.full_like(centred, 0.5), where=high > low)
    quantized: npt.NDArray[np.uint8] = np.rint(255 * shares).astype(np.uint8)
    return quantized


def _gzip(values: npt.NDArray[Any]) -> str:
    return _base64(zlib.compress(np.ascontiguousarray(values).tobytes(), level=6, wbits=31))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
