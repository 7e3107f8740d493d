"""HTML pages: what they show, as frozen records of plain values, and how these become one file.

A page holds its pictures and its style: it opens by a double click and needs no network. Its template is in
``data/report``; all text that a template is given is escaped.
"""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import style
from matplotlib.figure import Figure

from bids_parcellate.derivatives import RunRecord

MISSING = "n/a"

# Without a salt of ours, matplotlib draws the names inside an SVG at random.
_STYLE = {"savefig.dpi": 140, "svg.hashsalt": "bids-parcellate", "svg.fonttype": "none"}
_NO_METADATA = {"png": {"Software": None}, "svg": dict.fromkeys(("Creator", "Date", "Format", "Type"))}
_MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml"}


@dataclass(frozen=True)
class Picture:
    """A picture in a page.

    Parameters
    ----------
    kind : {"slices", "chart"}
        Whether it lies on black, or is dark ink without a ground, which a dark page inverts.
    label : str
        Its name, in a few words.
    source : str
        The picture itself; see `embed`.
    alt : str
        What it shows, for those who do not see it.
    caption : str
        How to read it.
    """

    kind: Literal["slices", "chart"]
    label: str
    source: str
    alt: str
    caption: str


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
    slices : Picture
        Slices through it.
    parcels : DataFrame
        Its table; see ``atlas.COLUMNS``.
    files : Mapping of str to str, optional
        Its files: what each of them is, and its address relative to the page.
    """

    n_parcels: int
    title: str
    facts: Mapping[str, str]
    slices: Picture
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
    sizes : Picture
        How large the parcels are.
    runs : sequence of RunRecord
        Every run that was found, used or not.
    methods : str
        The methods in Markdown.
    command : str
        The command that was given.
    configuration : str
        The complete configuration as TOML.
    """

    template: ClassVar[str] = "group.html.jinja"

    warnings: Sequence[str]
    facts: Mapping[str, str]
    parcellations: Sequence[ParcellationPart]
    sizes: Picture
    runs: Sequence[RunRecord]
    methods: str
    command: str
    configuration: str

    @property
    def left_out(self) -> list[RunRecord]:
        """The runs that were not used."""
        return [run for run in self.runs if run.reason is not None]


@dataclass(frozen=True)
class ParcellationContent(PageContent):
    """What the report of one parcellation shows.

    Parameters
    ----------
    title, subtitle, versions
        As in `PageContent`.
    parcellation : ParcellationPart
        The parcellation.
    sizes : Picture
        How large the parcels are.
    parameters : Mapping of str to object
        What it was made with.
    """

    template: ClassVar[str] = "parcellation.html.jinja"

    parcellation: ParcellationPart
    sizes: Picture
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
    return _ENVIRONMENT.get_template(content.template).render(content=content)


def embed(draw: Callable[[], Figure], form: Literal["png", "svg"]) -> str:
    """Draw a figure and make it part of a page.

    Parameters
    ----------
    draw : callable
        Gives the figure. It is called in matplotlib's default style, so that the user's own does not change a report.
    form : {"png", "svg"}
        PNG for slices; SVG for charts, which stay sharp at any size.

    Returns
    -------
    str
        A data URI: the same for the same figure.
    """
    buffer = io.BytesIO()
    with style.context(["default", _STYLE]):
        draw().savefig(buffer, format=form, metadata=_NO_METADATA[form])
    return f"data:{_MEDIA_TYPES[form]};base64,{base64.b64encode(buffer.getvalue()).decode()}"


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


def _make_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("bids_parcellate", "data/report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"markdown": _markdown, "number": _number, "share_kept": _share_kept}
    return environment


_ENVIRONMENT = _make_environment()
