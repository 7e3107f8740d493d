"""The anatomy of a simulated study: a brain of analytic shapes, its tissues, and its true parcels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.graph import edges, voxel_adjacency

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Labels = NDArray[np.int32]
Shape = tuple[tuple[float, float, float], tuple[float, float, float]]

# Intensities, in arbitrary units as fMRIPrep leaves them.
GREY, WHITE, CSF, OUTSIDE = 10_000.0, 8_500.0, 13_000.0, 150.0

# The field of view of the template at 2 mm (TemplateFlow's res-02): the centre of the corner voxel, and the extent.
_ORIGIN = (-96.5, -132.5, -78.5)
_EXTENT = (194.0, 230.0, 194.0)

# Ellipsoids (centre, semi-axes; mirrored at x = 0) that together resemble the template's brain mask.
_BRAIN: tuple[Shape, ...] = (
    ((0.0, -18.0, 17.0), (70.0, 88.0, 63.0)),  # cerebrum
    ((45.0, -14.0, -22.0), (25.0, 40.0, 26.0)),  # temporal lobe
    ((22.0, -64.0, -36.0), (33.0, 31.0, 30.0)),  # cerebellum
    ((0.0, -28.0, -40.0), (14.0, 14.0, 32.0)),  # brain stem
)
_BRIDGE: tuple[Shape, ...] = (((0.0, -22.0, -2.0), (20.0, 42.0, 30.0)), *_BRAIN[2:])  # what joins the hemispheres
_VENTRICLES: tuple[Shape, ...] = (((11.0, -14.0, 18.0), (7.0, 32.0, 9.0)),)
_CORTEX = 11.0  # thickness of the grey rim: a cortex with its folds


@dataclass(frozen=True)
class Brain:
    """A brain of analytic shapes on a voxel grid.

    Parameters
    ----------
    affine : ndarray of shape (4, 4)
        Voxel indices to mm.
    depth : ndarray of shape (X, Y, Z)
        Distance below the brain's surface in mm, negative outside.
    white, csf : ndarray of shape (X, Y, Z)
        Share of the voxel, from 0 to 1; the rest of the brain is grey.
    """

    affine: NDArray[np.float64]
    depth: Float
    white: Float
    csf: Float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along each axis."""
        x, y, z = self.depth.shape
        return x, y, z

    @property
    def voxel_size(self) -> float:
        """Edge of the cubic voxels, mm."""
        return float(self.affine[0, 0])

    @property
    def mask(self) -> Bool:
        """The voxels whose centre is in the brain."""
        return np.asarray(self.depth > 0)

    @property
    def intensity(self) -> Float:
        """Mean signal, blurred at the brain's surface by partial volume, ndarray of shape (X, Y, Z)."""
        tissue = GREY + (WHITE - GREY) * self.white + (CSF - GREY) * self.csf
        covered = np.clip(self.depth / self.voxel_size + 0.5, 0, 1)
        return np.asarray(OUTSIDE + (tissue - OUTSIDE) * covered, np.float32)


