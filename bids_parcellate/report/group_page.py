"""Reports: what a job or an estimator has made, put together for a page."""

import shlex
import tempfile
import webbrowser
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import escape

from bids_parcellate.config import Config
from bids_parcellate.io.files import write_atomically
from bids_parcellate.io.naming import OutputNames
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.outputs.derivatives import RunRecord
from bids_parcellate.parcels.atlas import Parcellation
from bids_parcellate.report.pages import (
    ParcellationContent,
    ParcellationPart,
    ReportContent,
    Section,
    atlas_title,
    render_report,
    software_versions,
)
from bids_parcellate.report.readings import Coverage
from bids_parcellate.report.sections import (
    coverage_section,
    draw_parcels,
    draw_sizes,
    find_doubts,
    motion_section,
    quality_section,
    run_facts,
    size_section,
)
from bids_parcellate.report.viewer import ParcelActivity, viewer_data

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GroupResult:
    """What a group job has made, for its report.

    Parameters
    ----------
    config : Config
        The configuration.
    parcellations : sequence of Parcellation
        One for each number of parcels, on one grid; at least one.
    records : sequence of RunRecord
        What became of every run that was found.
    methods : str
        The methods in Markdown.
    command_line : sequence of str
        The command that was given.
    warnings : sequence of str
        What the user should know of the runs that were used.
    background : ndarray of shape (X, Y, Z), optional
        What is drawn below the parcels; see `mean_background`.
    activities : Mapping of int to ParcelActivity, optional
        Signals of parcels, by their number; see `readings.read_activity`.
    coverage : Coverage, optional
        Which share of each parcel participants have; see `readings.read_coverage`.
    figures : DataFrame, optional
        Figures of quality; see ``appraisal.Appraisal.figures``.
    reason : str, optional
        Why the number of parcels was chosen, if it was.
    """

    config: Config
    parcellations: Sequence[Parcellation]
    records: Sequence[RunRecord]
    methods: str
    command_line: Sequence[str]
    warnings: Sequence[str] = ()
    background: npt.NDArray[Any] | None = None
    activities: Mapping[int, ParcelActivity] = field(default_factory=dict)
    coverage: Coverage | None = None
    figures: pd.DataFrame | None = None
    reason: str | None = None

    @property
    def used(self) -> list[RunRecord]:
        """The runs that were used."""
        return [record for record in self.records if record.used]

    @property
    def left_out(self) -> list[RunRecord]:
        """The runs that were not."""
        return [record for record in self.records if not record.used]


def write_group_report(names: OutputNames, result: GroupResult) -> Path:
    """Write the report of a group job.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs, which the report links to.
    result : GroupResult
        What the job has made.

    Returns
    -------
    Path
        The page, ``group.html`` in the output folder.
    """
    return write_atomically(names.root / "group.html", render_report(group_content(names, result)).encode())


def mean_background(runs: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]], grid: Grid) -> FloatArray:
    """Average the mean volumes of runs, to draw parcels on.

    Parameters
    ----------
    runs : iterable of (ndarray of int64, ndarray of float32), both of shape (n_voxels,)
        Of each run its voxels, as flat C-order positions in the grid, and their mean over time. Each run is divided by
        its own median, since units differ between scanners.
    grid : Grid
        Where the voxels lie.

    Returns
    -------
    ndarray of shape ``grid.shape``, float64
        The mean over the runs that have a voxel; 0 where none has.
    """
    total, number = np.zeros(np.prod(grid.shape)), np.zeros(np.prod(grid.shape), dtype=np.int64)
    for voxels, mean_volume in runs:
        total[voxels] += mean_volume / (abs(float(np.median(mean_volume))) or 1.0)
        number[voxels] += 1
    return np.divide(total, number, out=total, where=number > 0).reshape(grid.shape)


def group_content(names: OutputNames, result: GroupResult) -> ReportContent:
    """Put together what the report of a group job shows.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    result : GroupResult
        What the job has made.

    Returns
    -------
    ReportContent
        The same for the same job: it does not tell when it was made.
    """
    return ReportContent(
        title=atlas_title(names, [each.n_parcels for each in result.parcellations]),
        subtitle=f"Group parcellation by {names.method} clustering in {names.space}",
        versions=software_versions(),
        warnings=_warnings(result),
        facts=_group_facts(names, result),
        parcellations=[
            _parcellation_part(each, background=result.background, files=_links(names, each.n_parcels))
            for each in result.parcellations
        ],
        sections=_sections(result),
        runs=result.records,
        methods=result.methods,
        command=shlex.join(result.command_line),
        configuration=result.config.to_toml(),
        viewer=viewer_data(result.parcellations, background=result.background, activities=result.activities),
    )


