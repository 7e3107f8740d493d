"""JSON files and tables, written as BIDS wants them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel

from bids_parcellate.io.files import write_atomically
from bids_parcellate.numerics.decimals import text_of_rows


def write_json(path: Path, content: BaseModel | Mapping[str, Any]) -> Path:
    """Write a JSON file.

    Parameters
    ----------
    path : Path
        The file.
    content : BaseModel or Mapping
        Fields that are None are left out of a model.

    Returns
    -------
    Path
        The file.
    """
    if isinstance(content, BaseModel):
        content = content.model_dump(mode="json", exclude_none=True)
    return write_atomically(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_table(path: Path, table: pd.DataFrame, *, float_format: str | None = "%.7g") -> Path:
    """Write a table as BIDS wants it: tabs, a header, ``n/a`` for what is missing.

    Parameters
    ----------
    path : Path
        The file.
    table : DataFrame
        The index is not written.
    float_format : str or None, default="%.7g"
        How fractions are written; None keeps every digit.

    Returns
    -------
    Path
        The file.
    """
    text = table.to_csv(sep="\t", index=False, na_rep="n/a", float_format=float_format, lineterminator="\n")
    return write_atomically(path, text.encode())


def write_numbers(
    path: Path, columns: Sequence[str], values: npt.NDArray[np.floating], *, rows: Sequence[str] = ()
) -> Path:
    """Write a table of nothing but numbers: as `write_table`, in a fraction of the time.

    Parameters
    ----------
    path : Path
        The file.
    columns : sequence of str
        Names of the columns.
    values : ndarray of shape (n_rows, n_columns)
        Seven digits are written; NaN as ``n/a``.
    rows : sequence of str, optional
        Names of the rows, written as a first column that is called ``Node``.

    Returns
    -------
    Path
        The file.
    """
    lines = text_of_rows(values)
    if rows:
        columns = ["Node", *columns]
        lines = [f"{name}\t{numbers}" for name, numbers in zip(rows, lines, strict=True)]
    return write_atomically(path, "\n".join(["\t".join(columns), *lines, ""]).encode())
