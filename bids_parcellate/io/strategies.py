"""Confound strategies: what is regressed out of a run, and which of its volumes are censored.

A strategy is made of the components and settings of :func:`nilearn.interfaces.fmriprep.load_confounds`, under
the same names and with the same defaults. :data:`PRESETS` holds nilearn's and XCP-D's; users write their own
as a TOML or JSON file.
"""

import json
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from bids_parcellate.errors import MissingInputError, UsageError

Component = Literal["motion", "high_pass", "wm_csf", "global_signal", "compcor", "ica_aroma", "scrub"]
ExpansionModel = Literal["basic", "power2", "derivatives", "full"]
CompCorVariant = Literal[
    "anat_combined", "anat_separated", "temporal", "temporal_anat_combined", "temporal_anat_separated"
]
AromaVariant = Literal["full", "basic", "orthaggr"]

# The component without which a setting has no effect.
_COMPONENT_OF: Mapping[str, Component] = {
    "motion": "motion",
    "wm_csf": "wm_csf",
    "global_signal": "global_signal",
    "compcor": "compcor",
    "n_compcor": "compcor",
    "ica_aroma": "ica_aroma",
    "scrub": "scrub",
    "fd_threshold": "scrub",
    "std_dvars_threshold": "scrub",
}

_EXPANSION_TEXT: Mapping[ExpansionModel, str] = {
    "basic": "",
    "power2": " with squares",
    "derivatives": " with temporal derivatives",
    "full": " with temporal derivatives and the squares of both",
}
_COMPCOR_TEXT: Mapping[CompCorVariant, str] = {
    "anat_combined": "aCompCor (white matter and CSF combined)",
    "anat_separated": "aCompCor of white matter and of CSF",
    "temporal": "tCompCor",
    "temporal_anat_combined": "tCompCor and of aCompCor (white matter and CSF combined)",
    "temporal_anat_separated": "tCompCor, of aCompCor of white matter and of CSF",
}


