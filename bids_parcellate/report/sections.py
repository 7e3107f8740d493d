"""Sections of the group's report: sizes, quality, coverage, motion. Each appears only where its data are given."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_parcellate.outputs.derivatives import RunRecord
from bids_parcellate.parcels.appraisal import FIGURES
from bids_parcellate.parcels.atlas import Parcellation
from bids_parcellate.report.charts import Curve, Strip, draw_curve, draw_strips
from bids_parcellate.report.drawings import draw_coverage, draw_slices
from bids_parcellate.report.pages import MISSING, Drawing, Section, Table
from bids_parcellate.report.readings import Coverage
from bids_parcellate.report.slices import cut_parcels

_STRIPS = "A tick is a {}, the bar holds the middle half of them, and the long mark is their median."


def draw_parcels(
    parcellation: Parcellation, *, title: str, background: npt.NDArray[np.floating] | None = None, below: str = ""
) -> Drawing:
    """Draw slices through a parcellation.

    Parameters
    ----------
    parcellation : Parcellation
        The parcels.
    title : str
        Such as ``100 parcels``.
    background : ndarray of shape (X, Y, Z), optional
        What lies below them.
    below : str, optional
        What this is, for the caption.

    Returns
    -------
    Drawing
        For a page.
    """
    over = "" if background is None else f", over {below}"
    return Drawing(
        kind="slices",
        label=f"Slices through {title}",
        markup=draw_slices(
            cut_parcels(parcellation, background=background, n_pixels=260),
            label=f"Axial, coronal and sagittal slices through {title}, each parcel in its own colour.",
        ),
        caption=f"Each parcel in the colour that the table gives it{over}. Left is left (neurological convention).",
    )


def draw_sizes(parcellations: Sequence[Parcellation]) -> Drawing:
    """Draw how large the parcels are.

    Parameters
    ----------
    parcellations : sequence of Parcellation
        At least one.

    Returns
    -------
    Drawing
        A row for each.
    """
    strips = [
        Strip(f"{each.n_parcels:,} parcels", each.table["volume_mm3"].to_numpy(dtype=np.float64))
        for each in parcellations
    ]
    return Drawing(
        kind="chart",
        label="Volumes of the parcels",
        markup=draw_strips(strips, name="Volume of a parcel (mm³)", is_log=True),
        caption=_STRIPS.format("parcel"),
    )


def size_section(parcellations: Sequence[Parcellation]) -> Section:
    """Show how large the parcels are.

    Parameters
    ----------
    parcellations : sequence of Parcellation
        At least one.

    Returns
    -------
    Section
        For the group's page.
    """
    return Section("sizes", "Sizes", "", [draw_sizes(parcellations)])


def quality_section(figures: pd.DataFrame, reason: str | None, chosen: int | None) -> Section:
    """Show figures of quality, beside those of random parcels where they are known.

    Parameters
    ----------
    figures : DataFrame
        A row for each figure of each number of parcels; see ``appraisal.Appraisal.figures``.
    reason : str or None
        Why the number of parcels was chosen, if it was.
    chosen : int or None
        That number.

    Returns
    -------
    Section
        For the group's page.
    """
    names = list(dict.fromkeys(figures["figure"]))
    is_compared = figures.reindex(columns=["random_sd"])["random_sd"].notna().groupby(figures["figure"]).all()
    compared = [name for name in names if is_compared[name]]
    drawings = [_draw_figure(figures[figures["figure"] == name], chosen) for name in compared]
    numbers = sorted(figures["n_parcels"].unique())
    cells = {(row["n_parcels"], row["figure"]): float(row["value"]) for row in figures.to_dict("records")}
    rows = [
        [_title(name), *(_cell(cells.get((number, name))) for number in numbers), FIGURES.get(name, "")]
        for name in names
    ]
    text = "Parcels that carry information lie clear of random ones, which have their sizes but not their borders."
    columns = ["Figure", *(f"{number:,}" for number in numbers), "Meaning"]
    table = Table("Figures by number of parcels", columns, rows)
    return Section("quality", "Quality", " ".join(filter(None, (reason, text))), drawings, table)


def _draw_figure(figures: pd.DataFrame, chosen: int | None) -> Drawing:
    figures = figures.sort_values("n_parcels")
    columns = (figures[name].to_numpy(dtype=np.float64) for name in ("value", "random_mean", "random_sd"))
    key = str(figures["figure"].iloc[0])
    name = _title(key)
    marked = " The large dot is the number that was chosen." if chosen is not None else ""
    return Drawing(
        kind="chart",
        label=name,
        markup=draw_curve(Curve(figures["n_parcels"].to_numpy(), *columns), name=name, chosen=chosen),
        caption=f"{FIGURES.get(key, '')} Grey: random parcels, mean and two standard deviations.{marked}".strip(),
    )


_SPELLING = {"held out": "held-out", "split half": "split-half", "adjusted rand": "adjusted Rand index"}


def _title(key: str) -> str:
    text = key.replace("_", " ")
    for plain, spelled in _SPELLING.items():
        text = text.replace(plain, spelled)
    return text[:1].upper() + text[1:]


# Those that random parcels do not reach by being many or compact.
_DECISIVE = ("boundary_coefficient", "held_out_explained_variance", "split_half_adjusted_rand")


def find_doubts(figures: pd.DataFrame, n_parcels: Sequence[int]) -> list[str]:
    """Say where parcels do no better than random ones.

    Parameters
    ----------
    figures : DataFrame
        As for `quality_section`.
    n_parcels : sequence of int
        Numbers of parcels of the parcellations that were made.

    Returns
    -------
    list of str
        A sentence for each figure that is less than two standard deviations above that of random parcels.
    """
    random = figures.reindex(columns=["random_mean", "random_sd"])
    made = figures["n_parcels"].isin(list(n_parcels)).to_numpy()
    weak = figures[made & (figures["value"] <= random["random_mean"] + 2 * random["random_sd"])]
    numbers = {name: weak.loc[weak["figure"] == name, "n_parcels"] for name in _DECISIVE}
    return [
        f"{_title(name)}: {' and '.join(f'{number:,}' for number in each)} parcels do no better than random ones of "
        "the same sizes (see Quality)."
        for name, each in numbers.items()
        if len(each)
    ]


def _cell(value: float | None) -> str:
    return MISSING if value is None or np.isnan(value) else f"{value:,.4g}"


def coverage_section(coverage: Coverage) -> Section:
    """Show which share of each parcel participants have.

    Parameters
    ----------
    coverage : Coverage
        Of the parcellation with the fewest parcels.

    Returns
    -------
    Section
        For the group's page.
    """
    n_participants, n_parcels = coverage.shares.shape
    means = coverage.shares.mean(axis=1)
    worst = means.argmin()
    lacking = int((coverage.shares < 0.5).any(axis=0).sum())
    label = f"Coverage of {n_parcels:,} parcels in {n_participants:,} participants: mean {means.mean():.1%}"
    if means[worst] < means.max():
        label += f", least in sub-{coverage.participants[worst]} with {means[worst]:.1%}"
    drawing = Drawing(
        kind="chart",
        label="Coverage",
        markup=draw_coverage(coverage.shares, [f"sub-{each}" for each in coverage.participants], label=f"{label}."),
        caption=f"{label}. A row is a participant, a column a parcel, in the order of their names; green is full, red "
        "empty coverage.",
    )
    text = (
        "Each participant has at least half of every parcel."
        if not lacking
        else f"{lacking:,} of {n_parcels:,} parcels lack half of their voxels or more in some participant."
    )
    return Section("coverage", "Coverage", text, [drawing])


def run_facts(records: Sequence[RunRecord]) -> dict[str, str]:
    """Sum up runs.

    Parameters
    ----------
    records : sequence of RunRecord
        Used or not.

    Returns
    -------
    dict of str to str
        Key figures.
    """
    used = [record for record in records if record.used]
    n_volumes, n_kept = (sum(record.n_volumes or 0 for record in used), sum(record.n_kept or 0 for record in used))
    return {
        "Runs used": f"{len(used):,} of {len(records):,}",
        "Volumes kept": f"{n_kept:,} of {n_volumes:,}",
        "Mean framewise displacement": _mean_displacement(used),
    }


def _mean_displacement(records: Sequence[RunRecord]) -> str:
    """Average framewise displacement over all kept volumes whose run has it."""
    known = [(record.mean_fd, record.n_kept) for record in records if record.n_kept and not pd.isna(record.mean_fd)]
    if not known:
        return MISSING
    displacements, weights = zip(*known, strict=True)
    return f"{np.average(displacements, weights=weights):.2f} mm"


def motion_section(records: Sequence[RunRecord]) -> Section | None:
    """Show how much heads moved, and how many volumes were kept.

    Parameters
    ----------
    records : sequence of RunRecord
        The runs that were used.

    Returns
    -------
    Section or None
        For the group's page; None if neither is known.
    """
    displacements = [each.mean_fd for each in records if each.mean_fd is not None and np.isfinite(each.mean_fd)]
    shares = [100 * each.n_kept / each.n_volumes for each in records if each.n_volumes and each.n_kept is not None]
    drawings = [
        Drawing(
            kind="chart",
            label=name,
            markup=draw_strips([Strip("Runs", np.array(values))], name=name, highest=highest),
            caption=_STRIPS.format("run"),
        )
        for name, values, highest in (
            ("Mean framewise displacement of the kept volumes (mm)", displacements, np.inf),
            ("Volumes kept (%)", shares, 100.0),
        )
        if values
    ]
    return Section("motion", "Motion", "", drawings) if drawings else None
