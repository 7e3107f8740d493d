"""Intermediate results kept in the work folder, each under the digest of all that it depends on."""

import hashlib
import json
import logging
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from bids_parcellate.errors import MissingInputError, OutputError
from bids_parcellate.io.files import write_atomically
from bids_parcellate.numerics.portrait import RunPortrait
from bids_parcellate.numerics.reduction import SignalReduction
from bids_parcellate.numerics.run_reduction import RunReduction, Units

logger = logging.getLogger(__name__)

# Of a rounded matrix both parts are stored.
_LEVELS = np.iinfo(np.int16)
_OF_LEVELS, _OF_STEPS = ".levels", ".steps"

_END = 2**16  # bytes at the start and at the end of a file that tell it from others


def digest_of(*parts: object) -> str:
    """Digest what a result depends on.

    Parameters
    ----------
    *parts : object
        Arrays, and what JSON can hold.

    Returns
    -------
    str
        Of their types, shapes and content.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()


def identify(path: Path) -> tuple[str, int, int, str]:
    """Tell a file from others without reading all of it: the last bytes of a gzip file are a checksum of its content.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    tuple of (str, int, int, str)
        Its name, size, time of change in ns, and a digest of its first and last 64 kB. Where it lies does not count.

    Raises
    ------
    MissingInputError
        If it cannot be read.
    """
    try:
        status = path.stat()
        with path.open("rb") as file:
            ends = file.read(_END)
            file.seek(max(0, status.st_size - _END))
            ends += file.read(_END)
    except OSError as error:
        raise MissingInputError(f"{path} cannot be read: {error.strerror}.", "Restore it, and start again.") from error
    return path.name, status.st_size, status.st_mtime_ns, hashlib.sha256(ends).hexdigest()


class ArrayStore:
    """A folder of named arrays. Any number of jobs may write to it at once.

    Parameters
    ----------
    folder : Path
        It is made when something is saved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, digest: str) -> Path:
        """Name the file of some arrays.

        Parameters
        ----------
        digest : str
            Of everything that they depend on.

        Returns
        -------
        Path
            It need not be there.
        """
        return self._folder / digest[:2] / f"{digest}.npz"

    def save(
        self, digest: str, arrays: Mapping[str, npt.NDArray[Any] | np.generic], *, rounded: Collection[str] = ()
    ) -> Path:
        """Keep arrays.

        Parameters
        ----------
        digest : str
            Of everything that they depend on.
        arrays : Mapping
            Names and arrays.
        rounded : collection of str, optional
            Names of large matrices of float32 whose rows are each rounded to whole steps, of which its value of largest
            size has 32,767: half the bytes.

        Returns
        -------
        Path
            The file: a plain ``.npz``, without pickles.
        """
        return write_atomically(self.path(digest), lambda file: _write_arrays(file, arrays, rounded))

    def load(self, digest: str) -> dict[str, npt.NDArray[Any]] | None:
        """Find arrays.

        Parameters
        ----------
        digest : str
            Of everything that they depend on.

        Returns
        -------
        dict or None
            None if they are not there, or if their file is damaged, which is logged.

        Raises
        ------
        OutputError
            If the file may not be read, or something else is in its place.
        """
        path = self.path(digest)
        try:
            with zipfile.ZipFile(path) as archive:
                return dict(_read_arrays(archive))
        except FileNotFoundError:
            return None
        except OSError as error:
            message = f"The stored result {path} cannot be read: {error.strerror}."
            raise OutputError(message, "Remove it, or choose another --work-dir.") from error
        except (ValueError, TypeError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            logger.warning("The stored result %s is damaged (%s) and is made anew.", path, error)
            return None


def _write_arrays(
    file: BinaryIO, arrays: Mapping[str, npt.NDArray[Any] | np.generic], rounded: Collection[str]
) -> None:
    """Write what `numpy.savez` would, without copies of large arrays on the way."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, values in arrays.items():
            if name in rounded:
                _write_rounded(archive, name, np.asarray(values))
            else:
                array = np.ascontiguousarray(values).reshape(values.shape)
                _write_array(archive, name, array.dtype, array.shape, [array])


def _write_rounded(archive: zipfile.ZipFile, name: str, matrix: npt.NDArray[np.float32]) -> None:
    """Write each row as whole steps, one row at a time."""
    steps = np.maximum(matrix.max(axis=1), -matrix.min(axis=1)) / np.float32(_LEVELS.max)
    levels = (np.rint(row / step).astype(_LEVELS.dtype) for row, step in zip(matrix, steps, strict=True))
    _write_array(archive, name + _OF_STEPS, steps.dtype, steps.shape, [steps])
    _write_array(archive, name + _OF_LEVELS, _LEVELS.dtype, matrix.shape, levels)


def _write_array(
    archive: zipfile.ZipFile,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    parts: Iterable[npt.NDArray[Any]],
) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
        np.lib.format.write_array_header_1_0(entry, header)
        for part in parts:
            entry.write(part.data)


def _read_arrays(archive: zipfile.ZipFile) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name in (entry.removesuffix(".npy") for entry in archive.namelist()):
        if name.endswith(_OF_LEVELS):
            whole = name.removesuffix(_OF_LEVELS)
            yield whole, _read_rounded(archive, whole)
        elif not name.endswith(_OF_STEPS):
            yield name, _read_array(archive, name)


def _read_rounded(archive: zipfile.ZipFile, name: str) -> npt.NDArray[np.float32]:
    steps = _read_array(archive, name + _OF_STEPS)
    with archive.open(f"{name}{_OF_LEVELS}.npy") as file:
        np.lib.format.read_magic(file)
        (n_rows, n_columns), _, dtype = np.lib.format.read_array_header_1_0(file)
        matrix = np.empty((n_rows, n_columns), dtype=np.float32)
        for row, step in zip(matrix, steps, strict=True):
            np.multiply(np.frombuffer(file.read(n_columns * dtype.itemsize), dtype), step, out=row)
        file.read()  # to the end: only there it is checked against its checksum
    return matrix


def _read_array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        file.read()  # as above
    return array


class ReductionStore:
    """A folder of reductions. Any number of jobs may write to it at once.

    Parameters
    ----------
    folder : Path
        It is made when the first reduction is saved.
    """

    def __init__(self, folder: Path) -> None:
        self._arrays = ArrayStore(folder)

    def save(self, digest: str, run: RunReduction) -> Path:
        """Keep a reduction, its components rounded.

        A component adds no more to the variance of a voxel's z-scores than there is. So its steps are at most 1/32767
        of their standard deviation, and 200 components together change z-scores by less than 1.3e-4 (root mean square).

        Parameters
        ----------
        digest : str
            Of everything that it depends on.
        run : RunReduction
            The reduction.

        Returns
        -------
        Path
            The file: a plain ``.npz``, without pickles.
        """
        signals, units = run.signals, run.units
        arrays: dict[str, npt.NDArray[Any] | np.generic] = {
            "components": signals.components,
            "singular_values": signals.singular_values,
            "time_courses": signals.time_courses,
            "n_volumes": np.int64(signals.n_volumes),
            "total_variance": np.float64(signals.total_variance),
            "voxels": run.voxels,
            "kept": run.kept,
            "mean_fd": np.float64(run.mean_fd),
        }
        for part in (units, run.portrait):
            if part is not None:
                arrays |= {field.name: getattr(part, field.name) for field in fields(part)}
        return self._arrays.save(digest, arrays, rounded=["components"])

    def load(self, digest: str) -> RunReduction | None:
        """Find a reduction.

        Parameters
        ----------
        digest : str
            Of everything that it depends on.

        Returns
        -------
        RunReduction or None
            None if there is none, or if its file is damaged, which is logged.
        """
        arrays = self._arrays.load(digest)
        try:
            return None if arrays is None else _unpack(arrays)
        except KeyError as error:
            logger.warning("The stored result %s lacks %s and is made anew.", self._arrays.path(digest), error)
            return None

    def load_voxels(self, digest: str) -> npt.NDArray[np.int64]:
        """Read only the voxels of a reduction.

        Parameters
        ----------
        digest : str
            Of a reduction that ``load`` has found.

        Returns
        -------
        ndarray of int64, shape (n_voxels,)
            As in :class:`RunReduction`.
        """
        with self._arrays.path(digest).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            voxels: npt.NDArray[np.int64] = arrays["voxels"]
        return voxels

    def load_portrait(self, digest: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], RunPortrait | None]:
        """Read only what a report shows of a run.

        Parameters
        ----------
        digest : str
            Of a reduction that ``load`` has found.

        Returns
        -------
        voxels, kept : ndarray
            As in :class:`RunReduction`.
        portrait : RunPortrait or None
            None if it was not made.
        """
        with self._arrays.path(digest).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays["voxels"], arrays["kept"], _unpack_portrait(arrays)


def _unpack_portrait(arrays: Mapping[str, npt.NDArray[Any]]) -> RunPortrait | None:
    return RunPortrait(*(arrays[field.name] for field in fields(RunPortrait))) if "carpet" in arrays else None


def _unpack(arrays: Mapping[str, npt.NDArray[Any]]) -> RunReduction:
    signals = SignalReduction(
        components=arrays["components"],
        singular_values=arrays["singular_values"],
        n_volumes=int(arrays["n_volumes"]),
        total_variance=float(arrays["total_variance"]),
        time_courses=arrays["time_courses"],
    )
    units = Units(*(arrays[field.name] for field in fields(Units))) if "centre" in arrays else None
    mean_fd, portrait = float(arrays["mean_fd"]), _unpack_portrait(arrays)
    return RunReduction(signals, arrays["voxels"], units, arrays["kept"], mean_fd, portrait)