def _not_a_boolean(value: object) -> object:
    """Refuse true and false where a number is meant; they would count as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 (pydantic turns ValueErrors into its own)
    return value


Threshold = Annotated[float, BeforeValidator(_not_a_boolean), Field(gt=0)]
Count = Annotated[int, BeforeValidator(_not_a_boolean), Field(ge=1)]
Length = Annotated[int, BeforeValidator(_not_a_boolean), Field(ge=0)]


class ConfoundStrategy(BaseModel):
    """What is taken from a run's table of confounds.

    Non-steady-state volumes are always censored, as nilearn does. A setting that differs from its default is
    refused when the component that it belongs to is not in ``strategy``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    strategy: tuple[Component, ...] = Field(
        description="Components: motion, high_pass (fMRIPrep's cosine drift terms), wm_csf, global_signal, compcor, "
        "ica_aroma, scrub. CompCor needs high_pass, because fMRIPrep computes it on high-pass filtered data.",
    )
    motion: ExpansionModel = Field(
        "full",
        description="Six head motion parameters: alone (basic), with their squares (power2), with their temporal "
        "derivatives (derivatives), or with the derivatives and the squares of both (full).",
    )
    wm_csf: ExpansionModel = Field(
        "basic", description="Mean signals of white matter and cerebrospinal fluid; models as for motion."
    )
    global_signal: ExpansionModel = Field("basic", description="Mean signal of the brain; models as for motion.")
    compcor: CompCorVariant = Field(
        "anat_combined",
        description="CompCor components: of the combined white matter and CSF mask (anat_combined), of each of the "
        "two masks (anat_separated), of the most variable voxels (temporal), or both kinds (temporal_anat_...).",
    )
    n_compcor: Count | Literal["all"] = Field(
        "all", description="Number of CompCor components to take of each mask; fewer where there are fewer."
    )
    ica_aroma: AromaVariant = Field(
        "full",
        description="ICA-AROMA: use the image that is already denoised, non-aggressively (full), regress the motion "
        "components (basic, aggressive), or regress what they do not share with the other components (orthaggr: "
        "'aroma_orth_motion_' columns of fMRIPost-AROMA).",
    )
    scrub: Length = Field(
        5,
        description="Also censor stretches of kept volumes beside censored ones that are shorter than this many "
        "volumes; 0 censors none.",
    )
    fd_threshold: Threshold = Field(
        0.5, description="Censor volumes with a framewise displacement above this, in mm; inf does not look at it."
    )
    std_dvars_threshold: Threshold = Field(
        1.5, description="Censor volumes with a standardised DVARS above this; inf does not look at it."
    )
    demean: bool = Field(True, description="Subtract from each column its mean over the kept volumes.")
    columns: tuple[str, ...] = Field(
        (),
        description="Further columns: names, or regular expressions between '^' and '$' such as '^edge_comp_0[0-4]$'.",
    )

    @field_validator("strategy")
    @classmethod
    def _check_components(cls, components: tuple[Component, ...]) -> tuple[Component, ...]:
        if "compcor" in components and "high_pass" not in components:
            raise ValueError("'compcor' needs 'high_pass': fMRIPrep computes CompCor on high-pass filtered data")
        return tuple(dict.fromkeys(components))

    @field_validator("columns")
    @classmethod
    def _check_patterns(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        for column in columns:
            if is_pattern(column):
                try:
                    re.compile(column)
                except re.error as error:
                    raise ValueError(f"{column!r} is no regular expression: {error}") from error
        return columns

    @model_validator(mode="after")
    def _refuse_settings_without_effect(self) -> Self:
        for setting, component in _COMPONENT_OF.items():
            value = getattr(self, setting)
            if component not in self.strategy and value != type(self).model_fields[setting].default:
                raise ValueError(f"{setting} = {value!r} has no effect: {component!r} is not in strategy")
        return self

    @property
    def needs_confounds_file(self) -> bool:
        """Whether a run without a table of confounds cannot be used."""
        return bool(self.columns) or bool(set(self.strategy) - {"ica_aroma"}) or self.needs_aroma_columns

    @property
    def needs_aroma_image(self) -> bool:
        """Whether the image itself must be the one that ICA-AROMA has denoised, non-aggressively."""
        return "ica_aroma" in self.strategy and self.ica_aroma == "full"

    @property
    def needs_aroma_columns(self) -> bool:
        """Whether time series of ICA-AROMA are regressed; since fMRIPrep 23.1, fMRIPost-AROMA has them."""
        return "ica_aroma" in self.strategy and self.ica_aroma != "full"

    def describe(self) -> str:
        """Say in one line of plain text what is regressed and what is censored.

        Returns
        -------
        str
            A phrase without a full stop.
        """
        regressors = self._describe_regressors()
        parts = [
            f"regression of {', '.join(regressors)}" if regressors else "no confound regression",
            f"censoring of {', '.join(self._describe_censoring())}",
        ]
        if self.needs_aroma_image:
            parts.insert(0, "images denoised by ICA-AROMA (non-aggressive)")
        return "; ".join(parts)

    def _describe_regressors(self) -> list[str]:
        n_compcor = "all components" if self.n_compcor == "all" else f"the first {self.n_compcor} components"
        orthogonal = " orthogonal to the other components" if self.ica_aroma == "orthaggr" else ""
        texts: dict[Component, str] = {
            "motion": f"six head motion parameters{_EXPANSION_TEXT[self.motion]}",
            "high_pass": "cosine drift terms",
            "wm_csf": f"mean white matter and CSF signals{_EXPANSION_TEXT[self.wm_csf]}",
            "global_signal": f"global signal{_EXPANSION_TEXT[self.global_signal]}",
            "compcor": f"{n_compcor} of {_COMPCOR_TEXT[self.compcor]}",
        }
        if self.needs_aroma_columns:
            texts["ica_aroma"] = f"ICA-AROMA motion components{orthogonal}"
        described = [texts[component] for component in self.strategy if component in texts]
        return [*described, f"columns {', '.join(self.columns)}"] if self.columns else described

    def _describe_censoring(self) -> list[str]:
        texts = ["non-steady-state volumes"]
        if "scrub" not in self.strategy:
            return texts
        if math.isfinite(self.fd_threshold):
            texts.append(f"volumes with framewise displacement above {self.fd_threshold:g} mm")
        if math.isfinite(self.std_dvars_threshold):
            texts.append(f"volumes with standardised DVARS above {self.std_dvars_threshold:g}")
        if self.scrub > 0:
            texts.append(f"segments shorter than {self.scrub} volumes")
        return texts


def is_pattern(column: str) -> bool:
    """Tell whether an entry of ``ConfoundStrategy.columns`` is a regular expression.

    Parameters
    ----------
    column : str
        A column's name, or a regular expression between ``^`` and ``$`` (the convention of XCP-D).

    Returns
    -------
    bool
        Whether it is a regular expression.
    """
    return column.startswith("^") and column.endswith("$")


def _preset(*strategy: Component, **settings: Any) -> ConfoundStrategy:
    return ConfoundStrategy(strategy=strategy, **settings)


PRESETS: Mapping[str, ConfoundStrategy] = MappingProxyType({
    "none": _preset(),
    # nilearn.interfaces.fmriprep.load_confounds_strategy
    "simple": _preset("high_pass", "motion", "wm_csf"),
    "scrubbing": _preset("high_pass", "motion", "wm_csf", "scrub", wm_csf="full"),
    "compcor": _preset("high_pass", "motion", "compcor"),
    "ica_aroma": _preset("high_pass", "wm_csf", "ica_aroma"),
    # XCP-D, --nuisance-regressors
    "24P": _preset("motion"),
    "27P": _preset("motion", "wm_csf", "global_signal"),
    "36P": _preset("motion", "wm_csf", "global_signal", wm_csf="full", global_signal="full"),
    "acompcor": _preset(
        "motion", "high_pass", "compcor", motion="derivatives", compcor="anat_separated", n_compcor=5
    ),
    "acompcor_gsr": _preset(
        "motion", "high_pass", "compcor", "global_signal",
        motion="derivatives", compcor="anat_separated", n_compcor=5,
    ),
    "aroma": _preset("wm_csf", "ica_aroma", ica_aroma="orthaggr"),
    "aroma_gsr": _preset("wm_csf", "ica_aroma", "global_signal", ica_aroma="orthaggr"),
})  # fmt: skip
"""The strategies that have a name; `none` regresses nothing."""


def load_strategy(
    name_or_path: str | Path,
    *,
    fd_threshold: float | None = None,
    std_dvars_threshold: float | None = None,
    scrub: int | None = None,
) -> ConfoundStrategy:
    """Find a preset, or read a strategy file.

    Parameters
    ----------
    name_or_path : str or Path
        One of :data:`PRESETS`, or a TOML or JSON file whose keys are the fields of :class:`ConfoundStrategy`.
    fd_threshold : float, optional
        Replaces the strategy's own threshold, in mm.
    std_dvars_threshold : float, optional
        Replaces the strategy's own threshold.
    scrub : int, optional
        Replaces the strategy's own segment length, in volumes. Each of these turns censoring on; where the strategy
        itself does not censor, only the thresholds that are given are looked at.

    Returns
    -------
    ConfoundStrategy
        The strategy, checked.

    Raises
    ------
    UsageError
        There is no such preset, or the file is no valid strategy.
    MissingInputError
        The file does not exist or cannot be read.
    """
    name = str(name_or_path)
    strategy = PRESETS[name] if name in PRESETS else _read_strategy(Path(name))
    given = {"fd_threshold": fd_threshold, "std_dvars_threshold": std_dvars_threshold, "scrub": scrub}
    overrides = {setting: value for setting, value in given.items() if value is not None}
    if not overrides:
        return strategy
    if "scrub" not in strategy.strategy and not overrides.keys() <= {"scrub"}:
        overrides = {"fd_threshold": math.inf, "std_dvars_threshold": math.inf, "scrub": 0} | overrides
    return _validate(
        strategy.model_dump() | overrides | {"strategy": (*strategy.strategy, "scrub")},
        origin=f"confound strategy {name}",
    )


def _read_strategy(path: Path) -> ConfoundStrategy:
    parsers = {".toml": tomllib.loads, ".json": json.loads}
    if path.suffix.lower() not in parsers:
        raise UsageError(
            f"there is no confound strategy {str(path)!r}",
            f"use one of {', '.join(PRESETS)}, or a file that ends in .toml or .json",
        )
    try:
        content = parsers[path.suffix.lower()](path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        message = f"{path}: the confound strategy cannot be read: {error.strerror}"
        raise MissingInputError(message, f"use one of {', '.join(PRESETS)}, or check the path") from error
    except (ValueError, RecursionError) as error:
        message = f"{path}: the confound strategy is no valid {path.suffix[1:].upper()}: {error}"
        raise UsageError(message, "correct the file") from error
    return _validate(content, origin=str(path))


def _validate(content: object, *, origin: str) -> ConfoundStrategy:
    try:
        return ConfoundStrategy.model_validate(content)
    except ValidationError as error:
        problems = [": ".join((*map(str, problem["loc"]), problem["msg"])) for problem in error.errors()]
        raise UsageError(
            f"{origin}: {'; '.join(problems)}",
            f"the keys of a confound strategy are {', '.join(ConfoundStrategy.model_fields)}",
        ) from error
