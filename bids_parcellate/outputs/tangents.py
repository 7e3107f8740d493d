"""Connectivity of runs as deviations from the group's: tangents at the geometric mean of their covariances."""

import logging
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_parcellate.config import Config
from bids_parcellate.dataset import Run
from bids_parcellate.errors import DataError
from bids_parcellate.io.naming import OutputNames
from bids_parcellate.numerics.connectivity import geometric_mean, ledoit_wolf, tangent
from bids_parcellate.outputs.run_outputs import write_matrix
from bids_parcellate.parcels.atlas import Parcellation

logger = logging.getLogger(__name__)

Matrix = npt.NDArray[np.float64]


class RunCovariances(Collection[Matrix]):
    """The covariances of runs, made of their time series whenever they are asked for: one is in memory at a time.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs, of which the time series are.
    runs : sequence of Run
        The runs.
    n_parcels : int
        The parcellation's number of parcels.
    summary : str
        The summary that the time series hold.
    """

    def __init__(self, names: OutputNames, runs: Sequence[Run], n_parcels: int, summary: str) -> None:
        self._tables = [names.signals(run.entities, n_parcels, summary, ".tsv") for run in runs]

    def __len__(self) -> int:
        return len(self._tables)

    def __iter__(self) -> Iterator[Matrix]:
        return (covariance for covariance, _ in map(self.estimate, range(len(self))))

    def __contains__(self, covariance: object) -> bool:
        return any(np.array_equal(covariance, each) for each in self)  # type: ignore[arg-type]

    def estimate(self, index: int) -> tuple[Matrix, float]:
        """Estimate the covariance of a run.

        Parameters
        ----------
        index : int
            Which run.

        Returns
        -------
        covariance : ndarray of float64, shape (n_parcels, n_parcels)
            After Ledoit and Wolf.
        shrinkage : float
            How much it was shrunk.
        """
        return ledoit_wolf(pd.read_csv(self._tables[index], sep="\t").to_numpy(dtype=np.float64))


def write_tangents(
    names: OutputNames, runs: Sequence[Run], parcellation: Parcellation, config: Config, *, is_group: bool
) -> list[str]:
    """Write the tangents of runs, and for the group the reference that they start from.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    runs : sequence of Run
        The runs, whose time series are written.
    parcellation : Parcellation
        The parcels.
    config : Config
        The configuration.
    is_group : bool
        Whether the reference is that of these runs, rather than of an earlier group job.

    Returns
    -------
    list of str
        What the user should know: which runs have no tangent, and why.
    """
    n_parcels = parcellation.n_parcels
    covariances = RunCovariances(names, runs, n_parcels, config.signals.summary)
    path = names.connectivity_reference(n_parcels, ".tsv")
    series = [names.signals(run.entities, n_parcels, config.signals.summary, ".tsv") for run in runs]
    if is_group:
        write_matrix(names, path, parcellation, "geometric_mean", geometric_mean(covariances), sources=series)
    if not path.exists():
        logger.info("There is no %s yet; tangents are written once the group level has made it.", path)
        return []
    # As it is written, so that a run's tangent is the same in whichever job it is made.
    reference = pd.read_csv(path, sep="\t", index_col="Node").to_numpy(dtype=np.float64)
    problems = []
    for index, run in enumerate(runs):
        covariance, shrinkage = covariances.estimate(index)
        try:
            matrix = tangent(covariance, reference)
        except DataError as error:
            problems.append(f"{run.label} has no tangent: {error.message}")
            continue
        write_matrix(
            names,
            names.connectivity(run.entities, n_parcels, "tangent", ".tsv"),
            parcellation,
            "tangent",
            matrix,
            sources=[series[index], path],
            shrinkage=shrinkage,
        )
    return problems
