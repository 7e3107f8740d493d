"""Whether a run can be used: are its files there, does its header make sense, does it fit the others."""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from bids_parcellate.dataset.candidates import BIDSFile, identity
from bids_parcellate.dataset.records import PROCESSING_ENTITIES, RejectedRun, Run
from bids_parcellate.dataset.sidecars import Sidecars, repetition_time
from bids_parcellate.errors import DataError, MissingInputError, ParcellateError
from bids_parcellate.io.content import require_content
from bids_parcellate.io.images import read_info
from bids_parcellate.io.naming import bids_name
from bids_parcellate.numerics.grids import Grid

# Entities of an image that its companions do not share.
_NOT_OF_MASK = ("desc", "echo")
_NOT_OF_TABLE = ("space", "cohort", "res", "den", "hemi", "echo", "desc")
_AROMA_IMAGE = "smoothAROMAnonaggr"

_SAME_TIME = 1e-3  # seconds

Companions = Mapping[tuple[tuple[str, str], ...], Sequence[BIDSFile]]


class Examiner:
    """Finds what belongs to an image and decides whether the run can be used.

    Parameters
    ----------
    masks, confounds, aroma_tables : iterable of BIDSFile
        The files that may belong to images.
    needs_mask, needs_confounds : bool
        Whether a run without them is of use.
    """

    def __init__(
        self,
        masks: Iterable[BIDSFile],
        confounds: Iterable[BIDSFile],
        aroma_tables: Iterable[BIDSFile],
        *,
        needs_mask: bool,
        needs_confounds: bool,
    ) -> None:
        self._masks = _by_identity(masks, _NOT_OF_MASK)
        self._confounds = _by_identity(confounds, _NOT_OF_TABLE)
        self._aroma_tables = _by_identity(aroma_tables, _NOT_OF_TABLE)
        self._needs_mask = needs_mask
        self._needs_confounds = needs_confounds
        self._sidecars = lru_cache(Sidecars)

    def examine(self, image: BIDSFile) -> Run | RejectedRun:
        """Decide whether a run can be used.

        Parameters
        ----------
        image : BIDSFile
            The run's image.

        Returns
        -------
        Run or RejectedRun
            The run with its files, or the first reason against it.
        """
        try:
            return self._assemble(image)
        except ParcellateError as error:
            return RejectedRun(image.path, image.entities, image.dataset, error.message, error.hint)

    def _assemble(self, image: BIDSFile) -> Run:
        _check_labels(image)
        info = read_info(image.path)
        if info.n_volumes < 2:
            raise DataError(f"{image.path} holds a single volume, no time series.", "Is it the right image?")
        mask = self._mask_of(image)
        confounds = self._confounds_of(image)
        aroma_tables = _companions(self._aroma_tables, image, _NOT_OF_TABLE) if self._needs_confounds else []
        metadata = self._sidecars(image.dataset.root).metadata(image.path, image.entities)
        t_r = repetition_time(metadata, info.t_r, image.path)
        companions = [file for file in (mask, confounds, *aroma_tables) if file is not None]
        for file in companions:
            require_content(file.path)
        return Run(
            bold=image.path,
            entities=image.entities,
            datasets=tuple(dict.fromkeys(file.dataset for file in (image, *companions))),
            info=info,
            t_r=t_r,
            mask=mask.path if mask else None,
            confounds=confounds.path if confounds else None,
            confounds_json=_json_beside(confounds.path) if confounds else None,
            aroma_tables=tuple(file.path for file in aroma_tables),
        )

    def _mask_of(self, image: BIDSFile) -> BIDSFile | None:
        if not self._needs_mask:
            return None
        masks = _companions(self._masks, image, _NOT_OF_MASK)
        if not masks and image.entities.get("desc") == _AROMA_IMAGE and "res" not in image.entities:
            # fMRIPrep ran AROMA at res-2 and left the entity out of the image's name.
            at_res_2 = BIDSFile(image.path, {**image.entities, "res": "2"}, image.dataset)
            masks = _companions(self._masks, at_res_2, _NOT_OF_MASK)
        return _only(masks, image, "brain mask", "Take one from elsewhere: --mask.")

    def _confounds_of(self, image: BIDSFile) -> BIDSFile | None:
        if not self._needs_confounds:
            return None
        tables = _companions(self._confounds, image, _NOT_OF_TABLE)
        return _only(
            tables,
            image,
            "table of confounds",
            "fMRIPrep writes it unless --level is minimal; or use --confounds none.",
        )


def _check_labels(image: BIDSFile) -> None:
    """Make sure that the names of outputs can be made of the image's entities."""
    try:
        bids_name(image.entities, "bold", "")
    except ValueError as error:
        raise DataError(f"the name of {str(image.path)!r}: {error}.", "Rename all files of the run.") from error


