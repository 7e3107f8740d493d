"""Atlases that parcels are compared with, and may be named after."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_parcellate.errors import DataError
from bids_parcellate.io.images import read_volume
from bids_parcellate.io.masking import Mask
from bids_parcellate.io.naming import as_label, beside
from bids_parcellate.io.templates import find_template
from bids_parcellate.numerics.quality.reference import network_of
from bids_parcellate.numerics.resampling import resample


@dataclass(frozen=True)
class ReferenceAtlas:
    """An atlas, in the voxels of a mask.

    Parameters
    ----------
    name : str
        What columns and figures call it: letters and digits.
    labels : ndarray of int32, shape (n_voxels,)
        The atlas's parcel of each voxel, from 1; 0 means none.
    names : list of str
        Names of its parcels, in the order of the labels; their numbers in the image where there is no table.
    has_names : bool
        Whether there is a table.
    """

    name: str
    labels: npt.NDArray[np.int32]
    names: list[str]
    has_names: bool

    @property
    def networks(self) -> list[str]:
        """The network or region of each of its parcels."""
        return [network_of(name) for name in self.names]


def find_reference(atlas: str, space: str, cohort: str | None = None) -> Path:
    """Find the image of an atlas.

    Parameters
    ----------
    atlas : str
        The absolute path of a file, or an atlas of TemplateFlow as ``NAME`` or ``NAME:DESC``, such as
        ``Schaefer2018:400Parcels7Networks``.
    space, cohort : str
        The template that the parcels are in, for the latter.

    Returns
    -------
    Path
        The image.

    Raises
    ------
    MissingInputError
        If TemplateFlow's folder does not have it; the message says how to fetch it.
    """
    if Path(atlas).is_absolute():
        return Path(atlas)
    name, _, desc = atlas.partition(":")
    number = int(cohort) if cohort else None
    return find_template(space, suffix="dseg", atlas=name, desc=desc or None, cohort=number)


def read_reference(image: Path, mask: Mask) -> ReferenceAtlas:
    """Read an atlas.

    Parameters
    ----------
    image : Path
        Labels; on another grid than the mask they are resampled (nearest neighbour). Names are read from a table of the
        same name, with the columns ``index`` and ``name``, if there is one; its name may lack ``res-``, as in
        TemplateFlow.
    mask : Mask
        The voxels that are wanted.

    Returns
    -------
    ReferenceAtlas
        With labels that count from 1.

    Raises
    ------
    ParcellateError
        If the image or the table cannot be used.
    """
    volume, grid = read_volume(image)
    if not (np.isfinite(volume) & (volume == np.round(volume))).all():
        raise DataError(f"{image} holds values that are not whole; an atlas holds labels.", "Give an image of labels.")
    numbers = np.unique(volume[volume > 0]).astype(np.int64)
    counted = np.searchsorted(numbers, volume).astype(np.int32) + 1
    counted[volume <= 0] = 0
    labels = mask.apply(resample(counted, grid, mask.grid, interpolation="nearest"))
    if not labels.any():
        raise DataError(f"{image} has no label in any voxel of the mask.", "Check that it is in the same space.")
    named = _read_names(image)
    names = [named.get(number, str(number)) for number in numbers.tolist()]
    return ReferenceAtlas(_short_name(image), labels.astype(np.int32), names, has_names=bool(named))


def _short_name(image: Path) -> str:
    stem = beside(image, "").name
    entities = dict(part.partition("-")[::2] for part in stem.split("_") if "-" in part)
    return as_label("".join(filter(None, (entities.get("atlas"), entities.get("desc"))))) or as_label(stem)


def _read_names(image: Path) -> dict[int, str]:
    """Read the names of an atlas's parcels by their numbers; none if there is no table."""
    own = beside(image, ".tsv")
    without_resolution = "_".join(part for part in own.name.split("_") if not part.startswith("res-"))
    for table in (own, own.with_name(without_resolution)):
        if not table.is_file():
            continue
        frame = pd.read_csv(table, sep="\t")
        if not {"index", "name"} <= set(frame):
            raise DataError(f"{table} needs the columns 'index' and 'name'; it has {', '.join(map(str, frame))}.")
        return dict(zip(frame["index"].astype(int), frame["name"].astype(str), strict=True))
    return {}
