"""The experiments: signals of voxels in two halves, real ones and simulated ones whose parcels are known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_parcellate.io.masking import drop_small_pieces
from bids_parcellate.numerics.cleaning import apply_operator, temporal_operator
from bids_parcellate.numerics.simulation.brain import Brain, grow_parcels, make_brain, smooth_field, warp_parcels
from bids_parcellate.numerics.simulation.run import N_NETWORKS, parcel_signals, simulate_run
from bids_parcellate.numerics.smoothing import smooth_volume

Signals = NDArray[np.float32]
Bool = NDArray[np.bool_]

_MOTION = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
_FWHM = 4.0  # mm
_N_SLICES = 6  # of the two participants, so that nilearn's class takes minutes, not hours
_T_R = 2.0  # s, of simulated runs


@dataclass(frozen=True)
class Run:
    """Signals of one run, cleaned and centred but not scaled, of shape (n_volumes, n_voxels)."""

    participant: str
    signals: Signals


Half = tuple[Run, ...]


@dataclass(frozen=True)
class Experiment:
    """Parcels are fitted on each half of the runs and scored on the other.

    Parameters
    ----------
    name : str
        Results of experiments with the same name are averaged: other splits, other seeds.
    halves : tuple of two Half
        The runs.
    mask : ndarray of bool, shape (X, Y, Z)
        Where the voxels are.
    n_parcels : tuple of int
        Numbers of parcels.
    truth : ndarray of int, shape (n_voxels,), optional
        The true parcels.
    """

    name: str
    halves: tuple[Half, Half]
    mask: Bool
    n_parcels: tuple[int, ...]
    truth: NDArray[np.integer] | None = None


# -- Real data --------------------------------------------------------------------------------------------------------


def one_participant(dataset: Path, n_parcels: Sequence[int], n_splits: int) -> Iterator[Experiment]:
    """Split the runs of one participant: odd and even runs first, then at random.

    Parameters
    ----------
    dataset : Path
        Such as ``haxby2001_1slice``: 12 runs, one slice.
    n_parcels : sequence of int
        Numbers of parcels.
    n_splits : int
        Number of splits.

    Yields
    ------
    Experiment
        One for each split.
    """
    runs, mask = read_runs(dataset)
    rng = np.random.default_rng(0)
    orders = [np.arange(len(runs)), *(rng.permutation(len(runs)) for _ in range(n_splits - 1))]
    for order in orders:
        first, second = (tuple(runs[i] for i in sorted(order[start::2])) for start in (0, 1))
        yield Experiment("one participant, 12 runs", (first, second), mask, tuple(n_parcels))


def two_participants(dataset: Path, n_parcels: Sequence[int]) -> Iterator[Experiment]:
    """Split two short runs of two participants: in time, and by participant.

    Parameters
    ----------
    dataset : Path
        Such as ``twosub_mni4mm``: 82 and 64 volumes, two scanners, two tasks. Only its middle slices are used, as
        scikit-learn's trees, and with them nilearn's class, take long with many voxels.
    n_parcels : sequence of int
        Numbers of parcels.

    Yields
    ------
    Experiment
        One for each way to split.
    """
    runs, mask = read_runs(dataset)
    middle = np.arange(mask.shape[2] // 2 - _N_SLICES // 2, mask.shape[2] // 2 + _N_SLICES // 2)
    inside = np.isin(np.nonzero(mask)[2], middle)
    one, other = (replace(run, signals=np.ascontiguousarray(run.signals[:, inside])) for run in runs)
    mask = mask[:, :, middle]
    early, late = (tuple(map(half, (one, other))) for half in (_early, _late))
    yield Experiment("two participants, halves of runs", (early, late), mask, tuple(n_parcels))
    yield Experiment("two participants, one against the other", ((one,), (other,)), mask, tuple(n_parcels))


def _early(run: Run) -> Run:
    signals = run.signals[: len(run.signals) // 2]
    return replace(run, signals=signals - signals.mean(axis=0))


def _late(run: Run) -> Run:
    signals = run.signals[len(run.signals) // 2 :]
    return replace(run, signals=signals - signals.mean(axis=0))


def read_runs(dataset: Path) -> tuple[list[Run], Bool]:
    """Read and clean the runs of a dataset: smoothing, trend and, where they are known, the six motion parameters.

    Parameters
    ----------
    dataset : Path
        fMRIPrep's derivatives.

    Returns
    -------
    runs : list of Run
        In the order of their names.
    mask : ndarray of bool, shape (X, Y, Z)
        The voxels that are in the masks of all runs, without small pieces.
    """
    paths = sorted(dataset.rglob("*_desc-preproc_bold.nii.gz"))
    masks = [nib.load(path) for path in sorted(dataset.rglob("*_desc-brain_mask.nii.gz"))]
    mask, _, _ = drop_small_pieces(np.all([each.get_fdata() > 0 for each in masks], axis=0))
    return [Run(path.name.split("_")[0], _read(path, mask)) for path in paths], mask


def _read(path: Path, mask: Bool) -> Signals:
    image: Any = nib.load(path)
    data, sizes = image.get_fdata(dtype=np.float32), image.header.get_zooms()[:3]
    signals = np.stack([smooth_volume(volume, sizes, _FWHM)[mask] for volume in np.moveaxis(data, -1, 0)])
    table = Path(str(path).split("_space-")[0] + "_desc-confounds_timeseries.tsv")
    confounds = pd.read_csv(table, sep="\t")[_MOTION] if table.exists() else None
    return apply_operator(temporal_operator(len(signals), confounds=confounds, detrend=True), signals)


# -- Simulations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """A simulated study with one run of each participant.

    Parameters
    ----------
    name : str
        What is special about it.
    snr : float
        Standard deviation of a parcel's signal, that of the noise being 1. The noise is half white, half smooth.
    lengths : tuple of int
        Number of volumes of each run.
    n_parcels : int
        Number of true parcels.
    voxel_size : float
        mm.
    shift : float
        How far the boundaries of participants are off those of the group: standard deviation in voxels.
    edge_noise : float
        How many times more noise there is at the brain's surface.
    global_signal : float
        Standard deviation of a slow signal that nearly all voxels share.
    burst : float
        Size of sudden smooth patterns, four in each run, which last three volumes.
    noisy : float
        Factor of the noise of every fifth participant.
    """

    name: str
    snr: float = 0.4
    lengths: tuple[int, ...] = (120,) * 8
    n_parcels: int = 50
    voxel_size: float = 10.0
    shift: float = 0.4
    edge_noise: float = 0.0
    global_signal: float = 0.0
    burst: float = 0.0
    noisy: float = 1.0


SCENARIOS = (
    Scenario("simulated: SNR 0.25", snr=0.25),
    Scenario("simulated: SNR 0.4"),
    Scenario("simulated: SNR 0.8", snr=0.8),
    Scenario("simulated: everyone has the same parcels", shift=0.0),
    Scenario("simulated: more noise at the edge", edge_noise=2.0),
    Scenario("simulated: global signal", global_signal=0.8),
    Scenario("simulated: motion bursts", burst=3.0),
    Scenario("simulated: 30 to 300 volumes", lengths=(30, 30, 60, 60, 120, 120, 300, 300)),
    Scenario("simulated: every fifth participant noisy", noisy=3.0),
    Scenario("simulated: few volumes, many voxels", snr=0.5, lengths=(40,) * 4, n_parcels=100, voxel_size=7.0),
)


def simulate(scenario: Scenario, seed: int) -> Experiment:
    """Simulate a study.

    Parameters
    ----------
    scenario : Scenario
        What it is like.
    seed : int
        Another seed makes other parcels and other signals.

    Returns
    -------
    Experiment
        Every second participant is in the second half; the number of parcels is the true one.
    """
    rng = np.random.default_rng(seed)
    brain = make_brain(scenario.voxel_size)
    mask, _, _ = drop_small_pieces(brain.mask)
    labels = grow_parcels(mask, scenario.n_parcels, rng)
    networks = rng.integers(0, N_NETWORKS, scenario.n_parcels).astype(np.int32)
    runs = []
    for number, n_volumes in enumerate(scenario.lengths):
        own = warp_parcels(labels, scenario.shift, rng)[mask] - 1
        signals = scenario.snr * parcel_signals(networks, n_volumes, _T_R, rng)[:, own]
        factor = scenario.noisy if number % 5 == 0 else 1.0
        signals += factor * _noise(scenario, brain, mask, n_volumes, rng)
        signals += _artefacts(scenario, mask, n_volumes, rng)
        runs.append(Run(f"sub-{number}", signals - signals.mean(axis=0)))
    halves = tuple(runs[::2]), tuple(runs[1::2])
    return Experiment(scenario.name, halves, mask, (scenario.n_parcels,), truth=labels[mask] - 1)


def _noise(scenario: Scenario, brain: Brain, mask: Bool, n_volumes: int, rng: np.random.Generator) -> Signals:
    white = rng.standard_normal((n_volumes, np.count_nonzero(mask)), dtype=np.float32)
    smooth = np.stack([smooth_field(mask.shape, 1.0, rng)[mask] for _ in range(n_volumes)])
    size = 1 + scenario.edge_noise * np.exp(-brain.depth[mask] / scenario.voxel_size)
    return np.asarray(np.sqrt(0.5) * (white + smooth) * size, np.float32)


def _artefacts(scenario: Scenario, mask: Bool, n_volumes: int, rng: np.random.Generator) -> Signals:
    def pattern() -> Signals:
        return smooth_field(mask.shape, 2.0, rng)[mask]

    shared = parcel_signals(np.zeros(1, np.int32), n_volumes, _T_R, rng)
    signals = scenario.global_signal * shared * (1 + pattern() / 3)
    for start in rng.integers(0, n_volumes - 3, 4):
        signals[start : start + 3] += scenario.burst * np.array([[1.0], [0.5], [0.25]]) * pattern()
    return np.asarray(signals, np.float32)


def simulate_scanner(seed: int, *, n_participants: int = 8, n_volumes: int = 120, n_parcels: int = 50) -> Experiment:
    """Simulate the package's demo study, with physiology, drift, motion and tissues, and clean it of motion and trend.

    Parameters
    ----------
    seed : int
        Another seed makes another study.
    n_participants, n_volumes, n_parcels : int
        Numbers of participants, of volumes of each, and of true parcels.

    Returns
    -------
    Experiment
        Every second participant is in the second half; the number of parcels is the true one.
    """
    rng = np.random.default_rng(seed)
    brain = make_brain(8.0)
    mask, _, _ = drop_small_pieces(brain.mask)
    labels = grow_parcels(mask, n_parcels, rng)
    networks = rng.integers(0, N_NETWORKS, n_parcels).astype(np.int32)
    runs = []
    for number in range(n_participants):
        signals = parcel_signals(networks, n_volumes, _T_R, rng)
        run = simulate_run(brain, warp_parcels(labels, 0.4, rng), signals, _T_R, rng)
        operator = temporal_operator(n_volumes, confounds=run.motion, detrend=True)
        runs.append(Run(f"sub-{number}", apply_operator(operator, run.bold[:, mask[run.head]])))
    halves = tuple(runs[::2]), tuple(runs[1::2])
    return Experiment("simulated: scanner", halves, mask, (n_parcels,), truth=labels[mask] - 1)
