"""Which derivative datasets a request means, and what made them."""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bids_parcellate.dataset.records import Dataset
from bids_parcellate.errors import DatasetError, ParcellateError, UsageError
from bids_parcellate.io.content import open_content
from bids_parcellate.io.metadata import Pipeline

logger = logging.getLogger(__name__)

DESCRIPTION = "dataset_description.json"


def find_datasets(bids_dir: Path, derivatives: Sequence[str] = (), *, lenient: bool = False) -> tuple[Dataset, ...]:
    """Find the derivative datasets that a request means.

    Parameters
    ----------
    bids_dir : Path
        A derivative dataset, a folder of such (as ``derivatives/``, or the output folder of fMRIPrep before 21), or a
        raw dataset with a ``derivatives`` folder.
    derivatives : sequence of str, optional
        ``PATH`` or ``NAME=PATH`` of datasets to read in place of those in the ``derivatives`` folder of ``bids_dir``.
        Where ``bids_dir`` is itself a derivative dataset it is read as well.
    lenient : bool, default=False
        Accept datasets whose description is missing, broken, or does not say that they are derivatives.

    Returns
    -------
    tuple of Dataset
        At least one; no two have the same name or folder.

    Raises
    ------
    DatasetError
        If a folder is missing, is no dataset, is only raw, or has a broken description.
    UsageError
        If two datasets are given the same name.
    """
    home = _existing_folder(bids_dir)
    named: dict[Path, str | None] = {}
    if not derivatives:
        named = dict.fromkeys(_datasets_at(home, lenient=lenient))
    elif _says_derivative(_read_description(home, lenient=lenient)):
        named[home] = None
    for text in derivatives:
        name, folder = _split_name(text)
        roots = _datasets_at(_existing_folder(folder), lenient=lenient)
        if name and len(roots) > 1:
            raise UsageError(
                f"--derivatives {text}: {folder} holds {len(roots)} datasets, which cannot share a name.",
                "Name each of them: " + " ".join(f"NAME={root}" for root in roots),
            )
        named |= dict.fromkeys(roots, name)
    names = _unique_names(named)
    return tuple(
        Dataset(name, root, _read_description(root, lenient=lenient) or {})
        for root, name in zip(named, names, strict=True)
    )


def _existing_folder(folder: Path) -> Path:
    hint = "Give the folder of a BIDS dataset."
    try:
        if not folder.is_dir():
            kind = "is not a folder" if folder.exists() else "does not exist"
            raise DatasetError(f"{folder} {kind}.", hint)
        return folder.resolve()
    except OSError as error:
        raise DatasetError(f"{folder} cannot be read: {error.strerror}.", hint) from error


def _datasets_at(root: Path, *, lenient: bool) -> list[Path]:
    """List the dataset in a folder, or those right below it."""
    description = _read_description(root, lenient=lenient)
    if _says_derivative(description):
        return [root]
    nested = list(_datasets_below(root / "derivatives", lenient=lenient))
    if description is None:
        nested += _datasets_below(root, lenient=lenient)
    if nested:
        logger.info("%s is no derivative dataset itself; reading %s", root, ", ".join(map(str, nested)))
        return nested
    if description and "GeneratedBy" in description:
        return [root]
    has_participants = any(root.glob("sub-*"))
    if lenient and has_participants:
        return [root]
    raise _no_dataset(root, described=description is not None, has_participants=has_participants)


def _datasets_below(folder: Path, *, lenient: bool) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for child in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "sub-"))):
        # fMRIPrep before 21 wrote to a folder of its own below the output folder.
        for candidate in (child, child / "fmriprep"):
            description = _read_description(candidate, lenient=lenient)
            undescribed = description is None and lenient and any(candidate.glob("sub-*"))
            if undescribed or _says_derivative(description) or "GeneratedBy" in (description or {}):
                yield candidate


def _says_derivative(description: Mapping[str, Any] | None) -> bool:
    if not description:
        return False
    return description.get("DatasetType") == "derivative" or "PipelineDescription" in description


def _no_dataset(root: Path, *, described: bool, has_participants: bool) -> DatasetError:
    if described:
        return DatasetError(
            f"{root} is a raw dataset, and there is no derivative dataset in {root / 'derivatives'}.",
            "Preprocess it with fMRIPrep first, or say where its derivatives are: --derivatives PATH.",
        )
    if has_participants:
        return DatasetError(
            f"{root} has no {DESCRIPTION}, which every BIDS dataset needs.",
            "Add the file, or accept the folder as derivatives without it: --skip-bids-validation.",
        )
    return DatasetError(
        f"{root} is no BIDS dataset: it has no {DESCRIPTION} and no 'sub-' folders.",
        "Give the output folder of fMRIPrep, or a dataset with 'derivatives/fmriprep'.",
    )


def _read_description(root: Path, *, lenient: bool) -> dict[str, Any] | None:
    """Read a dataset's description: None where there is none, empty where it is broken and that is accepted."""
    path = root / DESCRIPTION
    try:
        if not path.exists() and not path.is_symlink():
            return None
        with open_content(path) as stream:
            content = json.loads(stream.read())
        json.dumps(content, ensure_ascii=False).encode()  # halves of characters, as in "\ud800", cannot be written on
    except (ParcellateError, OSError, ValueError, RecursionError) as error:  # ValueError: bad JSON, bad encoding
        message = f"{path} cannot be read: {getattr(error, 'message', error)}"
        if not lenient:
            hint = getattr(error, "hint", "") or "Correct it, or do without it: --skip-bids-validation."
            raise DatasetError(message, hint) from error
        logger.warning("%s", message)
        return {}
    _check_shape(content, path)
    return dict(content)


def _check_shape(content: object, path: Path) -> None:
    if not isinstance(content, dict):
        raise DatasetError(f"{path} must hold a JSON object, not {type(content).__name__}.", "Correct the file.")
    pipelines = content.get("GeneratedBy", [content.get("PipelineDescription", {})])
    if not isinstance(pipelines, list) or not all(isinstance(pipeline, dict) for pipeline in pipelines):
        raise DatasetError(
            f"'GeneratedBy' in {path} must be a list of objects, each with a 'Name'.", "Correct the file."
        )
    authors = content.get("Authors") or []
    if not isinstance(authors, list) or not all(isinstance(author, str) for author in authors):
        raise DatasetError(f"'Authors' in {path} must be a list of names.", "Correct the file.")
    try:
        for pipeline in filter(lambda pipeline: pipeline.get("Name"), pipelines):
            Pipeline.model_validate(pipeline)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise DatasetError(f"{place!r} of a pipeline in {path}: {problem['msg']}.", "Correct the file.") from error


def _split_name(text: str) -> tuple[str | None, Path]:
    name, equals, folder = text.partition("=")
    if equals and re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        return name, Path(folder)
    return None, Path(text)


def _unique_names(named: Mapping[Path, str | None]) -> list[str]:
    """Name every dataset; the user's names are kept, others come from the folder and are numbered where needed."""
    given = [name for name in named.values() if name is not None]
    repeated = sorted({name for name in given if given.count(name) > 1})
    if repeated:
        raise UsageError(
            f"--derivatives gives several datasets the name {repeated[0]!r}.", "Give each dataset a name of its own."
        )
    names: list[str] = []
    for root, name in named.items():
        names.append(name or _free_name(root, {*given, *names}))
    return names


def _free_name(root: Path, taken: set[str]) -> str:
    base = re.sub(r"[^A-Za-z0-9_.-]+", "-", root.name).strip("-") or "derivatives"
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name
