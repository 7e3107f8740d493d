"""What a report reads back: signals and coverage from the outputs, motion from the confounds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_parcellate.dataset import Run
from bids_parcellate.errors import DataError, MissingInputError
from bids_parcellate.io.naming import OutputNames
from bids_parcellate.io.tables import read_table
from bids_parcellate.numerics.connectivity import pearson
from bids_parcellate.outputs.derivatives import RunRecord
from bids_parcellate.parcels.atlas import Parcellation
from bids_parcellate.report.viewer import ParcelActivity

# The mean of so many runs says enough in a viewer, and is read in no time.
_MOST_RUNS = 20

_MISSING = "n/a"

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """How much a head moved.

    Parameters
    ----------
    framewise_displacement, std_dvars : ndarray of float, shape (n_volumes,), or None
        NaN where a volume has none; None where the confounds do not have the column.
    """

    framewise_displacement: FloatArray | None = None
    std_dvars: FloatArray | None = None


def read_motion(run: Run) -> Motion:
    """Read the motion of a run from its confounds.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    Motion
        Of what the table has.

    Raises
    ------
    ParcellateError
        If there is a table that cannot be read.
    """
    if run.confounds is None:
        return Motion()
    table = read_table(run.confounds)
    fd, dvars = (
        table[name].to_numbers() if name in table else None for name in ("framewise_displacement", "std_dvars")
    )
    return Motion(fd, dvars)


def read_kept(names: OutputNames, run: Run) -> npt.NDArray[np.bool_] | None:
    """Read which volumes of a run were not censored.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    run : Run
        The run.

    Returns
    -------
    ndarray of bool, shape (n_volumes,), or None
        None if the run has no table of them.
    """
    path = names.outliers(run.entities, ".tsv")
    if not path.exists():
        return None
    return np.asarray(read_table(path)["censored"].to_numbers() == 0)


def read_series(names: OutputNames, run: Run, parcellation: Parcellation, summary: str) -> FloatArray | None:
    """Read the time series of a run's parcels.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    run : Run
        The run.
    parcellation : Parcellation
        The parcels.
    summary : str
        How the voxels of a parcel are summarised.

    Returns
    -------
    ndarray of float64, shape (n_kept, n_parcels), or None
        NaN for parcels without signal; None if the run has no time series.

    Raises
    ------
    DataError
        If the table is of other parcels.
    """
    path = names.signals(run.entities, parcellation.n_parcels, summary, ".tsv")
    if not path.exists():
        return None
    table = pd.read_csv(path, sep="\t", dtype=np.float64, low_memory=False)
    if list(table.columns) != parcellation.names:
        raise DataError(f"{path} is of other parcels than the parcellation.", "Run the group level again.")
    return table.to_numpy(dtype=np.float64)


def read_activity(
    names: OutputNames, runs: Sequence[Run], parcellation: Parcellation, summary: str
) -> ParcelActivity | None:
    """Average the correlations of some runs, and take the time series of the first of them.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    runs : sequence of Run
        The runs that were used; at most 20 of them, evenly spaced, are read.
    parcellation : Parcellation
        The parcels.
    summary : str
        How the voxels of a parcel are summarised.

    Returns
    -------
    ParcelActivity or None
        None if no run has time series.
    """
    chosen = np.unique(np.linspace(0, len(runs) - 1, min(_MOST_RUNS, len(runs))).astype(int))
    read = {runs[number].label: read_series(names, runs[number], parcellation, summary) for number in chosen}
    known = {label: series for label, series in read.items() if series is not None}
    if not known:
        return None
    total = np.zeros((parcellation.n_parcels, parcellation.n_parcels))
    number = np.zeros_like(total)
    for series in known.values():
        correlations = pearson(series)
        exists = ~np.isnan(correlations)
        total[exists] += correlations[exists]
        number += exists
    mean = np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)
    label, first = next(iter(known.items()))
    return ParcelActivity(mean, len(known), first, label)


@dataclass(frozen=True)
class Coverage:
    """Which share of each parcel participants have.

    Parameters
    ----------
    participants : sequence of str
        Labels.
    shares : ndarray of float, shape (n_participants, n_parcels)
        The smallest of a participant's runs.
    """

    participants: Sequence[str]
    shares: FloatArray


def read_coverage(names: OutputNames, runs: Sequence[Run], parcellation: Parcellation, summary: str) -> Coverage | None:
    """Read which share of each parcel participants have, from the metadata of their time series.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    runs : sequence of Run
        The runs that were used.
    parcellation : Parcellation
        The parcels.
    summary : str
        How the voxels of a parcel are summarised.

    Returns
    -------
    Coverage or None
        None if no run has time series.
    """
    shares: dict[str, FloatArray] = {}
    for run in runs:
        path = names.signals(run.entities, parcellation.n_parcels, summary, ".json")
        if path.exists():
            share = _read_shares(path, parcellation)
            shares[run.participant] = np.minimum(shares.get(run.participant, share), share)
    return Coverage(list(shares), np.stack(list(shares.values()))) if shares else None


def _read_shares(path: Path, parcellation: Parcellation) -> FloatArray:
    metadata = json.loads(path.read_text(encoding="utf-8"))
    try:
        return np.array([metadata[name]["Coverage"] for name in parcellation.names], dtype=np.float64)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} does not state the coverage of each parcel.", "Run the group level again.") from error


def read_records(names: OutputNames) -> list[RunRecord]:
    """Read what became of every run.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.

    Returns
    -------
    list of RunRecord
        As the last job of each wrote them, in the order of their images.

    Raises
    ------
    MissingInputError
        If no job has written them.
    """
    path = names.root / "logs" / "runs.tsv"
    if not path.is_file():
        raise MissingInputError(f"There is no {path}, so nothing is known of the runs.", "Run the job again.")
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    return [
        RunRecord(
            participant=row["participant_id"].removeprefix("sub-"),
            run=row["run"],
            source=row["source"],
            reason=row["reason"],
            n_volumes=None if row["n_volumes"] is None else int(row["n_volumes"]),
            n_kept=None if row["n_kept"] is None else int(row["n_kept"]),
            mean_fd=None if row["mean_fd"] is None else float(row["mean_fd"]),
            used=row["status"] == "used",
        )
        for row in table.replace({_MISSING: None}).to_dict("records")
    ]


def read_figures(names: OutputNames) -> tuple[pd.DataFrame | None, str | None]:
    """Read figures of quality, and why the number of parcels was chosen.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.

    Returns
    -------
    figures : DataFrame or None
        As ``derivatives.write_figures`` wrote them; None if it wrote none.
    reason : str or None
        None if no number was chosen.
    """
    path = names.figures(".tsv")
    if not path.exists():
        return None, None
    metadata = json.loads(names.figures(".json").read_text(encoding="utf-8"))
    return pd.read_csv(path, sep="\t"), metadata.get("ChoiceOfNumberOfParcels")
