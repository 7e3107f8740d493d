"""Tables of parcels and of figures: what is known of each parcel and of each parcellation, put together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_parcellate.io.masking import Mask
from bids_parcellate.io.naming import beside
from bids_parcellate.numerics.matching import match_labels, nested_parents, renumber
from bids_parcellate.numerics.quality.reference import NAME_RULE, atlas_agreement, name_parcels
from bids_parcellate.numerics.resampling import resample
from bids_parcellate.parcels.appraisal import FIGURES, PARCEL_COLUMNS, Appraisal
from bids_parcellate.parcels.atlas import COLUMNS, Parcellation, paint, read_parcellation
from bids_parcellate.parcels.colors import parcel_color
from bids_parcellate.parcels.references import ReferenceAtlas

Labels = npt.NDArray[np.int32]

_NESTING: dict[str, dict[str, str]] = {
    "parent": {"Description": "Index of the parcel of the next coarser parcellation that holds most of its voxels."},
    "parent_share": {"Description": "Share of its voxels that lie there: 1 where parcels are nested."},
    "matched_dice": {"Description": "Dice coefficient with the parcel of the earlier parcellation it is named after."},
}


def describe_parcellations(
    labels: Mapping[int, Labels],
    appraisals: Mapping[int, Appraisal],
    references: Sequence[ReferenceAtlas],
    mask: Mask,
    earlier: Path | None,
) -> list[Parcellation]:
    """Paint parcels, and put together what is known of each.

    Parameters
    ----------
    labels : mapping of int to ndarray of int32, shape (n_voxels,)
        For each number of parcels the labels, from 1.
    appraisals : mapping of int to Appraisal
        Their quality, where it is known.
    references : sequence of ReferenceAtlas
        Atlases to compare with; parcels are named after the first, if it has names.
    mask : Mask
        The voxels.
    earlier : Path or None
        The image of an earlier parcellation, whose numbers and names are kept.

    Returns
    -------
    list of Parcellation
        In ascending order of their numbers of parcels.

    Raises
    ------
    ParcellateError
        If the earlier parcellation cannot be read.
    """
    parcellations: list[Parcellation] = []
    for number, own in sorted(labels.items()):
        parcellation = paint(own - 1, mask)
        table = parcellation.table
        if number in appraisals:
            table[appraisals[number].parcels.columns] = appraisals[number].parcels.round(4)
        for atlas in references:
            found = atlas_agreement(own, atlas.labels)
            table[f"{atlas.name}_match"] = [atlas.names[match - 1] if match else None for match in found.best_match]
            table[f"{atlas.name}_dice"] = found.dice.round(4)
        if references and references[0].has_names:
            table["name"] = name_parcels(own, references[0].labels, references[0].networks, list(table["hemisphere"]))
        if earlier is not None:
            parcellation = _keep_names(parcellation, mask, earlier)
        if parcellations:
            _add_parents(parcellation, parcellations[-1], mask)
        parcellations.append(parcellation)
    return parcellations


def _add_parents(fine: Parcellation, coarse: Parcellation, mask: Mask) -> None:
    parents = nested_parents(mask.apply(fine.labels) - 1, mask.apply(coarse.labels) - 1)
    fine.table["parent"], fine.table["parent_share"] = parents.parents + 1, parents.shares.round(4)


def _keep_names(parcellation: Parcellation, mask: Mask, image: Path) -> Parcellation:
    """Put parcels into the order of those of an earlier parcellation that they match, with their names and colours."""
    earlier = read_parcellation(image, beside(image, ".tsv"))
    reference = mask.apply(resample(earlier.labels, earlier.grid, mask.grid, interpolation="nearest"))
    own = mask.apply(parcellation.labels) - 1
    match = match_labels(own, reference.astype(np.int32) - 1)
    order = np.argsort(match.numbers)
    places = np.argsort(order).astype(np.int32)
    numbers = match.numbers[order].tolist()
    known = dict(enumerate(zip(earlier.names, earlier.colors, strict=True)))
    named = [known.get(number, (f"parcel{number + 1:03d}", parcel_color(number))) for number in numbers]
    table = parcellation.table.iloc[order].reset_index(drop=True)
    table["index"] = np.arange(1, len(order) + 1)
    table["name"], table["color"] = zip(*named, strict=True)
    table["matched_dice"] = match.dice[order].round(4)
    return replace(parcellation, labels=mask.unmask(renumber(own, places) + 1), table=table)


def describe_columns(table: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Describe the columns of a table of parcels, for its JSON file.

    Parameters
    ----------
    table : DataFrame
        As :func:`describe_parcellations` makes it.

    Returns
    -------
    dict
        For each column, in order.
    """
    known: dict[str, Mapping[str, object]] = {**COLUMNS, **PARCEL_COLUMNS, **_NESTING}
    columns = {str(name): dict(known.get(str(name), _describe_atlas_column(str(name)))) for name in table}
    if any(name.endswith("_match") for name in columns):
        columns["name"]["LongDescription"] = NAME_RULE.format(minimum_share=0.25)
    return columns


def _describe_atlas_column(name: str) -> dict[str, str]:
    atlas, _, kind = name.rpartition("_")
    if kind == "match":
        return {"Description": f"Parcel of {atlas} with the largest Dice coefficient."}
    return {"Description": f"Dice coefficient with that parcel of {atlas}."}


def gather_figures(
    labels: Mapping[int, Labels],
    appraisals: Mapping[int, Appraisal],
    references: Sequence[ReferenceAtlas],
    choice: pd.DataFrame | None,
) -> pd.DataFrame | None:
    """Put the figures of all parcellations into one table.

    Parameters
    ----------
    labels, appraisals, references
        As in :func:`describe_parcellations`.
    choice : DataFrame or None
        Figures of all numbers of parcels of which one was chosen.

    Returns
    -------
    DataFrame or None
        Ordered by the number of parcels and the figure; None if there are none.
    """
    agreements = [
        {
            "n_parcels": number,
            "figure": f"{atlas.name}_adjusted_rand",
            "value": atlas_agreement(own, atlas.labels).adjusted_rand,
        }
        for number, own in labels.items()
        for atlas in references
    ]
    parts = [each.figures for each in appraisals.values()]
    parts += [choice] if choice is not None else []
    parts += [pd.DataFrame(agreements)] if agreements else []
    if not parts:
        return None
    figures = pd.concat(parts, ignore_index=True)
    place = figures["figure"].map({name: place for place, name in enumerate(FIGURES)}).fillna(len(FIGURES))
    order = figures.assign(place=place).sort_values(["n_parcels", "place"], kind="stable").index
    return figures.loc[order].reset_index(drop=True)
