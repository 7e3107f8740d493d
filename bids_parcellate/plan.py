"""What a job needs of the machine, known before the work starts."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_parcellate.config import Config
from bids_parcellate.dataset import Run, Selection
from bids_parcellate.errors import ParcellateError, UsageError
from bids_parcellate.execution.executor import usable_cores
from bids_parcellate.io.images import read_volume
from bids_parcellate.numerics.grids import Grid

_MEGABYTE = 2**20
_FLOAT32 = 4

# An interpreter with everything imported, compiled kernels loaded, and the work space of linear algebra.
_PROCESS_MEGABYTES = 450

# Components that the running merge holds, and rows that wait to be merged, for each component of the result.
_MERGED_ROWS = 1.5 + 1

# Components of runs are stored in 2 of 4 bytes.
_STORED_SHARE = 0.5

# Rows that are stored beside a run's components: which voxels they are, their means and deviations.
_ROWS_BESIDE = 7


@dataclass(frozen=True)
class Needs:
    """What a job needs.

    Parameters
    ----------
    n_workers : int
        Processes that work at once.
    worker_megabytes, group_megabytes : int
        Memory of each of them, and of the group's merge and clustering.
    disk_megabytes : int
        Largest size of the stored reductions.
    elsewhere : bool, default=False
        Whether the workers are on other machines.
    """

    n_workers: int
    worker_megabytes: int
    group_megabytes: int
    disk_megabytes: int
    elsewhere: bool = False

    @property
    def n_threads(self) -> int:
        """Cores of this machine that the group's part may use."""
        return usable_cores() if self.elsewhere else self.n_workers

    @property
    def megabytes(self) -> int:
        """Peak memory of the whole job on this machine."""
        main = self.group_megabytes
        if self.elsewhere:
            return main
        workers = self.n_workers * self.worker_megabytes
        return max(main, workers) if self.n_workers == 1 else main + workers


def predict_needs(runs: Sequence[Run], grid: Grid, config: Config) -> Needs:
    """Predict what a job needs.

    Parameters
    ----------
    runs : sequence of Run
        The runs; at least one.
    grid : Grid
        The grid of the group.
    config : Config
        The configuration.

    Returns
    -------
    Needs
        With as many workers as cores, runs and memory allow.

    Raises
    ------
    UsageError
        If the memory does not suffice for one run.
    """
    n_voxels = _count_voxels(runs, grid, config)
    n_components = config.parcellation.n_components
    n_rows = [min(n_components, run.n_volumes) for run in runs]
    row_megabytes = n_voxels * _FLOAT32 / _MEGABYTE
    # The signals of a run, its components, and a few volumes.
    n_worker_rows = max(run.n_volumes + n for run, n in zip(runs, n_rows, strict=True))
    volumes = 8 * math.prod(grid.shape) * _FLOAT32 / _MEGABYTE
    worker = math.ceil(_PROCESS_MEGABYTES + n_worker_rows * row_megabytes + volumes)
    group = math.ceil(_PROCESS_MEGABYTES + _group_rows(sum(n_rows), n_components, config) * row_megabytes)
    n_stored = (
        _STORED_SHARE * sum(n_rows)
        + _ROWS_BESIDE * len(runs)
        + min(n_components, sum(n_rows))
        + len(config.parcellation.n_parcels)
    )
    disk = math.ceil(n_stored * row_megabytes) + 1
    available = config.execution.mem_mb or _memory_of_machine()
    elsewhere = config.execution.executor == "dask"
    least = group if elsewhere else max(worker, group)
    if least > available:
        raise UsageError(
            f"This job needs about {least} MB; {available} MB are allowed.",
            "Raise --mem, choose a coarser --target-res, or fewer --n-components.",
        )
    n_workers = min(config.execution.nprocs or usable_cores(), len(runs))
    while n_workers > 1 and Needs(n_workers, worker, group, disk, elsewhere).megabytes > available:
        n_workers -= 1
    return Needs(n_workers, worker, group, disk, elsewhere)


def _group_rows(n_rows: int, n_components: int, config: Config) -> float:
    """Count the rows of all voxels that the group's part holds at its peak."""
    n_merged = min(n_components, n_rows)
    # Features, a copy of them voxel by voxel, and the sums of clusters, in double precision.
    clustering = 4 * n_merged
    # The running merge, the run that is merged and, with threads, the one that is read meanwhile.
    merging = min(n_rows, _MERGED_ROWS * n_components) + 2 * n_merged
    # The features of the other half of the participants.
    return max(clustering, merging) + (0 if config.quality.level == "none" else n_merged)


def _count_voxels(runs: Sequence[Run], grid: Grid, config: Config) -> int:
    """Count the voxels of a run; where its mask must be computed first, every voxel counts."""
    n_voxels = math.prod(grid.shape)
    if config.masking.mask != "group":
        return n_voxels
    for path in filter(None, (run.mask for run in runs)):
        try:
            mask, _ = read_volume(path)
        except ParcellateError:
            continue  # said when the run is processed
        return int(n_voxels * np.count_nonzero(mask) / mask.size)
    return n_voxels


def _memory_of_machine() -> int:
    """Give the memory that this process may use, in MB: that of the machine, or of its container."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # control groups, versions 2 and 1
        path = Path("/sys/fs/cgroup", name)
        text = path.read_text().strip() if path.is_file() else "max"
        limits += [int(text)] if text != "max" else []
    return min(limits) // _MEGABYTE


def describe(selection: Selection, unusable: Mapping[Run, ParcellateError], needs: Needs) -> str:
    """Describe a job that has not started.

    Parameters
    ----------
    selection : Selection
        The runs that are used and those that are not.
    unusable : Mapping
        Of the former, those whose confounds cannot be used, and why.
    needs : Needs
        What it needs.

    Returns
    -------
    str
        Lines of text.
    """
    usable = [run for run in selection.runs if run not in unusable]
    left_out = [(rejected.label, rejected.reason, rejected.hint) for rejected in selection.rejected]
    left_out += [(run.label, error.message, error.hint) for run, error in unusable.items()]
    lines = [f"{len(usable)} runs will be used:"]
    lines += [f"  {run.label}: {run.n_volumes} volumes, TR {run.t_r:g} s, {run.bold}" for run in usable]
    lines.append(f"{len(left_out)} runs will be left out:")
    for label, reason, hint in left_out:
        lines.append(f"  {label}: {reason}")
        lines += [f"    -> {hint}"] if hint else []
    lines += [f"Note: {warning}" for warning in selection.warnings]
    lines.append(
        f"Needs about {needs.megabytes} MB of memory with {needs.n_workers} processes "
        f"({needs.worker_megabytes} MB each, {needs.group_megabytes} MB for the group), "
        f"and at most {needs.disk_megabytes} MB in the work folder."
    )
    return "\n".join(lines) + "\n"
