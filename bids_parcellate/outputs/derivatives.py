"""The only writer of outputs: BIDS Derivatives, each file whole or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_parcellate.config import Config
from bids_parcellate.dataset import Run
from bids_parcellate.errors import DataError
from bids_parcellate.io.files import write_atomically
from bids_parcellate.io.images import read_volume, volume_to_bytes
from bids_parcellate.io.masking import Mask
from bids_parcellate.io.metadata import ImageSidecar, TableSidecar
from bids_parcellate.io.naming import OutputNames
from bids_parcellate.io.writing import write_json, write_table
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.numerics.individual import IndividualParcellation
from bids_parcellate.numerics.quality.choice import RULE
from bids_parcellate.parcels.appraisal import FIGURES
from bids_parcellate.parcels.atlas import Parcellation, paint
from bids_parcellate.parcels.colors import freesurfer_table, fsleyes_table
from bids_parcellate.parcels.parcel_tables import describe_columns

# TemplateFlow's reference images of the spaces that fMRIPrep writes most.
_REFERENCES = {
    space: f"https://templateflow.s3.amazonaws.com/tpl-{space}/tpl-{space}_res-01_T1w.nii.gz"
    for space in ("MNI152NLin2009cAsym", "MNI152NLin6Asym")
}


@dataclass(frozen=True)
class RunRecord:
    """What became of one run.

    Parameters
    ----------
    participant : str
        Label of the participant.
    run : str
        Name of the run.
    source : str
        BIDS URI of its image.
    reason : str or None
        Why it was left out, or has no signals.
    n_volumes, n_kept : int or None
        Volumes in the image, and those left after censoring; None where they are not known.
    mean_fd : float or None
        Mean framewise displacement of the kept volumes in mm; None where it is not known.
    used : bool, default=True
        Whether it was used, rather than left out.
    """

    participant: str
    run: str
    source: str
    reason: str | None = None
    n_volumes: int | None = None
    n_kept: int | None = None
    mean_fd: float | None = None
    used: bool = True


def _space_code(names: OutputNames) -> Literal[2, 4]:
    """Give the NIfTI code of a space: MNI, or aligned with another image."""
    return 4 if names.space.startswith("MNI") else 2


def _spatial_metadata(names: OutputNames, grid: Grid, reference: str) -> dict[str, Any]:
    zooms = " x ".join(f"{size:g}" for size in grid.voxel_sizes.round(3))
    metadata: dict[str, Any] = {"SpatialReference": _REFERENCES.get(names.space, reference)}
    if names.res:
        metadata["Resolution"] = f"Voxels of {zooms} mm, {' x '.join(map(str, grid.shape))} of them"
    return metadata


def write_group_mask(names: OutputNames, mask: Mask, config: Config, runs: Sequence[Run]) -> None:
    """Write the voxels that are parcellated.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    mask : Mask
        The voxels.
    config : Config
        The configuration.
    runs : sequence of Run
        The runs that the mask was made from.
    """
    write_atomically(names.group_mask(".nii.gz"), volume_to_bytes(mask.data, mask.grid, space_code=_space_code(names)))
    sidecar = ImageSidecar(
        Description=f"Voxels with signal in the mask of at least {config.masking.mask_threshold:.0%} of the runs.",
        Type="Brain" if config.masking.mask in ("group", "epi", "background", "whole-brain-template") else "ROI",
        Threshold=config.masking.mask_threshold,
        Sources=[run.uri(run.mask or run.bold) for run in runs],
        **_spatial_metadata(names, mask.grid, runs[0].uri(runs[0].bold)),
    )
    write_json(names.group_mask(".json"), sidecar)


def write_parcellation(names: OutputNames, parcellation: Parcellation, config: Config, runs: Sequence[Run]) -> Path:
    """Write one group parcellation: image, table, metadata.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    parcellation : Parcellation
        The parcels.
    config : Config
        The configuration.
    runs : sequence of Run
        The runs that it was fitted on.

    Returns
    -------
    Path
        The image.
    """
    n_parcels = parcellation.n_parcels
    sidecar = ImageSidecar(
        Description=f"Group parcellation of {n_parcels} parcels by {config.parcellation.method} clustering.",
        Sources=[run.uri(run.bold) for run in runs],
        Manual=False,
        CoordinateReportStrategy="center_of_mass",
        Parcellation={
            "Method": config.parcellation.method,
            "NumberOfParcels": n_parcels,
            "Features": config.parcellation.features,
            "Seed": config.execution.random_seed,
            "Denoising": names.desc,
            "SmoothingFWHM": config.denoising.smoothing_fwhm,
            "NumberOfRuns": len(runs),
        },
        **describe_columns(parcellation.table),
        **_spatial_metadata(names, parcellation.grid, runs[0].uri(runs[0].bold)),
    )
    write_table(names.parcellation(n_parcels, ".tsv"), parcellation.table)
    write_json(names.parcellation(n_parcels, ".json"), sidecar)
    if config.parcellation.color_tables:
        write_atomically(names.parcellation(n_parcels, ".lut"), fsleyes_table(parcellation.table).encode())
        write_atomically(names.parcellation(n_parcels, ".ctab"), freesurfer_table(parcellation.table).encode())
    return write_atomically(
        names.parcellation(n_parcels, ".nii.gz"),
        volume_to_bytes(parcellation.labels, parcellation.grid, space_code=_space_code(names)),
    )


def foreign_signals(names: OutputNames, parcellation: Parcellation) -> str | None:
    """Look for signals of other denoisings that would no longer be those of the parcels, once these are written.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    parcellation : Parcellation
        Parcels that are not written yet.

    Returns
    -------
    str or None
        What the user should know; None if there is nothing.
    """
    image = names.parcellation(parcellation.n_parcels, ".nii.gz")
    others = [
        path
        for path in sorted(names.root.glob(f"sub-*/**/{names.any_signals(parcellation.n_parcels)}"))
        if f"_desc-{names.desc}_" not in path.name
    ]
    if not others or not image.exists() or np.array_equal(read_volume(image)[0], parcellation.labels):
        return None
    return (
        f"{image.name} changes, but {len(others)} time series of another denoising stay, such as {others[0].name}: "
        "they are of the parcels as they were. Make them anew at the participant level, or keep both atlases by "
        "--atlas-name."
    )


def write_stability(
    names: OutputNames, n_parcels: int, share: npt.NDArray[np.floating], grid: Grid, runs: Sequence[Run]
) -> None:
    """Write how stable the parcel of each voxel is.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    n_parcels : int
        Number of parcels.
    share : ndarray of float, shape (X, Y, Z)
        Share of bootstrap fits in which the voxel keeps its parcel.
    grid : Grid
        Where the voxels lie.
    runs : sequence of Run
        The runs that the parcels were fitted on.
    """
    image = names.stability(n_parcels, ".nii.gz")
    sidecar = ImageSidecar(
        Description="Share of fits to bootstrap samples of the participants in which a voxel keeps its parcel.",
        Sources=[names.uri(names.parcellation(n_parcels, ".nii.gz"))],
        **_spatial_metadata(names, grid, runs[0].uri(runs[0].bold)),
    )
    write_json(names.stability(n_parcels, ".json"), sidecar)
    write_atomically(image, volume_to_bytes(share, grid, space_code=_space_code(names)))


def write_individual(
    names: OutputNames, individual: IndividualParcellation, group: Parcellation, mask: Mask, runs: Sequence[Run]
) -> Path:
    """Write a participant's own parcellation: image, table, metadata.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    individual : IndividualParcellation
        The participant's parcels.
    group : Parcellation
        The group's parcellation that they come from.
    mask : Mask
        The voxels.
    runs : sequence of Run
        The participant's runs.

    Returns
    -------
    Path
        The image.
    """
    participant, n_parcels = runs[0].participant, group.n_parcels
    parcellation = paint(individual.labels - 1, mask)
    table = parcellation.table.assign(name=group.names, color=group.colors)
    origin = names.uri(names.parcellation(n_parcels, ".nii.gz"))
    sidecar = ImageSidecar(
        Description=f"Parcels of the group with the boundaries of this participant; {individual.n_moved} of "
        f"{mask.n_voxels} voxels are not in their parcel of the group.",
        Sources=[origin, *(run.uri(run.bold) for run in runs)],
        Manual=False,
        CoordinateReportStrategy="center_of_mass",
        **describe_columns(table),
        **_spatial_metadata(names, mask.grid, runs[0].uri(runs[0].bold)),
    )
    write_table(names.individual(participant, n_parcels, ".tsv"), table)
    write_json(names.individual(participant, n_parcels, ".json"), sidecar)
    return write_atomically(
        names.individual(participant, n_parcels, ".nii.gz"),
        volume_to_bytes(parcellation.labels, mask.grid, space_code=_space_code(names)),
    )


def write_figures(
    names: OutputNames, figures: pd.DataFrame, reason: str | None, parcellations: Sequence[Parcellation]
) -> Path:
    """Write how good the parcellations are.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    figures : DataFrame
        A row for each figure of each parcellation.
    reason : str or None
        Why the number of parcels was chosen, if it was.
    parcellations : sequence of Parcellation
        The parcellations.

    Returns
    -------
    Path
        The table.
    """
    levels = {
        name: FIGURES.get(name, f"Adjusted Rand index with the atlas {name.removesuffix('_adjusted_rand')}.")
        for name in dict.fromkeys(figures["figure"])
    }
    sidecar = {
        "Description": "How good the parcellations are, beside random contiguous parcels of the same sizes.",
        "Sources": [names.uri(names.parcellation(each.n_parcels, ".nii.gz")) for each in parcellations],
        "n_parcels": {"Description": "Number of parcels."},
        "figure": {"Description": "What the value is.", "Levels": levels},
        "value": {"Description": "The figure."},
        "random_mean": {"Description": "Mean over random parcellations."},
        "random_sd": {"Description": "Standard deviation over random parcellations."},
        "z": {"Description": "How many of these standard deviations the value lies above the mean. Random parcels are "
              "a little less compact than fitted ones, which flatters explained variance and homogeneity; "
              "boundary_coefficient is free of that."},
        "p_value": {"Description": "(b + 1) / (n + 1), where b of n random parcellations reach the value."},
    }  # fmt: skip
    if reason is not None:
        sidecar |= {"ChoiceOfNumberOfParcels": reason, "RuleOfChoice": RULE}
    write_json(names.figures(".json"), TableSidecar.model_validate(sidecar))
    return write_table(names.figures(".tsv"), figures)


def write_records(names: OutputNames, records: Sequence[RunRecord]) -> None:
    """Write what became of each participant and of each run.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    records : sequence of RunRecord
        Every run that was selected, used or not.

    Raises
    ------
    DataError
        If the records of an earlier job are damaged.
    """
    runs = pd.DataFrame(
        {
            "participant_id": f"sub-{record.participant}",
            "run": record.run,
            "status": "used" if record.used else "left out",
            "n_volumes": record.n_volumes,
            "n_kept": record.n_kept,
            "mean_fd": record.mean_fd,
            "source": record.source,
            # A table's cell is one line.
            "reason": None if record.reason is None else " ".join(record.reason.split()),
        }
        for record in records
    )
    # Jobs of other participants write at the same time, and jobs of other runs have written before.
    for participant, group in runs.groupby("participant_id"):
        path = names.root / "logs" / "runs" / f"{participant}_runs.tsv"
        earlier = [_read_runs(path)] if path.exists() else []
        kept = [table[~table["source"].isin(group["source"])] for table in earlier]
        write_table(path, pd.concat([*kept, group.astype(_RUN_TYPES)]).sort_values("source"))
    write_json(names.root / "participants.json", _PARTICIPANT_COLUMNS)
    write_json(names.root / "logs" / "runs.json", _RUN_COLUMNS)
    # Whichever job writes the tables last has seen the records of all: it looks again after it has written.
    written, there = None, _list_records(names)
    while there != written:
        _write_tables(names, pd.concat([_read_runs(path) for path in there]))
        written, there = there, _list_records(names)


def _list_records(names: OutputNames) -> dict[Path, int]:
    """List the participants' records, with the times at which they were written."""
    return {path: path.stat().st_mtime_ns for path in sorted((names.root / "logs" / "runs").glob("*_runs.tsv"))}


