"""The demonstration: simulate a study, run the group job on it, and say how close the result is to the truth.

``bids-parcellate-demo OUT`` writes three folders: ``OUT/fmriprep``, what fMRIPrep would have written for the
study; ``OUT/truth``, the parcels that the signals were made from; and ``OUT/bids-parcellate``, the results.
"""

import gzip
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from bids_parcellate.cli import Parser
from bids_parcellate.cli import main as bids_parcellate
from bids_parcellate.errors import OutputError, ParcellateError, UsageError
from bids_parcellate.io.files import make_folder, write_atomically
from bids_parcellate.io.images import read_volume
from bids_parcellate.io.naming import OutputNames, bids_name
from bids_parcellate.io.writing import write_json, write_table
from bids_parcellate.numerics.simulation.brain import Brain, Labels, grow_parcels, make_brain, warp_parcels
from bids_parcellate.numerics.simulation.confounds import Tissues, estimate_confounds
from bids_parcellate.numerics.simulation.run import (
    MIN_DURATION,
    MIN_VOLUMES,
    N_NETWORKS,
    N_NON_STEADY_STATE,
    Run,
    parcel_signals,
    simulate_run,
)
from bids_parcellate.version import __version__

SPACE = "MNI152NLin2009cAsym"
ATLAS = "Demo"
DATASET_NAME = "Simulated resting-state study of bids-parcellate-demo"

_FOLDERS = ("fmriprep", "truth", "bids-parcellate")
_BOUNDARY_SHIFT = 1.2  # how far parcel boundaries differ between people (standard deviation along an axis), mm
_INTENSITY_STEP = 8.0  # of the stored integers: far below the noise, and it compresses well

_README = """\
# A simulated study

Made by code (`bids-parcellate-demo` of bids-parcellate {version}); nobody was scanned and fMRIPrep did not run.
Files are named and laid out as fMRIPrep {fmriprep} would. The signals come from {n_parcels} known parcels.
"""
_FMRIPREP_VERSION = "24.1.1"
_BIDSIGNORE = ("*.html", "logs/", "figures/", "*_xfm.*", "*.surf.gii", "*_boldref.nii.gz", "*_bold.func.gii",
               "*_mixing.tsv", "*_timeseries.tsv", "*_timeseries.json")  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """What the signals of a simulated dataset were made from.

    Parameters
    ----------
    labels : ndarray of int32, shape (X, Y, Z)
        Parcels, from 1; 0 is outside the brain.
    networks : ndarray of int32, shape (n_parcels,)
        Network of each parcel, from 0.
    affine : ndarray of shape (4, 4)
        Voxel indices to mm.
    """

    labels: Labels
    networks: Labels
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """How far a parcellation agrees with the truth.

    Parameters
    ----------
    adjusted_rand_index : float
        1 for the same parcels, about 0 for parcels drawn at random.
    n_parcels : int
        Number of parcels found.
    n_voxels : int
        Number of voxels that have a parcel in both.
    """

    adjusted_rand_index: float
    n_parcels: int
    n_voxels: int


