"""NIfTI files: streams of volumes, and the bytes of a file to write.

A run is never held in memory: its volumes are read forwards, once, one at a time.
"""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import SpatialImage

from bids_parcellate.errors import DataError, InputOutputError, UsageError
from bids_parcellate.io.content import open_content
from bids_parcellate.io.headers import ImageInfo, info_of_image, read_header
from bids_parcellate.numerics.grids import Grid

_GzipFile: Any
_DAMAGE: Any
try:  # the extra "fast": decompression in a third of the time
    from isal import igzip, isal_zlib

    _GzipFile, _DAMAGE = igzip.GzipFile, (zlib.error, gzip.BadGzipFile, isal_zlib.error)
except ImportError:
    _GzipFile, _DAMAGE = gzip.GzipFile, (zlib.error, gzip.BadGzipFile)


ImageLike = str | os.PathLike[str] | SpatialImage
Float32Array = npt.NDArray[np.float32]

_LARGEST_HEADER = 540  # bytes of NIfTI-2
_SMALL_BLOCK = 2**12  # bytes of a compressed file that hold it, but for strange ones
_BLOCK = 2**20  # bytes that are read at once where they are only passed over
_LARGEST_RATIO = 1032  # bytes that gzip makes of one, at most
_COPY_AGAIN = "copy or download the file again, or make it again"


def read_info(image: ImageLike) -> ImageInfo:
    """Read the header of an image, and nothing else.

    Parameters
    ----------
    image : path or nibabel image
        A NIfTI-1 or NIfTI-2 file, gzipped or not, or an image in memory.

    Returns
    -------
    ImageInfo
        What the header says.

    Raises
    ------
    MissingInputError
        If the file or its content is not there.
    DataError
        If it is no NIfTI file, is truncated, or has a header that cannot be used.
    """
    if isinstance(image, SpatialImage):
        return info_of_image(image)
    path = Path(image)
    with _open_raw(path) as (raw, is_gzipped):
        info = _read_header(_start_of_gzip(raw, path) if is_gzipped else raw, path)
    _check_holds(info.n_volumes, info, path, is_gzipped=is_gzipped)
    return info


def iter_volumes(image: ImageLike) -> Iterator[Float32Array]:
    """Stream the volumes of an image, forwards and once.

    A damaged file gives volumes from before the damage, then the error. After the last volume the rest of
    a gzipped file is read, so that its checksum is compared.

    Parameters
    ----------
    image : path or nibabel image
        A NIfTI-1 or NIfTI-2 file, gzipped or not, or an image in memory. A 3-D image has one volume. An
        image of nibabel's whose numbers still lie in a NIfTI file is streamed from there.

    Yields
    ------
    ndarray of shape (X, Y, Z), float32
        The values, in Fortran order as they lie in the file. Read-only: they may be those of the image in memory.

    Raises
    ------
    MissingInputError, DataError
        As `read_info`, at the first volume; DataError also for a damaged file, naming the volume.
    """
    for info, stored in _iter_stored(image):
        volume = _scaled(stored, info).view()
        volume.setflags(write=False)
        yield volume


def read_volume(image: ImageLike) -> tuple[npt.NDArray[Any], Grid]:
    """Read a 3-D image whole, such as a mask or labels.

    Parameters
    ----------
    image : path or nibabel image
        An image of one volume.

    Returns
    -------
    data : ndarray of shape (X, Y, Z)
        The values: of the stored type in native byte order, or float32 where the file scales them.
    grid : Grid
        Where the voxels lie.

    Raises
    ------
    MissingInputError, DataError
        As `iter_volumes`; DataError also if there are several volumes.
    """
    info = read_info(image)
    if info.n_volumes > 1:
        name = info.path or "the image"
        raise DataError(f"{name} has {info.n_volumes} volumes; a 3-D image is needed", "give its mean, or one volume")
    ((info, stored),) = _iter_stored(image)  # to the end of the file, so that its checksum is compared
    if (info.slope, info.intercept) != (1, 0):
        return _scaled(stored, info), info.grid
    return stored.astype(stored.dtype.newbyteorder("=")), info.grid


def volume_to_bytes(
    data: npt.NDArray[Any], grid: Grid, *, t_r: float | None = None, space_code: Literal[1, 2, 3, 4] = 2
) -> bytes:
    """Make the content of a ``.nii.gz`` file; the same input gives the same bytes.

    Booleans are stored as uint8, integers as the first of uint8, int16 and int32 that holds them, and
    real numbers as float32.

    Parameters
    ----------
    data : ndarray of shape (X, Y, Z) or (X, Y, Z, T)
        The values.
    grid : Grid
        Where the voxels lie.
    t_r : float, optional
        Time between volumes in seconds; not stated by default.
    space_code : {1, 2, 3, 4}, default=2
        What the coordinates in mm refer to, as NIfTI codes it: the scanner (1), another image (2),
        Talairach (3), or an MNI template (4).

    Returns
    -------
    bytes
        A gzipped NIfTI-1 file, without a time stamp or name in it.

    Raises
    ------
    UsageError
        If the data do not fit the grid, or are of a type or size that no widely read NIfTI type holds.
    """
    if data.ndim not in (3, 4) or data.shape[:3] != grid.shape:
        raise UsageError(f"data of shape {data.shape} do not fit a grid of shape {grid.shape}")
    image = nib.Nifti1Image(_storable(data), grid.affine)
    header = image.header
    header.set_sform(grid.affine, code=space_code)
    header.set_qform(grid.affine, code=space_code)
    if not np.allclose(header.get_qform(), grid.affine, atol=1e-3):
        header["qform_code"] = 0  # quaternions cannot express shear: the sform speaks alone
    header.set_xyzt_units("mm", "sec")
    header["pixdim"][4:] = (t_r or 0, 0, 0, 0)
    return zlib.compress(image.to_bytes(), level=6, wbits=31)


