"""Distance-controlled boundary coefficient: do parcels matter, beyond that voxels near to each other are alike."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.quality.sums import Double, Labels, divide, voxel_rows

_BLOCK = 65536  # pairs whose correlations are computed at once


@dataclass(frozen=True)
class VoxelPairs:
    """Pairs of voxels, sorted into bins of distance.

    Parameters
    ----------
    ends : ndarray of int32, shape (2, n_pairs)
        The voxels.
    bins : ndarray of int64, shape (n_pairs,)
        The bin of each pair.
    distances : ndarray of shape (n_bins,), float64
        Mean distance in each bin, mm.
    """

    ends: NDArray[np.int32]
    bins: NDArray[np.int64]
    distances: Double


def sample_pairs(
    positions: NDArray[np.integer],
    axes: NDArray[np.floating],
    *,
    max_distance: float = 35.0,
    bin_width: float = 1.0,
    n_per_bin: int = 20_000,
    seed: int = 0,
) -> VoxelPairs:
    """Choose pairs of voxels of all distances up to a largest one.

    Parameters
    ----------
    positions : ndarray of int, shape (V, 3)
        Indices of the voxels in the image.
    axes : ndarray of shape (3, 3)
        The linear part of the affine: column i is the step from one voxel to the next along axis i, in mm.
    max_distance : float, default=35.0
        Largest distance, mm.
    bin_width : float, default=1.0
        Width of the bins of distance, mm.
    n_per_bin : int, default=20_000
        Number of candidates in each bin. Those of which one end is outside of the mask fall away. Each pair of a bin is
        as likely as any other and occurs once at most.
    seed : int, default=0
        Seed.

    Returns
    -------
    VoxelPairs
        The pairs; bins without any are left out.

    Raises
    ------
    UsageError
        If a number is not positive, or no two voxels are so near.
    """
    if not min(max_distance, bin_width, n_per_bin) > 0:
        raise UsageError(
            f"max_distance ({max_distance}), bin_width ({bin_width}) and n_per_bin ({n_per_bin}) must be positive"
        )
    rng = np.random.default_rng(seed)
    offsets, lengths = _half_ball(axes, max_distance)
    margin = np.abs(offsets).max(axis=0, initial=0)
    places = positions - positions.min(axis=0) + margin
    number = np.full(places.max(axis=0) + margin + 1, -1, dtype=np.int32)
    number[tuple(places.T)] = np.arange(len(places))
    bin_of_offset = (lengths / bin_width).astype(np.int64)
    ends, sums, counts = [], [], []
    for bin_ in np.unique(bin_of_offset):
        members = np.flatnonzero(bin_of_offset == bin_)
        n_candidates = len(places) * len(members)
        chosen = rng.choice(n_candidates, min(n_per_bin, n_candidates), replace=False)
        voxel, member = np.divmod(chosen, len(members))
        other = number[tuple((places[voxel] + offsets[members[member]]).T)]
        inside = other >= 0
        ends.append(np.stack([voxel[inside], other[inside]]).astype(np.int32))
        sums.append(lengths[members[member[inside]]].sum())
        counts.append(np.count_nonzero(inside))
    if not sum(counts):
        raise UsageError(f"no two voxels are at most {max_distance} mm apart")
    filled = np.array(counts) > 0
    bins = np.repeat(np.cumsum(filled) - 1, counts)
    return VoxelPairs(np.concatenate(ends, axis=1), bins, np.array(sums)[filled] / np.array(counts)[filled])


def _half_ball(axes: NDArray[np.floating], radius: float) -> tuple[NDArray[np.int64], Double]:
    """List the offsets between voxels of a length up to the radius, one of each two opposite ones; and the lengths."""
    # The rows of the inverse are normal to the grid's planes: their lengths say how many planes the ball crosses.
    reach = np.floor(radius * np.linalg.norm(np.linalg.inv(axes), axis=1) + 1e-9).astype(int)
    ranges = [np.arange(-n, n + 1) for n in reach]
    offsets = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    offsets = offsets[len(offsets) // 2 + 1 :]  # those after 0
    lengths = np.linalg.norm(offsets @ axes.T, axis=1)
    near = lengths <= radius * (1 + 1e-9)
    return offsets[near], lengths[near]


@dataclass(frozen=True)
class PairCorrelations:
    """Correlations of pairs of voxels. Those of several runs are added: ``sum(runs[1:], runs[0])``.

    Parameters
    ----------
    sums : ndarray of shape (n_pairs,), float64
        Sum over the runs that have both voxels.
    n_runs : ndarray of shape (n_pairs,), int64
        Number of those runs.
    """

    sums: Double
    n_runs: NDArray[np.int64]

    def __add__(self, other: Self) -> Self:
        return type(self)(self.sums + other.sums, self.n_runs + other.n_runs)

    @property
    def mean(self) -> Double:
        """Mean over runs, shape (n_pairs,); NaN where no run has both voxels."""
        return divide(self.sums, self.n_runs)


def pair_correlations(features: NDArray[np.floating], pairs: VoxelPairs) -> PairCorrelations:
    """Correlate the two voxels of each pair, in a run.

    Parameters
    ----------
    features : ndarray of shape (k, V), float32 or float64
        The run's components times their singular values. A voxel whose features are all zero is one that the run lacks.
    pairs : VoxelPairs
        The pairs.

    Returns
    -------
    PairCorrelations
        Of one run.
    """
    rows = voxel_rows(features, unit=True)
    correlations = np.empty(pairs.bins.size)
    for start in range(0, correlations.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        first, second = (rows[ends[block]] for ends in pairs.ends)
        correlations[block] = np.einsum("ij,ij->i", first, second)
    is_there = np.asarray(rows.any(axis=1))
    is_pair = np.asarray(is_there[pairs.ends].all(axis=0))
    return PairCorrelations(correlations, is_pair.astype(np.int64))


@dataclass(frozen=True)
class BoundaryCoefficient:
    """Correlations within and between parcels, at the same distances.

    Parameters
    ----------
    distances : ndarray of shape (n_bins,), float64
        Mean distance of each bin, mm.
    within, between : ndarray of shape (n_bins,), float64
        Mean correlation of pairs in one parcel, and in two; NaN without pairs.
    weights : ndarray of shape (n_bins,), float64
        Of each bin's difference, summing to 1; 0 if it is not defined.
    """

    distances: Double
    within: Double
    between: Double
    weights: Double

    @property
    def coefficient(self) -> float:
        """Weighted mean of the differences within less between; NaN if no bin defines it."""
        used = self.weights > 0
        return float(self.weights[used] @ (self.within - self.between)[used]) if used.any() else float("nan")


def boundary_coefficient(correlations: PairCorrelations, pairs: VoxelPairs, labels: Labels) -> BoundaryCoefficient:
    """Compare correlations within and between parcels at the same distance.

    Parameters
    ----------
    correlations : PairCorrelations
        Of the pairs' voxels. Pairs that no run has are left out.
    pairs : VoxelPairs
        The pairs.
    labels : ndarray of int, shape (V,)
        The parcel of each voxel, from 1; 0 means none, and pairs with such a voxel are left out.

    Returns
    -------
    BoundaryCoefficient
        The coefficient is 0 on average if boundaries do not matter, whatever the number and sizes of parcels.

    Notes
    -----
    The difference of a bin with n pairs within and m between parcels has the weight ``1 / (1 / n + 1 / m)``, as in
    [1]_. There distances are along the surface of the cortex, and all pairs are used; here they are straight and
    pairs are sampled, as many in each bin.

    References
    ----------
    .. [1] Zhi D, King M, Hernandez-Castillo CR, Diedrichsen J (2022). Evaluating brain parcellations using the
       distance-controlled boundary coefficient. Hum Brain Mapp 43:3706-3720, doi:10.1002/hbm.25878.
    """
    one, other = labels[pairs.ends]
    values = correlations.mean
    used = (one > 0) & (other > 0) & (correlations.n_runs > 0)
    same = used & (one == other)
    n_bins = pairs.distances.size
    counts, means = [], []
    for chosen in (same, used & ~same):
        n_pairs = np.bincount(pairs.bins[chosen], minlength=n_bins).astype(np.float64)
        counts.append(n_pairs)
        means.append(divide(np.bincount(pairs.bins[chosen], values[chosen], n_bins), n_pairs))
    weights = np.nan_to_num(divide(counts[0] * counts[1], counts[0] + counts[1]))
    return BoundaryCoefficient(pairs.distances, means[0], means[1], weights / max(weights.sum(), 1e-300))
