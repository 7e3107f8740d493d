"""Small but valid trees as fMRIPrep and its relatives write them, for tests."""

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

MNI = "MNI152NLin2009cAsym"
SHAPE = (4, 5, 6)
N_VOLUMES = 12
FMRIPREP_VERSIONS = ("1.4.1", "20.1.1", "20.2.7", "21.0.4", "22.1.1", "23.0.2", "23.2.0", "24.1.1", "25.2.5")


def affine_of(voxel_size: float = 3.0, origin: Sequence[float] = (-10.0, -20.0, -30.0)) -> np.ndarray:
    """Affine of isotropic voxels in RAS+ orientation, mm."""
    affine = np.diag([voxel_size, voxel_size, voxel_size, 1.0])
    affine[:3, 3] = origin
    return affine


def write_image(
    path: Path,
    shape: Sequence[int] = (*SHAPE, N_VOLUMES),
    *,
    t_r: float | None = 2.0,
    affine: np.ndarray | None = None,
    dtype: str = "float32",
    seed: int = 0,
) -> Path:
    """Write random voxels; without ``t_r`` the header states no unit of time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = affine_of() if affine is None else affine
    content = _image_bytes(tuple(shape), t_r, affine.tobytes(), dtype, seed)
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


@lru_cache(maxsize=64)
def _image_bytes(shape: tuple[int, ...], t_r: float | None, affine: bytes, dtype: str, seed: int) -> bytes:
    values = np.random.default_rng(seed).normal(1000, 20, shape) if dtype != "uint8" else np.ones(shape)
    image = nib.Nifti1Image(values.astype(dtype), np.frombuffer(affine).reshape(4, 4))
    image.header.set_xyzt_units("mm", None if t_r is None else "sec")
    if t_r is not None and len(shape) == 4:
        image.header["pixdim"][4] = t_r
    return image.to_bytes()


def write_json(path: Path, content: object) -> Path:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))
    return path


def write_confounds(path: Path, n_volumes: int = N_VOLUMES, *, seed: int = 0) -> Path:
    """Write a table of confounds with fMRIPrep's names; the first row lacks what fMRIPrep's lacks."""
    rng = np.random.default_rng(seed)
    names = [f"{kind}_{axis}" for kind, axis in product(("trans", "rot"), "xyz")]
    names += ["csf", "white_matter", "global_signal"]
    names = [f"{name}{suffix}" for name in names for suffix in ("", "_derivative1", "_power2", "_derivative1_power2")]
    names += ["std_dvars", "framewise_displacement", "cosine00", "a_comp_cor_00", "a_comp_cor_01"]
    columns = {name: rng.normal(0, 0.01, n_volumes).astype(str).tolist() for name in names}
    for name, column in columns.items():
        if "derivative1" in name or name in ("std_dvars", "framewise_displacement"):
            column[0] = "n/a"
    rows = zip(*columns.values(), strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join("\t".join(row) for row in (columns, *rows)) + "\n")
    component = {"Method": "aCompCor", "Mask": "combined", "Retained": True, "SingularValue": 1.0}
    write_json(path.with_suffix(".json"), {"a_comp_cor_00": component, "a_comp_cor_01": component})
    return path


def write_description(root: Path, pipeline: str = "fMRIPrep", version: str = "23.2.0") -> Path:
    """Write a dataset's description as the pipeline of that version does."""
    content: dict[str, Any] = {"Name": f"{pipeline} outputs", "BIDSVersion": "1.4.0", "DatasetType": "derivative"}
    if _number(version) < (20, 2) and pipeline == "fMRIPrep":
        content = {"Name": "fMRIPrep", "BIDSVersion": "1.1.1"}
        content["PipelineDescription"] = {"Name": "fMRIPrep", "Version": version}
    else:
        content["GeneratedBy"] = [{"Name": pipeline, "Version": version}]
    return write_json(root / "dataset_description.json", content)


def write_raw(root: Path, subjects: Iterable[str] = ("01", "02")) -> Path:
    """Write a raw dataset, one run for each participant."""
    write_json(root / "dataset_description.json", {"Name": "raw", "BIDSVersion": "1.8.0", "DatasetType": "raw"})
    for subject in subjects:
        write_image(root / f"sub-{subject}" / "func" / f"sub-{subject}_task-rest_bold.nii.gz")
        write_json(root / f"sub-{subject}" / "func" / f"sub-{subject}_task-rest_bold.json", {"RepetitionTime": 2.0})
    return root


