"""Writing files so that a reader sees the whole of a file or none of it."""

import errno
import fcntl
import functools
import logging
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from bids_parcellate.errors import OutputError, ParcellateError, WriteError

logger = logging.getLogger(__name__)

_CANNOT_CREATE = {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


def _as_output_error(error: OSError, path: Path) -> ParcellateError:
    reason = error.strerror or type(error).__name__
    if error.errno in _CANNOT_CREATE:
        return OutputError(f"{path} cannot be written: {reason}.", "Choose a folder that you may write to.")
    hint = "Free some space and start again; what is done is kept." if error.errno == errno.ENOSPC else "Start again."
    return WriteError(f"writing {path} failed: {reason}.", hint)


def make_folder(folder: Path) -> Path:
    """Make a folder and those above it.

    Parameters
    ----------
    folder : Path
        The folder; it may exist.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _as_output_error(error, folder) from error
    return folder


def require_space(folder: Path, megabytes: int) -> None:
    """Check that a disk can hold what is to be kept in a folder; what the folder holds already counts as that.

    Parameters
    ----------
    folder : Path
        The folder; it exists.
    megabytes : int
        Most that is to be kept in it, in MB of 2^20 bytes.

    Raises
    ------
    WriteError
        If there is less space.
    """
    held = sum(path.stat().st_size for path in folder.rglob("*.npz"))
    available = (shutil.disk_usage(folder).free + held) // 2**20
    if available < megabytes:
        raise WriteError(
            f"This job needs up to {megabytes} MB in {folder}; its disk has {available} MB for it.",
            "Free some space, or choose another --work-dir.",
        )


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> Path:
    """Write a file by way of a temporary one beside it, flushed to disk and renamed.

    The first time that this process writes to a folder, it removes what killed jobs have left there.

    Parameters
    ----------
    path : Path
        The file; its folder is made where needed.
    content : bytes or callable
        All of its content, or what writes it to a file that is given.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        If the file cannot be created.
    WriteError
        If writing fails half-way, as on a full disk. An earlier file of that name is then unchanged.
    """
    folder = make_folder(path.parent)
    _remove_leftovers(folder)
    try:
        temporary, file = _create_temporary(folder)
        try:
            with file:
                _ = content(file) if callable(content) else file.write(content)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _as_output_error(error, path) from error
    return path


_PREFIX, _SUFFIX = ".bids-parcellate-", ".tmp"


def _create_temporary(folder: Path) -> tuple[Path, BinaryIO]:
    """Create a file that is locked until it is closed, by which others see that it is no leftover."""
    while True:
        path = folder / f"{_PREFIX}{uuid.uuid4().hex}{_SUFFIX}"
        file = path.open("xb")
        _lock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return path, file
        file.close()  # it was taken for a leftover before it was locked


@functools.cache
def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files that no living process writes, on whichever machine; once for each folder."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        try:
            with path.open("r+b") as file:
                if _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    path.unlink(missing_ok=True)
        except OSError as error:
            logger.debug("%s was left as it is: %s", path, error)  # it just got its name, or is another user's


def _lock(file: BinaryIO, how: int) -> bool:
    """Lock a file until it is closed; tell whether that was possible. Some network disks know no locks."""
    try:
        fcntl.flock(file, how)
    except OSError:
        return False
    return True
