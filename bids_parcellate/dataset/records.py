"""What is known of datasets and runs: small frozen records that can be sent to other processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_parcellate.io.headers import ImageInfo
from bids_parcellate.numerics.grids import Grid

# Entities that tell how a run was sampled or processed, not which run it is.
PROCESSING_ENTITIES = frozenset({"space", "cohort", "res", "den", "desc"})


@dataclass(frozen=True)
class Dataset:
    """One BIDS derivatives dataset.

    Parameters
    ----------
    name : str
        Its name in BIDS URIs.
    root : Path
        Its folder, absolute.
    description : Mapping
        What its ``dataset_description.json`` holds; empty where there is none.
    """

    name: str
    root: Path
    description: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        version = f" {self.pipeline_version}" if self.pipeline_version else ""
        return f"{self.pipeline or 'unknown pipeline'}{version} in {self.root}"

    @property
    def generated_by(self) -> tuple[Mapping[str, Any], ...]:
        """The pipelines that made the dataset, the last one first; each has a ``Name``."""
        # fMRIPrep before 20.2 wrote PipelineDescription, which BIDS 1.4 replaced.
        pipelines = self.description.get("GeneratedBy") or [self.description.get("PipelineDescription", {})]
        return tuple(pipeline for pipeline in pipelines if pipeline.get("Name"))

    @property
    def pipeline(self) -> str | None:
        """Name of the pipeline that made the dataset."""
        return str(self.generated_by[0]["Name"]) if self.generated_by else None

    @property
    def pipeline_version(self) -> str | None:
        """Version of the pipeline that made the dataset."""
        version = self.generated_by[0].get("Version") if self.generated_by else None
        return None if version is None else str(version)

    def uri(self, path: Path) -> str:
        """Point to a file of the dataset from another dataset.

        Parameters
        ----------
        path : Path
            A file below the dataset's folder.

        Returns
        -------
        str
            A BIDS URI, ``bids:<name>:<relative path>``.
        """
        return f"bids:{self.name}:{path.relative_to(self.root).as_posix()}"


def run_label(entities: Mapping[str, str]) -> str:
    """Name a run as in ``sub-01_ses-1_task-rest_run-1``.

    Parameters
    ----------
    entities : Mapping
        Short names of entities and their labels, in BIDS order.

    Returns
    -------
    str
        The entities that say which run it is.
    """
    return "_".join(f"{key}-{label}" for key, label in entities.items() if key not in PROCESSING_ENTITIES)


@dataclass(frozen=True)
class Run:
    """A run that can be used, with all files that belong to it.

    Parameters
    ----------
    bold : Path
        The preprocessed image.
    entities : Mapping
        Short names of the image's entities and their labels, in BIDS order.
    datasets : tuple of Dataset
        The dataset that the image is from, then the others that files of the run are from.
    info : ImageInfo
        What the image's header says.
    t_r : float
        Repetition time in seconds.
    mask : Path or None
        The brain mask on the image's grid.
    confounds, confounds_json : Path or None
        fMRIPrep's table of confounds, and the description of its columns.
    aroma_tables : tuple of Path
        Tables of component time series from fMRIPost-AROMA.
    """

    bold: Path
    entities: Mapping[str, str] = field(hash=False)
    datasets: tuple[Dataset, ...]
    info: ImageInfo = field(compare=False, repr=False)
    t_r: float
    mask: Path | None = None
    confounds: Path | None = None
    confounds_json: Path | None = None
    aroma_tables: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return self.label

    @property
    def dataset(self) -> Dataset:
        """The dataset that the image is from."""
        return self.datasets[0]

    @property
    def participant(self) -> str:
        """Label of the participant, without ``sub-``."""
        return self.entities["sub"]

    @property
    def session(self) -> str | None:
        """Label of the session, without ``ses-``."""
        return self.entities.get("ses")

    @property
    def label(self) -> str:
        """Name of the run in messages, unique in a selection."""
        return run_label(self.entities)

    @property
    def grid(self) -> Grid:
        """The image's grid."""
        return self.info.grid

    @property
    def n_volumes(self) -> int:
        """Number of volumes."""
        return self.info.n_volumes

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the run, the image first."""
        optional = (self.mask, self.confounds, self.confounds_json, *self.aroma_tables)
        return (self.bold, *(path for path in optional if path is not None))

    def uri(self, path: Path) -> str:
        """Point to a file of the run from another dataset.

        Parameters
        ----------
        path : Path
            One of ``files``, or another file of the run's datasets.

        Returns
        -------
        str
            A BIDS URI.

        Raises
        ------
        ValueError
            If the file is in none of the run's datasets.
        """
        for dataset in self.datasets:
            if path.is_relative_to(dataset.root):
                return dataset.uri(path)
        raise ValueError(f"{path} is in none of the datasets of {self.label}")


@dataclass(frozen=True)
class RejectedRun:
    """A run that was selected but cannot be used.

    Parameters
    ----------
    bold : Path
        The preprocessed image.
    entities : Mapping
        Short names of the image's entities and their labels, in BIDS order.
    dataset : Dataset
        The dataset that the image is from.
    reason : str
        Why, in a sentence that names the file.
    hint : str
        What can be done about it.
    """

    bold: Path
    entities: Mapping[str, str] = field(hash=False)
    dataset: Dataset
    reason: str
    hint: str = ""

    @property
    def participant(self) -> str:
        """Label of the participant, without ``sub-``."""
        return self.entities["sub"]

    @property
    def label(self) -> str:
        """Name of the run in messages."""
        return run_label(self.entities)

    @property
    def uri(self) -> str:
        """The image's BIDS URI."""
        return self.dataset.uri(self.bold)


@dataclass(frozen=True)
class Selection:
    """What a request selects.

    Parameters
    ----------
    runs : tuple of Run
        The runs that can be used, sorted by their path within the dataset. It may be empty.
    rejected : tuple of RejectedRun
        The runs that match the request but cannot be used, in the same order.
    datasets : tuple of Dataset
        The datasets that files of these runs are from; others that were found are left out.
    warnings : tuple of str
        What the user should know of the runs that are used.
    """

    runs: tuple[Run, ...]
    rejected: tuple[RejectedRun, ...]
    datasets: tuple[Dataset, ...]
    warnings: tuple[str, ...] = ()
