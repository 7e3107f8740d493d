"""Check an output folder for what the BIDS validator passes over.

For derivatives the validator reports neither missing required keys nor URIs that lead nowhere, and it does not look at
the tables that the specification has no name for yet.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from bids_parcellate.images import read_volume
from bids_parcellate.metadata import AtlasDescription, DatasetDescription, ImageSidecar, TableSidecar


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
    """
    links = _read(root / "dataset_description.json").get("DatasetLinks", {})
    return [
        *_check_model(root / "dataset_description.json", DatasetDescription),
        *(
            problem
            for pattern, model in _MODELS.items()
            for path in sorted(root.glob(pattern))
            for problem in (*_check_model(path, model), *_check_uris(path, root, links))
        ),
        *(problem for image in sorted(root.glob("tpl-*/**/*_dseg.nii.gz")) for problem in _check_labels(image)),
        *(problem for path in sorted(root.glob("sub-*/**/*_relmat.json")) for problem in _check_run(path, root)),
    ]


_MODELS: Mapping[str, type[BaseModel]] = {
    "atlas-*_description.json": AtlasDescription,
    "tpl-*/**/*_dseg.json": ImageSidecar,
    "tpl-*/**/*_mask.json": ImageSidecar,
    "tpl-*/**/*_probseg.json": ImageSidecar,
    "tpl-*/**/*_relmat.json": TableSidecar,
    "sub-*/**/*.json": TableSidecar,
}


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


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
        _, dataset, relative = uri.split(":", 2)
        if dataset and dataset not in links:
            yield f"{path}: {uri} names a dataset that DatasetLinks does not have"
            continue
        folder = Path(unquote(urlparse(links[dataset]).path)) if dataset else root
        if not (folder / relative).exists():
            yield f"{path}: {uri} leads to no file"


def _check_labels(image: Path) -> Iterator[str]:
    labels, _ = read_volume(image)
    stem = image.name.removesuffix(".nii.gz")
    table = pd.read_csv(image.with_name(f"{stem}.tsv"), sep="\t")
    if not np.array_equal(np.unique(labels[labels > 0]), table["index"]):
        yield f"{image}: its labels are not those of its table"
    if table["name"].duplicated().any():
        yield f"{image}: its table has a name twice"
    for column in table.columns.difference(list(_read(image.with_name(f"{stem}.json")))):
        yield f"{image}: column {column} of its table is not described"


def _check_run(relmat: Path, root: Path) -> Iterator[str]:
    """Check the matrix and the time series of a run against the atlas, by following the matrix's own links."""
    sidecar = _read(relmat)
    names = list(pd.read_csv(root / sidecar["NodeFiles"][0].removeprefix("bids::"), sep="\t")["name"])
    matrix = pd.read_csv(relmat.with_suffix(".tsv"), sep="\t", index_col="Node")
    series_path = root / sidecar["Sources"][0].removeprefix("bids::")
    series = pd.read_csv(series_path, sep="\t")
    for path, found in (
        (relmat, list(matrix.index)),
        (relmat, list(matrix.columns)),
        (series_path, list(series.columns)),
    ):
        if found != names:
            yield f"{path}: its parcels are not those of the atlas, in their order"
    if not np.array_equal(matrix, matrix.T, equal_nan=True):
        yield f"{relmat}: the matrix is not symmetric"
    metadata = _read(series_path.with_suffix(".json"))
    outliers = pd.read_csv(root / metadata["CensoredVolumes"].removeprefix("bids::"), sep="\t")
    if len(outliers) != metadata["NumberOfVolumes"] or len(series) != (outliers["censored"] == 0).sum():
        yield f"{series_path}: its rows are not the volumes that were kept"