# Numbers of parcels that the demonstration lets the program choose among, as shares of the true one.
_CANDIDATES = (1 / 3, 2 / 3, 1, 4 / 3, 5 / 3)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        The exit code; 0 when all went well.
    """
    try:
        options = _build_parser().parse_args(argv)
        return _run(options.out, options.n_parcels, options.random_seed)
    except ParcellateError as error:
        sys.stderr.write(f"ERROR: {error}\n")
        return error.exit_code


def write_dataset(
    folder: Path,
    *,
    n_subjects: int = 6,
    n_volumes: int = 120,
    t_r: float = 2.0,
    voxel_size: float = 4.0,
    n_parcels: int = 60,
    seed: int = 0,
) -> Truth:
    """Write the derivatives of a simulated resting-state study.

    Every participant has one session, the first has two.

    Parameters
    ----------
    folder : Path
        The dataset; made where needed.
    n_subjects : int, default=6
        Number of participants.
    n_volumes : int, default=120
        Number of volumes of each run.
    t_r : float, default=2.0
        Repetition time, s.
    voxel_size : float, default=4.0
        Edge of the cubic voxels, mm.
    n_parcels : int, default=60
        Number of true parcels.
    seed : int, default=0
        The same seed gives the same bytes.

    Returns
    -------
    Truth
        The parcels that the signals were made from.

    Raises
    ------
    UsageError
        If runs are too short, parcels too many for the voxels, or the seed is negative.
    """
    if n_volumes < MIN_VOLUMES:
        raise UsageError(f"n_volumes is {n_volumes}; at least {MIN_VOLUMES} are needed.")
    if n_volumes * t_r < MIN_DURATION:
        raise UsageError(f"{n_volumes} volumes of {t_r} s last {n_volumes * t_r:g} s; {MIN_DURATION:g} s are needed.")
    if seed < 0:
        raise UsageError(f"the seed is {seed}; it must not be negative.")
    rng = np.random.default_rng(seed)
    brain = make_brain(voxel_size)
    truth = Truth(
        labels=grow_parcels(brain.mask, n_parcels, rng),
        networks=rng.integers(N_NETWORKS, size=n_parcels, dtype=np.int32),
        affine=brain.affine,
    )
    _write_description(folder, n_subjects, n_parcels)
    for subject in range(1, n_subjects + 1):
        own = np.random.default_rng([seed, subject])
        labels = warp_parcels(truth.labels, _BOUNDARY_SHIFT / voxel_size, own)
        for session in (1, 2) if subject == 1 else (1,):
            entities = {"sub": f"{subject:02d}", "ses": f"{session}", "task": "rest"}
            with threadpool_limits(limits=1):  # sums then do not depend on the number of cores
                run = simulate_run(brain, labels, parcel_signals(truth.networks, n_volumes, t_r, own), t_r, own)
                _write_run(folder, entities, brain, run, t_r)
    return truth


def write_truth(folder: Path, truth: Truth) -> Path:
    """Write the true parcels as an image with its table.

    Parameters
    ----------
    folder : Path
        Where to.
    truth : Truth
        The parcels.

    Returns
    -------
    Path
        The image.
    """
    n_parcels = len(truth.networks)
    entities = {"tpl": SPACE, "atlas": f"{ATLAS}Truth", "scale": str(n_parcels)}
    index = np.arange(1, n_parcels + 1)
    table = pd.DataFrame(
        {
            "index": index,
            "name": [f"parcel{i:03d}" for i in index],
            "network": truth.networks + 1,
            "n_voxels": np.bincount(truth.labels.ravel(), minlength=n_parcels + 1)[1:],
        }
    )
    write_table(folder / bids_name(entities, "dseg", ".tsv"), table)
    image = _nifti(truth.labels.astype(np.int16), truth.affine)
    return write_atomically(folder / bids_name(entities, "dseg", ".nii.gz"), image)


def compare(parcellation: Path, truth: Path) -> Agreement:
    """Compare a parcellation with the truth, over the voxels that have a parcel in both.

    Parameters
    ----------
    parcellation, truth : Path
        Label images on the same grid; 0 is no parcel.

    Returns
    -------
    Agreement
        Adjusted Rand index and counts.

    References
    ----------
    Hubert and Arabie (1985), Journal of Classification 2, 193-218, doi:10.1007/BF01908075.
    """
    (found, _), (true, _) = read_volume(parcellation), read_volume(truth)
    both = (found > 0) & (true > 0)
    return Agreement(
        adjusted_rand_index=float(adjusted_rand_score(true[both], found[both])),
        n_parcels=len(np.unique(found[found > 0])),
        n_voxels=int(both.sum()),
    )


def _build_parser() -> Parser:
    parser = Parser(prog="bids-parcellate-demo", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write to: new, empty, or an earlier demo's")
    parser.add_argument("--n-parcels", metavar="K", type=int, default=60, help="parcels to simulate and to find (60)")
    parser.add_argument("--random-seed", metavar="SEED", type=int, default=0, help="seed of the simulation (0)")
    parser.add_argument("--version", action="version", version=f"bids-parcellate {__version__}")
    return parser


def _run(out: Path, n_parcels: int, seed: int) -> int:

    _make_room(out)
    dataset, results = out / "fmriprep", out / "bids-parcellate"
    _say(f"1/3  Simulating a resting-state study with {n_parcels} known parcels in {dataset}")
    truth = write_truth(out / "truth", write_dataset(dataset, n_parcels=n_parcels, seed=seed))
    _say(f"     {_summary(dataset)}; the truth is {truth}")

    candidates = map(str, sorted({max(2, round(n_parcels * share)) for share in _CANDIDATES}))
    command = [str(dataset), str(results), "group", "--atlas-name", ATLAS, "--n-parcels", "auto", *candidates]
    _say(f"2/3  Running  bids-parcellate {' '.join(command)}")
    exit_code = bids_parcellate(command)
    if exit_code != 0:
        _say(f"     bids-parcellate ended with exit code {exit_code}")
        return exit_code

    _say(f"3/3  Written to {results}: {_summary(results)}")
    for path in _files(results):
        _say(f"     {path.stat().st_size:>10,d} B  {path.relative_to(results)}")
    names = OutputNames(results, SPACE, ATLAS, "ward", "simple")
    figures = pd.read_csv(names.figures(".tsv"), sep="\t")
    _say(_quality_table(figures))
    (chosen,) = figures.loc[figures["figure"] == "explained_variance", "n_parcels"]
    agreement = compare(names.parcellation(chosen, ".nii.gz"), truth)
    _say(f"Found {agreement.n_parcels} parcels ({n_parcels} are true); {agreement.n_voxels} voxels compared")
    _say(
        f"Agreement with the truth: adjusted Rand index {agreement.adjusted_rand_index:.3f} (1 is perfect, 0 is chance)"
    )
    return 0


def _quality_table(figures: pd.DataFrame) -> str:
    """Show what the number of parcels was chosen by, and in brackets the same of random parcels."""
    random = figures["random_mean"].map(" ({:.3f})".format, na_action="ignore").fillna("")
    figures = figures.assign(text=figures["value"].map("{:.3f}".format) + random)
    shown = figures.pivot(index="n_parcels", columns="figure", values="text")
    columns = {
        "held_out_explained_variance": "held-out explained variance",
        "split_half_adjusted_rand": "split-half adjusted Rand",
        "choice_score": "score",
    }
    return (
        "Quality, and that of random parcels of the same sizes:\n"
        + shown[list(columns)].rename(columns=columns).rename_axis(columns=None).to_string()
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _files(folder: Path) -> list[Path]:
    """All files but hidden ones and those in hidden folders."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _summary(folder: Path) -> str:
    files = _files(folder)
    return f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB"


