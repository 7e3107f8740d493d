"""One frozen, validated description of a job: the only thing below the command line that knows about options.

The command line, the TOML file and the page of options in the documentation are all made from these models.
A field's ``flags`` are its spellings on the command line (default: ``--field-name``).
"""

import math
import os
import re
import reprlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    field_validator,
    model_validator,
)

from bids_parcellate.errors import MissingInputError, UsageError

METHODS = ("ward", "kmeans", "complete", "average", "rena", "hierarchical_kmeans")
CONFOUND_PRESETS = (
    "none", "simple", "scrubbing", "compcor", "ica_aroma",
    "24P", "27P", "36P", "acompcor", "acompcor_gsr", "aroma", "aroma_gsr",
)  # fmt: skip
TEMPLATE_MASKS = ("whole-brain-template", "gm-template", "wm-template")
MASK_STRATEGIES = ("group", "epi", "background", *TEMPLATE_MASKS)

Method = Literal["ward", "kmeans", "complete", "average", "rena", "hierarchical_kmeans"]
Connectivity = Literal["pearson", "partial", "covariance", "precision", "tangent"]


def option(default: Any, description: str, *, flags: tuple[str, ...] = (), metavar: str | None = None) -> Any:
    """Declare a field: its default, its documentation and its spelling on the command line.

    Parameters
    ----------
    default : object
        The default, or ``...`` where there is none.
    description : str
        One or two sentences; the text of ``--help`` and of the documentation. Units belong here.
    flags : tuple of str, optional
        Spellings on the command line; the field's own name with hyphens where none are given.
    metavar : str, optional
        The word that stands for the value in ``--help``.

    Returns
    -------
    object
        What pydantic's ``Field`` gives.
    """
    extra: dict[str, Any] = {"flags": list(flags)}
    if metavar is not None:
        extra["metavar"] = metavar
    return Field(default, description=description, json_schema_extra=extra)


def _without_prefix(prefix: str) -> AfterValidator:
    def strip(labels: tuple[str, ...]) -> tuple[str, ...]:
        stripped = tuple(dict.fromkeys(label.removeprefix(prefix) for label in labels))
        for label in stripped:
            if not re.fullmatch(r"[A-Za-z0-9+]+", label):
                raise ValueError(f"{label!r} is no BIDS label: letters, digits and + are allowed")
        return stripped

    return AfterValidator(strip)


def _as_tuple(value: object) -> object:
    """Let a single value stand for a tuple of one, as TOML files are often written."""
    return (value,) if isinstance(value, str | int | float) and not isinstance(value, bool) else value


def _not_empty(value: object) -> object:
    """Refuse what a variable that is not set gives: it would mean the current folder."""
    if value == "":
        raise ValueError("is empty")
    return value


def _absolute(path: Path) -> Path:
    """Make a path absolute, so that a saved configuration means the same anywhere."""
    absolute = path.absolute()
    if path.parts[:1] == ("~",):
        raise ValueError("'~' means a home folder only to the shell, and only at the start of a word: write it out")
    if re.search("[\0\ud800-\udfff]", str(absolute)):
        raise ValueError("is no path that can be written down: it must be UTF-8, without zero bytes")
    return absolute


def _absolute_unless(names: tuple[str, ...]) -> AfterValidator:
    """Make a path absolute; names stay as they are."""

    def read(value: str) -> str:
        return value if value in names else str(_absolute(Path(str(_not_empty(value)))))

    return AfterValidator(read)


def _absolute_datasets(values: tuple[str, ...]) -> tuple[str, ...]:
    """Make the folders of ``[NAME=]PATH`` absolute."""
    split = [re.fullmatch(r"(?s)([A-Za-z0-9_.-]+=)?(.*)", value) for value in values]
    return tuple(f"{match[1] or ''}{_absolute(Path(str(_not_empty(match[2]))))}" for match in split if match)


