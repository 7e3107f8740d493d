"""What is written for one run: the volumes that were censored, time series of parcels, and their connectivity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_parcellate.config import Config
from bids_parcellate.dataset import Run
from bids_parcellate.io.confounds import Confounds
from bids_parcellate.io.metadata import TableSidecar
from bids_parcellate.io.naming import OutputNames
from bids_parcellate.io.writing import write_json, write_numbers, write_table
from bids_parcellate.parcels.atlas import Parcellation

_UNITS = {"zscore_sample": "z", "psc": "%", "none": "arbitrary"}

_SUMMARIES = {
    "mean": "Mean",
    "median": "Median",
    "eigenvariate": "First eigenvariate",
}

_LEDOIT_WOLF = "Ledoit-Wolf"

# What the sidecar says of each kind of connectivity.
_KINDS: dict[str, dict[str, Any]] = {
    "pearson": {"RelationshipMeasure": "Pearson correlation coefficient", "ValidDiagonal": False},
    "partial": {
        "RelationshipMeasure": "Partial correlation coefficient",
        "MeasureDescription": "-P_ij / sqrt(P_ii P_jj), where P is the inverse of the shrunk covariance.",
        "CovarianceEstimator": _LEDOIT_WOLF,
        "ValidDiagonal": False,
    },
    "covariance": {
        "RelationshipMeasure": "Covariance",
        "MeasureDescription": "Shrunk towards the mean variance times the identity.",
        "CovarianceEstimator": _LEDOIT_WOLF,
        "ValidDiagonal": True,
    },
    "precision": {
        "RelationshipMeasure": "Inverse covariance",
        "MeasureDescription": "The inverse of the shrunk covariance.",
        "CovarianceEstimator": _LEDOIT_WOLF,
        "ValidDiagonal": True,
    },
    "tangent": {
        "RelationshipMeasure": "Deviation from the group's covariance in its tangent space",
        "MeasureDescription": "log(G^-1/2 C G^-1/2), where C is the run's shrunk covariance and G the group's mean.",
        "CovarianceEstimator": _LEDOIT_WOLF,
        "ValidDiagonal": True,
    },
    "geometric_mean": {
        "RelationshipMeasure": "Geometric mean of the covariances of the runs",
        "MeasureDescription": "The reference of the tangent space, in which later runs can be compared with these.",
        "CovarianceEstimator": _LEDOIT_WOLF,
        "ValidDiagonal": True,
    },
}


@dataclass(frozen=True)
class ParcelSignals:
    """The signals of one run in one parcellation.

    Parameters
    ----------
    values : ndarray of float, shape (n_kept, n_parcels)
        Time series; NaN for parcels that the run does not cover well enough.
    coverage : ndarray of float, shape (n_parcels,)
        Share of each parcel's voxels that the run has.
    connectivity : mapping of str to ndarray of float, shape (n_parcels, n_parcels)
        Matrices, by kind.
    shrinkage : float or None
        How much the covariance was shrunk, from 0 to 1, where one was estimated.
    """

    values: npt.NDArray[np.float64]
    coverage: npt.NDArray[np.float64]
    connectivity: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    shrinkage: float | None = None


def write_outliers(names: OutputNames, run: Run, confounds: Confounds) -> Path:
    """Write which volumes of a run were censored, and why.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    run : Run
        The run.
    confounds : Confounds
        Its kept volumes and the reasons against the others.

    Returns
    -------
    Path
        The table: a row for each volume of the image.
    """
    columns = {"censored": ~confounds.kept, **confounds.outliers}
    sidecar = TableSidecar(
        Description="Volumes that were left out of the parcellation, of the time series and of the correlations.",
        Sources=[run.uri(path) for path in (run.confounds,) if path] or [run.uri(run.bold)],
        **{
            name: {"Description": f"1 where the volume was censored{_OUTLIER_REASONS.get(name, '')}, else 0."}
            for name in columns
        },
    )
    write_json(names.outliers(run.entities, ".json"), sidecar)
    return write_table(names.outliers(run.entities, ".tsv"), pd.DataFrame(columns).astype(np.int8))


_OUTLIER_REASONS = {
    "non_steady_state": " because the magnetisation was not in a steady state",
    "framewise_displacement": " because of its framewise displacement",
    "std_dvars": " because of its standardised DVARS",
    "short_segment": " because too few volumes stand between it and censored ones",
}


def write_signals(
    names: OutputNames,
    run: Run,
    confounds: Confounds,
    parcellation: Parcellation,
    signals: ParcelSignals,
    config: Config,
) -> None:
    """Write the time series of a run's parcels and their connectivity.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    run : Run
        The run.
    confounds : Confounds
        What was regressed out.
    parcellation : Parcellation
        The parcels.
    signals : ParcelSignals
        Their signals in this run.
    config : Config
        The configuration.
    """
    n_parcels = parcellation.n_parcels
    summary = _SUMMARIES[config.signals.summary]
    series = names.signals(run.entities, n_parcels, config.signals.summary, ".tsv")
    inputs = [run.uri(path) for path in (run.bold, run.confounds) if path]
    write_numbers(series, parcellation.names, signals.values)
    write_json(
        series.with_suffix(".json"),
        TableSidecar(
            Description=f"{summary} of each parcel's denoised BOLD signals; a row for each volume that was kept.",
            Sources=[*inputs, names.uri(names.parcellation(n_parcels, ".nii.gz"))],
            RepetitionTime=run.t_r,
            SamplingFrequency=1 / run.t_r,
            Units=_UNITS[config.denoising.standardize],
            Strategy=names.desc,
            ConfoundColumns=list(confounds.names),
            NumberOfVolumes=confounds.n_volumes,
            NumberOfVolumesCensored=int((~confounds.kept).sum()),
            CensoredVolumes=names.uri(names.outliers(run.entities, ".tsv")),
            MinimumCoverage=config.signals.min_coverage,
            **{
                name: {"Description": f"{summary} of the signals of {name}.", "Coverage": round(float(share), 4)}
                for name, share in zip(parcellation.names, signals.coverage, strict=True)
            },
        ),
    )
    for kind, matrix in signals.connectivity.items():
        path = names.connectivity(run.entities, n_parcels, kind, ".tsv")
        write_matrix(names, path, parcellation, kind, matrix, sources=[series], shrinkage=signals.shrinkage)


def write_matrix(
    names: OutputNames,
    path: Path,
    parcellation: Parcellation,
    kind: str,
    matrix: npt.NDArray[np.float64],
    *,
    sources: Sequence[Path],
    shrinkage: float | None = None,
) -> None:
    """Write a matrix of what relates parcels, with its metadata.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    path : Path
        The table.
    parcellation : Parcellation
        The parcels.
    kind : str
        What the matrix holds: a kind of connectivity, or ``geometric_mean``.
    matrix : ndarray of shape (n_parcels, n_parcels)
        The values.
    sources : sequence of Path
        Outputs that it was made from.
    shrinkage : float, optional
        How much the covariance was shrunk, from 0 to 1.
    """
    described = dict(_KINDS[kind])
    if "CovarianceEstimator" in described and shrinkage is not None:
        described["Shrinkage"] = round(shrinkage, 6)
    write_numbers(path, parcellation.names, matrix, rows=parcellation.names)
    write_json(
        path.with_suffix(".json"),
        TableSidecar(
            Description=f"{described['RelationshipMeasure']} of the parcels.",
            Sources=[names.uri(source) for source in sources],
            Weighted=True,
            Directed=False,
            NonNegative=False,
            StorageFormat="Full",
            NodeFiles=[names.uri(names.parcellation(parcellation.n_parcels, ".tsv"))],
            **described,
        ),
    )
