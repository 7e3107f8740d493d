"""One simulated run: parcel signals, motion, and the noise that preprocessing leaves behind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.numerics.simulation.brain import GREY, Bool, Brain, Float, Labels, smooth_field

Array = NDArray[np.float64]

N_NETWORKS = 7
N_NON_STEADY_STATE = 2  # volumes before the longitudinal magnetisation settles
MIN_VOLUMES, MIN_DURATION = 30, 20.0  # s; shorter runs have no room for motion, or for slow fluctuations
SUDDEN = 0.5  # a framewise displacement above this is a sudden move, mm

_HEAD_MARGIN = 10.0  # how far outside the brain the scanner still saw something, mm

# Standard deviations as a share of the local intensity; of thermal noise, as a share of grey matter's.
_SIGNAL, _SIGNAL_IN_WHITE = 0.008, 0.6  # BOLD, and the share of it that white matter shows
_SHARED_BY_NETWORK = 0.35  # share of a parcel's variance
_GLOBAL, _PHYSIOLOGY_CSF, _PHYSIOLOGY_WHITE, _DRIFT = 0.003, 0.006, 0.003, 0.004
_THERMAL = 0.0085
_MOTION_RESIDUAL = 0.15  # share of the displacement that realignment leaves behind
_SPIN_HISTORY, _SPIN_RECOVERY = 0.02, 3.0  # signal lost per mm of sudden motion, and how long it takes to recover, s


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
    motion: Array


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
    shared = _slow_noise(n_volumes, N_NETWORKS, t_r, rng)[:, networks]
    own = _slow_noise(n_volumes, len(networks), t_r, rng)
    signals = np.sqrt(_SHARED_BY_NETWORK) * shared + np.sqrt(1 - _SHARED_BY_NETWORK) * own
    return np.asarray(signals / signals.std(0), np.float32)


def simulate_motion(n_volumes: int, t_r: float, rng: np.random.Generator) -> Array:
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
    millimetres = 0.015 * rng.standard_normal((n_volumes, 6)) + 0.1 * _slow_drift(n_volumes, 6, rng)
    breathing = np.sin(2 * np.pi * 0.28 * t_r * np.arange(n_volumes) + rng.uniform(0, 2 * np.pi))
    millimetres[:, 1:4] += 0.02 * breathing[:, np.newaxis]
    thirds = np.array_split(np.arange(N_NON_STEADY_STATE + 3, n_volumes - 3), 3)
    for third in thirds[: rng.integers(2, 4)]:
        direction = rng.standard_normal(6)
        millimetres[rng.choice(third) :] += rng.uniform(0.8, 1.6) * direction / np.abs(direction).sum()
    return np.asarray(millimetres / [1, 1, 1, 50, 50, 50])  # a rotation moves the surface of a 50 mm sphere


def framewise_displacement(motion: Array) -> Array:
    """Sum up the absolute changes of the six parameters; rotations count on a sphere of 50 mm.

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
    n_volumes = len(signals)
    head = brain.depth > -_HEAD_MARGIN
    white, csf, parcel = brain.white[head], brain.csf[head], labels[head]
    motion = simulate_motion(n_volumes, t_r, rng)
    change = np.zeros((n_volumes, len(parcel)), np.float32)
    for courses, maps in _nuisances(brain, head, motion, t_r, rng):
        change += courses.astype(np.float32) @ np.asarray(maps, np.float32)
    amplitude = _SIGNAL * (1 - csf) * (1 - (1 - _SIGNAL_IN_WHITE) * white)
    inside = parcel > 0
    change[:, inside] += signals[:, parcel[inside] - 1] * amplitude[inside]
    relaxation = np.exp(-np.arange(N_NON_STEADY_STATE) / 0.7)
    change[:N_NON_STEADY_STATE] += np.outer(relaxation, 0.2 + 0.2 * csf)
    thermal = rng.standard_normal(change.shape, dtype=np.float32) * _thermal_noise(brain)[head]
    mask = head & (brain.depth + smooth_field(brain.shape, 2, rng) * brain.voxel_size / 4 > 0)
    return Run(np.abs(brain.intensity[head] * (1 + change) + thermal), head, mask, motion)


