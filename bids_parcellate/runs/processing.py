"""One run, from its files to its reduction and to its parcel signals.

A run needs only its own files and the configuration: it can be processed on any machine, in any order.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_parcellate.config import MASK_STRATEGIES, TEMPLATE_MASKS, Config, SignalsConfig
from bids_parcellate.dataset import Run
from bids_parcellate.errors import DataError
from bids_parcellate.io.confounds import Confounds, load_confounds
from bids_parcellate.io.images import read_info
from bids_parcellate.io.masking import Mask, read_mask, run_mask
from bids_parcellate.io.store import identify
from bids_parcellate.io.strategies import ConfoundStrategy
from bids_parcellate.io.templates import template_mask, templateflow_home
from bids_parcellate.numerics.cleaning import Standardization, standardize
from bids_parcellate.numerics.connectivity import ledoit_wolf, partial_correlation, pearson, precision
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.numerics.run_reduction import RunReduction
from bids_parcellate.numerics.signals import Labels, coverage, parcel_eigenvariates, parcel_means, parcel_medians
from bids_parcellate.outputs.run_outputs import ParcelSignals
from bids_parcellate.parcels.atlas import Parcellation
from bids_parcellate.runs.inputs import InputRun
from bids_parcellate.runs.preprocessing import Preprocessing

# With fewer degrees of freedom, what is left of a run is mostly what the model could not fit.
MIN_DEGREES_OF_FREEDOM = 10

# Raised when the same inputs would give other numbers, so that stored reductions of earlier versions are not used.
_FORMAT = 4

# The standard deviation of a voxel's BOLD signal is a few per cent of its mean.
_MOST_PERCENT = 50


@dataclass(frozen=True)
class RunTask:
    """All that is needed to process one run.

    Parameters
    ----------
    run : Run
        The run.
    grid : Grid
        The grid of the group.
    strategy : ConfoundStrategy
        What is regressed out and which volumes are censored.
    config : Config
        The configuration.
    """

    run: Run
    grid: Grid
    strategy: ConfoundStrategy
    config: Config

    def __str__(self) -> str:
        return self.run.label

    @property
    def digest(self) -> str:
        """Digest of everything that the run's reduction depends on."""
        config, run = self.config, self.run
        depends_on = {
            "format": _FORMAT,
            "files": [identify(path) for path in run.files],
            "t_r": run.t_r,
            "grid": [self.grid.shape, self.grid.affine.tolist()],
            "strategy": self.strategy.model_dump(mode="json"),
            "denoising": config.denoising.model_dump(mode="json", exclude={"confounds", "standardize"}),
            "voxel_scaling": _voxel_scaling(config),
            "mask": self._mask_identity,
            "n_components": config.parcellation.n_components,
        }
        return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()

    @property
    def _mask_identity(self) -> tuple[object, ...]:
        strategy = self.config.masking.mask
        if strategy in TEMPLATE_MASKS:
            return strategy, str(templateflow_home())
        return (strategy,) if strategy in MASK_STRATEGIES else identify(Path(strategy))


def _voxel_scaling(config: Config) -> Standardization:
    """How voxels are scaled before they are reduced."""
    return "zscore_sample" if config.parcellation.features == "scaled" else config.denoising.standardize


def read_confounds(task: RunTask) -> Confounds:
    """Read a run's confounds.

    Parameters
    ----------
    task : RunTask
        The run.

    Returns
    -------
    Confounds
        Without regressors, and all volumes kept, for a strategy that needs no table.

    Raises
    ------
    ParcellateError
        If the table cannot be used, does not fit the image, or leaves too few volumes.
    """
    run = task.run
    if run.confounds is None:
        confounds = Confounds.empty(run.n_volumes)
    else:
        confounds = load_confounds(
            run.confounds,
            task.strategy,
            sidecar=run.confounds_json,
            extra_tables=run.aroma_tables,
            fmriprep_version=run.dataset.pipeline_version,
        )
        confounds.check_rows(run.n_volumes, run.bold)
    n_kept, needed = int(confounds.kept.sum()), task.config.denoising.min_volumes
    if n_kept < needed:
        raise DataError(
            f"{run.bold}: {n_kept} of {run.n_volumes} volumes are left after censoring, "
            f"but --min-volumes asks for {needed}.",
            "Censor less, or lower --min-volumes.",
        )
    return confounds