def _sections(result: GroupResult) -> list[Section]:
    """Put together what data are given for."""
    chosen = result.parcellations[0].n_parcels if result.reason else None
    sections = [
        None if result.figures is None else quality_section(result.figures, result.reason, chosen),
        size_section(result.parcellations),
        coverage_section(result.coverage) if result.coverage else None,
        motion_section(result.used),
    ]
    return [section for section in sections if section is not None]


def _warnings(result: GroupResult) -> list[str]:
    """Say what should be looked at before the parcels are used."""
    warnings = list(result.warnings)
    if result.left_out:
        warnings.append(
            f"{len(result.left_out)} of {_count(len(result.records), 'run')} left out, for the reasons below."
        )
    lost = {record.participant for record in result.left_out} - {record.participant for record in result.used}
    if lost:
        warnings.append(f"Participants without any run: {', '.join(f'sub-{label}' for label in sorted(lost))}.")
    if result.figures is not None:
        warnings += find_doubts(result.figures, [parcellation.n_parcels for parcellation in result.parcellations])
    for parcellation in result.parcellations:
        n_single = int((parcellation.table["n_voxels"] == 1).sum())
        if n_single:
            warnings.append(f"{n_single} of {_count(parcellation.n_parcels, 'parcel')} hold a single voxel.")
    return warnings


def _group_facts(names: OutputNames, result: GroupResult) -> dict[str, str]:
    used, first = result.used, result.parcellations[0]
    n_found, n_used = (len({record.participant for record in records}) for records in (result.records, used))
    return {
        "Participants used": f"{n_used:,} of {n_found:,}",
        **run_facts(result.records),
        "Parcels": ", ".join(f"{each.n_parcels:,}" for each in result.parcellations),
        "Denoising": names.desc,
        "Voxels": f"{np.count_nonzero(first.labels):,}",
        "Voxel size": " x ".join(f"{size:g}" for size in first.grid.voxel_sizes.round(2)) + " mm",
    }


def _links(names: OutputNames, n_parcels: int) -> dict[str, str]:
    files = {"image": ".nii.gz", "table": ".tsv", "metadata": ".json"}
    return {
        text: quote(names.parcellation(n_parcels, extension).relative_to(names.root).as_posix())
        for text, extension in files.items()
    }


def render_parcellation_report(parcellation: Parcellation, *, title: str, parameters: Mapping[str, object]) -> str:
    """Make the report of a single parcellation, as an estimator gives it.

    Parameters
    ----------
    parcellation : Parcellation
        The parcellation.
    title : str
        Heading.
    parameters : Mapping of str to object
        What it was made with, such as the estimator's parameters.

    Returns
    -------
    str
        HTML; see `HTMLReport`.
    """
    return render_report(
        ParcellationContent(
            title=title,
            subtitle=f"{_count(parcellation.n_parcels, 'parcel')} in {_count(_n_voxels(parcellation), 'voxel')}",
            versions=software_versions(),
            parcellation=_parcellation_part(parcellation),
            sizes=draw_sizes([parcellation]),
            parameters=parameters,
        )
    )


def _parcellation_part(
    parcellation: Parcellation, *, background: npt.NDArray[Any] | None = None, files: Mapping[str, str] | None = None
) -> ParcellationPart:
    title, table = _count(parcellation.n_parcels, "parcel"), parcellation.table
    slices = draw_parcels(parcellation, title=title, background=background, below="a mean image of the runs")
    volumes, sides = table["volume_mm3"], table["hemisphere"].value_counts()
    facts = {
        "Median volume": f"{volumes.median():,.0f} mm³",
        "Smallest": f"{volumes.min():,.0f} mm³",
        "Largest": f"{volumes.max():,.0f} mm³",
        "Left · both · right": " · ".join(f"{sides.get(side, 0):,}" for side in "LBR"),
    }
    return ParcellationPart(parcellation.n_parcels, title, facts, slices, table, files or {})


def _n_voxels(parcellation: Parcellation) -> int:
    return int(np.count_nonzero(parcellation.labels))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@dataclass(frozen=True)
class HTMLReport:
    """A report to look at: in a notebook by itself, elsewhere in a browser.

    Parameters
    ----------
    html : str
        The page.
    """

    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        """Show the page in a notebook, in a frame that keeps its style to itself."""
        return f'<iframe srcdoc="{escape(self.html)}" title="Report" width="100%" height="800"></iframe>'

    def save_as_html(self, path: str | Path) -> None:
        """Save the page.

        Parameters
        ----------
        path : str or Path
            The file.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        write_atomically(Path(path), self.html.encode())

    def open_in_browser(self, path: str | Path | None = None) -> None:
        """Save the page and open it in the default browser.

        Parameters
        ----------
        path : str or Path, optional
            The file; by default one in the folder for temporary files, which stays there.
        """
        page = Path(path or Path(tempfile.mkdtemp(prefix="bids-parcellate-"), "report.html")).resolve()
        self.save_as_html(page)
        webbrowser.open(page.as_uri())
