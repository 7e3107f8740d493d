"""Writing files so that a reader sees the whole of a file or none of it."""

import errno
import os
import uuid
from pathlib import Path

from bids_parcellate.errors import OutputError, ParcellateError, WriteError

_CANNOT_CREATE = {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
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


def write_atomically(path: Path, content: bytes | memoryview) -> Path:
    """Write a file by way of a temporary one beside it, flushed to disk and renamed.

    Parameters
    ----------
    path : Path
        The file; its folder is made where needed.
    content : bytes or memoryview
        All of its content.

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
    temporary = make_folder(path.parent) / f".{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _as_output_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path
