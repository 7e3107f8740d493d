"""Asking pybids which files there are: the only module that imports it.

pybids says which files answer a query. It is handed only the files that can, found by a walk of our own, the entities
in their names that queries ask for, and no metadata: `docs/performance.md` compares this with its defaults.
"""

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from bids_parcellate.dataset.filters import ANY, FILE_PARTS, Query
from bids_parcellate.dataset.listing import candidate_files
from bids_parcellate.dataset.records import Dataset
from bids_parcellate.io.files import make_folder, write_atomically
from bids_parcellate.io.naming import ENTITY_ORDER, parse_entities

logger = logging.getLogger(__name__)

_DATABASE = "layout_index.sqlite"  # pybids' own name
_FINGERPRINT = "fingerprint.json"
_READING = 2  # what entities are read from names; to be raised when it changes
_BATCH = 5000  # rows that are entered at once
_KNOWN = frozenset([*ENTITY_ORDER, *FILE_PARTS])

# The rows of pybids' tables `files` and `tags`.
_INSERT_FILE = "INSERT INTO files (path, filename, dirname, is_dir, class_) VALUES (?, ?, ?, ?, ?)"
_INSERT_TAG = "INSERT INTO tags (file_path, entity_name, _value, _dtype, is_metadata) VALUES (?, ?, ?, ?, FALSE)"


def find_files(
    dataset: Dataset,
    queries: Mapping[str, Query],
    participants: Sequence[str] = (),
    database_dir: Path | None = None,
) -> dict[str, list[Path]]:
    """Find the files of a dataset that answer queries.

    Parameters
    ----------
    dataset : Dataset
        The dataset.
    queries : Mapping
        The labels that each entity may have, by the names of queries.
    participants : sequence of str, optional
        Labels of the only participants that are wanted; all where there are none.
    database_dir : Path, optional
        Folder for stored indices. A stored index holds all participants and is used again as long as the dataset has
        the same files.

    Returns
    -------
    dict
        For each query the absolute paths of its files, in no particular order.

    Raises
    ------
    MissingInputError
        If a folder cannot be read.
    OutputError
        If the index cannot be stored.
    """
    if database_dir:
        layout = _stored_layout(dataset, database_dir)
    else:
        asked = {"sub"}.union(*queries.values())
        layout = _make_layout(dataset.root, asked, candidate_files(dataset.root, participants))
    try:
        of_participants: Query = {"sub": tuple(participants)} if participants else {}
        return {name: _find(layout, {**of_participants, **query}) for name, query in queries.items()}
    finally:
        _close(layout)


def _find(layout: Any, query: Query) -> list[Path]:
    from bids.layout import Query as Special  # noqa: PLC0415 - see _open_layout

    special = {None: Special.NONE, ANY: Special.ANY}
    filters = {key: [special.get(label, label) for label in labels] for key, labels in query.items()}
    return list(map(Path, layout.get(return_type="filename", **filters)))


def _close(layout: Any) -> None:
    layout.connection_manager.session.close()
    layout.connection_manager.engine.dispose()


def _open_layout(
    root: Path, entities: Collection[str], indexer: Callable[[Any], None] | None, database: Path | None
) -> Any:
    """Make a layout, or open that of a database where there is nothing to enter."""
    # Imported here: it takes half a second and 30 MB, which workers that only need the records of runs are spared.
    from bids.layout import BIDSLayout  # noqa: PLC0415

    # Our own configuration replaces the one that pybids chooses by the dataset's type: it knows no cohort, template,
    # scale and statistic.
    config = {
        "name": "bids-parcellate",
        "entities": [{"name": key, "dtype": "int" if key == "run" else "str"} for key in sorted(entities)],
    }
    return BIDSLayout(
        root,
        validate=False,
        config=[config],
        indexer=indexer,
        database_path=database,
        reset_database=indexer is not None,
    )


def _make_layout(
    root: Path, entities: Collection[str], files: Iterable[os.DirEntry[str]], database: Path | None = None
) -> Any:
    """Enter files and the entities in their names; pybids' own indexer takes many times as long."""
    files = list(files)

    def enter(layout: Any) -> None:
        paths = ((file.path, file.name, file.path.removesuffix(f"/{file.name}"), False, "file") for file in files)
        _insert(layout, _INSERT_FILE, paths)
        _insert(layout, _INSERT_TAG, (row for file in files for row in _tag_rows(file, entities)))

    return _open_layout(root, entities, enter, database)


def _insert(layout: Any, statement: str, rows: Iterator[tuple[object, ...]]) -> None:
    connection = layout.session.connection()
    while batch := list(islice(rows, _BATCH)):
        connection.exec_driver_sql(statement, batch)
    layout.session.commit()


def _tag_rows(file: os.DirEntry[str], entities: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Read entities from a file's name: pybids would take '/data/ses-1/fmriprep/...' for session 1."""
    for key, label in parse_entities(file.name).items():
        if key in entities and (key != "run" or label.isdecimal()):
            yield file.path, key, label, "int" if key == "run" else "str"
    stem, dot, extension = file.name.partition(".")
    parts = (file.path.rsplit("/", 2)[1], stem.rpartition("_")[2], dot + extension)
    for part, value in zip(FILE_PARTS, parts, strict=True):
        if part in entities:
            yield file.path, part, value, "str"


def _stored_layout(dataset: Dataset, database_dir: Path) -> Any:
    folder = database_dir / f"{dataset.name}-{hashlib.sha256(str(dataset.root).encode()).hexdigest()[:12]}"
    fingerprint = _fingerprint(dataset.root)
    if _is_current(folder, fingerprint):
        logger.info("Using the pybids database in %s", folder)
    else:
        logger.info("Making a pybids database of %s in %s", dataset.root, folder)
        _store_layout(dataset.root, folder, fingerprint)
    return _open_layout(dataset.root, _KNOWN, None, folder)


def _is_current(folder: Path, fingerprint: str) -> bool:
    """Tell whether a stored database is whole and of the dataset as it is now."""
    try:
        stored = json.loads((folder / _FINGERPRINT).read_bytes())
        n_bytes = (folder / _DATABASE).stat().st_size
    except (OSError, ValueError):
        return False
    return bool(stored == {"fingerprint": fingerprint, "n_bytes": n_bytes})


def _store_layout(root: Path, folder: Path, fingerprint: str) -> None:
    """Make a database so that a job that runs at the same time sees a whole one or none."""
    temporary = make_folder(folder / f".{uuid.uuid4().hex}")
    try:
        _close(_make_layout(root, _KNOWN, candidate_files(root), temporary))
        (folder / _FINGERPRINT).unlink(missing_ok=True)
        database = (temporary / _DATABASE).replace(folder / _DATABASE)
    finally:
        shutil.rmtree(temporary)
    content = {"fingerprint": fingerprint, "n_bytes": database.stat().st_size}
    write_atomically(folder / _FINGERPRINT, json.dumps(content).encode())


def _fingerprint(root: Path) -> str:
    """Digest of all that an index of names depends on: the names, the root, and how they are read."""
    digest = hashlib.sha256(json.dumps([version("pybids"), sorted(_KNOWN), _READING]).encode())
    for path in (str(root), *(file.path for file in candidate_files(root))):
        digest.update(os.fsencode(path) + b"\0")
    return digest.hexdigest()