def build_operator(task: RunTask, confounds: Confounds) -> npt.NDArray[np.float64]:
    """Build the matrix that cleans a run: trend, filter, confounds and censoring in one.

    Parameters
    ----------
    task : RunTask
        The run.
    confounds : Confounds
        Its confounds and kept volumes.

    Returns
    -------
    ndarray of float64, shape (n_kept, n_volumes)
        The operator.

    Raises
    ------
    DataError
        If too few degrees of freedom are left.
    """
    return _preprocessing(task, None).operator(_input_run(task, confounds), MIN_DEGREES_OF_FREEDOM)


def _preprocessing(task: RunTask, standardization: Standardization) -> Preprocessing:
    denoising = task.config.denoising
    return Preprocessing(
        smoothing_fwhm=denoising.smoothing_fwhm,
        standardize=None if standardization == "none" else standardization,
        standardize_confounds=True,
        detrend=denoising.detrend,
        low_pass=denoising.low_pass,
        high_pass=denoising.high_pass,
        t_r=task.run.t_r,
    )


def _input_run(task: RunTask, confounds: Confounds) -> InputRun:
    return InputRun(
        images=(task.run.bold,),
        infos=(read_info(task.run.bold),),
        name=str(task.run.bold),
        confounds=confounds.values if confounds.names else None,
        sample_mask=confounds.sample_mask,
    )


def find_mask(task: RunTask) -> Mask:
    """Find the voxels of a run.

    Parameters
    ----------
    task : RunTask
        The run.

    Returns
    -------
    Mask
        On the group's grid.

    Raises
    ------
    ParcellateError
        If there is no mask, or it does not fit the run.
    """
    run, strategy = task.run, task.config.masking.mask
    if strategy in TEMPLATE_MASKS:
        cohort = run.entities.get("cohort")
        return template_mask(run.entities["space"], strategy, task.grid, cohort=int(cohort) if cohort else None)
    if strategy in MASK_STRATEGIES:
        return run_mask(run.bold, strategy, brain_mask=run.mask, grid=task.grid)
    return read_mask(Path(strategy), task.grid)


def reduce_run(task: RunTask) -> RunReduction:
    """Read, clean and reduce a run.

    Parameters
    ----------
    task : RunTask
        The run.

    Returns
    -------
    RunReduction
        Of the voxels in the run's mask whose signal varies.

    Raises
    ------
    ParcellateError
        If the run cannot be used.
    """
    confounds = read_confounds(task)
    run, preprocessing = _input_run(task, confounds), _preprocessing(task, _voxel_scaling(task.config))
    operator = preprocessing.operator(run, MIN_DEGREES_OF_FREEDOM)
    reduction = preprocessing.reduce(
        run,
        find_mask(task),
        operator,
        task.config.parcellation.n_components,
        drop_constant=True,
        n_threads=task.config.execution.omp_nthreads,
    )
    return replace(reduction, mean_fd=confounds.mean_framewise_displacement)


def check_holds_mean(task: RunTask, reduction: RunReduction) -> None:
    """Refuse to give signals in percent of their mean where an earlier program has removed it.

    Parameters
    ----------
    task : RunTask
        The run.
    reduction : RunReduction
        Its reduction.

    Raises
    ------
    DataError
        If the signals vary more than those of BOLD do.
    """
    if task.config.denoising.standardize != "psc" or reduction.units is None:
        return
    percent = 100 * float(np.median(reduction.units.deviation) / np.median(np.abs(reduction.units.before)))
    if not percent <= _MOST_PERCENT:
        raise DataError(
            f"{task.run.bold}: its signals vary by {percent:.0f} % of their mean, which must have been removed.",
            "Give images that hold it, or choose --standardize zscore_sample.",
        )


