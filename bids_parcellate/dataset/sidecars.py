"""JSON sidecars and what they say of time.

References
----------
BIDS 1.11.1, "The Inheritance Principle".
"""

import json
import reprlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from bids_parcellate.dataset.listing import list_folder
from bids_parcellate.errors import DataError, MissingInputError
from bids_parcellate.io.content import open_content
from bids_parcellate.io.naming import parse_entities

_SHORTEST, _LONGEST = 0.01, 100.0  # seconds between volumes; what is beyond is most often in milliseconds
_N_LISTINGS = 256  # folders whose sidecars are remembered; runs come sorted


class Sidecars:
    """The sidecars of one dataset.

    Parameters
    ----------
    root : Path
        The dataset's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listing = lru_cache(_N_LISTINGS)(_list_sidecars)

    def metadata(self, path: Path, entities: Mapping[str, str]) -> dict[str, Any]:
        """Collect what the sidecars say of a file; nearer and more specific ones win.

        Parameters
        ----------
        path : Path
            A file of the dataset.
        entities : Mapping
            Those in its name.

        Returns
        -------
        dict
            Keys and values of all sidecars that apply to it.

        Raises
        ------
        ParcellateError
            If one of them cannot be read.
        """
        suffix = path.name.partition(".")[0].rpartition("_")[2]
        metadata: dict[str, Any] = {}
        for folder in _folders_down_to(path.parent, self._root):
            for name, needed in self._listing(folder, suffix).items():
                if needed.items() <= entities.items():
                    metadata |= _read_object(folder / name)
        return metadata


@lru_cache(_N_LISTINGS)
def _folders_down_to(folder: Path, root: Path) -> list[Path]:
    """Give the folders from the dataset's to that of a file."""
    depth = len(folder.relative_to(root).parts)
    return [folder, *folder.parents[:depth]][::-1]


def _list_sidecars(folder: Path, suffix: str) -> Mapping[str, Mapping[str, str]]:
    """Give the names of the sidecars for files of a suffix and their entities, the most general ones first."""
    names = [entry.name for entry in list_folder(folder) if f"_{entry.name}".endswith(f"_{suffix}.json")]
    names.sort(key=lambda name: (name.count("_"), name))
    return {name: parse_entities(name) for name in names if name.count(".") == 1}


def repetition_time(metadata: Mapping[str, Any], from_header: float | None, path: Path) -> float:
    """Decide on the repetition time of a run: its sidecars', else its header's, else none.

    Parameters
    ----------
    metadata : Mapping
        What the sidecars say.
    from_header : float or None
        What the image's header says, in seconds.
    path : Path
        The image, named in errors.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    DataError
        If there is none, if it is no number of seconds that a scanner could take, or if the volumes are not equally
        spaced.
    """
    if "RepetitionTime" in metadata:
        return _plausible(metadata["RepetitionTime"], f"the RepetitionTime of {path}", "Correct the sidecar")
    if "VolumeTiming" in metadata:
        raise DataError(
            f"the volumes of {path} are not equally spaced: its sidecar has VolumeTiming, no RepetitionTime.",
            "Sparse acquisitions cannot be used.",
        )
    if from_header is None:
        raise DataError(
            f"{path} has no repetition time: neither in a sidecar nor, with a unit, in its header.",
            f'Write it in seconds to a sidecar beside the image: {{"RepetitionTime": ...}} in {_sidecar_name(path)}.',
        )
    write = f'write {{"RepetitionTime": ...}} to {_sidecar_name(path)} beside the image'
    return _plausible(from_header, f"the repetition time in the header of {path}", f"Correct the header, or {write}")


def _plausible(value: object, what: str, way_out: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise DataError(f"{what} is {json.dumps(value)}, which is no positive number of seconds.", f"{way_out}.")
    if not _SHORTEST <= value <= _LONGEST:
        raise DataError(
            f"{what} is {reprlib.repr(value)}, which is no positive number of seconds that a volume takes "
            f"({_SHORTEST:g} to {_LONGEST:g}).",
            f"{way_out}: it may be in milliseconds.",
        )
    return float(value)


def _sidecar_name(path: Path) -> str:
    return path.name.partition(".")[0] + ".json"


def _read_object(path: Path) -> dict[str, Any]:
    try:
        with open_content(path) as stream:
            content = json.loads(stream.read())
    except MissingInputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}.", "Correct the sidecar.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold a JSON object, not {type(content).__name__}.", "Correct the sidecar.")
    return content
