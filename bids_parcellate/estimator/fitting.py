"""Steps of the estimator: connect voxels, merge runs, move labels to another grid, measure what parcels explain."""

import logging
import warnings
from collections.abc import Iterable, Sequence

import joblib
from scipy import sparse

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.io.masking import Mask, drop_small_pieces
from bids_parcellate.numerics.features import WEIGHTING, FeatureMode
from bids_parcellate.numerics.graph import connected_pieces, voxel_adjacency
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.numerics.reduction import MergedReduction, Merger
from bids_parcellate.numerics.resampling import resample
from bids_parcellate.numerics.run_reduction import RunReduction
from bids_parcellate.numerics.signals import Labels, parcel_sizes
from bids_parcellate.runs.inputs import InputRun
from bids_parcellate.runs.preprocessing import Preprocessing
from bids_parcellate.version import __version__

logger = logging.getLogger(__name__)


def connect_voxels(mask: Mask, n_parcels: int, *, contiguous: bool) -> tuple[Mask, sparse.csr_array]:
    """Connect the voxels that share a face, and check that they can be split into so many parcels.

    Parameters
    ----------
    mask : Mask
        The voxels.
    n_parcels : int
        Number of parcels.
    contiguous : bool
        Whether parcels are to be contiguous. Then pieces of the mask that touch no other and hold less than 1% of its
        voxels are left out, with a warning: they could only be parcels of their own.

    Returns
    -------
    mask : Mask
        The voxels that are left.
    adjacency : csr_array of bool, shape (n_voxels, n_voxels)
        Which of them are neighbours.

    Raises
    ------
    UsageError
        If there are fewer voxels than parcels, or more pieces than contiguous parcels.
    """
    if contiguous:
        data, n_dropped, n_voxels = drop_small_pieces(mask.data)
        if n_dropped:
            warnings.warn(
                f"The mask has {n_dropped} small pieces that touch no other, with {n_voxels} of its {mask.n_voxels} "
                "voxels. They are left out: they could only be parcels of their own.",
                UserWarning,
                stacklevel=3,
            )
            mask = Mask(data, mask.grid)
    adjacency = voxel_adjacency(mask.data)
    n_needed = connected_pieces(adjacency)[0] if contiguous else 1
    if not n_needed <= n_parcels <= mask.n_voxels:
        pieces = f" in {n_needed} pieces that do not touch each other" if n_needed > 1 else ""
        raise UsageError(
            f"n_parcels is {n_parcels}, but the mask has {mask.n_voxels} voxels{pieces}",
            f"Choose from {n_needed} to {mask.n_voxels} parcels, or another mask.",
        )
    return mask, adjacency


def merge_runs(
    runs: Sequence[InputRun],
    mask: Mask,
    preprocessing: Preprocessing,
    mode: FeatureMode,
    n_components: int,
    memory: joblib.Memory,
    n_jobs: int,
) -> MergedReduction:
    """Reduce each run, and merge them: one after another in their order or, for "nilearn", all at once.

    Parameters
    ----------
    runs : sequence of InputRun
        The runs.
    mask : Mask
        The voxels.
    preprocessing : Preprocessing
        How their signals are cleaned.
    mode : {"scaled", "nilearn"}
        Which features are wanted. For "scaled" voxels are z-scored, whatever ``preprocessing`` says, and those that do
        not vary in a run count as missing there. For "nilearn" memory grows with the number of runs, as in nilearn.
    n_components : int
        Largest number of components of a run, and of the result.
    memory : joblib.Memory
        Where reductions of runs are cached.
    n_jobs : int
        Number of runs that are worked on at a time, in threads.

    Returns
    -------
    MergedReduction
        The components of the group.

    Raises
    ------
    ParcellateError
        If a run cannot be used.
    """
    is_scaled = mode == "scaled"
    if is_scaled:
        preprocessing = preprocessing.standardizing("zscore_sample")
    # Where weak components count as much as strong ones, none can be spared on the way.
    n_waiting = None if is_scaled else len(runs) * n_components
    merger = Merger(mask.n_voxels, n_components, n_waiting=n_waiting, weighting=WEIGHTING[mode])
    reduce = joblib.delayed(memory.cache(reduce_run, ignore=["run", "mask"]))
    digests = _cache_digests(runs, mask, memory)
    reductions = joblib.Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
        reduce(run, mask, preprocessing, n_components, drop_constant=is_scaled, digest=digest)
        for run, digest in zip(runs, digests, strict=True)
    )
    for reduction in reductions:
        merger.add(reduction.signals, reduction.columns(mask.voxels))
    return merger.result()


def reduce_run(
    run: InputRun, mask: Mask, preprocessing: Preprocessing, n_components: int, *, drop_constant: bool, digest: str
) -> RunReduction:
    """Reduce a run: `Preprocessing.reduce` as a function, so that it can be cached.

    Parameters
    ----------
    run, mask, preprocessing, n_components, drop_constant
        As in :meth:`bids_parcellate.runs.preprocessing.Preprocessing.reduce`.
    digest : str
        What stands for the run and the mask in the cache.

    Returns
    -------
    RunReduction
        The run's components.
    """
    del digest
    logger.info("Reducing %s.", run)
    return preprocessing.reduce(run, mask, preprocessing.operator(run), n_components, drop_constant=drop_constant)


def move_labels(labels: Labels, mask: Mask, grid: Grid, names: Iterable[str]) -> tuple[Mask, Labels]:
    """Find the parcels on another grid (nearest neighbour).

    Parameters
    ----------
    labels : ndarray of int, shape (n_voxels,)
        The parcel of each voxel, from 1.
    mask : Mask
        The voxels.
    grid : Grid
        Where the parcels are wanted.
    names : iterable of str
        Names of the parcels, for the warning about those that hold no voxel of the grid.

    Returns
    -------
    mask : Mask
        The voxels of the grid that are in parcels.
    labels : ndarray of int
        Their parcels.

    Raises
    ------
    DataError
        If none is.
    """
    if grid.matches(mask.grid):
        return mask, labels
    volume = resample(mask.unmask(labels), mask.grid, grid, interpolation="nearest")
    sizes = parcel_sizes(volume.ravel(), int(labels.max()))
    lost = [name for name, size in zip(names, sizes, strict=True) if size == 0]
    if len(lost) == len(sizes):
        raise DataError(
            f"an image of shape {grid.shape} holds no voxel of any parcel", "Check that it is in the parcels' space."
        )
    if lost:
        warnings.warn(
            f"{len(lost)} of {len(sizes)} parcels hold no voxel of an image of shape {grid.shape}, and their signals "
            f"are NaN: {', '.join(lost)}.",
            UserWarning,
            stacklevel=3,
        )
    inside = Mask(volume > 0, grid)
    return inside, inside.apply(volume)


def _cache_digests(runs: Sequence[InputRun], mask: Mask, memory: joblib.Memory) -> list[str]:
    """Make what stands for each run and the mask in the cache."""
    if memory.location is None:
        return [""] * len(runs)
    voxels = joblib.hash((__version__, mask.data, mask.grid.key))
    return [f"{voxels} {run.digest}" for run in runs]