def extract_signals(
    task: RunTask, reduction: RunReduction, parcellations: Sequence[Parcellation]
) -> tuple[Confounds, list[ParcelSignals]]:
    """Extract the cleaned signals of parcels: from the reduction if it holds them, else from the image.

    Parameters
    ----------
    task : RunTask
        The run.
    reduction : RunReduction
        Its reduction.
    parcellations : sequence of Parcellation
        They lie on the group's grid.

    Returns
    -------
    confounds : Confounds
        What was regressed out and censored.
    signals : list of ParcelSignals
        One for each parcellation.
    """
    confounds = read_confounds(task)
    labelings = [parcellation.labels.ravel()[reduction.voxels] for parcellation in parcellations]
    n_parcels = [parcellation.n_parcels for parcellation in parcellations]
    if task.config.signals.summary == "mean":
        extracted = _means(task, confounds, reduction, labelings, n_parcels)
    else:
        extracted = _summaries(task, confounds, reduction, labelings, n_parcels)
    return confounds, [
        _relate(values, _coverage(parcellation, reduction), task.config.signals)
        for parcellation, values in zip(parcellations, extracted, strict=True)
    ]


def _means(
    task: RunTask,
    confounds: Confounds,
    reduction: RunReduction,
    labelings: Sequence[Labels],
    n_parcels: Sequence[int],
) -> list[npt.NDArray[np.float64]]:
    preprocessing = _preprocessing(task, task.config.denoising.standardize)
    if reduction.holds_signals:
        return [preprocessing.parcel_signals_of(reduction, *each) for each in zip(labelings, n_parcels, strict=True)]
    mask = Mask(volume_of(reduction.voxels, task.grid), task.grid)
    return preprocessing.parcel_signals(_input_run(task, confounds), mask, labelings, n_parcels)


_SUMMARIES = {"median": parcel_medians, "eigenvariate": parcel_eigenvariates}


def _summaries(
    task: RunTask,
    confounds: Confounds,
    reduction: RunReduction,
    labelings: Sequence[Labels],
    n_parcels: Sequence[int],
) -> list[npt.NDArray[np.float64]]:
    """Summarise the cleaned voxels of parcels by what is not linear, and standardize the summaries."""
    if reduction.holds_signals and reduction.units:
        voxels, before = reduction.voxel_signals(), reduction.units.before.astype(np.float64)
    else:
        mask = Mask(volume_of(reduction.voxels, task.grid), task.grid)
        voxels, before = _preprocessing(task, None).cleaned_signals(_input_run(task, confounds), mask)
    config = task.config
    if config.signals.summary == "eigenvariate":  # of what varies: a mean that cleaning has left would outweigh it
        voxels -= voxels.mean(axis=0, dtype=np.float64).astype(np.float32)
    summarize = _SUMMARIES[config.signals.summary]
    return [
        standardize(
            summarize(voxels, labels, number),
            config.denoising.standardize,
            mean=parcel_means(before[np.newaxis], labels, number)[0],
        )
        for labels, number in zip(labelings, n_parcels, strict=True)
    ]


def _relate(
    values: npt.NDArray[np.float64], available: npt.NDArray[np.float64], config: SignalsConfig
) -> ParcelSignals:
    """Take out parcels that are hardly covered, and relate the others."""
    values[:, available < config.min_coverage] = np.nan
    matrices: dict[str, npt.NDArray[np.float64]] = {}
    covariance, shrinkage = (None, None) if set(config.connectivity) <= {"pearson", "tangent"} else ledoit_wolf(values)
    for kind in config.connectivity:
        if kind == "pearson":
            matrices[kind] = pearson(values)
        elif covariance is not None and kind in _OF_COVARIANCE:
            matrices[kind] = _OF_COVARIANCE[kind](covariance)
    return ParcelSignals(values, available, matrices, shrinkage)


_OF_COVARIANCE: Mapping[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "covariance": lambda covariance: covariance,
    "precision": precision,
    "partial": partial_correlation,
}


def _coverage(parcellation: Parcellation, reduction: RunReduction) -> npt.NDArray[np.float64]:
    available = np.zeros(parcellation.labels.size, dtype=bool)
    available[reduction.voxels] = True
    return coverage(parcellation.labels.ravel(), available, parcellation.n_parcels)


def volume_of(voxels: npt.NDArray[np.int64], grid: Grid) -> npt.NDArray[np.bool_]:
    """Mark voxels in a volume.

    Parameters
    ----------
    voxels : ndarray of int64
        Flat C-order positions in the grid.
    grid : Grid
        Where they lie.

    Returns
    -------
    ndarray of bool, shape (X, Y, Z)
        True for these voxels.
    """
    volume = np.zeros(grid.shape, dtype=bool)
    volume.ravel()[voxels] = True
    return volume