def _nuisances(
    brain: Brain, head: Bool, motion: Array, t_r: float, rng: np.random.Generator
) -> Iterator[tuple[Array, Sequence[NDArray[Any]] | Array]]:
    """Yield time courses (T, R) and maps (R, V) of each structured source of noise."""
    n_volumes = len(motion)
    white, csf = brain.white[head], brain.csf[head]
    grey = np.where(brain.depth[head] > 0, 1 - white - csf, 0)

    def field(mean: float = 0, width: float = 20) -> Float:
        return mean + smooth_field(brain.shape, width / brain.voxel_size, rng)[head]

    yield _slow_noise(n_volumes, 1, t_r, rng), [_GLOBAL * (grey + 0.5 * white) * (1 + field() / 3)]
    yield _fast_noise(n_volumes, 4, rng), [_PHYSIOLOGY_CSF * csf * field(0.5, width=8) for _ in range(4)]
    yield _fast_noise(n_volumes, 2, rng), [_PHYSIOLOGY_WHITE * (white + 0.5 * grey) * field() for _ in range(2)]
    yield _slow_drift(n_volumes, 3, rng), [_DRIFT * field() for _ in range(3)]
    moved = framewise_displacement(motion)
    recovery = np.exp(-np.arange(n_volumes) * t_r / _SPIN_RECOVERY)
    spin_history = np.convolve(np.where(moved > SUDDEN, moved, 0), recovery)[:n_volumes]
    yield spin_history[:, np.newaxis], [-_SPIN_HISTORY * field(1)]
    yield _MOTION_RESIDUAL * (motion - motion.mean(0)), _displacement_maps(brain, head)


def _displacement_maps(brain: Brain, head: Bool) -> Array:
    """Give the relative change of intensity per mm and per rad of motion, (6, V): what moves is the edges."""
    gradient = np.asarray(np.gradient(brain.intensity, brain.voxel_size))[:, head]
    position = brain.affine[:3, :3] @ np.argwhere(head).T + brain.affine[:3, 3:]
    rotations = np.cross(position, gradient, axis=0)  # gradient . (axis x position), for each axis
    return -np.vstack([gradient, rotations]) / np.maximum(brain.intensity[head], GREY / 4)


def _thermal_noise(brain: Brain) -> Float:
    """Give the standard deviation of the thermal noise: more in the middle, far from the coils; little outside."""
    centre = np.clip(brain.depth / 40, 0, 1)
    inside = np.clip(brain.depth / brain.voxel_size + 1, 0.1, 1)
    return np.asarray(_THERMAL * GREY * inside * (0.8 + 0.8 * centre), np.float32)


def _slow_noise(n_volumes: int, n_signals: int, t_r: float, rng: np.random.Generator) -> Array:
    """Draw noise between 0.01 and 0.1 Hz with the spectrum of an autoregressive process, (T, n_signals)."""
    frequencies = np.fft.rfftfreq(n_volumes, t_r)[:, np.newaxis]
    amplitude = ((frequencies >= 0.01) & (frequencies <= 0.1)) / np.hypot(1, frequencies / 0.04)
    phases = rng.standard_normal((2, len(frequencies), n_signals))
    noise = np.fft.irfft(amplitude * (phases[0] + 1j * phases[1]), n_volumes, axis=0)
    return np.asarray(noise / noise.std(0))


def _fast_noise(n_volumes: int, n_signals: int, rng: np.random.Generator) -> Array:
    """Draw the effect of heart and breath, faster than the sampling: weakly autocorrelated, (T, n_signals)."""
    noise = rng.standard_normal((n_volumes + 1, n_signals))
    noise = noise[1:] + 0.4 * noise[:-1]
    return np.asarray(noise / noise.std(0))


def _slow_drift(n_volumes: int, n_signals: int, rng: np.random.Generator) -> Array:
    """Draw scanner drift: random sums of slow cosines, (T, n_signals)."""
    time = (np.arange(n_volumes) + 0.5) / n_volumes
    cosines = np.cos(np.pi * np.outer(time, [1, 2, 3]))
    return np.asarray(cosines @ (rng.standard_normal((3, n_signals)) / [[1], [2], [3]]))
