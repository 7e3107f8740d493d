"""Single steps: cleaning, smoothing, and selecting the runs of a large dataset."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from benchmarks.jobs import CLEANING, FWHM
from benchmarks.measure import alternate, step
from benchmarks.phantom import T_R, Size, make_phantom, once
from benchmarks.results import Comparison, Figure, Outcome
from benchmarks.selecting import SPACE
from benchmarks.settings import Settings

_N_CONFOUNDS = 12
_SHOWN_VOLUMES = 20  # every so many volumes are compared

Results = dict[str, Any]


def cleaning(settings: Settings) -> Outcome:
    """Clean the voxels of a run: trend, band-pass, 12 confounds, z-scores."""
    size = settings.mm3
    folder = once(settings.work / f"signals-{size.n_voxels}x{size.n_volumes}", lambda path: _make_signals(path, size))
    peers = step("steps:clean", folder), step("steps:nilearn_clean", folder)
    ours, theirs = alternate(peers, settings.repeats)
    found, expected = (np.load(peer.results)["cleaned"] for peer in peers)
    difference = float(np.abs(found - expected).max())
    title = f"cleaning {size.n_voxels:,} voxels x {size.n_volumes}"
    return Outcome(
        [Comparison(title, "nilearn.signal.clean", ours, theirs)],
        [Figure(f"{title}, largest difference", difference, "SD", difference < 1e-2, "< 0.01 (float32 on an offset)")],
    )


def smoothing(settings: Settings) -> Outcome:
    """Smooth the volumes of a run."""
    phantom = make_phantom(settings.work, settings.mm3, n_runs=4, n_distinct=4, dtype="int16")
    peers = step("steps:smooth", phantom.root), step("steps:nilearn_smooth", phantom.root)
    ours, theirs = alternate(peers, settings.repeats)
    found, expected = (np.load(peer.results)["smoothed"] for peer in peers)
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    title = f"smoothing {phantom.size.n_volumes} volumes at {phantom.size} by {FWHM:g} mm"
    return Outcome(
        [Comparison(title, "nilearn smooth_img", ours, theirs)],
        [Figure(f"{title}, largest difference", difference, "of the maximum", difference < 1e-5, "< 1e-5")],
    )


def indexing(settings: Settings) -> Outcome:
    """Select the runs of 1,000 subjects (31,000 files)."""
    n_subjects = 5 if settings.tiny else 1000
    folder = once(settings.work / f"cohort-{n_subjects}", lambda path: _make_cohort(path / "data", n_subjects))
    peers = step("selecting:select", folder), step("selecting:pybids", folder)
    peers[0].run()  # so that neither finds the files on the disk alone
    ours, theirs = alternate(peers, 1)  # pybids takes minutes
    found, expected = (np.load(peer.results) for peer in peers)
    kinds = ("bold", "mask", "timeseries")
    same = found["bold"].size > 0 and all(np.array_equal(found[kind], expected[kind]) for kind in kinds)
    n_files = sum(path.is_file() for path in (folder / "data").rglob("*"))
    title = f"selecting the runs of {n_subjects:,} subjects ({n_files:,} files)"
    return Outcome(
        [Comparison(title, "pybids' default indexing", ours, theirs, "CPU >= 50x, below 200 MB")],
        [Figure(f"{title}: the images, masks and tables that pybids gives", found["bold"].size, "runs", same)],
    )


def _make_signals(folder: Path, size: Size) -> None:
    rng = np.random.default_rng(0)
    drift = np.cumsum(rng.standard_normal((size.n_volumes, 20), dtype=np.float32), axis=0)
    signals = rng.standard_normal((size.n_volumes, size.n_voxels), dtype=np.float32)
    signals += drift @ rng.standard_normal((20, size.n_voxels), dtype=np.float32)
    np.save(folder / "signals.npy", 1000 + 10 * signals)
    np.save(folder / "confounds.npy", np.cumsum(rng.standard_normal((size.n_volumes, _N_CONFOUNDS)), axis=0))


def _make_cohort(folder: Path, n_subjects: int) -> None:
    """Write a dataset of images that are empty, 31 files a subject."""
    description = {"Name": "Cohort", "BIDSVersion": "1.10.0", "DatasetType": "derivative",
                   "GeneratedBy": [{"Name": "fMRIPrep", "Version": "24.1.1"}]}  # fmt: skip
    folder.mkdir()
    (folder / "dataset_description.json").write_text(json.dumps(description))
    space = f"_space-{SPACE}"
    image, series = (_empty_image(shape) for shape in ((65, 77, 65), (65, 77, 65, 200)))
    text = {".json": b"{}", ".h5": b"0", ".tsv": b"trans_x\tcsf\n0.1\t1000\n"}
    runs = [
        name
        for run in (1, 2)
        for name in (
            *_with_json(f"func/_task-rest_run-{run}{space}_desc-preproc_bold.nii.gz"),
            *_with_json(f"func/_task-rest_run-{run}{space}_desc-brain_mask.nii.gz"),
            *_with_json(f"func/_task-rest_run-{run}{space}_boldref.nii.gz"),
            *_with_json(f"func/_task-rest_run-{run}_desc-confounds_timeseries.tsv"),
        )
    ]
    anatomy = [
        *(name for where in ("", space) for kind in ("desc-preproc_T1w", "desc-brain_mask")
          for name in _with_json(f"anat/{where}_{kind}.nii.gz")),
        *(f"anat/{where}_dseg.nii.gz" for where in ("", space)),
        *(f"anat/_label-{tissue}_probseg.nii.gz" for tissue in ("GM", "WM", "CSF")),
        f"anat/_from-T1w_to-{SPACE}_mode-image_xfm.h5",
        f"anat/_from-{SPACE}_to-T1w_mode-image_xfm.h5",
    ]  # fmt: skip
    described = {
        "_bold.json": {"RepetitionTime": T_R, "TaskName": "rest", "SkullStripped": False},
        "_desc-confounds_timeseries.json": {
            f"{kind}_comp_cor_{number:02d}": {"CumulativeVarianceExplained": 0.5, "Mask": kind, "Method": "CompCor",
                                              "Retained": True, "SingularValue": 10.0, "VarianceExplained": 0.01}
            for kind in ("a", "c", "t", "w") for number in range(53)  # as many as fMRIPrep 24.1.1 describes: 212
        },
    }  # fmt: skip
    sidecars = {name: json.dumps(entries, indent=2).encode() for name, entries in described.items()}
    for subject in (f"sub-{number:04d}" for number in range(1, n_subjects + 1)):
        for kind in ("anat", "func"):
            (folder / subject / kind).mkdir(parents=True)
        for name in (*runs, *anatomy):
            path = folder / subject / name.replace("/", f"/{subject}")
            if name.endswith(".nii.gz"):
                path.write_bytes(series if name.endswith("_bold.nii.gz") else image)
            else:
                path.write_bytes(next((sidecars[end] for end in sidecars if name.endswith(end)), text[path.suffix]))


def _with_json(name: str) -> tuple[str, str]:
    return name, name.split(".", maxsplit=1)[0] + ".json"


def _empty_image(shape: tuple[int, ...]) -> bytes:
    """Compress zeros of int16."""
    image = nib.Nifti1Image(np.broadcast_to(np.int16(0), shape), np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    if len(shape) == 4:
        image.header.set_zooms((3, 3, 3, T_R))
    return gzip.compress(image.to_bytes())


# The steps that run in processes of their own.


def _load_signals(folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    options = CLEANING | {"confounds": np.load(folder / "confounds.npy"), "standardize": "zscore_sample"}
    return np.load(folder / "signals.npy"), options


def clean(folder: Path) -> Callable[[], Results]:
    """Clean with our own function."""
    from bids_parcellate.numerics.cleaning import clean as ours  # noqa: PLC0415 -- each process imports only what it measures

    signals, options = _load_signals(folder)
    return lambda: {"cleaned": ours(signals, **options)}


def nilearn_clean(folder: Path) -> Callable[[], Results]:
    """Clean with nilearn."""
    from nilearn.signal import clean as theirs  # noqa: PLC0415

    signals, options = _load_signals(folder)
    return lambda: {"cleaned": theirs(signals, **options)}


def _load_run(folder: Path) -> nib.Nifti1Image:
    image = nib.load(next((folder / "data").rglob("*_bold.nii.gz")))
    return nib.Nifti1Image(np.asanyarray(image.dataobj).astype(np.float32), image.affine)


def smooth(folder: Path) -> Callable[[], Results]:
    """Smooth with our own function, volume by volume."""
    from bids_parcellate.numerics.smoothing import smooth_volume  # noqa: PLC0415

    image = _load_run(folder)
    volumes, voxel_sizes = np.moveaxis(image.get_fdata(dtype=np.float32), -1, 0), image.header.get_zooms()[:3]

    def work() -> Results:
        smoothed = [smooth_volume(volume, voxel_sizes, FWHM) for volume in volumes]
        return {"smoothed": np.stack(smoothed[::_SHOWN_VOLUMES], axis=-1)}

    return work


def nilearn_smooth(folder: Path) -> Callable[[], Results]:
    """Smooth with nilearn."""
    from nilearn.image import smooth_img  # noqa: PLC0415

    image = _load_run(folder)
    return lambda: {"smoothed": smooth_img(image, FWHM).get_fdata(dtype=np.float32)[..., ::_SHOWN_VOLUMES]}
