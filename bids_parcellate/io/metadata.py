"""Models of the JSON files that BIDS requires keys in and that no validator checks for derivatives.

References
----------
BIDS 1.11.1, "Dataset description", "Atlases".
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

BIDS_VERSION = "1.11.1"


class BIDSObject(BaseModel):
    """A JSON object with BIDS keys; keys that we do not know are kept, as BIDS allows them."""

    model_config = ConfigDict(frozen=True, extra="allow", coerce_numbers_to_str=True)


class ContainerImage(BIDSObject):
    """The container image that a pipeline ran in."""

    Type: str
    Tag: str | None = None
    URI: str | None = None


class Pipeline(BIDSObject):
    """A pipeline that made a dataset."""

    Name: str = Field(min_length=1)
    Version: str | None = None
    Description: str | None = None
    CodeURL: str | None = None
    Container: ContainerImage | None = None


class SourceDataset(BIDSObject):
    """A dataset that another was derived from."""

    URL: str | None = None
    DOI: str | None = None
    Version: str | None = None


class DatasetDescription(BIDSObject):
    """The ``dataset_description.json`` of a derivative dataset."""

    Name: str = Field(min_length=1)
    BIDSVersion: str
    DatasetType: Literal["derivative"]
    License: str | None = None
    Authors: list[str] | None = None
    HowToAcknowledge: str | None = None
    GeneratedBy: list[Pipeline] = Field(min_length=1)
    SourceDatasets: list[SourceDataset] | None = None
    DatasetLinks: dict[str, str] | None = None


class AtlasDescription(BIDSObject):
    """The ``atlas-<label>_description.json`` that every atlas needs."""

    Name: str = Field(min_length=1)
    License: str = Field(min_length=1)
    Description: str | None = None
    Authors: list[str] | None = None
    Species: str | None = None
    SampleSize: int | None = Field(default=None, ge=1)
    LevelType: str | None = None
    DerivedFrom: str | None = None
    ReferencesAndLinks: list[str] | None = None


class ImageSidecar(BIDSObject):
    """The JSON file beside an image in a template's folder."""

    Description: str
    SpatialReference: str | dict[str, str]
    Sources: list[str] = Field(min_length=1)
    Resolution: str | dict[str, str] | None = None

    @model_validator(mode="after")
    def _sources_are_uris(self) -> Self:
        for source in self.Sources:
            if not source.startswith("bids:"):
                raise ValueError(f"Sources must hold BIDS URIs, not {source!r}")
        return self


class TableSidecar(BIDSObject):
    """The JSON file beside a table of a run."""

    Description: str
    Sources: list[str] = Field(min_length=1)
