"""What the header of a NIfTI image says, and whether it can be relied on.

Nothing physical is guessed: an image that does not say where it lies, or has no usable voxel size, is
refused; a repetition time without its unit is none.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError, SpatialImage

from bids_parcellate.errors import DataError
from bids_parcellate.numerics.grids import Grid

_UNITS_PER_SECOND = {8: 1, 16: 1_000, 24: 1_000_000}  # by NIfTI's code for s, ms and us
_OTHER_LENGTHS = {1: "metres", 3: "micrometres"}  # by NIfTI's code; 2 is mm, and 0 (unknown) is read as mm
_N_HEADERS = 64  # that are remembered
_CORRECT = "correct the header, or make the image again"
_CONVERT = "give a .nii or .nii.gz file, for example one written by nibabel.save"


@dataclass(frozen=True)
class ImageInfo:
    """What the header of an image says.

    Attributes
    ----------
    path : Path or None
        The file; None for an image in memory.
    grid : Grid
        Where the voxels lie.
    ndim : int
        Number of axes: 3, or 4 with time.
    n_volumes : int
        Number of volumes; 1 for a 3-D image.
    t_r : float or None
        Time between volumes in seconds; None where the header does not state it together with its unit.
    dtype : dtype
        Type of the stored numbers, with their byte order.
    offset : int
        Where the numbers start in the (decompressed) file, in bytes.
    slope, intercept : float
        What makes values of stored numbers: ``slope * stored + intercept``.
    """

    path: Path | None
    grid: Grid
    ndim: int
    n_volumes: int
    t_r: float | None
    dtype: np.dtype[Any]
    offset: int = 0
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def volume_bytes(self) -> int:
        """Size of one volume in the (decompressed) file, in bytes."""
        return math.prod(self.grid.shape) * self.dtype.itemsize


def read_header(read: Callable[[int], bytes], path: Path) -> ImageInfo:
    """Read the header at the start of a file, and not what follows it.

    Parameters
    ----------
    read : callable
        Gives the next bytes of the file, exactly as many as asked for.
    path : Path
        The file, for messages.

    Returns
    -------
    ImageInfo
        What the header says.

    Raises
    ------
    DataError
        If this is no NIfTI-1 or NIfTI-2 image in one file, or its header cannot be used.
    """
    start = read(4)
    with _about(path):
        header_class, endianness = _kind_of_header(start)
    content = start + read(header_class.sizeof_hdr - 4)
    with _about(path):
        return replace(_read_header(content, header_class, endianness), path=path)


def info_of_image(image: SpatialImage) -> ImageInfo:
    """Describe an image in memory, whose numbers are already scaled.

    Parameters
    ----------
    image : nibabel image
        An image of any of nibabel's volume formats.

    Returns
    -------
    ImageInfo
        What is known of it. ``path`` is the NIfTI file that still holds its numbers, if one does.

    Raises
    ------
    DataError
        If its shape, affine or type cannot be used.
    """
    with _about("the image"):
        x, y, z, *more = _checked_shape(image.shape)
        dtype = _checked_dtype(image.get_data_dtype())
    is_on_disk = isinstance(image, nib.Nifti1Image) and nib.is_proxy(image.dataobj)
    name = image.get_filename() if is_on_disk else None
    return ImageInfo(
        path=None if name is None else Path(name),
        grid=Grid(shape=(x, y, z), affine=image.affine),
        ndim=3 + bool(more),
        n_volumes=math.prod(more),
        t_r=_repetition_time(image.header) if isinstance(image.header, Nifti1Header) else None,
        dtype=dtype,
    )


@contextmanager
def _about(name: object) -> Iterator[None]:
    """Say in an error what it is about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name} {error.message}", error.hint) from error


def _kind_of_header(start: bytes) -> tuple[type[Nifti1Header], Literal["<", ">"]]:
    """Tell NIfTI-1 from NIfTI-2, and the byte order, from the first number: the size of the header."""
    for header_class in (Nifti1Header, Nifti2Header):
        if int.from_bytes(start, "little") == header_class.sizeof_hdr:
            return header_class, "<"
        if int.from_bytes(start, "big") == header_class.sizeof_hdr:
            return header_class, ">"
    raise DataError(f"is no NIfTI image: it starts with {start!r}", _CONVERT)