def _make_room(out: Path) -> None:
    """Make the output folder, emptied of an earlier demo; refuse a folder that holds anything else."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; a folder is needed.", "Name another folder.")
    present = {path.name for path in make_folder(out).iterdir()}
    if present and not (present <= set(_FOLDERS) and _is_demo(out / "fmriprep")):
        raise OutputError(
            f"{out} is not empty, and what it holds was not made by bids-parcellate-demo.",
            "Name a folder that is new, empty, or an earlier demo's.",
        )
    try:
        for name in present:
            shutil.rmtree(out / name)
    except OSError as error:
        raise OutputError(f"the earlier demo in {out} cannot be removed: {error}.", "Name another folder.") from error


def _is_demo(dataset: Path) -> bool:
    description = dataset / "dataset_description.json"
    return description.is_file() and DATASET_NAME.encode() in description.read_bytes()


def _write_description(folder: Path, n_subjects: int, n_parcels: int) -> None:
    description = {
        "Name": DATASET_NAME,
        "BIDSVersion": "1.11.1",
        "DatasetType": "derivative",
        "License": "CC0-1.0",
        "GeneratedBy": [
            {
                "Name": "fMRIPrep",
                "Version": _FMRIPREP_VERSION,
                "Description": "Simulated: laid out as this version does, which did not run.",
            },
            {"Name": "bids-parcellate-demo", "Version": __version__, "Description": "Made the data."},
        ],
    }
    readme = _README.format(version=__version__, fmriprep=_FMRIPREP_VERSION, n_parcels=n_parcels)
    write_json(folder / "dataset_description.json", description)
    write_atomically(folder / "README.md", readme.encode())
    write_atomically(folder / ".bidsignore", "\n".join([*_BIDSIGNORE, ""]).encode())
    participants = [f"sub-{subject:02d}" for subject in range(1, n_subjects + 1)]
    write_table(folder / "participants.tsv", pd.DataFrame({"participant_id": participants}))


def _write_run(folder: Path, entities: dict[str, str], brain: Brain, run: Run, t_r: float) -> None:
    stored = np.rint(run.bold / _INTENSITY_STEP).astype(np.int16)
    volumes = np.zeros((len(stored), *brain.shape), np.int16)
    volumes[:, run.head] = stored
    tissues = Tissues(run.mask[run.head], brain.white[run.head] > 0.99, brain.csf[run.head] > 0.5)
    columns, described = estimate_confounds(
        stored * np.float32(_INTENSITY_STEP), tissues, run.motion, t_r, N_NON_STEADY_STATE
    )

    func = folder / f"sub-{entities['sub']}" / f"ses-{entities['ses']}" / "func"
    bold, mask = ({**entities, "space": SPACE, "desc": desc} for desc in ("preproc", "brain"))
    image = _nifti(np.moveaxis(volumes, 0, -1), brain.affine, t_r=t_r, step=_INTENSITY_STEP)
    write_atomically(func / bids_name(bold, "bold", ".nii.gz"), image)
    timing = {"RepetitionTime": t_r, "StartTime": 0.0, "SliceTimingCorrected": False}
    write_json(func / bids_name(bold, "bold", ".json"), {**timing, "SkullStripped": False, "TaskName": "rest"})
    write_atomically(func / bids_name(mask, "mask", ".nii.gz"), _nifti(run.mask.astype(np.uint8), brain.affine))
    write_json(func / bids_name(mask, "mask", ".json"), {"Type": "Brain"})
    confounds = {**entities, "desc": "confounds"}
    write_table(func / bids_name(confounds, "timeseries", ".tsv"), pd.DataFrame(columns), float_format=None)
    write_json(func / bids_name(confounds, "timeseries", ".json"), described)


def _nifti(
    data: NDArray[Any], affine: NDArray[np.float64], *, t_r: float | None = None, step: float | None = None
) -> bytes:
    """Encode an image: the same bytes for the same data. Stored integers times `step` are the values."""
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code="mni")
    image.set_qform(affine, code="mni")
    if t_r is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], t_r))
    if step is not None:
        image.header.set_slope_inter(step, 0)
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
