"""The whole job, from derivatives to parcels and signals: against nilearn, and against reading the inputs once."""

import json
import sys
from collections.abc import Callable
from operator import truediv
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from benchmarks.measure import Peer, Usage, alternate, step
from benchmarks.phantom import T_R, Phantom, make_phantom
from benchmarks.results import Comparison, Figure, Outcome, Spread
from benchmarks.selecting import SPACE
from benchmarks.settings import Settings

FWHM, LOW_PASS, HIGH_PASS = 6.0, 0.1, 0.01  # mm, Hz, Hz
CLEANING: dict[str, Any] = {"detrend": True, "low_pass": LOW_PASS, "high_pass": HIGH_PASS, "t_r": T_R}

_STRATEGY = 'strategy = ["motion"]\nmotion = "derivatives"\n'  # six parameters and their derivatives
_CHUNK = 1 << 20  # bytes that are decompressed at a time
_HELD_OUT = 1  # runs of a phantom that no job is given

Results = dict[str, Any]


def whole_job_3mm(settings: Settings) -> Outcome:
    """Run ward at 3 mm, float32: 3 and 6 runs, and what each added run costs."""
    phantom = _phantom_3mm(settings)
    few, many = 3, 6
    peers = [_job(phantom, few), _job(phantom, many), _nilearn(phantom, few), _nilearn(phantom, many)]
    ours_few, ours, nilearn_few, nilearn, floor = alternate(
        [*peers, step("jobs:decompress", phantom.root, many)], min(settings.repeats, 2)
    )
    added, theirs = (_each_added(*each, many - few) for each in ((ours_few, ours), (nilearn_few, nilearn)))
    return Outcome(
        [
            Comparison(_title(phantom, few), "nilearn", ours_few, nilearn_few),
            Comparison(_title(phantom, many), "nilearn", ours, nilearn, "CPU >= 25x, memory >= 4x"),
            Comparison(_title(phantom, many), "decompressing with isal", ours, floor),
        ],
        [
            Figure(f"each added run at 3 mm, from {few} to {many} runs, CPU", Spread.of(added), "s"),
            Figure(f"each added run at 3 mm, from {few} to {many} runs, nilearn, CPU", Spread.of(theirs), "s"),
            *_agreement(phantom, many),
        ],
    )


def whole_job_int16(settings: Settings) -> Outcome:
    """Run ward at 3 mm, images of int16, 3 runs."""
    return _against_nilearn(settings, make_phantom(settings.work, settings.mm3, n_runs=4, n_distinct=4, dtype="int16"))


def whole_job_2mm(settings: Settings) -> Outcome:
    """Run ward at 2 mm, float32, 2 runs."""
    phantom = make_phantom(settings.work, settings.mm2, n_runs=3, n_distinct=3)
    return _against_nilearn(settings, phantom, "CPU >= 25x, memory >= 5x")


def constant_memory(settings: Settings) -> Outcome:
    """Compare memory with 6 and with ten times as many runs, and see what each of these costs."""
    phantom = _phantom_3mm(settings)
    few, many = 6, _n_runs(settings)
    peers = [_job(phantom, few), _job(phantom, many), step("jobs:decompress", phantom.root, many)]
    ours_few, ours, floor = alternate(peers, settings.repeats)
    ratios = [more.memory / less.memory for less, more in zip(ours_few, ours, strict=True)]
    added, read = _each_added(ours_few, ours, many - few), [usage.cpu / many for usage in floor]
    page = (_seconds_of_pages(_out(phantom, many)) - _seconds_of_pages(_out(phantom, few))) / (many - few)
    without_page = [one - page for one in added]
    at, each = f"at {phantom.size}", f"each added run at {phantom.size}, from {few} to {many} runs"
    return Outcome(
        figures=[
            Figure(f"peak memory, {few} runs {at}", Spread.of(usage.memory for usage in ours_few), "MB"),
            Figure(f"peak memory, {many} runs {at}", Spread.of(usage.memory for usage in ours), "MB"),
            Figure(f"peak memory, {many} runs against {few}", Spread.of(ratios), "x", target="<= 1.05x"),
            Figure(f"{each}, CPU", Spread.of(added), "s"),
            Figure(f"{each}, of which its page in the report, CPU", page, "s"),
            Figure(f"decompressing a run {at} with isal, CPU", Spread.of(read), "s"),
            Figure(f"{each}, against decompressing it", Spread.of(map(truediv, added, read)), "x"),
            Figure(
                f"{each}, fit and extraction, against decompressing it",
                Spread.of(map(truediv, without_page, read)),
                "x",
                target="<= 3x",
            ),
        ]
    )


def two_workers(settings: Settings) -> Outcome:
    """Compare one process with two, of which each loads its libraries."""
    phantom = _phantom_3mm(settings)
    n_runs = _n_runs(settings)
    workers = ("--nprocs", "2")
    usages = alternate([_job(phantom, n_runs, *workers), _job(phantom, n_runs)], settings.repeats)
    title = f"{_title(phantom, n_runs)}, 2 workers"
    same = _dseg(_out(phantom, n_runs)).read_bytes() == _dseg(_out(phantom, n_runs, *workers)).read_bytes()
    return Outcome(
        [Comparison(title, "1 worker", *usages, "wall >= 1.7x")],
        [Figure("the same bytes of the parcellation with 1 and 2 workers", float(same), ok=same)],
    )