def write_fmriprep(
    root: Path,
    *,
    version: str = "23.2.0",
    pipeline: str = "fMRIPrep",
    subjects: Iterable[str] = ("01", "02"),
    sessions: Iterable[str | None] = (None,),
    tasks: Iterable[str] = ("rest",),
    runs: Iterable[int | None] = (None,),
    spaces: Iterable[str | None] = (MNI,),
    resolutions: Iterable[str | None] = (None,),
    echoes: int = 0,
    surfaces: bool = False,
    aroma: bool = False,
    t_r: float = 2.0,
    n_volumes: int = N_VOLUMES,
    shape: Sequence[int] = SHAPE,
    affine: np.ndarray | None = None,
) -> Path:
    """Write a dataset with the names that fMRIPrep of a version gives; ``None`` leaves an entity out.

    A space may bring its cohort, as in ``MNIInfant_cohort-1``. Before version 21 the dataset is ``root/fmriprep``.

    Returns
    -------
    Path
        The dataset's folder.
    """
    if _number(version) < (21,) and pipeline == "fMRIPrep":
        root = root / "fmriprep"
    write_description(root, pipeline, version)
    grid = {"affine": affine}
    places = [
        "".join((f"_space-{space}" if space else "", f"_res-{res}" if res and space else ""))
        for space, res in product(spaces, resolutions)
    ]
    for seed, (subject, session, task, run) in enumerate(product(subjects, sessions, tasks, runs)):
        prefix = run_prefix(version, subject=subject, session=session, task=task, run=run)
        folder = root / f"sub-{subject}" / (f"ses-{session}" if session else "") / "func"
        _write_beside(root, folder, prefix, subject, version, surfaces=surfaces)
        confounds = "timeseries" if _number(version) >= (20, 2) else "regressors"
        write_confounds(folder / f"{prefix}_desc-confounds_{confounds}.tsv", n_volumes, seed=seed)
        for place in dict.fromkeys(places):
            write_image(
                folder / f"{prefix}{place}_desc-preproc_bold.nii.gz", (*shape, n_volumes), t_r=t_r, seed=seed, **grid
            )
            write_json(folder / f"{prefix}{place}_desc-preproc_bold.json", _sidecar(version, t_r, task, echoes))
            write_image(folder / f"{prefix}{place}_boldref.nii.gz", shape, **grid)
            write_image(folder / f"{prefix}{place}_desc-brain_mask.nii.gz", shape, dtype="uint8", **grid)
            write_json(folder / f"{prefix}{place}_desc-brain_mask.json", {"Type": "Brain"})
        for echo in range(1, echoes + 1):
            write_image(folder / f"{prefix}_echo-{echo}_desc-preproc_bold.nii.gz", (*shape, n_volumes), t_r=t_r, **grid)
            write_json(folder / f"{prefix}_echo-{echo}_desc-preproc_bold.json", {"RepetitionTime": t_r})
        if aroma:
            name = f"{prefix}_space-MNI152NLin6Asym_desc-smoothAROMAnonaggr_bold"
            write_image(folder / f"{name}.nii.gz", (*shape, n_volumes), t_r=t_r, **grid)
            write_json(folder / f"{name}.json", {"RepetitionTime": t_r})
            (folder / f"{prefix}_AROMAnoiseICs.csv").write_text("1,2\n")
            (folder / f"{prefix}_desc-MELODIC_mixing.tsv").write_text("0.1\t0.2\n" * n_volumes)
    return root


def run_prefix(version: str, *, subject: str, session: str | None, task: str, run: int | None) -> str:
    """Spell the entities that all files of a run share."""
    # fMRIPrep dropped the zeros of runs in 20.2 and took them back in 22.1.
    number = None if run is None else f"{run}" if (20, 2) <= _number(version) < (22, 1) else f"{run:02}"
    parts = {"sub": subject, "ses": session, "task": task, "run": number}
    return "_".join(f"{key}-{label}" for key, label in parts.items() if label is not None)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _sidecar(version: str, t_r: float, task: str, echoes: int) -> Mapping[str, object]:
    content: dict[str, object] = {"RepetitionTime": t_r, "SkullStripped": echoes > 1}
    if _number(version) >= (20, 2):
        content |= {"TaskName": task, "StartTime": t_r / 2, "SliceTimingCorrected": True}
    return content


def _write_beside(root: Path, folder: Path, prefix: str, subject: str, version: str, *, surfaces: bool) -> None:
    """Write what fMRIPrep writes and nobody asks for here."""
    for path in (
        root / f"sub-{subject}.html",
        root / f"sub-{subject}" / "figures" / f"{prefix}_desc-carpetplot_bold.svg",
        root / f"sub-{subject}" / "anat" / f"sub-{subject}_desc-preproc_T1w.nii.gz",
        root / f"sub-{subject}" / "anat" / f"sub-{subject}_space-{MNI}_desc-brain_mask.nii.gz",
        root / "logs" / "CITATION.md",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folder.mkdir(parents=True, exist_ok=True)
    if _number(version) >= (23, 2):
        (folder / f"{prefix}_desc-hmc_boldref.nii.gz").touch()
        write_image(folder / f"{prefix}_desc-brain_mask.nii.gz", SHAPE, dtype="uint8")
    if surfaces:
        (folder / f"{prefix}_space-fsLR_den-91k_bold.dtseries.nii").touch()
        write_json(folder / f"{prefix}_space-fsLR_den-91k_bold.json", {"RepetitionTime": 99.0})
        hemispheres = ("space-fsaverage5_hemi-{}", "hemi-{}_space-fsaverage5")[_number(version) >= (21,)]
        for hemisphere in "LR":
            (folder / f"{prefix}_{hemispheres.format(hemisphere)}_bold.func.gii").touch()
            write_json(folder / f"{prefix}_{hemispheres.format(hemisphere)}_bold.json", {"RepetitionTime": 99.0})
