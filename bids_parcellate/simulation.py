"""A simulated resting-state study whose answer is known: brain, parcels, signal, motion and noise.

Arrays and plain numbers only; :mod:`bids_parcellate.demo` writes them as files. Lengths are in mm in the RAS+
coordinates of MNI152NLin2009cAsym, times in seconds. Every random step draws from the generator that it is given.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from bids_parcellate.errors import UsageError

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Labels = NDArray[np.int32]

N_NETWORKS = 7
N_NON_STEADY_STATE = 2  # volumes before the longitudinal magnetisation settles
MIN_VOLUMES = 30

# The field of view of the template at 2 mm (TemplateFlow's res-02): the corner voxel's centre and the extent, mm.
_ORIGIN = (-96.5, -132.5, -78.5)
_EXTENT = (194.0, 230.0, 194.0)

# Ellipsoids (centre, semi-axes; mm; mirrored at x = 0) that together resemble the template's brain mask.
_BRAIN = (
    ((0.0, -18.0, 17.0), (70.0, 88.0, 63.0)),  # cerebrum
    ((45.0, -14.0, -22.0), (25.0, 40.0, 26.0)),  # temporal lobe
    ((22.0, -64.0, -36.0), (33.0, 31.0, 30.0)),  # cerebellum
    ((0.0, -28.0, -40.0), (14.0, 14.0, 32.0)),  # brain stem
)
_BRIDGE = (((0.0, -22.0, -2.0), (20.0, 42.0, 30.0)), *_BRAIN[2:])  # what joins the hemispheres
_VENTRICLES = (((11.0, -14.0, 18.0), (7.0, 32.0, 9.0)),)

_HEAD_MARGIN = 10.0  # how far outside the brain the scanner still saw something, mm
_CORTEX = 11.0  # thickness of the grey rim: a cortex with its folds, mm

# Intensities, arbitrary units as fMRIPrep leaves them.
_GREY, _WHITE, _CSF, _OUTSIDE = 10_000.0, 8_500.0, 13_000.0, 150.0

# Standard deviations as a share of the local intensity (thermal noise: of grey matter's).
_SIGNAL, _SIGNAL_IN_WHITE = 0.008, 0.6  # BOLD; white matter shows this share of it
_GLOBAL, _PHYSIOLOGY_CSF, _PHYSIOLOGY_WHITE, _DRIFT = 0.003, 0.02, 0.003, 0.004
_THERMAL = 0.0085
_MOTION_RESIDUAL = 0.15  # share of the displacement that realignment leaves behind
_SPIN_HISTORY, _SPIN_RECOVERY = 0.02, 3.0  # signal lost per mm of sudden motion, and its time constant, s


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
        tissue = _GREY + (_WHITE - _GREY) * self.white + (_CSF - _GREY) * self.csf
        covered = np.clip(self.depth / self.voxel_size + 0.5, 0, 1)
        return np.asarray(_OUTSIDE + (tissue - _OUTSIDE) * covered, np.float32)


@dataclass(frozen=True)
class Run:
    """One simulated run after preprocessing.

    Parameters
    ----------
    bold : ndarray of shape (T, V)
        Intensities of the voxels of the head; the others are zero.
    head : ndarray of bool, shape (X, Y, Z)
        Where those voxels are, in C order.
    mask : ndarray of bool, shape (X, Y, Z)
        The brain mask as estimated for this run: a little off the true one.
    motion : ndarray of shape (T, 6)
        Translations along x, y, z (mm), then rotations about them (rad).
    """

    bold: Float
    head: Bool
    mask: Bool
    motion: NDArray[np.float64]


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
    """
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


def _depth(shapes: tuple[Any, ...], x: Any, y: Any, z: Any) -> NDArray[np.float64]:
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
            f"{n_parcels} parcels do not fit a brain of {len(positions)} voxels: 1 to {len(positions) // 8} are allowed",
            hint="choose fewer parcels or smaller voxels",
        )
    seeds = _scatter(positions, n_parcels, rng)
    lengths = 1 + np.abs(_smooth_field(rng, mask.shape, width=1.5)[mask])
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
    """Connect voxels that share a face; a step is as long as the mean of its two ends."""
    index = np.full(mask.shape, -1)
    index[mask] = np.arange(mask.sum())
    pairs = []
    for axis in range(3):
        ahead, behind = np.moveaxis(index, axis, 0)[1:], np.moveaxis(index, axis, 0)[:-1]
        both = (ahead >= 0) & (behind >= 0)
        pairs.append((behind[both], ahead[both]))
    start, end = np.concatenate(pairs, axis=1)
    return sparse.csr_array(((lengths[start] + lengths[end]) / 2, (start, end)), shape=(len(lengths),) * 2)


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
    shifts = [shift * _smooth_field(rng, labels.shape, width=4) for _ in range(3)]
    moved = ndimage.map_coordinates(labels, np.indices(labels.shape) + shifts, order=0, mode="nearest")
    return np.where((labels > 0) & (moved > 0), moved, labels)


