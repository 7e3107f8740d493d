"""Which images a request means: narrowed entity by entity, and never chosen by guessing."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bids_parcellate.config import SelectionConfig
from bids_parcellate.dataset.filters import Query
from bids_parcellate.dataset.records import PROCESSING_ENTITIES, Dataset, RejectedRun, run_label
from bids_parcellate.errors import NothingSelectedError, UsageError

logger = logging.getLogger(__name__)

NATIVE = "native"  # stands for images without the entity: fMRIPrep's --output-spaces SPACE:res-native
_FMRIPREP_LIKE = {"fmriprep", "nibabies"}
_LONGEST_LIST = 20

# Descriptions of images by preference.
_PREPROCESSED = ("preproc",)
_DENOISED = ("preproc", "denoised")  # XCP-D's images need no confounds
_DENOISED_BY_AROMA = ("smoothAROMAnonaggr", "nonaggrDenoised")  # fMRIPrep up to 23.0, fMRIPost-AROMA


@dataclass(frozen=True)
class BIDSFile:
    """A file of a dataset.

    Parameters
    ----------
    path : Path
        The file.
    entities : Mapping
        Short names of its entities and their labels, in BIDS order.
    dataset : Dataset
        Where it is from.
    """

    path: Path
    entities: Mapping[str, str]
    dataset: Dataset

    @cached_property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """Which run it is of, the same whatever was done to the run."""
        return identity(self.entities, PROCESSING_ENTITIES)


def identity(entities: Mapping[str, str], without: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Give entities in a form in which equal ones are equal.

    Parameters
    ----------
    entities : Mapping
        Short names of entities and their labels.
    without : collection of str
        Entities that do not count.

    Returns
    -------
    tuple of (str, str)
        Sorted; ``run-01`` is ``run-1``, as fMRIPrep has changed its mind on the zeros twice.
    """
    counted = {key: label for key, label in entities.items() if key not in without}
    if "run" in counted:
        counted["run"] = counted["run"].lstrip("0") or "0"
    return tuple(sorted(counted.items()))


def wanted_descriptions(*, needs_confounds: bool, needs_aroma_image: bool) -> tuple[str, ...]:
    """Name the kinds of images that serve a request.

    Parameters
    ----------
    needs_confounds : bool
        Whether the images are to be denoised.
    needs_aroma_image : bool
        Whether they must have been denoised by ICA-AROMA.

    Returns
    -------
    tuple of str
        ``desc`` labels, the preferred one first.
    """
    if needs_aroma_image:
        return _DENOISED_BY_AROMA
    return _PREPROCESSED if needs_confounds else _DENOISED


def choose_images(
    images: Sequence[BIDSFile], request: SelectionConfig, query: Query, descriptions: Sequence[str]
) -> tuple[list[BIDSFile], list[RejectedRun]]:
    """Keep the images that a request means.

    Parameters
    ----------
    images : sequence of BIDSFile
        Preprocessed images of all sessions, tasks, spaces, resolutions and kinds.
    request : SelectionConfig
        What the user asked for.
    query : Query
        What the filter file asks of images.
    descriptions : sequence of str
        Kinds of images that will do, the preferred one first.

    Returns
    -------
    chosen : list of BIDSFile
        Images of one kind, space and resolution.
    rejected : list of RejectedRun
        Runs that are there in other spaces or resolutions only.

    Raises
    ------
    NothingSelectedError
        If there is no such image, with what there is.
    UsageError
        If several spaces, resolutions, kinds or pipelines are meant, with what there is.
    """
    kept = _with_labels(images, "ses", request.session_label, "--session-label")
    kept = _with_labels(kept, "task", request.task_id, "--task-id")
    if "desc" not in query:
        kept = _of_kind(kept, descriptions)
    in_all_spaces = kept
    if request.space is None and "space" not in query:
        # Native images lie beside those in other spaces; they are meant only where there is nothing else.
        kept = [image for image in kept if "space" in image.entities] or kept
    kept = _with_one_label(kept, "space", request.space, "--space LABEL")
    kept = _with_one_label(kept, "cohort", None, 'a filter file: {"bold": {"cohort": LABEL}}')
    kept = _with_one_label(kept, "res", request.res, "--res LABEL")
    rejected = _absent_runs(in_all_spaces, kept)
    kept = _of_one_pipeline(kept, prefer_fmriprep=not request.derivatives)
    _refuse_several_kinds(kept)
    return kept, rejected


def _with_labels(images: Sequence[BIDSFile], key: str, labels: Sequence[str], option: str) -> Sequence[BIDSFile]:
    if not labels:
        return images
    present = {image.entities[key] for image in images if key in image.entities}
    refuse_absent_labels(key, labels, present, option)
    return [image for image in images if image.entities.get(key) in labels]


