"""Images, confounds and sample masks in the many forms that users may pass them, brought to one: a list of runs."""

import csv
import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import SpatialImage

from bids_parcellate.errors import DataError, MissingInputError, UsageError
from bids_parcellate.io.headers import ImageInfo
from bids_parcellate.io.images import ImageLike, read_info
from bids_parcellate.io.store import digest_of, identify
from bids_parcellate.io.tables import Column
from bids_parcellate.numerics.grids import Grid

Layout = Literal["single", "list", "volumes"]
Table = npt.NDArray[np.float64]


class InputTypeError(UsageError, TypeError):
    """What was passed is of a type that cannot be used: also a TypeError, which is what nilearn raises."""


@dataclass(frozen=True, eq=False)
class InputRun:
    """The images of one run, and what belongs to them.

    Parameters
    ----------
    images : tuple of path or nibabel image
        One 4-D image; or several images that follow each other in time, such as 3-D volumes.
    infos : tuple of ImageInfo
        Their headers.
    name : str
        How messages call the run.
    confounds : ndarray of shape (n_volumes, n_confounds), optional
        What is regressed out.
    sample_mask : ndarray, optional
        The volumes to keep: their indices, or a boolean for each.
    """

    images: tuple[ImageLike, ...]
    infos: tuple[ImageInfo, ...]
    name: str
    confounds: Table | None = None
    sample_mask: npt.NDArray[Any] | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def n_volumes(self) -> int:
        """Number of volumes."""
        return sum(info.n_volumes for info in self.infos)

    @property
    def grid(self) -> Grid:
        """Where the voxels of the first image lie."""
        return self.infos[0].grid

    def signal_dtype(self, *, of_integers: npt.DTypeLike = np.float32) -> np.dtype[Any]:
        """Give the type that nilearn gives signals, which follows the numbers of the first image.

        Parameters
        ----------
        of_integers : dtype, default=float32
            The type where the image holds whole numbers that are not scaled.

        Returns
        -------
        dtype
            float32 or float64.
        """
        stored = _loaded_dtype(self.images[0], self.infos[0])
        if stored.kind != "f":
            return np.dtype(of_integers)
        return np.dtype(np.float32 if stored.itemsize <= 4 else np.float64)

    @property
    def digest(self) -> str:
        """Digest of all that the run consists of; of files it is what tells them from others."""
        images = [image_digest(*each) for each in zip(self.images, self.infos, strict=True)]
        return digest_of(images, self.confounds, self.sample_mask)


@dataclass(frozen=True, eq=False)
class Inputs:
    """The runs that were passed, and how.

    Parameters
    ----------
    runs : tuple of InputRun
        At least one.
    layout : {"single", "list", "volumes"}
        One run; a list of runs; or a list of 3-D images, which are the volumes of one run.
    """

    runs: tuple[InputRun, ...]
    layout: Layout

    def arrange(self, results: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any] | list[npt.NDArray[Any]]:
        """Arrange results as the images were passed.

        Parameters
        ----------
        results : sequence of ndarray of shape (n_volumes, n_columns)
            One for each run.

        Returns
        -------
        ndarray or list of ndarray
            The array of a single run; else a list with one array for each image that was passed.
        """
        if self.layout == "single":
            return results[0]
        return list(results) if self.layout == "list" else list(results[0][:, np.newaxis])