def _not_a_boolean(value: object) -> object:
    """Refuse true and false where a number is meant; they would count as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 (pydantic turns ValueErrors into its own)
    return value


Number = BeforeValidator(_not_a_boolean)
PositiveInt = Annotated[int, Field(gt=0), Number]
AbsolutePath = Annotated[Path, BeforeValidator(_not_empty), AfterValidator(_absolute)]
Labels = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class Section(BaseModel):
    """A group of options that belong together: frozen, and unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
        defer_build=True,
    )


class SelectionConfig(Section):
    """Which runs are used."""

    participant_label: Annotated[Labels, _without_prefix("sub-")] = option(
        (),
        "Participants to use, with or without 'sub-'; all by default.",
        flags=("--participant-label",),
        metavar="LABEL",
    )
    session_label: Annotated[Labels, _without_prefix("ses-")] = option(
        (), "Sessions to use, with or without 'ses-'; all by default.", metavar="LABEL"
    )
    task_id: Annotated[Labels, _without_prefix("task-")] = option(
        (), "Tasks to use, with or without 'task-'; all by default.", flags=("-t", "--task-id"), metavar="TASK"
    )
    space: str | None = option(
        None,
        "Space of the images, such as MNI152NLin2009cAsym, or 'native' for images without a 'space-' label. Needed "
        "only where the dataset holds several.",
        metavar="SPACE",
    )
    res: str | None = option(
        None,
        "The 'res-' label of the images, or 'native' for images without. Needed only where the dataset holds several.",
        metavar="LABEL",
    )
    bids_filter_file: AbsolutePath | None = option(
        None,
        "JSON file of further pybids filters, as fMRIPrep takes it: {'bold': {'run': 1, 'acquisition': null}}; "
        "null means that the entity is absent, '*' that it may be anything.",
        metavar="FILE",
    )
    derivatives: Annotated[Labels, AfterValidator(_absolute_datasets)] = option(
        (),
        "Derivative datasets to read in place of those below BIDS_DIR, or beside a BIDS_DIR that is itself one: a "
        "folder, or NAME=folder to name it in BIDS URIs.",
        flags=("-d", "--derivatives"),
        metavar="[NAME=]PATH",
    )
    bids_database_dir: AbsolutePath | None = option(
        None,
        "Folder of a pybids database to make or to use again. It is made anew when the dataset has changed.",
        metavar="DIR",
    )
    skip_bids_validation: StrictBool = option(
        False, "Do not check that the dataset has a readable dataset_description.json that says 'derivative'."
    )


class MaskingConfig(Section):
    """Which voxels are used."""

    mask: Annotated[str, _absolute_unless(MASK_STRATEGIES)] = option(
        "group",
        "Where the mask comes from: the runs' own brain masks ('group'), a strategy "
        "(epi, background, whole-brain-template, gm-template, wm-template), or an image.",
        metavar="STRATEGY|FILE",
    )
    mask_threshold: Annotated[float, Number] = option(
        0.9, "Share of the runs (0 to 1) whose mask must hold a voxel for the group mask to hold it.", metavar="SHARE"
    )
    target_res: Annotated[float, Field(ge=0.01, le=100), Number] | None = option(
        None,
        "Voxel size in mm to which every image is resampled. Without it, runs on another grid than most are left out.",
        metavar="MM",
    )

    @field_validator("mask_threshold")
    @classmethod
    def _is_share(cls, value: float) -> float:
        if not 0 < value <= 1:
            raise ValueError("must be larger than 0 and at most 1")
        return value


Threshold = Annotated[float, Field(gt=0, allow_inf_nan=True), Number]
Frequency = Annotated[float, Field(ge=1e-4), Number]  # a filter of less cannot be computed; no run is as long


