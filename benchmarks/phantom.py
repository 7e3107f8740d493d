"""Phantoms: fMRIPrep-like datasets of any size with known parcels, made fast and kept for the next time."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.selecting import SPACE
from bids_parcellate.numerics.simulation.brain import Brain, grow_parcels, make_brain, smooth_field, warp_parcels
from bids_parcellate.numerics.simulation.confounds import Tissues, estimate_confounds
from bids_parcellate.numerics.simulation.run import N_NETWORKS, parcel_signals, simulate_motion

T_R = 2.0  # s

_SCALE = 0.1  # of the simulated brain's intensities: about 1000 in the brain
_HEAD_MARGIN = 10.0  # how far outside the brain there is signal, mm

# Standard deviations as a share of the local intensity.
_SIGNAL, _GLOBAL, _DRIFT, _MOTION = 0.008, 0.003, 0.004, 0.004
_THERMAL = 0.012  # as a share of the brain's intensity, everywhere in the head
_BOUNDARY_SHIFT = 1.2  # how far the boundaries of parcels differ between people, mm


@dataclass(frozen=True)
class Size:
    """How large a phantom is.

    Parameters
    ----------
    voxel_size : float
        Edge of the cubic voxels, mm.
    n_voxels : int
        Voxels of the brain mask.
    n_volumes : int
        Volumes of a run.
    n_parcels : int
        True parcels, and parcels to find.
    """

    voxel_size: float
    n_voxels: int
    n_volumes: int
    n_parcels: int

    def __str__(self) -> str:
        return f"{self.voxel_size:g} mm"


MM3 = Size(3.0, 69_765, 200, 400)
MM2 = Size(2.0, 235_375, 200, 1000)
TINY_MM3 = Size(10.0, 1_700, 60, 20)
TINY_MM2 = Size(9.0, 2_300, 60, 30)


@dataclass(frozen=True)
class Phantom:
    """A dataset with its truth.

    Parameters
    ----------
    root : Path
        Folder that holds the dataset ``data``, ``mask.nii.gz`` and ``truth.nii.gz``.
    size : Size
        Its size.
    """

    root: Path
    size: Size

    @property
    def data(self) -> Path:
        """The derivative dataset."""
        return self.root / "data"

    def bold(self, subject: int) -> Path:
        """Name the image of a participant, counted from 1."""
        return _func(self.data, subject) / f"{_stem(subject)}_space-{SPACE}_desc-preproc_bold.nii.gz"


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Make a folder, unless an earlier run has made it whole.

    Parameters
    ----------
    folder : Path
        The folder.
    make : callable
        Fills a folder that is given to it.

    Returns
    -------
    Path
        The folder.
    """
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        make(unfinished)
        unfinished.rename(folder)
    return folder


def brain_mask(brain: Brain, n_voxels: int) -> NDArray[np.bool_]:
    """Give the mask of the `n_voxels` deepest voxels, without those that do not hang together with most of them.

    Parameters
    ----------
    brain : Brain
        The anatomy.
    n_voxels : int
        Number of voxels to choose; 2,408 of a million voxels of 1 mm lie apart, and none of larger ones.

    Returns
    -------
    ndarray of bool, shape (X, Y, Z)
        The mask.
    """
    mask = np.zeros(brain.depth.size, bool)
    mask[np.argsort(-brain.depth, axis=None, kind="stable")[:n_voxels]] = True
    pieces, _ = ndimage.label(mask.reshape(brain.shape))
    return np.asarray(pieces == np.bincount(pieces[pieces > 0]).argmax())


def make_phantom(work: Path, size: Size, *, n_runs: int, n_distinct: int, dtype: str = "float32") -> Phantom:
    """Write a dataset of one run a participant.

    Parameters
    ----------
    work : Path
        Where phantoms are kept.
    size : Size
        How large it is.
    n_runs : int
        Number of runs.
    n_distinct : int
        Number of runs that are simulated; the others are hard links to them.
    dtype : {"float32", "int16"}, default="float32"
        How the images are stored.

    Returns
    -------
    Phantom
        Made now or earlier.
    """
    name = f"phantom-{size.voxel_size:g}mm-{size.n_voxels}x{size.n_volumes}-{dtype}-{n_runs}-{n_distinct}"

    def make(folder: Path) -> None:
        _make(Phantom(folder, size), n_runs, n_distinct, np.dtype(dtype))

    return Phantom(once(work / name, make), size)