def refuse_absent_labels(key: str, labels: Sequence[str], present: Iterable[str], option: str) -> None:
    """Refuse a request for labels that do not exist.

    Parameters
    ----------
    key : str
        The entity.
    labels : sequence of str
        The labels asked for.
    present : iterable of str
        The labels that there are.
    option : str
        The option that asks for them.

    Raises
    ------
    NothingSelectedError
        If one of the labels is not there, with those that are.
    """
    absent = [label for label in labels if label not in set(present)]
    if absent:
        raise NothingSelectedError(
            f"There is no {' or '.join(f'{key}-{label}' for label in absent)}, which {option} asks for.",
            f"There are: {listed(f'{key}-{label}' for label in present)}.",
        )


def listed(items: Iterable[str]) -> str:
    """Write down what there is, cut off where it gets long.

    Parameters
    ----------
    items : iterable of str
        What there is.

    Returns
    -------
    str
        Sorted, with commas.
    """
    unique = sorted(set(items))
    more = f" and {len(unique) - _LONGEST_LIST} more" if len(unique) > _LONGEST_LIST else ""
    return (", ".join(unique[:_LONGEST_LIST]) or "none") + more


def _of_kind(images: Sequence[BIDSFile], descriptions: Sequence[str]) -> Sequence[BIDSFile]:
    for description in descriptions:
        kept = [image for image in images if image.entities.get("desc") == description]
        if kept:
            return kept
    present = {image.entities.get("desc", "") for image in images}
    hint = f"There are: {listed(f'desc-{label}' if label else 'without desc-' for label in present)}."
    if "denoised" in present:
        hint += " Images that are denoised already are used with --confounds none."
    wanted = " or ".join(f"desc-{label}" for label in descriptions)
    raise NothingSelectedError(f"There is no BOLD image in a volume with {wanted}.", hint)


def _with_one_label(images: Sequence[BIDSFile], key: str, label: str | None, way_out: str) -> Sequence[BIDSFile]:
    """Keep the images with one label of an entity; where several are there, the user must choose."""
    present = {image.entities.get(key, NATIVE) for image in images}
    if label is None and len(present) <= 1:
        return images
    there_are = f"There are: {listed(_count(images, key, each) for each in present)}."
    if label is None:
        raise UsageError(
            f"The request is ambiguous: the images have several '{key}-' labels.", f"{there_are} Use {way_out}."
        )
    kept = [image for image in images if image.entities.get(key, NATIVE) == label]
    if not kept:
        raise NothingSelectedError(f"There is no image with {key}-{label}.", there_are)
    return kept


def _count(images: Sequence[BIDSFile], key: str, label: str) -> str:
    number = sum(image.entities.get(key, NATIVE) == label for image in images)
    name = f"{NATIVE} (no '{key}-')" if label == NATIVE else label
    return f"{name} ({number} image{'s' if number != 1 else ''})"


def _absent_runs(images: Sequence[BIDSFile], chosen: Sequence[BIDSFile]) -> list[RejectedRun]:
    """Name the runs that the choice of a space and a resolution leaves without an image."""
    present = {image.identity for image in chosen}
    absent = {image.identity: image for image in images if image.identity not in present}
    return [
        RejectedRun(
            image.path,
            image.entities,
            image.dataset,
            f"{run_label(image.entities)} has no image in the space and resolution of the others, but {image.path}.",
            "Preprocess it as the others were.",
        )
        for image in absent.values()
    ]


def _of_one_pipeline(images: Sequence[BIDSFile], *, prefer_fmriprep: bool) -> list[BIDSFile]:
    """Make sure that no run is offered by two pipelines."""
    kept = list(images)
    preferred = [image for image in images if (image.dataset.pipeline or "").lower() in _FMRIPREP_LIKE]
    if prefer_fmriprep and 0 < len(preferred) < len(images):
        others = sorted({str(image.dataset) for image in images} - {str(image.dataset) for image in preferred})
        logger.warning("Images of %s are not used, as there are such of fMRIPrep; -d chooses.", ", ".join(others))
        kept = preferred
    seen: dict[tuple[tuple[str, str], ...], Dataset] = {}
    for image in kept:
        other = seen.setdefault(image.identity, image.dataset)
        if other != image.dataset:
            first, second = sorted((other, image.dataset), key=lambda dataset: dataset.root)
            raise UsageError(
                f"{run_label(image.entities)} is in two datasets: {first}, and {second}.",
                f"Name the one to use: --derivatives {first.root}, or --derivatives {second.root}.",
            )
    return kept


def _refuse_several_kinds(images: Sequence[BIDSFile]) -> None:
    """Make sure that no run is there twice, processed in two ways."""
    seen: dict[tuple[tuple[str, str], ...], str] = {}
    for image in images:
        description = image.entities.get("desc", "")
        other = seen.setdefault(image.identity, description)
        if other != description:
            raise UsageError(
                f"{run_label(image.entities)} is there as desc-{other} and as desc-{description}.",
                "Let the filter file name one of them.",
            )