def parcel_signals(networks: Labels, n_volumes: int, t_r: float, rng: np.random.Generator) -> Float:
    """Draw one time course for each parcel; parcels of one network have something in common.

    Parameters
    ----------
    networks : ndarray of int, shape (n_parcels,)
        Network of each parcel, from 0.
    n_volumes : int
        Number of volumes.
    t_r : float
        Repetition time, s.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of float32, shape (n_volumes, n_parcels)
        Fluctuations between 0.01 and 0.1 Hz of zero mean and unit standard deviation.
    """
    shared = _slow_noise(rng, n_volumes, N_NETWORKS, t_r)[:, networks]
    signals = np.sqrt(0.35) * shared + np.sqrt(0.65) * _slow_noise(rng, n_volumes, len(networks), t_r)
    return np.asarray(signals / signals.std(0), np.float32)


def simulate_motion(n_volumes: int, t_r: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw head motion: slow drift, breathing, jitter, and two or three sudden moves of more than 0.5 mm.

    Parameters
    ----------
    n_volumes : int
        Number of volumes.
    t_r : float
        Repetition time, s.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of shape (n_volumes, 6)
        Translations along x, y, z (mm), then rotations about them (rad).
    """
    millimetres = 0.015 * rng.standard_normal((n_volumes, 6)) + 0.1 * _slow_drift(rng, n_volumes, 6)
    breathing = np.sin(2 * np.pi * 0.28 * t_r * np.arange(n_volumes) + rng.uniform(0, 2 * np.pi))
    millimetres[:, 1:4] += 0.02 * breathing[:, np.newaxis]
    thirds = np.array_split(np.arange(N_NON_STEADY_STATE + 3, n_volumes - 3), 3)
    for third in thirds[: rng.integers(2, 4)]:
        direction = rng.standard_normal(6)
        millimetres[rng.choice(third) :] += rng.uniform(0.8, 1.6) * direction / np.abs(direction).sum()
    return np.asarray(millimetres / [1, 1, 1, 50, 50, 50])  # a rotation moves the surface of a 50 mm sphere


def framewise_displacement(motion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of the absolute changes of the six parameters; rotations count on a sphere of 50 mm.

    Parameters
    ----------
    motion : ndarray of shape (T, 6)
        Translations (mm), rotations (rad).

    Returns
    -------
    ndarray of shape (T,)
        Millimetres; 0 for the first volume.

    References
    ----------
    Power et al. (2012), NeuroImage 59(3), 2142-2154, doi:10.1016/j.neuroimage.2011.10.018.
    """
    changes = np.abs(np.diff(motion, axis=0, prepend=motion[:1]))
    return np.asarray(changes @ [1, 1, 1, 50, 50, 50])


def simulate_run(brain: Brain, labels: Labels, signals: Float, t_r: float, rng: np.random.Generator) -> Run:
    """Simulate one preprocessed run.

    Parameters
    ----------
    brain : Brain
        The anatomy.
    labels : ndarray of int32, shape (X, Y, Z)
        The participant's parcels.
    signals : ndarray of float32, shape (T, n_parcels)
        Time course of each parcel.
    t_r : float
        Repetition time, s.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Run
        BOLD signal, brain mask and motion.
    """
    head = brain.depth > -_HEAD_MARGIN
    intensity, white, csf = brain.intensity[head], brain.white[head], brain.csf[head]
    motion = simulate_motion(len(signals), t_r, rng)
    time_courses, maps = _nuisances(brain, head, motion, t_r, rng)
    change = np.asarray(time_courses @ maps, np.float32)
    inside = labels[head] > 0
    amplitude = _SIGNAL * (1 - csf) * (1 - (1 - _SIGNAL_IN_WHITE) * white)
    change[:, inside] += signals[:, labels[head][inside] - 1] * amplitude[inside]
    relaxation = np.exp(-np.arange(N_NON_STEADY_STATE) / 0.7)
    change[:N_NON_STEADY_STATE] += np.outer(relaxation, 0.2 + 0.2 * csf)
    thermal = rng.standard_normal(change.shape, dtype=np.float32) * _thermal_noise(brain)[head]
    mask = brain.depth + _smooth_field(rng, brain.shape, width=2) * brain.voxel_size / 4 > 0
    return Run(np.abs(intensity * (1 + change) + thermal), head, mask, motion)


def _nuisances(
    brain: Brain, head: Bool, motion: NDArray[np.float64], t_r: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Time courses (T, R) and maps (R, V) of everything structured that is not of interest."""
    n_volumes = len(motion)
    white, csf = brain.white[head], brain.csf[head]
    grey = (brain.depth[head] > 0) * (1 - white - csf)

    def field(mean: float = 0.0) -> Float:
        return np.asarray(mean + _smooth_field(rng, brain.shape, width=20 / brain.voxel_size)[head])

    maps = [_GLOBAL * (grey + 0.5 * white) * field(3) / 3]
    maps += [_PHYSIOLOGY_CSF * csf * field(1) for _ in range(2)]
    maps += [_PHYSIOLOGY_WHITE * (white + 0.5 * grey) * field() for _ in range(2)]
    maps += [_DRIFT * field() for _ in range(3)]
    sudden = np.where((moved := framewise_displacement(motion)) > 0.5, moved, 0)
    recovery = np.exp(-np.arange(n_volumes) * t_r / _SPIN_RECOVERY)
    maps += [-_SPIN_HISTORY * field(1)]
    courses = [
        _slow_noise(rng, n_volumes, 1, t_r),
        _fast_noise(rng, n_volumes, 4),
        _slow_drift(rng, n_volumes, 3),
        np.convolve(sudden, recovery)[:n_volumes, np.newaxis],
        _MOTION_RESIDUAL * (motion - motion.mean(0)),
    ]
    return np.hstack(courses), np.vstack([*maps, _displacement_maps(brain, head)])


def _displacement_maps(brain: Brain, head: Bool) -> NDArray[np.float64]:
    """Relative change of intensity per mm and per rad of motion, (6, V): what moves is the edges."""
    gradient = np.stack([g[head] for g in np.gradient(brain.intensity, brain.voxel_size)])
    position = brain.affine[:3, :3] @ np.argwhere(head).T + brain.affine[:3, 3:]
    rotations = np.cross(position, gradient, axis=0)  # gradient . (axis x position), for each axis
    return np.vstack([gradient, rotations]) / -np.maximum(brain.intensity[head], _GREY / 4)


def _thermal_noise(brain: Brain) -> Float:
    """Standard deviation of the thermal noise: more in the middle, far from the coils; little outside."""
    centre = np.clip(brain.depth / 40, 0, 1)
    inside = np.clip(brain.depth / brain.voxel_size + 1, 0.1, 1)
    return np.asarray(_THERMAL * _GREY * inside * (0.8 + 0.8 * centre), np.float32)


def _smooth_field(rng: np.random.Generator, shape: tuple[int, ...], width: float) -> Float:
    """Spatially smooth Gaussian noise, `width` (standard deviation of the kernel) in voxels; unit variance."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), width, truncate=3, mode="wrap")
    return np.asarray(field / field.std(), np.float32)


def _slow_noise(rng: np.random.Generator, n_volumes: int, n_signals: int, t_r: float) -> NDArray[np.float64]:
    """Noise between 0.01 and 0.1 Hz with the spectrum of an autoregressive process, unit variance, (T, n_signals)."""
    frequencies = np.fft.rfftfreq(n_volumes, t_r)[:, np.newaxis]
    amplitude = ((frequencies >= 0.01) & (frequencies <= 0.1)) / np.hypot(1, frequencies / 0.04)
    phases = rng.standard_normal((2, len(frequencies), n_signals))
    noise = np.fft.irfft(amplitude * (phases[0] + 1j * phases[1]), n_volumes, axis=0)
    return np.asarray(noise / noise.std(0))


def _fast_noise(rng: np.random.Generator, n_volumes: int, n_signals: int) -> NDArray[np.float64]:
    """Heart and breath, faster than the sampling: weakly autocorrelated noise of unit variance, (T, n_signals)."""
    noise = rng.standard_normal((n_volumes + 1, n_signals))
    noise = noise[1:] + 0.4 * noise[:-1]
    return np.asarray(noise / noise.std(0))


def _slow_drift(rng: np.random.Generator, n_volumes: int, n_signals: int) -> NDArray[np.float64]:
    """Scanner drift: random sums of slow cosines, (T, n_signals)."""
    time = (np.arange(n_volumes) + 0.5) / n_volumes
    cosines = np.cos(np.pi * np.outer(time, [1, 2, 3]))
    return np.asarray(cosines @ (rng.standard_normal((3, n_signals)) / [[1], [2], [3]]))
