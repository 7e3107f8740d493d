"""HTML pages: what they show, as frozen records of plain values, and how these become one file.

A page holds its pictures, its style and its scripts: it opens by a double click and needs no network. Its template is
in ``data/report``; all text that a template is given is escaped, and no script runs but those that the page names by
their digest.
"""

import base64
import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any, ClassVar, Literal

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bids_parcellate.io.naming import OutputNames
from bids_parcellate.outputs.derivatives import RunRecord
from bids_parcellate.report.viewer import NIIVUE_SHA256, niivue_gzip
from bids_parcellate.version import __version__

MISSING = "n/a"

_LIBRARIES = ("numpy", "scipy", "scikit-learn", "numba", "nibabel", "pandas", "pybids")


@dataclass(frozen=True)
class Drawing:
    """A picture in a page.

    Parameters
    ----------
    kind : {"slices", "chart", "matrix"}
        Slices lie on black and may be wider than a narrow page; a chart has the page's colours.
    label : str
        Its name, in a few words.
    markup : Markup
        An inline SVG that says what it shows, for those who do not see it.
    caption : str
        How to read it.
    """

    kind: Literal["slices", "chart", "matrix"]
    label: str
    markup: Markup
    caption: str


@dataclass(frozen=True)
class Table:
    """A table that a page folds away.

    Parameters
    ----------
    title : str
        What it holds.
    columns : sequence of str
        Headings.
    rows : sequence of sequence of str
        Cells.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of a page that consists of pictures.

    Parameters
    ----------
    name : str
        Its address within the page.
    title : str
        Heading.
    text : str
        What it is about.
    drawings : sequence of Drawing
        The pictures.
    table : Table, optional
        The same in numbers.
    """

    name: str
    title: str
    text: str
    drawings: Sequence[Drawing]
    table: Table | None = None


@dataclass(frozen=True)
class ParcellationPart:
    """What a page shows of one parcellation.

    Parameters
    ----------
    n_parcels : int
        Number of parcels.
    title : str
        Heading.
    facts : Mapping of str to str
        Key figures.
    slices : Drawing
        Slices through it.
    parcels : DataFrame
        Its table; see ``atlas.COLUMNS``.
    files : Mapping of str to str, optional
        Its files: what each of them is, and its address relative to the page.
    """

    n_parcels: int
    title: str
    facts: Mapping[str, str]
    slices: Drawing
    parcels: pd.DataFrame
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PageContent:
    """What every page shows.

    Parameters
    ----------
    title, subtitle : str
        What it is about.
    versions : Mapping of str to str
        Software and its versions, ``bids-parcellate`` among them.
    """

    template: ClassVar[str]

    title: str
    subtitle: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class ReportContent(PageContent):
    """What the report of a group job shows.

    Parameters
    ----------
    title, subtitle, versions
        As in `PageContent`.
    warnings : sequence of str
        What the reader should look at first.
    facts : Mapping of str to str
        Key figures.
    parcellations : sequence of ParcellationPart
        One for each number of parcels; at least one.
    sections : sequence of Section
        What else there is to see: sizes, quality, coverage, motion.
    runs : sequence of RunRecord
        Every run that was found, used or not; each is linked to the page of its participant.
    methods : str
        The methods in Markdown.
    command : str
        The command that was given.
    configuration : str
        The complete configuration as TOML.
    viewer : Mapping of str to Any, optional
        What the interactive viewer shows; see ``viewer.viewer_data``.
    """

    template: ClassVar[str] = "group.html.jinja"

    warnings: Sequence[str]
    facts: Mapping[str, str]
    parcellations: Sequence[ParcellationPart]
    sections: Sequence[Section]
    runs: Sequence[RunRecord]
    methods: str
    command: str
    configuration: str
    viewer: Mapping[str, Any] | None = None

    @property
    def left_out(self) -> list[RunRecord]:
        """The runs that were not used."""
        return [run for run in self.runs if run.reason is not None]