def added_subject(settings: Settings) -> Outcome:
    """Add a participant to a finished job."""
    phantom = _phantom_3mm(settings)
    n_runs = 6
    out = phantom.root / "out-added"
    again = Peer(_command(phantom, out, n_runs), out, before=Peer(_command(phantom, out, n_runs - 1)).run)
    usages = alternate([again, _job(phantom, n_runs)], settings.repeats)
    same = _dseg(out).read_bytes() == _dseg(_out(phantom, n_runs)).read_bytes()
    return Outcome(
        [Comparison(f"{n_runs} runs at {phantom.size}, of which {n_runs - 1} were done", "from scratch", *usages)],
        [Figure("the same bytes of the parcellation after adding a participant", float(same), ok=same)],
    )


def start_up(settings: Settings) -> Outcome:
    """Show the help, and import the package."""
    help_, ours, nilearn = (
        Peer((sys.executable, *words))
        for words in (
            ("-m", "bids_parcellate", "--help"),
            ("-c", "import bids_parcellate"),
            ("-c", "from nilearn.regions import Parcellations"),
        )
    )
    helps, imports, imports_of_nilearn = alternate([help_, ours, nilearn], settings.repeats)
    target = "CPU < 0.3 s"
    return Outcome(
        [
            Comparison("--help", "import of nilearn.regions", helps, imports_of_nilearn, target),
            Comparison("import bids_parcellate", "import of nilearn.regions", imports, imports_of_nilearn, target),
        ]
    )


def _phantom_3mm(settings: Settings) -> Phantom:
    return make_phantom(settings.work, settings.mm3, n_runs=_n_runs(settings), n_distinct=6 + _HELD_OUT)


def _n_runs(settings: Settings) -> int:
    return 8 if settings.tiny else 60


def _against_nilearn(settings: Settings, phantom: Phantom, target: str = "") -> Outcome:
    """Compare the job on all runs but the last, which is held out."""
    n_runs = len(list(phantom.data.glob("sub-*"))) - _HELD_OUT
    floor_peer = step("jobs:decompress", phantom.root, n_runs)
    tested = _job(phantom, n_runs, "--quality", "standard")
    peers = [_job(phantom, n_runs), tested, _nilearn(phantom, n_runs), floor_peer]
    ours, ours_tested, nilearn, floor = alternate(peers, min(settings.repeats, 2))
    title = _title(phantom, n_runs)
    return Outcome(
        [
            Comparison(title, "nilearn", ours, nilearn, target),
            Comparison(f"{title}, with figures of quality", "nilearn", ours_tested, nilearn),
            Comparison(title, "decompressing with isal", ours, floor),
        ],
        _agreement(phantom, n_runs),
    )


def _title(phantom: Phantom, n_runs: int) -> str:
    dtype = nib.load(phantom.bold(1)).get_data_dtype()
    return f"whole job, {n_runs} runs at {phantom.size} ({dtype}), ward {phantom.size.n_parcels}"


def _each_added(few: list[Usage], many: list[Usage], n_added: int) -> list[float]:
    return [(more.cpu - less.cpu) / n_added for less, more in zip(few, many, strict=True)]


def _seconds_of_pages(out: Path) -> float:
    """Read from a job's own record what the pages of the report took, CPU seconds."""
    record = json.loads(max(out.glob("logs/*/provenance.json")).read_text())
    return next(float(step["CPUSeconds"]) for step in record["Steps"] if step["Name"] == "Write the reports")


def _job(phantom: Phantom, n_runs: int, *options: str) -> Peer:
    """Do our job on the first runs; further options win."""
    out = _out(phantom, n_runs, *options)
    return Peer(_command(phantom, out, n_runs, *options), out)


def _command(phantom: Phantom, out: Path, n_runs: int, *options: str) -> tuple[str, ...]:
    strategy = phantom.root / "motion12.toml"
    strategy.write_text(_STRATEGY)
    subjects = [f"{subject:02d}" for subject in range(1, n_runs + 1)]
    command = [sys.executable, "-m", "bids_parcellate", str(phantom.data), str(out), "group", "--nprocs", "1"]
    command += ["--n-parcels", str(phantom.size.n_parcels), "--smoothing-fwhm", str(FWHM), "--detrend"]
    command += ["--low-pass", str(LOW_PASS), "--high-pass", str(HIGH_PASS), "--confounds", str(strategy)]
    command += ["--quality", "none"]  # the same work: nilearn tests nothing
    return (*command, "--participant-label", *subjects, *options)


def _nilearn(phantom: Phantom, n_runs: int) -> Peer:
    """Do nilearn's job: all of its process counts, imports included, as for ours."""
    return step("jobs:nilearn_job", phantom.root, n_runs, phantom.size.n_parcels, whole=True)


def _out(phantom: Phantom, n_runs: int, *options: str) -> Path:
    return phantom.root / "-".join(["out", str(n_runs), *(option.strip("-") for option in options)])