def _by_identity(files: Iterable[BIDSFile], without: Collection[str]) -> Companions:
    groups = defaultdict(list)
    for file in files:
        groups[identity(file.entities, without)].append(file)
    return groups


def _companions(files: Companions, image: BIDSFile, without: Collection[str]) -> Sequence[BIDSFile]:
    """Find what belongs to an image: in its own dataset, else in the others."""
    found = files.get(identity(image.entities, without), [])
    return [file for file in found if file.dataset == image.dataset] or found


def _only(files: Sequence[BIDSFile], image: BIDSFile, kind: str, way_out: str) -> BIDSFile:
    if not files:
        raise MissingInputError(f"{image.path} has no {kind}.", way_out)
    if len(files) > 1:
        names = " and ".join(str(file.path) for file in files)
        raise DataError(f"{image.path} has more than one {kind}: {names}.", "Remove those that do not belong to it.")
    return files[0]


def _json_beside(table: Path) -> Path | None:
    path = table.with_suffix(".json")
    if not os.path.lexists(path):
        return None
    require_content(path)
    return path


def reject_duplicates(images: Sequence[BIDSFile]) -> tuple[list[BIDSFile], list[RejectedRun]]:
    """Set aside the images that are of one run, as ``run-1`` and ``run-01``, or compressed and not.

    Parameters
    ----------
    images : sequence of BIDSFile
        Images of one kind, space and resolution.

    Returns
    -------
    unique : list of BIDSFile
        The images of runs that are there once.
    rejected : list of RejectedRun
        All the others: which one is right cannot be known.
    """
    groups = _by_identity(images, PROCESSING_ENTITIES)
    unique = [group[0] for group in groups.values() if len(group) == 1]
    rejected = [
        RejectedRun(
            image.path,
            image.entities,
            image.dataset,
            f"{image.path} is of the same run as {' and '.join(str(other.path) for other in group if other != image)}.",
            "Remove the outdated one; newer versions of fMRIPrep name runs differently.",
        )
        for group in groups.values()
        if len(group) > 1
        for image in group
    ]
    return unique, rejected


def reject_other_grids(runs: Sequence[Run]) -> tuple[list[Run], list[RejectedRun]]:
    """Set aside the runs whose grid is not that of most runs.

    Parameters
    ----------
    runs : sequence of Run
        In an order that does not depend on chance: where two grids are equally frequent, that of the first run counts.

    Returns
    -------
    kept : list of Run
        Runs on one grid.
    rejected : list of RejectedRun
        The others.
    """
    groups: list[list[Run]] = []
    for run in runs:
        group = next((group for group in groups if group[0].grid.matches(run.grid)), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    kept = max(groups, key=len, default=[])  # the first of the largest
    rejected = [
        RejectedRun(
            run.bold,
            run.entities,
            run.dataset,
            f"{run.bold} is on another grid ({describe_grid(run.grid)}) "
            f"than {len(kept)} of {len(runs)} runs ({describe_grid(kept[0].grid)}).",
            "Resample all runs to one grid: --target-res MM.",
        )
        for group in groups
        if group is not kept
        for run in group
    ]
    return kept, rejected


def describe_grid(grid: Grid) -> str:
    """Tell a grid from others in words.

    Parameters
    ----------
    grid : Grid
        The grid.

    Returns
    -------
    str
        Voxels, their size, and where the first one lies.
    """
    sizes = " x ".join(f"{size:.4g}" for size in grid.voxel_sizes)
    origin = ", ".join(f"{coordinate:.5g}" for coordinate in grid.affine[:3, 3])
    return f"{' x '.join(map(str, grid.shape))} voxels of {sizes} mm from ({origin})"


def timing_warnings(runs: Sequence[Run]) -> list[str]:
    """Say where repetition times disagree.

    Parameters
    ----------
    runs : sequence of Run
        The runs that are used.

    Returns
    -------
    list of str
        Sentences.
    """
    warnings = [
        f"The header of {run.bold} says {run.info.t_r:g} s of repetition time; its sidecar's {run.t_r:g} s are used."
        for run in runs
        if run.info.t_r is not None and abs(run.info.t_r - run.t_r) > _SAME_TIME
    ]
    counts = Counter(round(run.t_r / _SAME_TIME) * _SAME_TIME for run in runs)
    if len(counts) > 1:
        times = ", ".join(f"{t_r:g} s ({n} run{'s' * (n > 1)})" for t_r, n in sorted(counts.items()))
        warnings.append(f"The runs differ in repetition time: {times}.")
    return warnings
