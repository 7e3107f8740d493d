"""Check an output folder for what the BIDS validator passes over.

For derivatives the validator reports neither missing required keys nor URIs that lead nowhere, and it does not look at
the tables that the specification has no name for yet.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from bids_parcellate.errors import DataError, MissingInputError
from bids_parcellate.io.images import read_volume
from bids_parcellate.io.metadata import AtlasDescription, DatasetDescription, ImageSidecar, TableSidecar
from bids_parcellate.io.naming import beside


def find_problems(root: Path) -> list[str]:
    """Look for mistakes in the outputs of a group job.

    Parameters
    ----------
    root : Path
        The output folder.

    Returns
    -------
    list of str
        A sentence for each problem; empty if all is well.

    Raises
    ------
    MissingInputError
        If it is no output folder.
    """
    if not (root / "dataset_description.json").is_file():
        message = f"{root} has no dataset_description.json: it is no output folder."
        raise MissingInputError(message, "Give the OUTPUT_DIR of a group job.")
    problems: list[str] = []
    for check in (_check_metadata, _check_labels, _check_tables, _check_dsegs, _check_stability, _check_runs):
        try:
            problems.extend(check(root))
        except DataError as error:  # what it would have looked at next hangs on this
            problems.append(error.message)
    return problems


_MODELS: Mapping[str, type[BaseModel]] = {
    "dataset_description.json": DatasetDescription,
    "atlas-*_description.json": AtlasDescription,
    "tpl-*/**/*_dseg.json": ImageSidecar,
    "tpl-*/**/*_mask.json": ImageSidecar,
    "tpl-*/**/*_probseg.json": ImageSidecar,
    "tpl-*/**/*_relmat.json": TableSidecar,
    "tpl-*/**/*_qc.json": TableSidecar,
    "sub-*/**/*_dseg.json": ImageSidecar,
    "sub-*/**/*.json": TableSidecar,
}


def _check_metadata(root: Path) -> Iterator[str]:
    """Check that required keys are there, and that BIDS URIs lead to files."""
    links = _read(root / "dataset_description.json").get("DatasetLinks", {})
    for pattern, model in _MODELS.items():
        for path in sorted(root.glob(pattern)):
            yield from _check_model(path, model)
            yield from _check_uris(path, root, links)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object")
    return content


def _value(path: Path, key: str, kind: type) -> Any:
    """Give what a JSON file must have."""
    content = _read(path)
    if not isinstance(content.get(key), kind):
        raise DataError(f"{path}: {key} is missing, or of another kind")
    return content[key]


def _uris(path: Path, key: str) -> list[str]:
    """Give a list of URIs that a JSON file must have."""
    uris: list[str] = _value(path, key, list)
    if not uris or not all(isinstance(uri, str) for uri in uris):
        raise DataError(f"{path}: {key} is no list of URIs")
    return uris


def _check_model(path: Path, model: type[BaseModel]) -> Iterator[str]:
    try:
        model.model_validate(_read(path))
    except ValidationError as error:
        for problem in error.errors():
            yield f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"


def _strings(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)


def _check_uris(path: Path, root: Path, links: Mapping[str, str]) -> Iterator[str]:
    for uri in _strings(_read(path)):
        if not uri.startswith("bids:"):
            continue
        dataset, colon, relative = uri.removeprefix("bids:").partition(":")
        if not colon:
            yield f"{path}: {uri} is no BIDS URI"
            continue
        if dataset and dataset not in links:
            yield f"{path}: {uri} names a dataset that DatasetLinks does not have"
            continue
        folder = Path(unquote(urlparse(links[dataset]).path)) if dataset else root
        if not (folder / relative).exists():
            yield f"{path}: {uri} leads to no file"


def _check_labels(root: Path) -> Iterator[str]:
    """Check that labels in file names are explained at the top of the dataset."""
    files = [path for top in ("tpl-*", "sub-*") for path in sorted(root.glob(f"{top}/**/*_*.*"))]
    explained = set(_table(root / "descriptions.tsv", "desc_id")["desc_id"])
    for path in files:
        labels = dict(part.split("-", 1) for part in path.name.split("_") if "-" in part)
        if "desc" in labels and f"desc-{labels['desc']}" not in explained:
            yield f"{path}: descriptions.tsv does not explain desc-{labels['desc']}"
        is_parcellation = "atlas" in labels and "scale" in labels
        if is_parcellation and not (root / f"atlas-{labels['atlas']}_description.json").exists():
            yield f"{path}: there is no atlas-{labels['atlas']}_description.json"


def _table(path: Path, *columns: str, **options: Any) -> pd.DataFrame:
    """Read a table that must have some columns."""
    try:
        table: pd.DataFrame = pd.read_csv(path, sep="\t", **options)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if missing := sorted(set(columns) - set(table)):
        raise DataError(f"{path} lacks the columns {', '.join(missing)}")
    return table


_TABLES = ("descriptions.tsv", "participants.tsv", "logs/runs.tsv", "tpl-*/**/*.tsv", "sub-*/**/*.tsv")


def _check_tables(root: Path) -> Iterator[str]:
    """Check that every column of every table is described; those of a matrix are parcels."""
    for path in (path for pattern in _TABLES for path in sorted(root.glob(pattern))):
        sidecar = path.with_suffix(".json")
        if not sidecar.exists():
            yield f"{path}: no JSON file describes it"
        elif not path.name.endswith("_relmat.tsv"):
            described = _read(sidecar)
            for column in _table(path, nrows=0).columns.difference(list(described)):
                yield f"{path}: column {column} of this table is not described"
    for path in sorted(root.glob("tpl-*/**/*_qc.tsv")):
        figures = set(_table(path, "figure")["figure"])
        for figure in sorted(figures - set(_value(path.with_suffix(".json"), "figure", dict).get("Levels", ()))):
            yield f"{path}: {figure} is not described"


def _check_dsegs(root: Path) -> Iterator[str]:
    """Check label images against their tables, and participants' own parcels against the group's."""
    for image in sorted(root.glob("tpl-*/**/*_dseg.nii.gz")):
        yield from _check_dseg(image)
    for image in sorted(root.glob("sub-*/**/*_dseg.nii.gz")):
        yield from _check_dseg(image)
        origin = _own_file(root, _uris(beside(image, ".json"), "Sources")[0])
        columns = ("index", "name", "color")
        own, group = _table(beside(image, ".tsv"), *columns), _table(beside(origin, ".tsv"), *columns)
        for column in columns:
            if list(own[column]) != list(group[column]):
                yield f"{image}: {column} of its table is not that of the group's parcels"


def _own_file(root: Path, uri: str) -> Path:
    return root / uri.removeprefix("bids::")


def _check_dseg(image: Path) -> Iterator[str]:
    labels, _ = read_volume(image)
    table = _table(beside(image, ".tsv"), "index", "name", "n_voxels", "color")
    numbers, sizes = np.unique(labels[labels > 0], return_counts=True)
    if not np.array_equal(numbers, table["index"]):
        yield f"{image}: its labels are not those of its table"
    elif not np.array_equal(sizes, table["n_voxels"]):
        yield f"{image}: n_voxels of its table are not those of its parcels"
    if table["name"].duplicated().any():
        yield f"{image}: its table has a name twice"
    if not table["color"].map(lambda color: bool(re.fullmatch(r"#[0-9a-f]{6}", str(color)))).all():
        yield f"{image}: its table has a colour that is none"


def _check_stability(root: Path) -> Iterator[str]:
    """Check that maps of stability are shares, in the voxels of their parcels."""
    for image in sorted(root.glob("tpl-*/**/*_desc-stability_probseg.nii.gz")):
        share, grid = read_volume(image)
        labels, other = read_volume(_own_file(root, _uris(beside(image, ".json"), "Sources")[0]))
        if not grid.matches(other) or share[labels == 0].any() or not ((share >= 0) & (share <= 1)).all():
            yield f"{image}: its values are no shares in the voxels of the parcels"


def _check_runs(root: Path) -> Iterator[str]:
    """Check matrices and time series against the atlas, by following their own links."""
    for path in (path for top in ("sub-*", "tpl-*") for path in sorted(root.glob(f"{top}/**/*_relmat.json"))):
        yield from _check_matrix(path, root)
    for path in sorted(root.glob("sub-*/**/*_timeseries.json")):
        yield from _check_series(path, root)


def _check_matrix(sidecar: Path, root: Path) -> Iterator[str]:
    names = list(_table(_own_file(root, _uris(sidecar, "NodeFiles")[0]), "name")["name"])
    matrix = _table(sidecar.with_suffix(".tsv"), index_col="Node")
    if list(matrix.index) != names or list(matrix.columns) != names:
        yield f"{sidecar}: its parcels are not those of the atlas, in their order"
    if not all(map(pd.api.types.is_numeric_dtype, matrix.dtypes)):
        yield f"{sidecar}: the matrix has cells that are no numbers"
    elif not np.array_equal(matrix, matrix.T, equal_nan=True):
        yield f"{sidecar}: the matrix is not symmetric"


def _check_series(sidecar: Path, root: Path) -> Iterator[str]:
    series = _table(sidecar.with_suffix(".tsv"))
    atlas = _own_file(root, _uris(sidecar, "Sources")[-1])
    if list(series.columns) != list(_table(beside(atlas, ".tsv"), "name")["name"]):
        yield f"{sidecar}: its parcels are not those of the atlas, in their order"
    outliers = _table(_own_file(root, _value(sidecar, "CensoredVolumes", str)), "censored")
    if len(outliers) != _value(sidecar, "NumberOfVolumes", int) or len(series) != (outliers["censored"] == 0).sum():
        yield f"{sidecar}: its rows are not the volumes that were kept"