def make_brain(voxel_size: float) -> Brain:
    """Make a brain that fills the template's field of view.

    Parameters
    ----------
    voxel_size : float
        Edge of the cubic voxels, mm.

    Returns
    -------
    Brain
        Two hemispheres with a fissure, joined by a bridge, with ventricles, a cerebellum and a brain stem.

    Raises
    ------
    UsageError
        If the voxels are too large for the anatomy, or needlessly small.
    """
    if not 1 <= voxel_size <= 10:
        raise UsageError(f"voxels of {voxel_size} mm cannot be simulated: 1 to 10 mm are allowed.")
    shape = [int(np.ceil(extent / voxel_size)) for extent in _EXTENT]
    affine = np.diag([voxel_size] * 3 + [1.0])
    affine[:3, 3] = _ORIGIN
    axes = [np.arange(n) * voxel_size + start for n, start in zip(shape, _ORIGIN, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    fissure = np.abs(x) - max(2.0, voxel_size / 2)
    depth = np.minimum(_depth(_BRAIN, x, y, z), np.maximum(fissure, _depth(_BRIDGE, x, y, z)))
    csf = np.clip(0.5 + _depth(_VENTRICLES, x, y, z) / voxel_size, 0, 1)
    white = np.clip((depth - _CORTEX) / voxel_size + 0.5, 0, 1) * (1 - csf)
    return Brain(affine, depth.astype(np.float32), white.astype(np.float32), csf.astype(np.float32))


def _depth(shapes: Sequence[Shape], x: Any, y: Any, z: Any) -> NDArray[np.float64]:
    """Roughly the distance below the surface of a union of ellipsoids, mm."""
    depths = [
        (1 - np.sqrt(((np.abs(x) - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 + ((z - cz) / az) ** 2)) * min(ax, ay, az)
        for (cx, cy, cz), (ax, ay, az) in shapes
    ]
    return np.asarray(np.maximum.reduce(depths))


def grow_parcels(mask: Bool, n_parcels: int, rng: np.random.Generator) -> Labels:
    """Divide a mask into contiguous parcels of unequal size and irregular shape.

    Seeds are scattered at random but not too close; a voxel goes to the seed that is nearest on a path inside the
    mask, where steps have random lengths. Paths to a seed stay in its parcel, so parcels are contiguous.

    Parameters
    ----------
    mask : ndarray of bool, shape (X, Y, Z)
        A connected mask.
    n_parcels : int
        Number of parcels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of int32, shape (X, Y, Z)
        1 to `n_parcels` inside the mask, 0 outside.

    Raises
    ------
    UsageError
        If the mask has too few voxels for so many parcels.
    """
    positions = np.argwhere(mask)
    if not 1 <= n_parcels <= len(positions) // 8:
        raise UsageError(
            f"{n_parcels} parcels do not fit {len(positions)} voxels: 1 to {len(positions) // 8} are allowed.",
            "Choose fewer parcels or smaller voxels.",
        )
    seeds = _scatter(positions, n_parcels, rng)
    lengths = 1 + np.abs(smooth_field(mask.shape, 1.5, rng)[mask])
    _, _, nearest = csgraph.dijkstra(
        _steps(mask, lengths), directed=False, indices=seeds, min_only=True, return_predecessors=True
    )
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = 1 + np.unique(nearest, return_inverse=True)[1]
    return labels


def _scatter(positions: NDArray[np.int64], n_points: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose voxels at random, none closer to another than 0.75 of the mean spacing."""
    apart = 0.75 * (len(positions) / n_points) ** (1 / 3)
    free = np.ones(len(positions), bool)
    chosen: list[int] = []
    for candidate in rng.permutation(len(positions)):
        if free[candidate]:
            chosen.append(int(candidate))
            free &= ((positions - positions[candidate]) ** 2).sum(1) > apart**2
        if len(chosen) == n_points:
            break
    return np.array(chosen)


def _steps(mask: Bool, lengths: Float) -> sparse.csr_array:
    """Connect voxels that share a face; a step is as long as the mean of what its two ends say."""
    ends = edges(voxel_adjacency(mask))
    return sparse.csr_array((lengths[ends].mean(axis=1), ends.T), shape=(len(lengths), len(lengths)))


def warp_parcels(labels: Labels, shift: float, rng: np.random.Generator) -> Labels:
    """Move the boundaries of parcels smoothly, as they differ between people; the mask stays.

    Parameters
    ----------
    labels : ndarray of int32, shape (X, Y, Z)
        Parcels; 0 is outside.
    shift : float
        Standard deviation of the displacement along each axis, voxels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of int32, shape (X, Y, Z)
        The moved parcels.
    """
    shifts = [shift * smooth_field(labels.shape, 4, rng) for _ in range(3)]
    moved = ndimage.map_coordinates(labels, np.indices(labels.shape) + shifts, order=0, mode="nearest")
    return np.where((labels > 0) & (moved > 0), moved, labels)


def smooth_field(shape: tuple[int, ...], width: float, rng: np.random.Generator) -> Float:
    """Draw spatially smooth Gaussian noise.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    width : float
        Standard deviation of the smoothing kernel, voxels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of float32
        Noise of unit variance that goes on smoothly from one side to the opposite one.
    """
    noise = rng.standard_normal(shape, dtype=np.float32)
    field = np.asarray(ndimage.gaussian_filter(noise, width, truncate=3, mode="wrap"))
    return np.asarray(field / field.std(), np.float32)
