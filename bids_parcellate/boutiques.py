"""The command line as a Boutiques descriptor: ``python -m bids_parcellate.boutiques > descriptor.json``."""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any, get_args

from bids_parcellate.cli import DESCRIPTION, build_parser
from bids_parcellate.config import Config, Section
from bids_parcellate.version import __version__

IMAGE = "bids/bids-parcellate"

_EXIT_CODES = {
    16: "The input is no valid BIDS derivatives dataset.",
    17: "The analysis level is unknown.",
    18: "No run can be used.",
    64: "An option has a value that is not allowed.",
    65: "Data cannot be used.",
    66: "An input is missing.",
    70: "A mistake in bids-parcellate.",
    73: "An output cannot be created.",
    74: "Reading or writing failed half-way.",
}

# What a platform decides rather than its user, and what makes none of the outputs or looks at those of an earlier job:
# a platform starts every job with a new output folder.
_LEFT_OUT = {
    "help", "version", "verbose", "executor", "dask_address", "dask_cluster",
    "check", "boilerplate_only", "reports_only", "check_outputs",
}  # fmt: skip


def make_descriptor() -> dict[str, Any]:
    """Describe the command line.

    Returns
    -------
    dict
        A descriptor of Boutiques' schema 0.5.

    References
    ----------
    Glatard et al. (2018). Boutiques: a flexible framework to integrate command-line applications in computing
    platforms. GigaScience 7(5).
    """
    actions = [action for action in build_parser()._actions if action.dest not in _LEFT_OUT]  # noqa: SLF001 - no other way
    inputs = [_describe(action) for action in actions]
    return {
        "name": "bids-parcellate",
        "description": " ".join(DESCRIPTION.split()),
        "author": "The bids-parcellate developers",
        "tool-version": __version__,
        "schema-version": "0.5",
        "command-line": " ".join(["bids-parcellate", *(each["value-key"] for each in inputs)]),
        "container-image": {"type": "docker", "image": f"{IMAGE}:{__version__}"},
        "inputs": inputs,
        "output-files": [
            {
                "id": "outputs",
                "name": "Outputs",
                "description": "BIDS Derivatives: parcellations, time series, connectivity and a report.",
                "path-template": "[OUTPUT_DIR]",
                "optional": False,
            }
        ],
        "error-codes": [{"code": code, "description": text} for code, text in _EXIT_CODES.items()],
        "tags": {"domain": ["neuroinformatics", "bids-app", "fmri"]},
    }


def _describe(action: argparse.Action) -> dict[str, Any]:
    """Describe one argument; its type is that of the field which it fills."""
    text = (action.help or "").replace("%%", "%")
    name = action.dest
    if isinstance(action, argparse.BooleanOptionalAction):  # on by default: the flag switches it off
        name, text = f"no_{name}", f"Do not: {text}"
    described: dict[str, Any] = {
        "id": name,
        "name": name.replace("_", " ").capitalize(),
        "value-key": f"[{name.upper()}]",
        "description": text,
        "optional": bool(action.option_strings),
        **_type_of(action),
    }
    if action.option_strings:
        described["command-line-flag"] = action.option_strings[-1]
    if action.nargs == "+":
        described |= {"list": True, "min-list-entries": 1}
    return described


def _type_of(action: argparse.Action) -> dict[str, Any]:
    if action.dest == "bids_dir":  # Boutiques knows no folders
        return {"type": "File"}
    if action.dest == "analysis_level":
        return {"type": "String", "value-choices": list(get_args(Config.model_fields[action.dest].annotation))}
    if action.nargs == 0:
        return {"type": "Flag"}
    if action.choices is not None:
        return {"type": "String", "value-choices": list(action.choices)}
    return {"type": "File"} if action.metavar == "FILE" else _numeric_type(action)


def _numeric_type(action: argparse.Action) -> dict[str, Any]:
    names = _names_in(_annotations().get(action.dest, str))
    if "str" in names or not names & {"int", "float"}:
        return {"type": "String"}
    return {"type": "Number", "integer": "float" not in names}


def _annotations() -> Mapping[str, Any]:
    models: tuple[type[Section], ...] = (Config, *Config.sections().values())
    return {name: field.annotation for model in models for name, field in model.model_fields.items()}


def _names_in(annotation: Any) -> set[str]:
    """Name the plain types in an annotation such as ``Annotated[int, ...] | None``."""
    if not (inner := get_args(annotation)):
        return {getattr(annotation, "__name__", "")}
    return set().union(*map(_names_in, inner))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(make_descriptor(), indent=2) + "\n")
