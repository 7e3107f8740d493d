"""A parcellation as other tools see it: a label image, and a table with a row for each parcel."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_parcellate.errors import DataError, MissingInputError
from bids_parcellate.io.images import read_volume
from bids_parcellate.io.masking import Mask
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.parcels.colors import parcel_color

# Share of a parcel's voxels that must lie on one side of x = 0 for the parcel to belong to that hemisphere.
HEMISPHERE_SHARE = 0.9

COLUMNS: dict[str, dict[str, object]] = {
    "index": {"Description": "Value of the parcel in the image.", "Format": "integer"},
    "name": {"Description": "Name of the parcel, the column of its time series and of its correlations."},
    "color": {"Description": "Colour of the parcel, as hexadecimal RGB; a name keeps it where numbers are matched."},
    "hemisphere": {
        "Description": f"Side of x = 0 on which at least {HEMISPHERE_SHARE:.0%} of the parcel's voxels lie.",
        "Levels": {"L": "left (x < 0)", "R": "right (x > 0)", "B": "both"},
    },
    "x": {"Description": "Centre of mass, from left to right.", "Units": "mm"},
    "y": {"Description": "Centre of mass, from posterior to anterior.", "Units": "mm"},
    "z": {"Description": "Centre of mass, from inferior to superior.", "Units": "mm"},
    "n_voxels": {"Description": "Number of voxels.", "Units": "voxel"},
    "volume_mm3": {"Description": "Volume.", "Units": "mm^3"},
}


@dataclass(frozen=True)
class Parcellation:
    """Parcels on a grid.

    Parameters
    ----------
    labels : ndarray of int32, shape (X, Y, Z)
        1 to the number of parcels, and 0 outside of all.
    grid : Grid
        Where they lie.
    table : DataFrame
        A row for each parcel, in the order of the labels, with the columns of ``COLUMNS``.
    """

    labels: npt.NDArray[np.int32]
    grid: Grid
    table: pd.DataFrame

    @property
    def n_parcels(self) -> int:
        """Number of parcels."""
        return len(self.table)

    @property
    def names(self) -> list[str]:
        """Names of the parcels, in the order of their labels."""
        return [str(name) for name in self.table["name"]]

    @property
    def colors(self) -> list[str]:
        """Their colours, chosen by number where the table has none."""
        given = self.table.get("color")
        return [parcel_color(number) for number in range(self.n_parcels)] if given is None else list(map(str, given))


def paint(labels: npt.NDArray[np.int32], mask: Mask) -> Parcellation:
    """Make a parcellation of the labels of a mask's voxels.

    Parameters
    ----------
    labels : ndarray of int, shape (n_voxels,)
        From 0 to the number of parcels less 1.
    mask : Mask
        The voxels.

    Returns
    -------
    Parcellation
        With its table.
    """
    volume = np.zeros(mask.grid.shape, dtype=np.int32)
    volume[mask.data] = labels + 1
    return Parcellation(volume, mask.grid, describe_parcels(volume, mask.grid))


def describe_parcels(labels: npt.NDArray[np.int32], grid: Grid) -> pd.DataFrame:
    """Describe each parcel of a label image.

    Parameters
    ----------
    labels : ndarray of int, shape (X, Y, Z)
        1 to K, each at least once, and 0 outside.
    grid : Grid
        Where they lie.

    Returns
    -------
    DataFrame
        K rows, with the columns of ``COLUMNS``.
    """
    inside = np.argwhere(labels > 0)
    index = labels[labels > 0] - 1
    world = inside @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    sizes = np.bincount(index)
    n_parcels = len(sizes)
    centres = np.stack([np.bincount(index, world[:, axis]) / sizes for axis in range(3)], axis=1)
    left, right = (np.bincount(index, side, n_parcels) / sizes for side in (world[:, 0] < 0, world[:, 0] > 0))
    width = max(3, len(str(n_parcels)))
    return pd.DataFrame(
        {
            "index": np.arange(1, n_parcels + 1),
            "name": [f"parcel{number:0{width}d}" for number in range(1, n_parcels + 1)],
            "color": [parcel_color(number) for number in range(n_parcels)],
            "hemisphere": np.select([left >= HEMISPHERE_SHARE, right >= HEMISPHERE_SHARE], ["L", "R"], "B"),
            **{axis: centres[:, column].round(2) for column, axis in enumerate("xyz")},
            "n_voxels": sizes,
            "volume_mm3": (sizes * abs(np.linalg.det(grid.affine[:3, :3]))).round(2),
        }
    )


def read_parcellation(image: Path, table: Path) -> Parcellation:
    """Read a parcellation that an earlier job wrote.

    Parameters
    ----------
    image, table : Path
        The ``dseg.nii.gz`` and ``dseg.tsv``.

    Returns
    -------
    Parcellation
        As it was written.

    Raises
    ------
    MissingInputError
        If a file is missing.
    DataError
        If the two do not belong together.
    """
    for path in (image, table):
        if not path.is_file():
            raise MissingInputError(
                f"There is no {path}.",
                "Run the group level first, or name an atlas that is complete: an image and its table.",
            )
    labels, grid = read_volume(image)
    try:
        frame = pd.read_csv(table, sep="\t")
    except ValueError as error:  # of pandas: empty, or no table
        raise DataError(f"{table} cannot be read: {error}.", "Run the group level again.") from error
    found = np.unique(labels[labels > 0])
    if "index" not in frame or not np.array_equal(found, frame["index"]):
        raise DataError(f"The labels in {image} are not those in {table}.", "Run the group level again.")
    return Parcellation(labels.astype(np.int32), grid, frame)