def collect_runs(imgs: object, confounds: object = None, sample_mask: object = None) -> Inputs:
    """Find out what was passed.

    Parameters
    ----------
    imgs : path, nibabel image, iterable of them, or Inputs
        A 4-D image is a run. A path with wildcards stands for the list of files that match it, sorted. In a list each
        image is a run, and so is a list of images within it; a list of nothing but 3-D images is itself one run.
        Inputs are returned as they are.
    confounds : table, list of tables, or None
        One table for each image that was passed. A table is the path of a CSV or TSV file with or without a header, an
        array or a data frame of shape (n_volumes, n_confounds), or a list of tables to join side by side.
    sample_mask : array-like, list of array-like, or None
        The volumes to keep in each run: their indices, or a boolean for each volume.

    Returns
    -------
    Inputs
        At least one run.

    Raises
    ------
    InputTypeError
        If something is of a type that cannot be used.
    UsageError
        If there is no image, or the numbers of images, confounds and sample masks differ.
    DataError
        If an image or a table cannot be used, or a table does not fit its image.
    MissingInputError
        If a file is not there.
    """
    if isinstance(imgs, Inputs):
        return imgs
    groups, is_list = _group(imgs)
    opened = [tuple(map(_open, group)) for group in groups]
    layout: Layout = "list" if len(groups) > 1 else "single"
    if is_list and layout == "list" and all(len(group) == 1 and group[0][1].ndim == 3 for group in opened):
        layout, opened = "volumes", [tuple(volume for (volume,) in opened)]
    runs = [_make_run(group, number, len(opened)) for number, group in enumerate(opened, start=1)]
    tables = _spread_confounds(confounds, runs, layout)
    masks = _spread_sample_masks(sample_mask, len(runs))
    complete = (
        replace(run, confounds=_load_confounds(table, run), sample_mask=mask)
        for run, table, mask in zip(runs, tables, masks, strict=True)
    )
    return Inputs(tuple(complete), layout)


def image_digest(image: ImageLike, info: ImageInfo) -> str:
    """Make a digest of an image.

    Parameters
    ----------
    image : path or nibabel image
        The image.
    info : ImageInfo
        Its header.

    Returns
    -------
    str
        It changes with a file's path, size, time of change or ends, or with the numbers of an image in memory.
    """
    if info.path is None:
        return digest_of(np.asanyarray(image.dataobj), info.grid.key)  # type: ignore[union-attr]
    return digest_of(str(info.path.absolute()), identify(info.path), info.grid.key)


# Images


def _group(imgs: object) -> tuple[list[tuple[object, ...]], bool]:
    """Give the images of each run, and whether a list was passed."""
    if isinstance(imgs, str | os.PathLike) and glob.has_magic(os.fspath(imgs)) and not Path(imgs).exists():
        pattern = Path(imgs).expanduser()
        imgs = sorted(glob.glob(str(pattern)))  # noqa: PTH207 -- Path.glob takes no absolute pattern
        if not imgs:
            raise MissingInputError(f"no file matches {pattern}", "check the path and its wildcards")
    if isinstance(imgs, str | os.PathLike | SpatialImage):
        return [(imgs,)], False
    if isinstance(imgs, np.ndarray) or not isinstance(imgs, Iterable):
        raise _no_image(imgs)
    groups = [tuple(each) if isinstance(each, list | tuple) else (each,) for each in imgs]
    if not groups or not all(groups):
        raise UsageError("one or more images are needed, but the list is empty", "check how it was made")
    return groups, True


def _open(image: object) -> tuple[ImageLike, ImageInfo]:
    if isinstance(image, str | os.PathLike):
        image = Path(image).expanduser()
    elif not isinstance(image, SpatialImage):
        raise _no_image(image)
    elif len(image.shape) > 4:
        raise InputTypeError(f"an image of shape {image.shape} has too many axes; 3 or 4 can be used", "split it")
    return image, read_info(image)


def _loaded_dtype(image: ImageLike, info: ImageInfo) -> np.dtype[Any]:
    """Give the type in which nibabel gives an image's numbers: float64 if the file scales them."""
    dtype, slope, intercept = info.dtype, info.slope, info.intercept
    if isinstance(image, SpatialImage):
        numbers: Any = image.dataobj
        dtype = numbers.dtype
        if nib.is_proxy(numbers):
            slope, intercept = getattr(numbers, "slope", 1), getattr(numbers, "inter", 0)
    return dtype if (slope, intercept) == (1, 0) else np.dtype(np.float64)


def _no_image(value: object) -> InputTypeError:
    return InputTypeError(
        f"{type(value).__name__} is no image",
        "pass a path, an image of nibabel, or a list of them",
    )


