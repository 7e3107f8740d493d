"""The names of all outputs: entities in, paths out. Nothing else in the package spells a BIDS name.

References
----------
BIDS 1.11.1, entity table and "Templates and atlases".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# BIDS order; ``stat`` is not in the specification yet and stands where XCP-D puts it.
ENTITY_ORDER = (
    "sub", "tpl", "ses", "cohort", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec",
    "dir", "run", "mod", "echo", "flip", "inv", "mt", "part", "proc", "hemi", "space", "split", "recording", "chunk",
    "atlas", "seg", "scale", "res", "den", "label", "stat", "desc",
)  # fmt: skip
_RANKS = {key: rank for rank, key in enumerate(ENTITY_ORDER)}
_LABEL = re.compile(r"[A-Za-z0-9+]+")


def bids_name(entities: Mapping[str, str | None], suffix: str, extension: str) -> str:
    """Spell a BIDS file name.

    Parameters
    ----------
    entities : Mapping
        Short names of entities and their labels; those that are None are left out.
    suffix : str
        Such as ``dseg``.
    extension : str
        With its leading dot.

    Returns
    -------
    str
        Entities in BIDS order, suffix, extension.

    Raises
    ------
    ValueError
        If an entity is unknown or a label is not alphanumeric, such as one that would leave its folder.
    """
    for key, label in entities.items():
        if key not in _RANKS:
            raise ValueError(f"{key!r} is no BIDS entity; there are {', '.join(ENTITY_ORDER)}")
        if label is not None and not _LABEL.fullmatch(label):
            raise ValueError(f"{label!r} is no BIDS label for {key!r}: letters, digits and + are allowed")
    parts = [f"{key}-{entities[key]}" for key in ENTITY_ORDER if entities.get(key) is not None]
    return "_".join([*parts, f"{suffix}{extension}"])


def parse_entities(name: str) -> dict[str, str]:
    """Read the entities in a file's name.

    Parameters
    ----------
    name : str
        Such as ``sub-01_task-rest_run-1_desc-preproc_bold.nii.gz``.

    Returns
    -------
    dict
        Short names of entities and their labels, in BIDS order; entities that BIDS does not know come last.
    """
    entities = dict(part.split("-", 1) for part in name.partition(".")[0].split("_") if "-" in part)
    return {key: entities[key] for key in _in_order(tuple(entities))}


@lru_cache
def _in_order(keys: tuple[str, ...]) -> list[str]:
    return sorted(keys, key=lambda key: _RANKS.get(key, len(_RANKS)))


def as_label(text: str) -> str:
    """Make a BIDS label of any text.

    Parameters
    ----------
    text : str
        Such as ``hierarchical_kmeans``.

    Returns
    -------
    str
        Only its letters and digits.
    """
    return re.sub(r"[^A-Za-z0-9]", "", text)


def beside(image: Path, extension: str) -> Path:
    """Name the file that belongs to an image.

    Parameters
    ----------
    image : Path
        A ``.nii`` or ``.nii.gz`` file.
    extension : str
        That of the other file, such as ``.tsv``.

    Returns
    -------
    Path
        In the same folder, with the same name but for the extension.
    """
    return image.with_name(image.name.removesuffix(".gz").removesuffix(".nii") + extension)


# Labels of kinds of connectivity, as XCP-D spells them; others are labels themselves.
_STATISTICS = {"pearson": "pearsoncorrelation", "partial": "partialcorrelation"}


@dataclass(frozen=True)
class OutputNames:
    """Where the outputs of one job lie.

    Parameters
    ----------
    root : Path
        The output folder.
    space : str
        Label of the space, which names the template folder.
    atlas : str
        Label of the atlas; ``{}`` in it stands for the number of parcels.
    method : str
        Clustering method.
    desc : str
        Label of the denoising.
    res, cohort : str or None
        Labels of the resolution and of the template's cohort, where the inputs have them.
    """

    root: Path
    space: str
    atlas: str
    method: str
    desc: str
    res: str | None = None
    cohort: str | None = None

    @property
    def _template(self) -> dict[str, str | None]:
        return {"tpl": self.space, "cohort": self.cohort, "res": self.res}

    def _scale(self, n_parcels: int) -> dict[str, str]:
        return {"atlas": self.atlas_label(n_parcels), "seg": as_label(self.method), "scale": str(n_parcels)}

    @property
    def _template_folder(self) -> Path:
        folder = self.root / f"tpl-{self.space}"
        return (folder / f"cohort-{self.cohort}" if self.cohort else folder) / "anat"

    def parcellation(self, n_parcels: int, extension: str) -> Path:
        """Name a file of the group parcellation.

        Parameters
        ----------
        n_parcels : int
            Its number of parcels.
        extension : str
            ``.nii.gz``, ``.tsv`` or ``.json``; ``.lut`` or ``.ctab`` for a table of colours.

        Returns
        -------
        Path
            The file.
        """
        entities = self._template | self._scale(n_parcels)
        return self._template_folder / bids_name(entities, "dseg", extension)

    def stability(self, n_parcels: int, extension: str) -> Path:
        """Name a file of the map of stability.

        Parameters
        ----------
        n_parcels : int
            Number of parcels.
        extension : str
            ``.nii.gz`` or ``.json``.

        Returns
        -------
        Path
            The file.
        """
        entities = self._template | self._scale(n_parcels)
        return self._template_folder / bids_name(entities | {"desc": "stability"}, "probseg", extension)

    def figures(self, extension: str) -> Path:
        """Name the table of how good the parcellations are.

        Parameters
        ----------
        extension : str
            ``.tsv`` or ``.json``.

        Returns
        -------
        Path
            The file.
        """
        entities = self._template | {"atlas": as_label(self.atlas), "seg": as_label(self.method)}
        return self._template_folder / bids_name(entities, "qc", extension)

    def group_mask(self, extension: str) -> Path:
        """Name a file of the group mask.

        Parameters
        ----------
        extension : str
            ``.nii.gz`` or ``.json``.

        Returns
        -------
        Path
            The file.
        """
        return self._template_folder / bids_name(self._template | {"desc": "group"}, "mask", extension)

    def individual(self, participant: str, n_parcels: int, extension: str) -> Path:
        """Name a file of a participant's own parcellation.

        Parameters
        ----------
        participant : str
            Label of the participant.
        n_parcels : int
            Number of parcels.
        extension : str
            ``.nii.gz``, ``.tsv`` or ``.json``.

        Returns
        -------
        Path
            The file.
        """
        entities: dict[str, str | None] = {
            "sub": participant,
            "space": self.space,
            "cohort": self.cohort,
            **self._scale(n_parcels),
            "res": self.res,
            "desc": "individual",
        }
        return self.root / f"sub-{participant}" / "anat" / bids_name(entities, "dseg", extension)

    def atlas_label(self, n_parcels: int) -> str:
        """Give the label of the atlas that a parcellation belongs to.

        Parameters
        ----------
        n_parcels : int
            Its number of parcels.

        Returns
        -------
        str
            The same for all numbers, unless the name has a place for it.
        """
        return self.atlas.replace("{}", str(n_parcels))

    def atlas_description(self, n_parcels: int) -> Path:
        """Name the description that every atlas needs at the top of its dataset.

        Parameters
        ----------
        n_parcels : int
            Number of parcels.

        Returns
        -------
        Path
            The file.
        """
        return self.root / f"atlas-{self.atlas_label(n_parcels)}_description.json"

    def signals(self, run: Mapping[str, str], n_parcels: int, summary: str, extension: str) -> Path:
        """Name a table of parcel time series.

        Parameters
        ----------
        run : Mapping
            Entities of the run's image.
        n_parcels : int
            Number of parcels.
        summary : str
            How the voxels of a parcel are summarised.
        extension : str
            ``.tsv`` or ``.json``.

        Returns
        -------
        Path
            The file.
        """
        return self._of_parcels(run, n_parcels, summary, "timeseries", extension)

    def any_signals(self, n_parcels: int) -> str:
        """Give a pattern of the names of all time series of a parcellation, of any denoising.

        Parameters
        ----------
        n_parcels : int
            Number of parcels.

        Returns
        -------
        str
            A pattern of file names.
        """
        entities = "_".join(f"{key}-{label}" for key, label in self._scale(n_parcels).items())
        return f"*_space-{self.space}_*{entities}_*_timeseries.tsv"

    def connectivity(self, run: Mapping[str, str], n_parcels: int, kind: str, extension: str) -> Path:
        """Name a matrix of what relates parcels.

        Parameters
        ----------
        run : Mapping
            Entities of the run's image.
        n_parcels : int
            Number of parcels.
        kind : str
            Kind of connectivity.
        extension : str
            ``.tsv`` or ``.json``.

        Returns
        -------
        Path
            The file.
        """
        return self._of_parcels(run, n_parcels, _STATISTICS.get(kind, kind), "relmat", extension)

    def connectivity_reference(self, n_parcels: int, extension: str) -> Path:
        """Name the group's mean covariance, from which tangents lead to the runs.

        Parameters
        ----------
        n_parcels : int
            Number of parcels.
        extension : str
            ``.tsv`` or ``.json``.

        Returns
        -------
        Path
            The file.
        """
        entities = self._template | {
            **self._scale(n_parcels),
            "stat": "geometricmean",
            "desc": self.desc,
        }
        return self._template_folder / bids_name(entities, "relmat", extension)

    def outliers(self, run: Mapping[str, str], extension: str) -> Path:
        """Name a table of censored volumes.

        Parameters
        ----------
        run : Mapping
            Entities of the run's image.
        extension : str
            ``.tsv`` or ``.json``.

        Returns
        -------
        Path
            The file.
        """
        entities = {key: run[key] for key in run if key not in ("space", "cohort", "res", "den", "echo")}
        return self._run_folder(run) / bids_name(entities | {"desc": self.desc}, "outliers", extension)

    def folders(self, run: Mapping[str, str]) -> tuple[Path, ...]:
        """List the folders that a job writes to.

        Parameters
        ----------
        run : Mapping
            Entities of one of its images.

        Returns
        -------
        tuple of Path
            Those of the run, of its participant, of the group and of the logs; none holds another.
        """
        anatomy = self.root / f"sub-{run['sub']}" / "anat"
        return self._run_folder(run), anatomy, self._template_folder, self.root / "logs" / "runs"

    def _of_parcels(self, run: Mapping[str, str], n_parcels: int, stat: str, suffix: str, extension: str) -> Path:
        entities = {
            **run,
            "space": self.space,
            "cohort": self.cohort,
            **self._scale(n_parcels),
            "res": self.res,
            "stat": stat,
            "desc": self.desc,
        }
        return self._run_folder(run) / bids_name(entities, suffix, extension)

    def _run_folder(self, run: Mapping[str, str]) -> Path:
        folder = self.root / f"sub-{run['sub']}"
        return (folder / f"ses-{run['ses']}" if run.get("ses") else folder) / "func"

    def uri(self, path: Path) -> str:
        """Point to an output from within the dataset.

        Parameters
        ----------
        path : Path
            A file below the output folder.

        Returns
        -------
        str
            A BIDS URI.
        """
        return f"bids::{path.relative_to(self.root).as_posix()}"