def _dseg(out: Path) -> Path:
    return next(out.glob("tpl-*/anat/*_dseg.nii.gz"))


def _agreement(phantom: Phantom, n_runs: int) -> list[Figure]:
    """Check our results against nilearn's, and against the truth."""
    out = _out(phantom, n_runs)
    check = step("jobs:check_with_nilearn", phantom.root, out.name, n_runs)
    check.run()
    found = np.load(check.results)
    table = next((out / "sub-01" / "func").glob("*_timeseries.tsv"))
    difference = float(np.abs(pd.read_csv(table, sep="\t").to_numpy() - found["signals"]).max())
    at = f"{n_runs} runs at {phantom.size}"
    ari, their_ari, explained, theirs = (float(found[name]) for name in ("ari", "their_ari", "explained", "theirs"))
    return [
        Figure(f"parcel signals, largest difference from NiftiLabelsMasker, {at}", difference, "SD",
               difference < 1e-2, "< 0.01"),
        Figure(f"adjusted Rand index to the truth, {at}", ari, "", ari > their_ari - 0.01, f"nilearn {their_ari:.4g}"),
        Figure(f"explained variance of a held-out run, {at}", explained, "",
               explained > theirs - 0.005, f"nilearn {theirs:.4g}"),
    ]  # fmt: skip


# The steps that run in processes of their own.


def decompress(folder: Path, n_runs: str) -> Callable[[], Results]:
    """Decompress the images once: what no program that reads them can do without."""
    from isal import igzip  # noqa: PLC0415 -- only this process needs it

    paths = sorted((folder / "data").rglob("*_bold.nii.gz"))[: int(n_runs)]

    def work() -> Results:
        n_bytes = 0
        for path in paths:
            with igzip.open(path) as stream:
                while block := stream.read(_CHUNK):
                    n_bytes += len(block)
        return {"n_bytes": n_bytes}

    return work


def nilearn_job(folder: Path, n_runs: str, n_parcels: str) -> Callable[[], Results]:
    """Fit nilearn's parcellation and extract the signals of all runs."""
    from nilearn.regions import Parcellations  # noqa: PLC0415

    images, confounds = _inputs_of_nilearn(folder, int(n_runs))

    def work() -> Results:
        options = CLEANING | {"smoothing_fwhm": FWHM, "standardize": "zscore_sample", "n_jobs": 1}
        model = Parcellations("ward", int(n_parcels), mask=str(folder / "mask.nii.gz"), **options)
        signals = model.fit(images, confounds=confounds).transform(images, confounds=confounds)
        nib.save(model.labels_img_, folder / f"nilearn-{n_runs}.nii.gz")
        return {f"run{i}": each for i, each in enumerate(signals)}

    return work


def check_with_nilearn(folder: Path, out: str, n_runs: str) -> Callable[[], Results]:
    """Extract signals from our parcels with nilearn, and see how good the parcels of both are."""
    from nilearn.maskers import NiftiLabelsMasker, NiftiMasker  # noqa: PLC0415

    (first, *_, held_out), (its_confounds, *_, confounds) = _inputs_of_nilearn(folder, int(n_runs) + _HELD_OUT)
    options = CLEANING | {"smoothing_fwhm": FWHM, "standardize": "zscore_sample"}
    ours = _dseg(folder / out)

    def work() -> Results:
        signals = NiftiLabelsMasker(ours, **options).fit_transform(first, confounds=its_confounds)
        masker = NiftiMasker(folder / "mask.nii.gz", **options)
        voxels = masker.fit_transform(held_out, confounds=confounds)
        mask = nib.load(folder / "mask.nii.gz").get_fdata() > 0
        labels = [
            np.asarray(nib.load(path).dataobj, dtype=np.int64)[mask]
            for path in (folder / "truth.nii.gz", ours, folder / f"nilearn-{n_runs}.nii.gz")
        ]
        truth, found, theirs = labels
        return {
            "signals": signals,
            "ari": adjusted_rand_score(truth, found),
            "their_ari": adjusted_rand_score(truth, theirs),
            "explained": _explained(voxels, found),
            "theirs": _explained(voxels, theirs),
        }

    return work


def _inputs_of_nilearn(folder: Path, n_runs: int) -> tuple[list[str], list[Any]]:
    from nilearn.interfaces.fmriprep import load_confounds  # noqa: PLC0415

    images = sorted(map(str, (folder / "data").rglob(f"*_space-{SPACE}_desc-preproc_bold.nii.gz")))[:n_runs]
    confounds, _ = load_confounds(images, strategy=("motion",), motion="derivatives")
    return images, confounds


def _explained(signals: np.ndarray, labels: np.ndarray) -> float:
    """Share of the sum of squares of (T, V) signals that the means of parcels explain."""
    sizes = np.bincount(labels)
    sums = np.stack([np.bincount(labels, weights=volume) for volume in signals])
    explained = np.divide(sums**2, sizes, out=np.zeros_like(sums), where=sizes > 0)
    return float(explained[:, 1:].sum() / np.square(signals, dtype=np.float64).sum())