def _make_run(images: Sequence[tuple[ImageLike, ImageInfo]], number: int, n_runs: int) -> InputRun:
    path = images[0][1].path
    position = f"image {number} of {n_runs}" if n_runs > 1 else "the image" if len(images) == 1 else "the images"
    return InputRun(
        images=tuple(image for image, _ in images),
        infos=tuple(info for _, info in images),
        name=position if path is None else str(path),
    )


# Confounds


def _spread_confounds(confounds: object, runs: Sequence[InputRun], layout: Layout) -> list[object]:
    """Give each run what was passed for it."""
    if confounds is None:
        return [None] * len(runs)
    tables = list(confounds) if isinstance(confounds, list | tuple) else [confounds]
    n_images = len(runs[0].images) if layout == "volumes" else len(runs)
    if layout == "volumes" and len(tables) == n_images:
        return [np.concatenate([_load_table(table) for table in tables])]
    if len(tables) != len(runs):
        raise UsageError(
            f"there are {len(tables)} tables of confounds for {n_images} images", "pass one table for each image"
        )
    return tables


def _load_confounds(table: object, run: InputRun) -> Table | None:
    if table is None:
        return None
    values = np.hstack([_load_table(part) for part in table]) if isinstance(table, list | tuple) else _load_table(table)
    if len(values) != run.n_volumes:
        name = f"the confounds {table}" if isinstance(table, str | os.PathLike) else "the confounds"
        raise DataError(f"{name} have {len(values)} rows, but {run} has {run.n_volumes} volumes")
    return values


def _load_table(table: object) -> Table:
    """Load a table as numbers of shape (n_volumes, n_confounds)."""
    if isinstance(table, str | os.PathLike):
        return _read_table(Path(table).expanduser())
    if hasattr(table, "to_numpy"):  # a data frame
        table = table.to_numpy()
    if not isinstance(table, np.ndarray):
        raise InputTypeError(
            f"confounds are of the type {type(table).__name__}", "pass a path, an array or a data frame for each image"
        )
    try:
        values = np.asarray(table, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the confounds are not all numbers: {error}") from error
    return values[:, np.newaxis] if values.ndim == 1 else values


def _read_table(path: Path) -> Table:
    """Read a text file of numbers: separated by tabs, commas, semicolons or spaces, with or without a header."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MissingInputError(f"the confounds {path} cannot be read: {error.strerror}", "check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the confounds {path} are no table in UTF-8: {error}") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    delimiter = next((mark for mark in "\t,;" if lines and mark in lines[0]), None)
    rows = [line.split() for line in lines] if delimiter is None else list(csv.reader(lines, delimiter=delimiter))
    has_header = bool(rows) and not all(map(_is_number, rows[0]))
    body = rows[has_header:]
    if not body or len({len(row) for row in rows}) > 1:
        raise DataError(f"the confounds {path} are no table: they need rows of equal length, and at least one")
    names = rows[0] if has_header else [f"column {number}" for number in range(1, len(rows[0]) + 1)]
    columns = zip(names, zip(*body, strict=True), strict=True)
    return np.column_stack([Column(name, cells, path).to_numbers() for name, cells in columns])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.strip().lower() in ("n/a", "na", "")
    return True


# Sample masks


def _spread_sample_masks(sample_mask: object, n_runs: int) -> list[npt.NDArray[Any] | None]:
    """Give each run its own."""
    if sample_mask is None:
        return [None] * n_runs
    if not isinstance(sample_mask, list | tuple | np.ndarray):
        raise InputTypeError(
            f"sample_mask is of the type {type(sample_mask).__name__}",
            "pass an array for each image, or a list of them",
        )
    is_one = all(each is not None and np.ndim(each) == 0 for each in sample_mask)
    masks = [sample_mask] if is_one else list(sample_mask)
    if len(masks) != n_runs:
        raise UsageError(f"there are {len(masks)} sample masks for {n_runs} images", "pass one for each image")
    return [None if mask is None else np.asarray(mask) for mask in masks]