@dataclass(frozen=True)
class RunPart:
    """What a page shows of one run.

    Parameters
    ----------
    record : RunRecord
        What became of it.
    facts : Mapping of str to str
        Key figures.
    traces : sequence of Drawing
        Motion and carpets, whose volumes lie below each other.
    slices : sequence of Drawing
        Its mask on its mean image, where that is known.
    matrices : sequence of Drawing
        Correlations between parcels.
    files : Mapping of str to str
        Its files: what each of them is, and its address relative to the page.
    note : str
        What is not shown, and why.
    """

    record: RunRecord
    facts: Mapping[str, str] = field(default_factory=dict)
    traces: Sequence[Drawing] = ()
    slices: Sequence[Drawing] = ()
    matrices: Sequence[Drawing] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class ParticipantContent(PageContent):
    """What the report of one participant shows.

    Parameters
    ----------
    title, subtitle, versions
        As in `PageContent`.
    facts : Mapping of str to str
        Key figures.
    runs : sequence of RunPart
        Every run that was found, used or not.
    group_page : str or None
        Address of the group's report.
    """

    template: ClassVar[str] = "participant.html.jinja"

    facts: Mapping[str, str]
    runs: Sequence[RunPart]
    group_page: str | None


@dataclass(frozen=True)
class ParcellationContent(PageContent):
    """What the report of one parcellation shows.

    Parameters
    ----------
    title, subtitle, versions
        As in `PageContent`.
    parcellation : ParcellationPart
        The parcellation.
    sizes : Drawing
        How large the parcels are.
    parameters : Mapping of str to object
        What it was made with.
    """

    template: ClassVar[str] = "parcellation.html.jinja"

    parcellation: ParcellationPart
    sizes: Drawing
    parameters: Mapping[str, object]


def render_report(content: PageContent) -> str:
    """Fill the template of a page.

    Parameters
    ----------
    content : PageContent
        What it shows.

    Returns
    -------
    str
        HTML; the same for the same content.
    """
    return _environment().get_template(content.template).render(content=content)


def atlas_title(names: OutputNames, n_parcels: Sequence[int]) -> str:
    """Name the atlases that a page is about.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    n_parcels : sequence of int
        Numbers of parcels; each has an atlas of its own if the name has a place for them.

    Returns
    -------
    str
        Empty where there are none.
    """
    labels = list(dict.fromkeys(map(names.atlas_label, n_parcels)))
    return f"{'Atlas' if len(labels) == 1 else 'Atlases'} {', '.join(labels)}" if labels else ""


@cache
def software_versions() -> dict[str, str]:
    """Give the versions of what the numbers of a report depend on.

    Returns
    -------
    dict of str to str
        This package, Python, and the libraries that compute.
    """
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"bids-parcellate": __version__, "Python": platform.python_version(), **libraries}


def _script_policy() -> str:
    """Allow the viewer and NiiVue, each by the digest of its text, and nothing else."""
    digests = (hashlib.sha256(_viewer_script().encode()).digest(), bytes.fromhex(NIIVUE_SHA256))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


@cache
def _viewer_script() -> str:
    return files("bids_parcellate").joinpath("data/report/viewer.js").read_text(encoding="utf-8")


def _as_json(value: object) -> Markup:
    """Write JSON that is safe between ``<script>`` tags."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def _number(value: float | None, digits: int = 0) -> str:
    return MISSING if value is None or pd.isna(value) else f"{value:,.{digits}f}"


def _share_kept(run: RunRecord) -> str:
    return MISSING if run.n_kept is None or not run.n_volumes else f"{run.n_kept / run.n_volumes:.0%}"


def _markdown(text: str) -> Markup:
    """Turn the Markdown that we write (headings, lists, paragraphs) into HTML; a first-level heading becomes ``h2``."""
    return Markup("\n").join(_markdown_block(block.strip()) for block in text.split("\n\n") if block.strip())


def _markdown_block(block: str) -> Markup:
    if heading := re.fullmatch(r"(#{1,5}) (.+)", block):
        return Markup("<h{0}>{1}</h{0}>").format(len(heading[1]) + 1, heading[2])
    if block.startswith("- "):
        _, *items = re.split(r"^- ", block, flags=re.MULTILINE)
        return Markup("<ul>\n{}</ul>").format(Markup().join(Markup("<li>{}</li>\n").format(item) for item in items))
    return Markup("<p>{}</p>").format(block)


def _anchor(text: str) -> str:
    """Make an address within a page of the name of a run."""
    return "run-" + re.sub(r"[^A-Za-z0-9_-]", "-", text)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("bids_parcellate", "data/report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "anchor": _anchor,
        "as_json": _as_json,
        "markdown": _markdown,
        "number": _number,
        "share_kept": _share_kept,
    }
    environment.globals |= {
        "niivue": lambda: base64.b64encode(niivue_gzip()).decode(),
        "script_policy": _script_policy,
        "viewer_script": lambda: Markup(_viewer_script()),  # noqa: S704 - our own file
    }
    return environment