@lru_cache(_N_HEADERS)
def _read_header(content: bytes, header_class: type[Nifti1Header], endianness: Literal["<", ">"]) -> ImageInfo:
    """Read a header without its file: most images of a dataset have the same."""
    header = header_class(content, endianness=endianness, check=False)
    if header["magic"] != header_class.single_magic:
        raise DataError(f"is no NIfTI image in one file (magic {header['magic'].item()!r})", _CONVERT)
    n_axes = max(int(header["dim"][0]), 0)
    if n_axes >= len(header["dim"]):
        raise DataError(f"states {n_axes} axes (dim); 3 or 4 are needed", _CORRECT)
    x, y, z, *more = _checked_shape(header["dim"][1 : 1 + n_axes].tolist())
    slope, intercept = _scaling(header)
    return ImageInfo(
        path=None,
        grid=Grid(shape=(x, y, z), affine=_affine(header)),
        ndim=3 + bool(more),
        n_volumes=math.prod(more),
        t_r=_repetition_time(header),
        dtype=_dtype(header),
        offset=_offset(header),
        slope=slope,
        intercept=intercept,
    )


def _checked_shape(shape: tuple[int, ...] | list[int]) -> tuple[int, ...]:
    if len(shape) < 3 or min(shape) < 1:
        raise DataError(f"has the shape {tuple(shape)}; 3 or 4 axes that are not empty are needed", _CORRECT)
    if math.prod(shape[4:]) > 1:
        raise DataError(f"has {len(shape)} axes, shape {tuple(shape)}; at most 4 can be used", "split it")
    return tuple(shape)


def _checked_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    dtype = np.dtype(dtype)
    if dtype.kind not in "iuf":
        raise DataError(f"holds {dtype} data; whole or real numbers are needed", "convert it")
    return dtype


def _affine(header: Nifti1Header) -> npt.NDArray[np.float64]:
    """Give the sform where there is one, else the qform, as nibabel and nilearn do."""
    sizes = header["pixdim"][1:4].tolist()
    if not all(0 < size < math.inf for size in sizes):
        raise DataError(f"has voxel sizes of {sizes} mm (pixdim)", _CORRECT)
    if (length := _OTHER_LENGTHS.get(int(header["xyzt_units"]) & 0x07)) is not None:
        raise DataError(f"states lengths in {length} (xyzt_units); they must be in mm", _CORRECT)
    if not (header["sform_code"] > 0 or header["qform_code"] > 0):
        raise DataError(
            "does not say where it lies: its sform_code and qform_code are both 0",
            "if you know the space that its affine refers to, set the codes with nibabel's set_sform and set_qform",
        )
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1  # the qform's handedness, as the standard says for 0
    try:
        return Grid(shape=(1, 1, 1), affine=header.get_best_affine()).affine
    except (HeaderDataError, ValueError) as error:
        raise DataError(f"does not say where it lies: {error}", _CORRECT) from error


def _dtype(header: Nifti1Header) -> np.dtype[Any]:
    try:
        return _checked_dtype(header.get_data_dtype())
    except KeyError as error:
        raise DataError(f"has the unknown data type {header['datatype']}", _CORRECT) from error


def _offset(header: Nifti1Header) -> int:
    offset = float(header["vox_offset"])
    if not header.single_vox_offset <= offset < 2**31:
        raise DataError(f"has data that cannot start at byte {offset:g} (vox_offset)", _CORRECT)
    return int(offset)


def _scaling(header: Nifti1Header) -> tuple[float, float]:
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise DataError(f"has an unusable scaling: {error}", _CORRECT) from error
    return (1.0, 0.0) if slope is None else (slope, intercept)


def _repetition_time(header: Nifti1Header) -> float | None:
    units_per_second = _UNITS_PER_SECOND.get(int(header["xyzt_units"]) & 0x38)
    period = float(str(header["pixdim"][4]))  # the shortest decimal: 2.2, not 2.200000047683716
    if header["dim"][0] < 4 or units_per_second is None or not 0 < period < math.inf:
        return None
    return period / units_per_second
