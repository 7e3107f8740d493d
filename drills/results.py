"""What the drills find, and the table of it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.record import head_lines, table_line

_HEADS = ("drill", "what was done", "faults", "survived", "seen besides")
_SHOWN = 4  # problems of one fault


@dataclass
class Outcome:
    """What one row of a drill found.

    Parameters
    ----------
    what : str
        What was done.
    n_faults : int
        How often.
    problems : list of str
        What went wrong, at most one for each fault; none if everything was survived.
    notes : list of str
        Figures.
    """

    what: str
    n_faults: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, fault: str, problems: Iterable[str]) -> None:
        """Count a fault.

        Parameters
        ----------
        fault : str
            What was done.
        problems : iterable of str
            What went wrong.
        """
        self.n_faults += 1
        self.check(fault, problems)

    def check(self, fault: str, problems: Iterable[str]) -> None:
        """Take note of what is wrong in the end, without counting a fault.

        Parameters
        ----------
        fault : str
            What was done.
        problems : iterable of str
            What went wrong.
        """
        found = list(problems)
        if found:
            more = f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
            self.problems.append(f"{fault}: {'; '.join(found[:_SHOWN])}{more}")

    @property
    def n_survived(self) -> int:
        """Number of faults after which nothing was wrong."""
        return max(0, self.n_faults - len(self.problems))

    def row(self) -> list[str]:
        """Give the cells of its line of the table."""
        survived = str(self.n_survived) if not self.problems else f"**{self.n_survived}**"
        return [self.what, str(self.n_faults), survived, "; ".join(self.notes)]


def as_json(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Give what a drill found as plain values.

    Parameters
    ----------
    outcomes : iterable of Outcome
        Its rows.

    Returns
    -------
    dict
        Whether all was survived, the rows, and their cells.
    """
    rows = list(outcomes)
    survived = bool(rows) and all(row.n_faults and not row.problems for row in rows)
    return {"survived": survived, "outcomes": [asdict(row) for row in rows], "rows": [row.row() for row in rows]}


def markdown(results: Mapping[str, Any]) -> str:
    """Make the table.

    Parameters
    ----------
    results : mapping
        What the drills write as JSON.

    Returns
    -------
    str
        Machine and command, the table, and what was not survived.
    """
    drills = results["drills"]
    lines = head_lines(results, "drills")
    lines += [table_line(_HEADS), table_line(["---"] * len(_HEADS))]
    for name, found in drills.items():
        lines += [table_line([name, *row]) for row in found.get("rows", ())]
    problems = [
        f"- {name}: {problem}"
        for name, found in drills.items()
        for each in found.get("outcomes", ())
        for problem in each["problems"]
    ]
    problems += [f"- {name} could not be done: {found['error']}" for name, found in drills.items() if "error" in found]
    if problems:
        lines += ["", "Not survived:", "", *problems]
    return "\n".join(lines) + "\n"
