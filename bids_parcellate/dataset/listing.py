"""The files of a dataset that queries can be about, found by their place and name.

Only the folders that can hold them are listed: ``sub-*/[ses-*/]func``.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bids_parcellate.dataset.filters import QUERIES
from bids_parcellate.errors import MissingInputError


def _any_of(part: str) -> str:
    """Match what one of the queries asks of a part of a name; a filter file cannot ask for anything else."""
    return "|".join(sorted({re.escape(label) for query in QUERIES.values() for label in query[part] if label}))


_SUBJECT = re.compile(r"sub-[^_]+")  # not sub-01_backup
_SESSION_OR_FUNC = re.compile(r"ses-.+|func")
_FUNC = re.compile(r"func")
_FILE = re.compile(rf"sub-.+_({_any_of('suffix')})({_any_of('extension')})")


def candidate_files(root: Path, participants: Sequence[str] = ()) -> Iterator[os.DirEntry[str]]:
    """Find the files that can answer queries.

    Parameters
    ----------
    root : Path
        The dataset's folder, absolute.
    participants : sequence of str, optional
        Labels of the only participants that are wanted; all where there are none.

    Yields
    ------
    os.DirEntry
        Each file, also a link that leads nowhere. They are sorted within each folder, and so are the folders.

    Raises
    ------
    MissingInputError
        If a folder cannot be read.
    """
    wanted = {f"sub-{label}" for label in participants}
    for subject in _folders(root, _SUBJECT):
        if wanted and subject.name not in wanted:
            continue
        for folder in _folders(subject, _SESSION_OR_FUNC):
            for func in [folder] if folder.name == "func" else _folders(folder, _FUNC):
                yield from (
                    entry for entry in list_folder(func) if _FILE.fullmatch(entry.name) and not _is_folder(entry)
                )


def _folders(parent: os.PathLike[str], name: re.Pattern[str]) -> list[os.DirEntry[str]]:
    return [entry for entry in list_folder(parent) if name.fullmatch(entry.name) and _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, which leads nowhere
        return False


def list_folder(folder: os.PathLike[str]) -> list[os.DirEntry[str]]:
    """List a folder.

    Parameters
    ----------
    folder : path-like
        Path of the folder.

    Returns
    -------
    list of os.DirEntry
        What is in it, sorted by name.

    Raises
    ------
    MissingInputError
        If it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise MissingInputError(
            f"The folder {os.fspath(folder)} cannot be read: {error.strerror}.", "Check its permissions."
        ) from error