class DenoisingConfig(Section):
    """What is removed from the images before anything is computed."""

    confounds: Annotated[str, _absolute_unless(CONFOUND_PRESETS)] = option(
        "simple",
        f"Confound strategy: one of {', '.join(CONFOUND_PRESETS)}, or a TOML or JSON file that describes one.",
        metavar="PRESET|FILE",
    )
    fd_threshold: Threshold | None = option(
        None, "Censor volumes with a framewise displacement above this, in mm; inf switches it off.", metavar="MM"
    )
    std_dvars_threshold: Threshold | None = option(
        None, "Censor volumes with a standardised DVARS above this; inf switches it off.", metavar="VALUE"
    )
    scrub: Annotated[int, Field(ge=0), Number] | None = option(
        None,
        "Also censor stretches between censored volumes that are shorter than this many volumes.",
        metavar="VOLUMES",
    )
    min_volumes: PositiveInt = option(
        40, "Leave out a run that keeps fewer volumes than this after censoring.", metavar="VOLUMES"
    )
    smoothing_fwhm: Annotated[float, Field(ge=0, le=100), Number] = option(
        4.0, "Full width at half maximum of the Gaussian smoothing, in mm; 0 means none.", metavar="MM"
    )
    low_pass: Frequency | None = option(
        None, "Remove frequencies above this, in Hz (Butterworth, order 5).", metavar="HZ"
    )
    high_pass: Frequency | None = option(
        None, "Remove frequencies below this, in Hz (Butterworth, order 5).", metavar="HZ"
    )
    detrend: StrictBool = option(True, "Remove the linear trend of each voxel.")
    standardize: Literal["zscore_sample", "psc", "none"] = option(
        "zscore_sample", "Scaling of the parcel time series: z-scores, percent signal change, or none."
    )

    @model_validator(mode="after")
    def _band_is_not_empty(self) -> Self:
        if self.low_pass and self.high_pass and self.high_pass >= self.low_pass:
            raise ValueError(f"high_pass ({self.high_pass} Hz) must be lower than low_pass ({self.low_pass} Hz)")
        return self


_CANDIDATES = (25, 50, 75, 100, 150, 200, 300, 400)  # among which 'auto' alone chooses
_LONGEST_RANGE = 1000  # numbers of parcels; a typing error must not fill the memory


def _numbers(value: object) -> object:
    """Read ranges as ``first:last:step`` among numbers."""
    given = _as_tuple(value)
    if not isinstance(given, Sequence):
        return given
    numbers: list[object] = []
    for each in given:
        match = re.fullmatch(r"(\d+):(\d+)(?::(\d+))?", each) if isinstance(each, str) else None
        if match is None:
            numbers.append(each)
            continue
        first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
        if not 0 < first <= last or step < 1:
            raise ValueError(f"{each!r} is no range: first:last:step, from a first above 0 up to a last")
        if (last - first) // step >= _LONGEST_RANGE:
            raise ValueError(f"{each!r} is a range of more than {_LONGEST_RANGE} numbers")
        numbers.extend(range(first, last + 1, step))
    return tuple(numbers)


