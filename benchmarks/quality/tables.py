"""Markdown tables of the results."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.quality.evaluation import PEERS, Result

DEFAULT = "scaled"
_COMPARED = [DEFAULT, *PEERS]
_FIGURES = {"explained": "EV", "agreement": "ARI", "truth": "truth", "largest": "largest", "median": "median"}
_KEYS = ["experiment", "n_parcels", "method", "features"]


def summarise(results: Sequence[Result]) -> pd.DataFrame:
    """Average over the splits or seeds of each experiment.

    Parameters
    ----------
    results : sequence of Result
        In the order in which tables shall show them.

    Returns
    -------
    DataFrame
        A row for each experiment, number of parcels, method and kind of features.
    """
    return pd.DataFrame(results).groupby(_KEYS, sort=False).mean().reset_index()


def report(table: pd.DataFrame) -> str:
    """Write all tables.

    Parameters
    ----------
    table : DataFrame
        As `summarise` gives it.

    Returns
    -------
    str
        Markdown.
    """
    sections = ["### The default against nilearn", wins(table)]
    for name, rows in table.groupby("experiment", sort=False):
        sections += [f"#### {str(name)[0].upper()}{str(name)[1:]}", against_nilearn(rows)]
    sections += ["### The candidates", "Means over the methods and numbers of parcels.", candidates(table)]
    for name, rows in table.groupby("experiment", sort=False):
        sections += [f"#### Held-out explained variance: {name}", by_method(rows)]
    return "\n\n".join(sections) + "\n"


def wins(table: pd.DataFrame) -> str:
    """Count where the default is better than nilearn's class.

    Parameters
    ----------
    table : DataFrame
        As `summarise` gives it.

    Returns
    -------
    str
        Markdown; a row for each experiment.
    """
    lines = []
    for name, rows in table.groupby("experiment", sort=False):
        cells = [str(name)]
        for peer in PEERS:
            for figure in ("explained", "agreement", "truth"):
                wide = rows.pivot_table(figure, ["n_parcels", "method"], "features").reindex(columns=[DEFAULT, peer])
                known = wide.dropna()
                cells.append(f"{(known[DEFAULT] > known[peer]).sum()} of {len(known)}" if len(known) else "")
        lines.append(cells)
    header = [f"{_FIGURES[figure]}, {peer}" for peer in PEERS for figure in ("explained", "agreement", "truth")]
    return _markdown(["scaled beats", *header], lines)


def against_nilearn(rows: pd.DataFrame) -> str:
    """Show all figures of the default and of nilearn's class side by side.

    Parameters
    ----------
    rows : DataFrame
        Of one experiment.

    Returns
    -------
    str
        Markdown; cells are "default / nilearn's class / the same with z-scored voxels"; "-" where every fit failed.
    """
    figures = [each for each in _FIGURES if rows[each].notna().all()]
    lines = []
    for (n_parcels, method), each in rows.groupby(["n_parcels", "method"], sort=False):
        compared = each.set_index("features").reindex(_COMPARED)
        found = [f"{n:.0f}" for n in compared["n_found"]]
        note = "" if set(found) <= {str(n_parcels), "nan"} else f" (found: {' / '.join(found)})"
        cells = [" / ".join(_number(value, figure) for value in compared[figure]) for figure in figures]
        lines.append([f"{n_parcels}{note}", str(method), *cells])
    return _markdown(["K", "method", *(_FIGURES[each] for each in figures)], lines)


def candidates(table: pd.DataFrame) -> str:
    """Compare all candidates, on average over methods and numbers of parcels.

    Parameters
    ----------
    table : DataFrame
        As `summarise` gives it.

    Returns
    -------
    str
        Markdown; cells are "EV / ARI" or, where the truth is known, "EV / ARI / truth".
    """
    means = table.groupby(["experiment", "features"], sort=False)[["explained", "agreement", "truth"]].mean()
    names = list(dict.fromkeys(table["features"]))
    lines = []
    for experiment in dict.fromkeys(table["experiment"]):
        cells = []
        for name in names:
            known = (experiment, name) in means.index
            figures = means.loc[(experiment, name)].dropna() if known else []
            cells.append(" / ".join(_number(value) for value in figures))
        lines.append([experiment, *cells])
    return _markdown(["experiment", *names], lines)


def by_method(rows: pd.DataFrame) -> str:
    """Show the explained variance of each method with each candidate.

    Parameters
    ----------
    rows : DataFrame
        Of one experiment.

    Returns
    -------
    str
        Markdown.
    """
    names = list(dict.fromkeys(rows["features"]))
    wide = rows.pivot_table("explained", ["n_parcels", "method"], "features", sort=False)[names]
    lines = [[str(n), str(method), *map(_number, wide.loc[(n, method)])] for n, method in wide.index]
    return _markdown(["K", "method", *names], lines)


def _number(value: float, figure: str = "explained") -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.0f}" if figure == "median" else f"{value:.3f}".replace("0.", ".", 1)


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