def _write_tables(names: OutputNames, runs: pd.DataFrame) -> None:
    """Write the tables of all runs and of all participants."""
    write_table(names.root / "logs" / "runs.tsv", runs.sort_values("source"))
    participants = [_participant_row(str(name), group) for name, group in runs.groupby("participant_id")]
    write_table(names.root / "participants.tsv", pd.DataFrame(participants))


_RUN_TYPES = {"n_volumes": "Int64", "n_kept": "Int64", "mean_fd": "float64", "reason": "object"}


_RUN_KEYS = ["participant_id", "run", "status", "source"]  # never n/a


def _read_runs(path: Path) -> pd.DataFrame:
    """Read what an earlier job, or one that runs at the same time, has written."""
    hint = "Remove it, and run the job of its participant again."
    try:
        table = pd.read_csv(path, sep="\t", dtype=_RUN_TYPES)
    except ValueError as error:
        raise DataError(f"{path} is no table of runs: {error}.", hint) from error
    if not {*_RUN_KEYS, *_RUN_TYPES} <= set(table) or table[_RUN_KEYS].isna().any(axis=None):
        raise DataError(f"{path} is no table of runs: columns or labels are missing.", hint)
    return table


def _participant_row(participant: str, runs: pd.DataFrame) -> dict[str, Any]:
    used = runs[runs["status"] == "used"]
    reasons = dict.fromkeys(runs["reason"].dropna())
    return {
        "participant_id": participant,
        "used": "yes" if len(used) else "no",
        "n_runs": len(runs),
        "n_runs_used": len(used),
        "n_volumes_kept": used["n_kept"].sum(),
        "mean_fd": np.average(used["mean_fd"], weights=used["n_kept"]) if used["mean_fd"].notna().any() else None,
        "reason": " ".join(reasons) or None,
    }


