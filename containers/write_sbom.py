"""Write what is installed, and what needs it, as a bill of materials: ``python write_sbom.py > sbom.cdx.json``.

It has no date and no serial number: the same lock gives the same bytes.

References
----------
CycloneDX 1.5, ECMA-424. https://cyclonedx.org/docs/1.5/json/
"""

import json
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, distributions
from typing import Any

from packaging.requirements import Requirement

APP = "bids-parcellate"
EXTRA = "fast"  # of the app's optional requirements, these are in the lock


def normalize(name: str) -> str:
    """Spell a name as the package index does."""
    return re.sub(r"[-_.]+", "-", name).lower()


def describe(distribution: Distribution) -> dict[str, Any]:
    """Describe an installed distribution.

    Parameters
    ----------
    distribution : Distribution
        What is installed.

    Returns
    -------
    dict
        A component.
    """
    name = normalize(distribution.name)
    reference = f"pkg:pypi/{name}@{distribution.version}"
    component = {
        "type": "application" if name == APP else "library",
        "bom-ref": reference,
        "name": name,
        "version": distribution.version,
        "purl": reference,
    }
    licenses = list(find_licenses(distribution))
    return component | ({"licenses": licenses} if licenses else {})


def find_licenses(distribution: Distribution) -> Iterator[dict[str, Any]]:
    """Find the licences that a distribution states: an expression, or the names of its classifiers.

    Parameters
    ----------
    distribution : Distribution
        What is installed.

    Yields
    ------
    dict
        A choice of licence.
    """
    expression = distribution.metadata.get("License-Expression")
    if expression:
        yield {"expression": expression}
        return
    for classifier in distribution.metadata.get_all("Classifier") or ():
        if classifier.startswith("License ::"):
            yield {"license": {"name": classifier.rpartition(" :: ")[2]}}


def find_requirements(distribution: Distribution, references: Mapping[str, str]) -> list[str]:
    """Find what a distribution needs here.

    Parameters
    ----------
    distribution : Distribution
        What is installed.
    references : Mapping of str to str
        Names of all that is installed, and how the bill refers to them.

    Returns
    -------
    list of str
        References, sorted.
    """
    extra = EXTRA if normalize(distribution.name) == APP else ""
    needed = map(Requirement, distribution.requires or ())
    names = {normalize(each.name) for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})}
    return sorted(references[name] for name in names)


def make_bill() -> dict[str, Any]:
    """Describe everything in this environment.

    Returns
    -------
    dict
        A bill of materials.
    """
    installed = sorted(distributions(), key=lambda each: normalize(each.name))
    components = [describe(each) for each in installed]
    references = {each["name"]: each["bom-ref"] for each in components}
    python = {"type": "platform", "bom-ref": "python", "name": "CPython", "version": platform.python_version()}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": next(each for each in components if each["name"] == APP)},
        "components": [python, *(each for each in components if each["name"] != APP)],
        "dependencies": [
            {"ref": references[normalize(each.name)], "dependsOn": find_requirements(each, references)}
            for each in installed
        ],
    }


if __name__ == "__main__":
    json.dump(make_bill(), sys.stdout, indent=1)
