"""What the benchmarks find, and the tables of it."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.measure import Usage
from benchmarks.record import head_lines, table_line

Quantity = Literal["cpu", "wall", "memory"]


@dataclass(frozen=True)
class Spread:
    """A figure that was measured several times.

    Parameters
    ----------
    median, low, high : float
        Median, smallest and largest value.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Summarise values.

        Parameters
        ----------
        values : iterable of float
            The values.

        Returns
        -------
        Spread
            Their median and range.
        """
        listed = list(values)
        return cls(statistics.median(listed), min(listed), max(listed))

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.median:.3g}"
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Comparison:
    """The same work done by us and by a peer.

    Parameters
    ----------
    work : str
        What was done.
    peer : str
        Who did it.
    ours, theirs : sequence of Usage
        One for each repeat, in the same order.
    target : str, default=""
        What was aimed at.
    """

    work: str
    peer: str
    ours: Sequence[Usage]
    theirs: Sequence[Usage]
    target: str = ""

    def ratio(self, quantity: Quantity) -> Spread:
        """Divide the peer's usage by ours, repeat by repeat.

        Parameters
        ----------
        quantity : {"cpu", "wall", "memory"}
            What to compare.

        Returns
        -------
        Spread
            Above 1 where we use less.
        """
        return Spread.of(
            getattr(theirs, quantity) / getattr(ours, quantity)
            for ours, theirs in zip(self.ours, self.theirs, strict=True)
        )

    def as_json(self) -> dict[str, Any]:
        """Give usages and ratios as plain values."""
        ratios = {quantity: asdict(self.ratio(quantity)) for quantity in ("cpu", "wall", "memory")}
        return asdict(self) | {"ratios": ratios}

    def row(self) -> list[str]:
        """Give the cells of the table of comparisons."""
        cells = [self.work, self.peer]
        for quantity, digits in (("cpu", 2), ("wall", 2), ("memory", 0)):
            ours, theirs = (
                statistics.median(getattr(usage, quantity) for usage in side) for side in (self.ours, self.theirs)
            )
            cells += [f"{ours:.{digits}f}", f"{theirs:.{digits}f}", str(self.ratio(quantity))]
        return [*cells, self.target]


@dataclass(frozen=True)
class Figure:
    """A single figure: an agreement, an accuracy, a slope.

    Parameters
    ----------
    what : str
        What it is.
    value : Spread or float
        The figure.
    unit : str, default=""
        Its unit.
    ok : bool, optional
        Whether the results are right; None where it is only a figure.
    target : str, default=""
        What was aimed at, or what counts as right.
    """

    what: str
    value: Spread | float
    unit: str = ""
    ok: bool | None = None
    target: str = ""

    def as_json(self) -> dict[str, Any]:
        """Give it as plain values."""
        return asdict(self) | {"ok": None if self.ok is None else bool(self.ok)}

    def row(self) -> list[str]:
        """Give the cells of the table of figures."""
        value = str(self.value) if isinstance(self.value, Spread) else f"{self.value:.4g}"
        verdict = {None: "", True: "right", False: "**WRONG**"}[self.ok]
        return [self.what, f"{value} {self.unit}".strip(), self.target, verdict]


@dataclass(frozen=True)
class Outcome:
    """What one benchmark found.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Costs.
    figures : sequence of Figure
        All else.
    """

    comparisons: Sequence[Comparison] = ()
    figures: Sequence[Figure] = ()

    @property
    def right(self) -> bool:
        """Whether no check failed."""
        return all(figure.ok in {None, True} for figure in self.figures)

    def as_json(self) -> dict[str, Any]:
        """Give it as plain values, with the rows of its tables."""
        return {
            "right": self.right,
            "comparisons": [each.as_json() for each in self.comparisons],
            "figures": [each.as_json() for each in self.figures],
            "rows": {
                "comparisons": [each.row() for each in self.comparisons],
                "figures": [each.row() for each in self.figures],
            },
        }


_COSTS = ("work", "peer", "CPU s", "peer's", "ratio", "wall s", "peer's", "ratio", "MB", "peer's", "ratio", "target")
_FIGURES = ("figure", "value", "target", "result")


def markdown(results: Mapping[str, Any]) -> str:
    """Make the tables.

    Parameters
    ----------
    results : mapping
        What the suite writes as JSON.

    Returns
    -------
    str
        Machine and command, a table of costs, a table of figures, and what failed.
    """
    benchmarks = results["benchmarks"]
    lines = head_lines(results, "benchmarks")
    for kind, heads in (("comparisons", _COSTS), ("figures", _FIGURES)):
        rows = [row for entry in benchmarks.values() for row in entry.get("rows", {}).get(kind, ())]
        lines += [table_line(heads), table_line(["---"] * len(heads)), *map(table_line, rows), ""]
    failed = [f"- {name} failed: {entry['error']}" for name, entry in benchmarks.items() if "error" in entry]
    return "\n".join([*lines, *failed]).rstrip() + "\n"