_RUN_COLUMNS = {
    "Description": "The runs that were found, and what became of each.",
    "participant_id": {"Description": "Participant."},
    "run": {"Description": "Entities of the run's image that say which run it is."},
    "status": {"Description": "What became of it.", "Levels": {"used": "used", "left out": "left out: see reason"}},
    "n_volumes": {"Description": "Number of volumes in the image."},
    "n_kept": {"Description": "Number of volumes after censoring."},
    "mean_fd": {"Description": "Mean framewise displacement of these volumes.", "Units": "mm"},
    "source": {"Description": "BIDS URI of the image."},
    "reason": {"Description": "Why it was left out, or has no signals."},
}

_PARTICIPANT_COLUMNS = {
    "Description": "The participants whose runs were selected, and how much of them was used.",
    "participant_id": {"Description": "Participant."},
    "used": {
        "Description": "Whether a run of the participant is used.",
        "Levels": {"yes": "at least one is", "no": "none is"},
    },
    "n_runs": {"Description": "Number of runs that were selected."},
    "n_runs_used": {"Description": "Number of runs that are used."},
    "n_volumes_kept": {"Description": "Number of volumes in these runs after censoring."},
    "mean_fd": {"Description": "Mean framewise displacement of these volumes.", "Units": "mm"},
    "reason": {"Description": "Why runs were left out."},
}
