"""From a request to runs: find the datasets, ask for files, choose the images, examine each run."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bids_parcellate.config import SelectionConfig
from bids_parcellate.dataset.candidates import (
    BIDSFile,
    choose_images,
    listed,
    refuse_absent_labels,
    wanted_descriptions,
)
from bids_parcellate.dataset.examination import Examiner, reject_duplicates, reject_other_grids, timing_warnings
from bids_parcellate.dataset.filters import AROMA_QUERY, Query, narrowed, read_filters
from bids_parcellate.dataset.index import find_files
from bids_parcellate.dataset.records import Dataset, RejectedRun, Run, Selection
from bids_parcellate.dataset.roots import find_datasets
from bids_parcellate.errors import NothingSelectedError, UsageError
from bids_parcellate.io.naming import parse_entities

_OPTIONS = {
    "sub": ("participant_label", "--participant-label"),
    "ses": ("session_label", "--session-label"),
    "task": ("task_id", "--task-id"),
    "space": ("space", "--space"),
    "res": ("res", "--res"),
}

_BLOCK = 32  # images that a thread examines at once


def select_runs(
    bids_dir: Path,
    selection: SelectionConfig,
    *,
    target_res: float | None = None,
    needs_confounds: bool = True,
    needs_mask: bool = True,
    needs_aroma_image: bool = False,
    nprocs: int = 1,
) -> Selection:
    """Find the runs that a request means, and which of them can be used.

    Nothing is written to the datasets. Of images, only headers are read.

    Parameters
    ----------
    bids_dir : Path
        A derivative dataset, a folder of such, or a raw dataset with a ``derivatives`` folder.
    selection : SelectionConfig
        The request.
    target_res : float, optional
        Voxel size in mm to which all runs will be resampled. Without it, runs on another grid than most are rejected.
    needs_confounds : bool, default=True
        Whether a run without a table of confounds is of no use. Without need, none is looked for.
    needs_mask : bool, default=True
        Whether a run without a brain mask is of no use. Without need, none is looked for.
    needs_aroma_image : bool, default=False
        Whether the images must have been denoised by ICA-AROMA.
    nprocs : int, default=1
        Number of headers that are read at once.

    Returns
    -------
    Selection
        The runs that can be used, possibly none, and those that cannot, with the reasons.

    Raises
    ------
    DatasetError
        If there is no derivative dataset.
    NothingSelectedError
        If the request means no image at all.
    UsageError
        If the request is ambiguous or contradicts itself, or the filter file means nothing.
    MissingInputError
        If there is no filter file.
    """
    filters, ignored = read_filters(selection.bids_filter_file) if selection.bids_filter_file else ({}, ())
    _refuse_double_requests(selection, filters.get("bold", {}))
    datasets = find_datasets(bids_dir, selection.derivatives, lenient=selection.skip_bids_validation)
    _refuse_database_inside(selection.bids_database_dir, [bids_dir, *(dataset.root for dataset in datasets)])
    if selection.participant_label:
        refuse_absent_labels("sub", selection.participant_label, _participants(datasets), "--participant-label")

    files = _ask(datasets, selection, filters)
    if not files["bold"]:
        raise _nothing_found(datasets, selection.bids_filter_file if "bold" in filters else None)
    descriptions = wanted_descriptions(needs_confounds=needs_confounds, needs_aroma_image=needs_aroma_image)
    images, rejected = choose_images(files["bold"], selection, filters.get("bold", {}), descriptions)
    images, duplicates = reject_duplicates(images)

    examiner = Examiner(
        files["mask"], files["confounds"], files["aroma"], needs_mask=needs_mask, needs_confounds=needs_confounds
    )
    examined = _examine_all(examiner, images, nprocs)
    runs = [run for run in examined if isinstance(run, Run)]
    rejected += duplicates + [run for run in examined if isinstance(run, RejectedRun)]
    if target_res is None:
        runs, on_other_grids = reject_other_grids(runs)
        rejected += on_other_grids

    used = {dataset for run in runs for dataset in run.datasets} | {run.dataset for run in rejected}
    return Selection(
        runs=tuple(sorted(runs, key=_place)),
        rejected=tuple(sorted(rejected, key=_place)),
        datasets=tuple(dataset for dataset in datasets if dataset in used),
        warnings=(
            *_absence_warnings(selection, images),
            *([f"Of the filter file, the queries {listed(ignored)} are not ours and are ignored."] if ignored else []),
            *timing_warnings(runs),
        ),
    )


def _examine_all(examiner: Examiner, images: Sequence[BIDSFile], n_threads: int) -> list[Run | RejectedRun]:
    """Examine images in threads, as file systems of clusters take long to answer; by blocks, as hand-overs cost."""
    blocks = [images[start : start + _BLOCK] for start in range(0, len(images), _BLOCK)]
    with ThreadPoolExecutor(n_threads) as threads:
        return [run for block in threads.map(lambda block: list(map(examiner.examine, block)), blocks) for run in block]


def _place(run: Run | RejectedRun | BIDSFile) -> tuple[str, Path]:
    """Sort by the place in the dataset, so that it does not matter where the dataset lies."""
    path = run.path if isinstance(run, BIDSFile) else run.bold
    return str(path).removeprefix(str(run.dataset.root)), run.dataset.root


def _refuse_double_requests(selection: SelectionConfig, query: Query) -> None:
    for key, (field, option) in _OPTIONS.items():
        if key in query and getattr(selection, field):
            raise UsageError(f"{option} and the filter file both say which '{key}-' is meant.", "Say it in one place.")


def _refuse_database_inside(database_dir: Path | None, roots: Sequence[Path]) -> None:
    if database_dir is None:
        return
    for root in roots:
        if Path(os.path.realpath(database_dir)).is_relative_to(os.path.realpath(root)):
            raise UsageError(
                f"--bids-database-dir {database_dir} is in the dataset {root}, to which nothing is written.",
                "Choose a folder outside of it.",
            )


def _participants(datasets: Sequence[Dataset]) -> set[str]:
    folders = (path for dataset in datasets for path in dataset.root.glob("sub-*") if path.is_dir())
    return {path.name.removeprefix("sub-") for path in folders}


def _ask(
    datasets: Sequence[Dataset], selection: SelectionConfig, filters: Mapping[str, Query]
) -> dict[str, list[BIDSFile]]:
    """Ask all datasets for images, masks and tables."""
    queries = {name: narrowed(name, filters) for name in ("bold", "mask", "confounds")} | {"aroma": AROMA_QUERY}
    found: dict[str, list[BIDSFile]] = {name: [] for name in queries}
    for dataset in datasets:
        answers = find_files(dataset, queries, selection.participant_label, selection.bids_database_dir)
        for name, paths in answers.items():
            found[name] += (BIDSFile(path, parse_entities(path.name), dataset) for path in paths)
    return {name: sorted(files, key=_place) for name, files in found.items()}


def _nothing_found(datasets: Sequence[Dataset], filter_file: Path | None) -> NothingSelectedError:
    where = listed(str(dataset.root) for dataset in datasets)
    if filter_file is not None:
        message = f"The filter file leaves no BOLD image in {where}: {filter_file}."
        return NothingSelectedError(message, "Loosen its query 'bold'.")
    if any(_surface_images(datasets)):
        return NothingSelectedError(
            f"There are BOLD images on surfaces only in {where}.",
            "Volumes are needed: run fMRIPrep with a volumetric output space, such as MNI152NLin2009cAsym.",
        )
    return NothingSelectedError(
        f"There is no BOLD image in {where}.",
        "They are looked for in sub-*/[ses-*/]func/*_bold.nii.gz; did the preprocessing finish?",
    )


def _surface_images(datasets: Sequence[Dataset]) -> Iterator[Path]:
    for dataset in datasets:
        for extension in ("dtseries.nii", "func.gii"):
            yield from dataset.root.glob(f"sub-*/**/*_bold.{extension}")


def _absence_warnings(selection: SelectionConfig, images: Sequence[BIDSFile]) -> list[str]:
    present = {image.entities["sub"] for image in images}
    return [
        f"sub-{label} has no image that the request means."
        for label in selection.participant_label
        if label not in present
    ]