def _storable(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if data.dtype.kind == "b":
        return data.astype(np.uint8)
    if data.dtype.kind == "f":
        return data.astype(np.float32)
    if data.dtype.kind in "iu":
        for dtype in (np.uint8, np.int16, np.int32):
            if np.iinfo(dtype).min <= data.min() and data.max() <= np.iinfo(dtype).max:
                return data.astype(dtype)
    raise UsageError(f"{data.dtype} data from {data.min()} to {data.max()} have no widely read NIfTI type")


# The stream


@contextmanager
def _open_raw(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """Open a file and see from its first bytes, not from its name, whether it is gzipped."""
    with open_content(path) as raw:
        is_gzipped = _read(raw, 2, path, "its start") == b"\x1f\x8b"
        raw.seek(0)
        yield raw, is_gzipped


def _start_of_gzip(raw: BinaryIO, path: Path) -> BinaryIO:
    """Decompress as much as a header takes, from the file's first block: a stream reads half a megabyte ahead."""
    block = _read(raw, _SMALL_BLOCK, path, "the header")
    with suppress(zlib.error):  # what is wrong is said by the stream
        start = zlib.decompressobj(wbits=31).decompress(block, _LARGEST_HEADER)
        if len(start) == _LARGEST_HEADER:
            return io.BytesIO(start)
    raw.seek(0)
    stream: BinaryIO = _GzipFile(fileobj=raw, mode="rb")
    return stream


@contextmanager
def _open(path: Path) -> Iterator[tuple[BinaryIO, ImageInfo]]:
    """Open a stream of the numbers, behind the header that it reads.

    A file that cannot hold the first volume is refused, before memory for it is asked for.
    """
    with _open_raw(path) as (raw, is_gzipped), _GzipFile(fileobj=raw, mode="rb") if is_gzipped else raw as stream:
        info = _read_header(stream, path)
        _check_holds(1, info, path, is_gzipped=is_gzipped)
        yield stream, info


def _read(stream: BinaryIO, n_bytes: int, path: Path, what: str) -> bytes:
    """Read up to ``n_bytes``; what can go wrong becomes an error that says where."""
    try:
        return stream.read(n_bytes)
    except EOFError as error:
        raise DataError(f"{path} is truncated: reading it fails at {what}", _COPY_AGAIN) from error
    except _DAMAGE as error:
        raise DataError(f"{path} is damaged: reading it fails at {what} ({error})", _COPY_AGAIN) from error
    except OSError as error:
        raise InputOutputError(f"reading {path} failed at {what}: {error}", "check the disk or network") from error


def _read_exactly(stream: BinaryIO, n_bytes: int, path: Path, what: str) -> bytes:
    content = _read(stream, n_bytes, path, what)
    if len(content) < n_bytes:
        raise DataError(f"{path} is truncated: reading it fails at {what}", _COPY_AGAIN)
    return content


def _read_header(stream: BinaryIO, path: Path) -> ImageInfo:
    return read_header(partial(_read_exactly, stream, path=path, what="the header"), path)


def _check_holds(n_volumes: int, info: ImageInfo, path: Path, *, is_gzipped: bool) -> None:
    """Refuse a file that is too small for volumes, whatever it is compressed to."""
    n_bytes = path.stat().st_size
    n_held = max(0, n_bytes * (_LARGEST_RATIO if is_gzipped else 1) - info.offset) // info.volume_bytes
    if n_held < n_volumes:
        raise DataError(
            f"{path} is truncated: reading it fails at volume {n_held + 1} of {info.n_volumes}, as a file of {n_bytes} "
            f"bytes cannot hold the {info.offset + info.n_volumes * info.volume_bytes} that its header speaks of",
            _COPY_AGAIN,
        )


def _iter_stored(image: ImageLike) -> Iterator[tuple[ImageInfo, npt.NDArray[Any]]]:
    """Yield each volume as it is stored: not scaled, not to be written to."""
    if isinstance(image, SpatialImage):
        info = info_of_image(image)
        if info.path is None:
            volumes = np.asanyarray(image.dataobj).reshape(*info.grid.shape, info.n_volumes)
            yield from ((info, volumes[..., index]) for index in range(info.n_volumes))
            return
        image = info.path
    path = Path(image)
    with _open(path) as (stream, info):
        _pass_over(stream, info.offset - stream.tell(), path)
        for index in range(info.n_volumes):
            content = _read_exactly(stream, info.volume_bytes, path, f"volume {index + 1} of {info.n_volumes}")
            yield info, np.frombuffer(content, dtype=info.dtype).reshape(info.grid.shape, order="F")
        while _read(stream, _BLOCK, path, "its end, after the last volume"):
            pass


def _pass_over(stream: BinaryIO, n_bytes: int, path: Path) -> None:
    """Read the header's extensions, which nobody needs."""
    for start in range(0, n_bytes, _BLOCK):
        _read_exactly(stream, min(_BLOCK, n_bytes - start), path, "the header's extensions")


def _scaled(stored: npt.NDArray[Any], info: ImageInfo) -> Float32Array:
    """Apply the scaling in double precision and round once, at the end."""
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite
        if info.intercept:
            return (stored * np.float64(info.slope) + info.intercept).astype(np.float32, order="F")
        if info.slope != 1:
            values = np.empty(stored.shape, dtype=np.float32, order="F")
            np.multiply(stored, info.slope, out=values, dtype=np.float64, casting="unsafe")
            return values
        return stored.astype(np.float32, order="F", copy=False)
