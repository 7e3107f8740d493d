"""What is asked of a dataset: the built-in queries, and the filter file that narrows them.

References
----------
fMRIPrep, "How do I select only certain files to be input to fMRIPrep?": the format of the filter file.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from bids_parcellate.errors import MissingInputError, UsageError
from bids_parcellate.io.naming import ENTITY_ORDER

# The labels that an entity may have; None stands for its absence, ANY for whatever label.
Query = Mapping[str, tuple[str | None, ...]]
ANY = "*"
_LABEL = r"(?!\d{19})[^\ud800-\udfff]{1,255}"  # what could be part of a file's name

_IMAGE = (".nii.gz", ".nii")
QUERIES: Mapping[str, Query] = {
    "bold": {
        "datatype": ("func",),
        "suffix": ("bold",),
        "extension": _IMAGE,
        "echo": (None,),  # the combined image, where there are several echoes
        "part": (None, "mag"),
    },
    "mask": {"datatype": ("func",), "suffix": ("mask",), "extension": _IMAGE, "desc": ("brain",)},
    "confounds": {
        "datatype": ("func",),
        "suffix": ("timeseries", "regressors"),  # since fMRIPrep 20.2, and before
        "extension": (".tsv",),
        "desc": ("confounds",),
    },
}
AROMA_QUERY: Query = {**QUERIES["confounds"], "suffix": ("timeseries",), "desc": ("aroma",)}

# Queries of fMRIPrep and its relatives for images that we do not read: one filter file serves them all.
_QUERIES_OF_OTHERS = frozenset(
    {"asl", "cbf", "dwi", "flair", "fmap", "m0scan", "m0z", "pet", "roi", "sbref", "t1w", "t2w"}
)
FILE_PARTS = ("datatype", "suffix", "extension")  # what pybids knows of a file beside its entities
# The names of entities in pybids, and in the BIDS schema where it differs.
_LONG_NAMES = {
    "subject": "sub", "template": "tpl", "session": "ses", "acquisition": "acq", "nucleus": "nuc", "volume": "voi",
    "ceagent": "ce", "tracer": "trc", "staining": "stain", "reconstruction": "rec", "direction": "dir",
    "modality": "mod", "inversion": "inv", "mtransfer": "mt", "processing": "proc", "hemisphere": "hemi",
    "segmentation": "seg", "resolution": "res", "density": "den", "statistic": "stat", "description": "desc",
}  # fmt: skip


def read_filters(path: Path) -> tuple[dict[str, Query], tuple[str, ...]]:
    """Read a filter file as fMRIPrep takes it.

    Parameters
    ----------
    path : Path
        JSON, ``{query: {entity: label, list of labels, null (absent) or "*" (any)}}``.

    Returns
    -------
    filters : dict
        What the file says of ``bold``, ``mask`` and ``confounds``, with the entities' short names.
    ignored : tuple of str
        Queries in the file that belong to other programs.

    Raises
    ------
    MissingInputError
        If there is no such file.
    UsageError
        If it is no JSON, or holds a query, entity or label that means nothing.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise MissingInputError(
            f"The filter file {path} cannot be read: {error.strerror}.", "Check its path."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The filter file {path} is no valid JSON: {error}.", "Correct it.") from error
    try:
        return parse_filters(content)
    except UsageError as error:
        raise UsageError(f"The filter file {path}: {error.message}", error.hint) from error


def parse_filters(content: object) -> tuple[dict[str, Query], tuple[str, ...]]:
    """Check the content of a filter file and bring it into one form.

    Parameters
    ----------
    content : object
        What the JSON file holds.

    Returns
    -------
    filters : dict
        What it says of ``bold``, ``mask`` and ``confounds``, with the entities' short names.
    ignored : tuple of str
        Queries in it that belong to other programs.

    Raises
    ------
    UsageError
        If it holds a query, entity or label that means nothing.
    """
    filters: dict[str, Query] = {}
    ignored = []
    for name, query in _as_object(content, "it").items():
        if name in QUERIES:
            filters[name] = _parse_query(name, _as_object(query, f"the query {name!r}"))
        elif name.lower() in _QUERIES_OF_OTHERS:
            ignored.append(name)
        else:
            raise UsageError(
                f"{name!r} is no query.",
                f"There are {', '.join(QUERIES)}; of other programs {_listed(_QUERIES_OF_OTHERS)}.",
            )
    return filters, tuple(ignored)


def narrowed(name: str, filters: Mapping[str, Query]) -> Query:
    """Narrow a built-in query by what a filter file says of it.

    Parameters
    ----------
    name : str
        ``bold``, ``mask`` or ``confounds``.
    filters : Mapping
        From the filter file.

    Returns
    -------
    Query
        The built-in query with the file's labels in place of its own.
    """
    return {**QUERIES[name], **filters.get(name, {})}


def _as_object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise UsageError(f"{what} must be a JSON object, not {json.dumps(value)}.", 'As in {"bold": {"run": 1}}.')
    return value


def _parse_query(name: str, query: Mapping[str, object]) -> Query:
    parsed: dict[str, tuple[str | None, ...]] = {}
    for entity, value in query.items():
        key = _LONG_NAMES.get(entity, entity)
        if key not in (*ENTITY_ORDER, *FILE_PARTS):
            raise UsageError(
                f"{entity!r} in the query {name!r} is no BIDS entity.",
                f"There are {_listed([*_LONG_NAMES, *ENTITY_ORDER, *FILE_PARTS])}.",
            )
        if key in parsed:
            raise UsageError(f"the query {name!r} names the entity {key!r} twice.", "Keep one of the two.")
        values = value if isinstance(value, list) else [value]
        parsed[key] = tuple(_parse_label(name, entity, key, item) for item in values)
        if key in FILE_PARTS:
            _check_file_part(name, key, parsed[key])
    return parsed


def _parse_label(name: str, entity: str, key: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str | int) or isinstance(value, bool) or not re.fullmatch(_LABEL, str(value)):
        raise UsageError(
            f"{json.dumps(value)} for {entity!r} in the query {name!r} is no label.",
            "A label is text or a whole number; null means absent, '*' any; several labels are a list.",
        )
    if key == "extension":
        return f".{str(value).removeprefix('.')}"
    return str(value).removeprefix(f"{key}-")


def _check_file_part(name: str, key: str, values: tuple[str | None, ...]) -> None:
    allowed = QUERIES[name][key]
    for value in values:
        if value not in allowed:
            raise UsageError(
                f"{key!r} in the query {name!r} cannot be {json.dumps(value)}.",
                f"Only {_listed(label for label in allowed if label)} can be read; leave {key!r} out.",
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))
