"""One run, from its files to its reduction and to its parcel signals.

A run needs only its own files and the configuration: it can be processed on any machine, in any order.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_parcellate.atlas import Parcellation
from bids_parcellate.cleaning import (
    Standardization,
    apply_operator,
    baseline,
    degrees_of_freedom,
    standardize,
    temporal_operator,
)
from bids_parcellate.config import MASK_STRATEGIES, TEMPLATE_MASKS, Config
from bids_parcellate.confounds import Confounds, load_confounds
from bids_parcellate.dataset import Run
from bids_parcellate.derivatives import ParcelSignals
from bids_parcellate.errors import DataError
from bids_parcellate.extraction import read_signals
from bids_parcellate.grids import Grid
from bids_parcellate.masking import Mask, read_mask, run_mask
from bids_parcellate.reduction import reduce_signals
from bids_parcellate.signals import coverage, parcel_means, pearson
from bids_parcellate.store import RunReduction
from bids_parcellate.strategies import ConfoundStrategy
from bids_parcellate.templates import template_mask, templateflow_home

logger = logging.getLogger(__name__)

# With fewer degrees of freedom, what is left of a run is mostly what the model could not fit.
MIN_DEGREES_OF_FREEDOM = 10

_END = 2**16  # bytes at the start and at the end of a file that tell it from others

# Raised when the same inputs would give other numbers, so that stored reductions of earlier versions are not used.
_FORMAT = 1


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
            "files": [_identity(path) for path in run.files],
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
        return (strategy,) if strategy in MASK_STRATEGIES else _identity(Path(strategy))


def _identity(path: Path) -> tuple[str, int, int, str]:
    """Tell files apart without reading all of them: the last bytes of a gzip file are a checksum of its content."""
    status = path.stat()
    with path.open("rb") as file:
        ends = file.read(_END)
        file.seek(max(0, status.st_size - _END))
        ends += file.read(_END)
    return path.name, status.st_size, status.st_mtime_ns, hashlib.sha256(ends).hexdigest()


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
    denoising = task.config.denoising
    operator = temporal_operator(
        confounds.n_volumes,
        t_r=task.run.t_r,
        confounds=confounds.values if confounds.names else None,
        sample_mask=confounds.sample_mask,
        detrend=denoising.detrend,
        low_pass=denoising.low_pass,
        high_pass=denoising.high_pass,
    )
    freedom = degrees_of_freedom(operator)
    if freedom < MIN_DEGREES_OF_FREEDOM:
        raise DataError(
            f"{task.run.bold}: {confounds.kept.sum()} kept volumes, {len(confounds.names)} confounds and the "
            f"filter leave {freedom} degrees of freedom; at least {MIN_DEGREES_OF_FREEDOM} are needed.",
            "Choose fewer confounds, a wider band, or less censoring.",
        )
    return operator


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
    operator = build_operator(task, confounds)
    mask = find_mask(task)
    raw = read_signals(task.run.bold, mask, task.config.denoising.smoothing_fwhm)
    voxels = mask.voxels
    varies = raw.min(axis=0) < raw.max(axis=0)
    if not varies.any():
        raise DataError(f"{task.run.bold} does not vary over time in any voxel of its mask.", "Check image and mask.")
    if not varies.all():
        logger.info("%s: %d of %d voxels are constant and not used.", task, (~varies).sum(), len(voxels))
        raw, voxels = raw[:, varies], voxels[varies]
    cleaned = _clean(task, confounds, operator, raw, _voxel_scaling(task.config))
    return RunReduction(
        reduce_signals(cleaned, task.config.parcellation.n_components),
        voxels=voxels,
        kept=confounds.kept,
        mean_fd=confounds.mean_framewise_displacement,
    )


def extract_signals(
    task: RunTask, mask: Mask, parcellations: Sequence[Parcellation]
) -> tuple[Confounds, list[ParcelSignals]]:
    """Read a run and extract the cleaned signals of parcels.

    Parameters
    ----------
    task : RunTask
        The run.
    mask : Mask
        The run's usable voxels, on the group's grid.
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
    operator = build_operator(task, confounds)
    raw = read_signals(task.run.bold, mask, task.config.denoising.smoothing_fwhm)
    scaling = task.config.denoising.standardize
    signals = []
    for parcellation in parcellations:
        labels, n_parcels = parcellation.labels, parcellation.n_parcels
        # Cleaning is linear, so it is the parcels' few means that are cleaned, not their many voxels.
        means = parcel_means(raw, mask.apply(labels), n_parcels)
        values = _clean(task, confounds, operator, means, scaling)
        available = coverage(labels.ravel(), mask.data.ravel(), n_parcels)
        signals.append(ParcelSignals(values, pearson(values), available))
    return confounds, signals


def _clean(
    task: RunTask,
    confounds: Confounds,
    operator: npt.NDArray[np.float64],
    raw: npt.NDArray[Any],
    scaling: Standardization,
) -> npt.NDArray[Any]:
    denoising = task.config.denoising
    is_filtered = denoising.low_pass is not None or denoising.high_pass is not None
    mean = baseline(raw, sample_mask=confounds.sample_mask, filtered=is_filtered)
    return standardize(apply_operator(operator, raw), scaling, mean=mean)
