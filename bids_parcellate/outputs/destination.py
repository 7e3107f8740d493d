"""Where a job may write: in folders that are its own, and not by way of links into somebody else's."""

import os
from collections.abc import Iterator
from pathlib import Path

from bids_parcellate.config import Config
from bids_parcellate.dataset import Selection
from bids_parcellate.errors import OutputError, UsageError
from bids_parcellate.io.naming import OutputNames

_LONGEST_NAME = 255  # of file systems in use; names are ASCII


def refuse_unfit_folders(config: Config, names: OutputNames, selection: Selection) -> None:
    """Refuse to write into a dataset that is read, out of the output folder, or over what another program made.

    Parameters
    ----------
    config : Config
        The configuration.
    names : OutputNames
        Names of the outputs.
    selection : Selection
        The runs, and the datasets that are read.

    Raises
    ------
    UsageError
        If a folder lies in a dataset, a link in the output folder leads out of it, or a file's name would be too long.
    OutputError
        If the output folder cannot be looked into, or is another program's.
    """
    _refuse_datasets("OUTPUT_DIR", config.output_dir, selection)
    for folder in (config.work_dir, *_links_in(config.work_dir)):
        _refuse_datasets("--work-dir", folder, selection)
    _refuse_ways_out(names, selection)
    _refuse_long_names(config, names, selection)
    _refuse_other_programs(config.output_dir / "dataset_description.json")


def _refuse_datasets(option: str, folder: Path, selection: Selection) -> None:
    for dataset in selection.datasets:
        if _real(folder).is_relative_to(_real(dataset.root)):
            raise UsageError(
                f"{option} {folder} lies in the dataset {dataset.root}, to which nothing is written.",
                "Choose a folder outside of it.",
            )


def _refuse_ways_out(names: OutputNames, selection: Selection) -> None:
    root = _real(names.root)
    for folder in sorted({folder for run in selection.runs for folder in names.folders(run.entities)}):
        if not _real(folder).is_relative_to(root):
            raise UsageError(
                f"{folder} leads out of OUTPUT_DIR by way of a link, to {_real(folder)}.",
                "Remove the link, or choose another OUTPUT_DIR.",
            )


def _refuse_long_names(config: Config, names: OutputNames, selection: Selection) -> None:
    largest = max(config.parcellation.n_parcels)
    for run in selection.runs:
        # No other name is longer: "pearsoncorrelation_relmat" has more letters than what it stands in place of.
        name = names.connectivity(run.entities, largest, "pearson", ".json").name
        if len(name) > _LONGEST_NAME:
            raise UsageError(
                f"The name of an output would have {len(name)} letters, and {_LONGEST_NAME} are the most: {name}.",
                "Choose a shorter --atlas-name, or leave out runs with long labels.",
            )


def _refuse_other_programs(description: Path) -> None:
    try:
        text = description.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):  # a file in place of the folder is found when the folder is made
        return
    except OSError as error:
        raise OutputError(f"{description} cannot be read: {error.strerror}.", "Choose another OUTPUT_DIR.") from error
    if '"bids-parcellate"' not in text:
        raise OutputError(
            f"{description} is there, and bids-parcellate did not write it.", "Choose a new or empty OUTPUT_DIR."
        )


def _real(path: Path) -> Path:
    """Follow all links; unlike `Path.resolve` in Python before 3.13 it is at peace with a link to itself."""
    return Path(os.path.realpath(path))


def _links_in(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            yield from (Path(entry.path) for entry in entries if entry.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise OutputError(f"--work-dir {folder} cannot be read: {error.strerror}.", "Choose another.") from error
