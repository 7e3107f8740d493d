"""Input files whose content may be elsewhere: where git-annex keeps it, or behind a link that leads nowhere."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from bids_parcellate.errors import MissingInputError

_POINTER = b"/annex/objects/"


def require_content(path: Path) -> None:
    """Check that a file is there, and its content too.

    Parameters
    ----------
    path : Path
        Any input file.

    Raises
    ------
    MissingInputError
        If the file is missing or unreadable, or only stands for content that git-annex holds elsewhere (a
        link that leads nowhere, or a pointer file).
    """
    os.close(_open(path))


def open_content(path: Path) -> BinaryIO:
    """Open a file whose content is there.

    Parameters
    ----------
    path : Path
        Any input file.

    Returns
    -------
    binary stream
        At the file's start.

    Raises
    ------
    MissingInputError
        As `require_content`.
    """
    return os.fdopen(_open(path), "rb")


def _open(path: Path) -> int:
    descriptor = None
    try:
        if stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            descriptor = os.open(path, os.O_RDONLY)
            if os.pread(descriptor, len(_POINTER), 0) != _POINTER:
                return descriptor
    except (OSError, ValueError) as error:
        if descriptor is not None:
            os.close(descriptor)
        raise _as_missing(error, path) from error
    if descriptor is None:
        raise MissingInputError(f"{path} is not a file", "check the path")
    os.close(descriptor)
    raise MissingInputError(f"the content of {path} is not here: it is a git-annex pointer", f"datalad get {path}")


def _as_missing(error: OSError | ValueError, path: Path) -> MissingInputError:
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114 - no name is too long for these
        target = path.readlink()
        hint = f"datalad get {path}" if "annex" in target.parts else "restore what the link points to"
        return MissingInputError(f"the content of {path} is not here: it is a link to {target}", hint)
    if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):  # ValueError: no name of a file
        return MissingInputError(f"{path} is missing", "check the path")
    return MissingInputError(f"{path} cannot be read: {error.strerror}", "check its name and permissions")
