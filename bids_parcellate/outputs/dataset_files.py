"""What makes the output folder a BIDS dataset, and its parcellations an atlas: descriptions, labels, a README."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bids_parcellate.config import Config
from bids_parcellate.dataset import Dataset
from bids_parcellate.errors import DataError
from bids_parcellate.io.files import write_atomically
from bids_parcellate.io.metadata import (
    BIDS_VERSION,
    AtlasDescription,
    ContainerImage,
    DatasetDescription,
    Pipeline,
    SourceDataset,
)
from bids_parcellate.io.naming import OutputNames, as_label
from bids_parcellate.io.tables import read_table
from bids_parcellate.io.writing import write_json, write_table
from bids_parcellate.outputs.software import find_container
from bids_parcellate.version import __version__

# What the specification does not name yet, so that the validator passes over it.
# "figures" has no slash on purpose: with one the validator still reports the folder itself.
BIDSIGNORE = """\
*.html
figures
*_timeseries.tsv
*_timeseries.json
*_relmat.tsv
*_relmat.json
*_outliers.tsv
*_outliers.json
*_qc.tsv
*_qc.json
*_dseg.lut
*_dseg.ctab
"""


def write_dataset(names: OutputNames, config: Config, datasets: Sequence[Dataset], denoising: str) -> None:
    """Write what makes the output folder a BIDS dataset.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    config : Config
        The configuration.
    datasets : sequence of Dataset
        The datasets that were read.
    denoising : str
        The denoising, in a phrase.
    """
    upstream = [pipeline for dataset in datasets for pipeline in dataset.generated_by]
    description = DatasetDescription(
        Name=f"Group parcellation {as_label(config.parcellation.atlas_name)}",
        BIDSVersion=BIDS_VERSION,
        DatasetType="derivative",
        License=_license(config, datasets),
        Authors=_authors(config, datasets),
        HowToAcknowledge="Please cite the methods in logs/CITATION.md.",
        GeneratedBy=[
            Pipeline(
                Name="bids-parcellate",
                Version=__version__,
                Description="Group brain parcellation with parcel time series and connectivity",
                Container=_container(),
            ),
            *(Pipeline.model_validate(pipeline) for pipeline in upstream),
        ],
        SourceDatasets=[SourceDataset(URL=dataset.root.resolve().as_uri()) for dataset in datasets],
        DatasetLinks={dataset.name: dataset.root.resolve().as_uri() for dataset in datasets},
    )
    write_json(names.root / "dataset_description.json", description)
    write_atomically(names.root / ".bidsignore", BIDSIGNORE.encode())
    write_atomically(names.root / "README.md", _README.encode())
    _write_descriptions(names, config, denoising)


def _write_descriptions(names: OutputNames, config: Config, denoising: str) -> None:
    """Write what the ``desc-`` labels mean."""
    labels = {f"desc-{names.desc}": f"Denoising: {denoising}.", "desc-group": "Voxels that the runs share."}
    if config.parcellation.individual:
        labels["desc-individual"] = "The group's parcels with boundaries where a participant has them."
    if config.quality.level == "full":
        labels["desc-stability"] = "Share of bootstrap fits in which a voxel keeps its parcel."
    write_json(names.root / "descriptions.json", _DESCRIPTION_COLUMNS)
    path = names.root / "descriptions.tsv"
    if path.exists():  # of an earlier job, whose files are still there
        labels = _read_descriptions(path) | labels
    write_table(path, pd.DataFrame(sorted(labels.items()), columns=["desc_id", "description"]))


def _read_descriptions(path: Path) -> dict[str, str]:
    try:
        table = read_table(path)
        return dict(zip(table["desc_id"].cells, table["description"].cells, strict=True))
    except DataError as error:
        raise DataError(error.message, _START_AFRESH) from error
    except KeyError as error:
        raise DataError(f"{path} lacks the column {error}", _START_AFRESH) from error


_START_AFRESH = "Remove it, and run the jobs of each denoising again, or choose another OUTPUT_DIR."

_DESCRIPTION_COLUMNS = {
    "Description": "Meaning of the desc- labels in this dataset.",
    "desc_id": {"Description": "The label, with its key."},
    "description": {"Description": "What files with this label hold, or how they were made."},
}


def _container() -> ContainerImage | None:
    """Name the container image, if it is known."""
    image = find_container()
    return None if image is None else ContainerImage(Type=image.kind, Tag=image.name)


_README = """\
# Outputs of bids-parcellate

- `group.html`: the report; open it first
- `tpl-*/anat/*_dseg.nii.gz` with `.tsv` and `.json`: the group parcellations
- `tpl-*/anat/*_desc-group_mask.nii.gz`: the voxels that were parcellated
- `tpl-*/anat/*_qc.tsv`: how good the parcellations are, beside random ones
- `tpl-*/anat/*_probseg.nii.gz`: how stable the parcel of each voxel is (`--quality full`)
- `sub-*/anat/*_desc-individual_dseg.nii.gz`: participants' own parcels (`--individual`)
- `sub-*/**/*_timeseries.tsv`: mean denoised signal of each parcel, one row a kept volume
- `sub-*/**/*_relmat.tsv`: what relates these signals: `stat-` says which kind
- `sub-*/**/*_outliers.tsv`: the volumes that were censored, and why
- `participants.tsv` and `logs/runs.tsv`: what was used, what was left out, and why
- `logs/CITATION.md`, `.html`, `.tex` with `.bib`: the methods, to be cited
- `logs/<time>_<id>/`: of each job its log, its options, and a record of all that its results depend on
- `descriptions.tsv`: what the `desc-` labels mean
"""


def write_atlas_description(
    names: OutputNames, n_parcels: int, config: Config, datasets: Sequence[Dataset], n_participants: int
) -> None:
    """Write the description that BIDS wants of every atlas.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    n_parcels : int
        Number of parcels.
    config : Config
        The configuration.
    datasets : sequence of Dataset
        The datasets that it was derived from.
    n_participants : int
        How many participants it was fitted on.
    """
    description = AtlasDescription(
        Name=names.atlas_label(n_parcels),
        License=_license(config, datasets),
        Authors=_authors(config, datasets),
        Description="Group parcellations of functional images; the JSON file of each says how it was made.",
        SampleSize=n_participants,
        LevelType="group",
        DerivedFrom=" ".join(f"bids:{dataset.name}:" for dataset in datasets),
    )
    write_json(names.atlas_description(n_parcels), description)


def _license(config: Config, datasets: Sequence[Dataset]) -> str:
    """Give the licence that the user states, or those of the source datasets, which bind what is derived from them."""
    if config.parcellation.license:
        return config.parcellation.license
    stated = dict.fromkeys(str(each.description["License"]) for each in datasets if each.description.get("License"))
    return ", ".join(stated) or "The source dataset states no licence."


def _authors(config: Config, datasets: Sequence[Dataset]) -> list[str]:
    """Give the authors that the user states, or those of the source datasets; the validator wants more than one."""
    stated = config.parcellation.authors or tuple(
        str(author) for each in datasets for author in each.description.get("Authors") or ()
    )
    authors = list(dict.fromkeys(stated)) or ["The authors of the source dataset, which states none"]
    return authors if len(authors) > 1 else [*authors, "bids-parcellate (software)"]