class ParcellationConfig(Section):
    """How the parcels are made, and what they are called."""

    method: Method = option("ward", "Clustering method.")
    n_parcels: Annotated[tuple[PositiveInt, ...], BeforeValidator(_numbers)] = option(
        (100,),
        "Number of parcels; several numbers, or ranges as 50:200:50, give several parcellations. With 'auto' one of "
        "the numbers is chosen by how well parcels hold in participants that they were not fitted to (auto alone: of "
        "25 to 400).",
        metavar="K",
    )
    choose_n_parcels: StrictBool = option(False, "The same as 'auto' among --n-parcels.")
    contiguous: StrictBool = option(False, "Make the parcels of kmeans and hierarchical_kmeans contiguous, too.")
    min_size: PositiveInt = option(1, "Smallest number of voxels of a parcel.", metavar="VOXELS")
    split_hemispheres: StrictBool = option(False, "Let no contiguous parcel cross x = 0.")
    weights: AbsolutePath | None = option(
        None, "Image that says how much each voxel counts, such as its share of grey matter.", metavar="FILE"
    )
    individual: StrictBool = option(
        False,
        "Also give each participant parcels of their own: the group's, with boundaries where the participant's are.",
    )
    match_labels: AbsolutePath | None = option(
        None, "An earlier dseg image (with its table), whose numbers and names parcels keep.", metavar="FILE"
    )
    atlas_name: str = option(
        "Parcellate",
        "Name of the atlas in file names ('atlas-<name>'): letters and digits. '{}' in it stands for the number of "
        "parcels: programs that tell atlases apart by this name alone, such as XCP-D, need one for each number.",
        metavar="NAME",
    )
    color_tables: StrictBool = option(
        False, "Also write the colours of the parcels as FSLeyes ('.lut') and FreeSurfer ('.ctab') read them."
    )
    authors: Labels = option(
        (), "Authors of the parcellation, for its metadata; those of the source datasets by default.", metavar="NAME"
    )
    license: str | None = option(
        None, "Licence of the parcellation, for its metadata; that of the source datasets by default.", metavar="NAME"
    )
    features: Literal["scaled", "nilearn"] = option(
        "scaled",
        "What is clustered: components of z-scored voxels that keep their singular values ('scaled'), "
        "or whitened components exactly as nilearn makes them.",
    )
    n_components: Annotated[int, Field(gt=0, le=10_000), Number] = option(
        200, "Largest number of components that a run, and the group, is reduced to.", metavar="N"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_auto(cls, values: Any) -> Any:
        """Let 'auto' among the numbers of parcels mean that one of them is to be chosen."""
        if not isinstance(values, Mapping) or "n_parcels" not in values:
            return values
        given = _as_tuple(values["n_parcels"])
        if not isinstance(given, Sequence) or "auto" not in given:
            return values
        numbers = tuple(number for number in given if number != "auto") or _CANDIDATES
        return {**values, "n_parcels": numbers, "choose_n_parcels": True}

    @model_validator(mode="after")
    def _individual_parcels_are_contiguous(self) -> Self:
        if self.individual and self.method in ("kmeans", "hierarchical_kmeans") and not self.contiguous:
            raise ValueError(f"individual parcels need contiguous ones of the group: add --contiguous to {self.method}")
        return self

    @field_validator("n_parcels")
    @classmethod
    def _sorted_and_unique(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("at least one number is needed")
        return tuple(sorted(set(value)))

    @field_validator("atlas_name")
    @classmethod
    def _is_label(cls, value: str) -> str:
        label = value.removeprefix("atlas-")
        if not re.fullmatch(r"[A-Za-z0-9]+", label.replace("{}", "", 1)):
            raise ValueError(f"{value!r} is no BIDS label: letters and digits are allowed, and one '{{}}'")
        return label


class SignalsConfig(Section):
    """What is extracted from the runs."""

    summary: Literal["mean", "median", "eigenvariate"] = option(
        "mean", "How the voxels of a parcel make its time series: their mean, median or first eigenvariate."
    )
    connectivity: Annotated[tuple[Connectivity, ...], BeforeValidator(_as_tuple)] = option(
        ("pearson",),
        "What relates parcels: pearson, partial, covariance, precision, tangent. All but pearson use Ledoit-Wolf's "
        "shrunk covariance; tangent is the deviation from the group's mean, which the group level makes.",
        metavar="KIND",
    )
    min_coverage: Annotated[float, Field(ge=0, le=1), Number] = option(
        0.5, "Share of a parcel's voxels that a run must have; parcels with less are n/a in it.", metavar="SHARE"
    )

    @field_validator("connectivity")
    @classmethod
    def _unique(cls, value: tuple[Connectivity, ...]) -> tuple[Connectivity, ...]:
        return tuple(dict.fromkeys(value))


def _absolute_files(values: tuple[str, ...]) -> tuple[str, ...]:
    """Make paths absolute; names of atlases of TemplateFlow stay as they are."""
    return tuple(
        str(_absolute(Path(value))) if "/" in value or value.endswith((".nii", ".nii.gz")) else str(_not_empty(value))
        for value in values
    )


class QualityConfig(Section):
    """How the parcellations are tested."""

    level: Literal["none", "standard", "full"] = option(
        "standard",
        "How much is tested: nothing; parcels against random ones, and fits to halves of the participants (standard); "
        "or five such divisions, and a map of how stable voxels are in bootstrap fits (full).",
        flags=("--quality",),
    )
    reference_atlas: Annotated[Labels, AfterValidator(_absolute_files)] = option(
        (),
        "Atlases to compare with: files, or atlases in TEMPLATEFLOW_HOME as NAME:DESC "
        "(Schaefer2018:400Parcels7Networks). Parcels are named after the networks of the first that has a table of "
        "names.",
        metavar="FILE|NAME",
    )
    n_random: Annotated[int, Field(ge=2), Number] = option(
        20, "Number of random parcellations to compare with.", metavar="N"
    )
    n_bootstrap: PositiveInt = option(20, "Number of bootstrap fits for the map of stability.", metavar="N")


def _memory_in_megabytes(value: object) -> object:
    """Read '8G', '500M' or a plain number of megabytes."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d+)?)\s*([KMGT]?)B?\s*", value, re.IGNORECASE)
    if match is None:
        raise ValueError(f"{value!r} is no amount of memory: a number of MB, or a number with K, M, G or T")
    factor = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}[match[2].upper()]
    return math.floor(float(match[1]) * factor)


class ExecutionConfig(Section):
    """Where and with what the job runs. Of these, only the seed changes a result; threads change its rounding."""

    work_dir: AbsolutePath | None = option(
        None, "Folder for intermediate results; OUTPUT_DIR/.work by default.", flags=("-w", "--work-dir"), metavar="DIR"
    )
    nprocs: PositiveInt | None = option(
        None,
        "Number of processes; the number of usable cores by default.",
        flags=("--nprocs", "--nthreads", "--n-cpus"),
        metavar="N",
    )
    omp_nthreads: PositiveInt = option(1, "Threads of each process. Results do not depend on it.", metavar="N")
    executor: Literal["local", "dask"] = option(
        "local", "Where runs are processed: on this machine, or by the workers of --dask-address or --dask-cluster."
    )
    dask_address: str | None = option(
        None, "Address of a Dask scheduler that is running, such as tcp://node1:8786.", metavar="ADDRESS"
    )
    dask_cluster: Literal["slurm", "pbs", "sge", "lsf"] | None = option(
        None,
        "Batch system to which Dask submits --nprocs jobs of one process each, as Dask's own configuration says.",
        metavar="{slurm,pbs,sge,lsf}",
    )
    mem_mb: Annotated[PositiveInt | None, BeforeValidator(_memory_in_megabytes)] = option(
        None,
        "Upper bound of the memory used, in MB or with a unit (8G); what the machine has by default.",
        flags=("--mem", "--mem-mb"),
        metavar="SIZE",
    )
    stop_on_first_crash: StrictBool = option(False, "End the job at the first run that cannot be processed.")
    random_seed: Annotated[int, Field(ge=0, lt=2**32), Number] = option(0, "Seed of every random step.", metavar="SEED")

    @model_validator(mode="after")
    def _dask_is_named_once(self) -> Self:
        n_named = (self.dask_address is not None) + (self.dask_cluster is not None)
        if n_named != (self.executor == "dask"):
            raise ValueError(
                "executor 'dask' goes with one of dask_address and dask_cluster, and executor 'local' with neither"
            )
        return self


class Config(Section):
    """Everything that one job depends on.

    ``Config`` → TOML → ``Config`` is the identity; the file is saved with the outputs.
    """

    bids_dir: AbsolutePath = option(
        ...,
        "The dataset: fMRIPrep's output, a raw dataset with 'derivatives/', or a raw dataset with --derivatives.",
        metavar="BIDS_DIR",
    )
    output_dir: AbsolutePath = option(..., "The folder that the results are written to.", metavar="OUTPUT_DIR")
    analysis_level: Literal["participant", "group"] = option(
        ...,
        "'participant' reduces the runs (and extracts signals once a parcellation exists); 'group' does everything.",
        metavar="{participant,group}",
    )
    selection: SelectionConfig = Field(default_factory=SelectionConfig)
    masking: MaskingConfig = Field(default_factory=MaskingConfig)
    denoising: DenoisingConfig = Field(default_factory=DenoisingConfig)
    parcellation: ParcellationConfig = Field(default_factory=ParcellationConfig)
    signals: SignalsConfig = Field(default_factory=SignalsConfig)
    quality: QualityConfig = Field(default_factory=QualityConfig)
    execution: ExecutionConfig = Field(default_factory=ExecutionConfig)

    @property
    def n_splits(self) -> int:
        """How often the participants are divided into halves, where there are several."""
        wanted = {"none": 0, "standard": 1, "full": 5}[self.quality.level]
        # The rule that chooses a number of parcels looks at the spread over divisions.
        return max(wanted, 3) if self.parcellation.choose_n_parcels else wanted

    @property
    def work_dir(self) -> Path:
        """Folder for intermediate results."""
        return self.execution.work_dir or self.output_dir / ".work"

    @model_validator(mode="after")
    def _outputs_are_apart_from_inputs(self) -> Self:
        # Unlike Path.resolve, this says nothing of links that lead to themselves; reading or writing will.
        bids_dir = os.path.realpath(self.bids_dir)
        if os.path.realpath(self.output_dir) == bids_dir:
            raise ValueError(f"output_dir must differ from bids_dir; both are {bids_dir}")
        return self

    @classmethod
    def sections(cls) -> Mapping[str, type[Section]]:
        """Map the names of the sections to their models.

        Returns
        -------
        Mapping
            In the order of the documentation.
        """
        return {
            name: field.annotation
            for name, field in cls.model_fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        }

    def to_toml(self) -> str:
        """Write this configuration as TOML; what is None is left out.

        Returns
        -------
        str
            Text that ``read_toml`` and ``build_config`` turn into an equal configuration.
        """
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of options; it may leave out what the command line gives.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        Options by section, not yet validated.

    Raises
    ------
    MissingInputError
        If the file cannot be read.
    UsageError
        If it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        message = f"The configuration file {path} cannot be read: {error.strerror}."
        raise MissingInputError(message, "Check its path and permissions.") from error
    except (ValueError, RecursionError) as error:  # ValueError: bad TOML, bad encoding, a zero byte in the path
        message = f"The configuration file {path} is not valid TOML: {error}."
        raise UsageError(message, "Correct it; the config.toml in OUTPUT_DIR/logs of an earlier job is one.") from error


def build_config(options: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Config:
    """Validate options, those of the command line over those of a file.

    Parameters
    ----------
    options : Mapping
        Options by section.
    defaults : Mapping, optional
        Options that hold where ``options`` has none, as ``read_toml`` gives them.

    Returns
    -------
    Config
        Validated and frozen.

    Raises
    ------
    UsageError
        If a key is unknown or a value is not allowed; all problems are named at once.
    """
    merged: dict[str, Any] = dict(defaults or {})
    for key, value in options.items():
        inherited = merged.get(key, {})
        if isinstance(value, Mapping):
            # A section that is no table is left as it is, to be refused.
            merged[key] = {**inherited, **value} if isinstance(inherited, Mapping) else inherited
        else:
            merged[key] = value
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise UsageError(
            "; ".join(_describe_problem(problem) for problem in error.errors(include_url=False)),
            "See --help, or the page on configuration in the documentation.",
        ) from error


_SHORTENER = reprlib.Repr()
_SHORTENER.maxstring = _SHORTENER.maxother = 200  # characters of a value that a message repeats


def _describe_problem(problem: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{place} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{place} is no option"
    return f"{place}: {message} (given: {_SHORTENER.repr(problem['input'])})" if place else message