def _make(phantom: Phantom, n_runs: int, n_distinct: int, dtype: np.dtype) -> None:
    size = phantom.size
    rng = np.random.default_rng(0)
    brain = make_brain(size.voxel_size)
    mask = brain_mask(brain, size.n_voxels)
    truth = grow_parcels(mask, size.n_parcels, rng)
    networks = rng.integers(N_NETWORKS, size=size.n_parcels, dtype=np.int32)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), brain.affine), phantom.root / "mask.nii.gz")
    nib.save(nib.Nifti1Image(truth, brain.affine), phantom.root / "truth.nii.gz")
    phantom.data.mkdir()
    pipeline = {"Name": "fMRIPrep", "Version": "24.1.1", "Description": "Simulated."}
    description = {"Name": "Phantom", "BIDSVersion": "1.10.0", "DatasetType": "derivative", "GeneratedBy": [pipeline]}
    (phantom.data / "dataset_description.json").write_text(json.dumps(description))
    for subject in range(1, n_runs + 1):
        if subject > n_distinct:
            _link(phantom.data, 1 + (subject - 1) % n_distinct, subject)
        else:
            own = np.random.default_rng([0, subject])
            labels = warp_parcels(truth, _BOUNDARY_SHIFT / size.voxel_size, own)
            signals = parcel_signals(networks, size.n_volumes, T_R, own)
            _write_run(phantom, subject, (brain, mask, labels), signals, dtype)


def _write_run(
    phantom: Phantom,
    subject: int,
    anatomy: tuple[Brain, NDArray[np.bool_], NDArray[np.int32]],
    signals: NDArray[np.float32],
    dtype: np.dtype,
) -> None:
    brain, mask, labels = anatomy
    rng = np.random.default_rng([1, subject])
    n_volumes = len(signals)
    motion = simulate_motion(n_volumes, T_R, rng)
    # Voxels in the order of the file, the first axis fastest.
    head = np.flatnonzero((brain.depth > -_HEAD_MARGIN).ravel(order="F"))
    intensity, parcel, inside = (each.ravel(order="F")[head] for each in (brain.intensity, labels, mask))
    change = _nuisance(brain, head, motion, rng)
    in_parcel = parcel > 0
    change[:, in_parcel] += _SIGNAL * signals[:, parcel[in_parcel] - 1]
    bold = _SCALE * intensity * (1 + change)
    thermal = _SCALE * _THERMAL * float(np.median(intensity[inside]))
    bold += thermal * rng.standard_normal(bold.shape, dtype=np.float32)
    stored = np.rint(bold).astype(dtype) if dtype.kind == "i" else bold.astype(dtype)

    volumes = np.zeros((n_volumes, mask.size), dtype)
    volumes[:, head] = stored
    image = nib.Nifti1Image(volumes.reshape(n_volumes, *mask.shape[::-1]).T, brain.affine)
    image.header.set_zooms((*[brain.voxel_size] * 3, T_R))
    image.header.set_xyzt_units("mm", "sec")
    path = phantom.bold(subject)
    path.parent.mkdir(parents=True)
    nib.save(image, path)
    _describe(path, {"RepetitionTime": T_R, "SkullStripped": False, "TaskName": "rest"})
    mask_path = Path(str(path).replace("desc-preproc_bold", "desc-brain_mask"))
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), brain.affine), mask_path)
    _describe(mask_path, {"Type": "Brain"})
    csf, white = (each.ravel(order="F")[head] for each in (brain.csf, brain.white))
    tissues = Tissues(inside, white > 0.99, csf > 0.5)
    columns, described = estimate_confounds(stored.astype(np.float32), tissues, motion, T_R, 0)
    table = path.parent / f"{_stem(subject)}_desc-confounds_timeseries.tsv"
    pd.DataFrame(columns).to_csv(table, sep="\t", index=False, na_rep="n/a")
    table.with_suffix(".json").write_text(json.dumps(described))


def _nuisance(
    brain: Brain, head: NDArray[np.intp], motion: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw slow drifts, a global signal and what motion leaves behind, (T, V): smooth maps times time courses."""
    n_volumes = len(motion)
    time = (np.arange(n_volumes) + 0.5) / n_volumes
    drifts = np.cos(np.pi * np.outer(time, [1, 2, 3]))
    moved = (motion - motion.mean(0)) / motion.std(0)
    courses = np.column_stack([_GLOBAL * rng.standard_normal(n_volumes), _DRIFT * drifts, _MOTION * moved])
    width = 20 / brain.voxel_size
    maps = np.stack([smooth_field(brain.shape, width, rng).ravel(order="F")[head] for _ in courses.T])
    maps[0] = 1
    return courses.astype(np.float32) @ maps


def _link(data: Path, source: int, subject: int) -> None:
    """Give a participant the files of another one, under its own names."""
    _func(data, subject).mkdir(parents=True)
    for path in _func(data, source).iterdir():
        os.link(path, _func(data, subject) / path.name.replace(_stem(source), _stem(subject)))


def _describe(image: Path, metadata: dict[str, object]) -> None:
    Path(str(image).replace(".nii.gz", ".json")).write_text(json.dumps(metadata))


def _func(data: Path, subject: int) -> Path:
    return data / f"sub-{subject:02d}" / "func"


def _stem(subject: int) -> str:
    return f"sub-{subject:02d}_task-rest"
