"""What suites write down of themselves: machine, command and date, what was found earlier, and tables in a page."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any


def begin(path: Path, suite: str, argv: Sequence[str] | None, *, keep: bool) -> dict[str, Any]:
    """Begin a record.

    Parameters
    ----------
    path : Path
        Its JSON file, which may be there from an earlier run.
    suite : str
        Name of the package, under which results are kept, too.
    argv : sequence of str or None
        Arguments; None for those of the process.
    keep : bool
        Whether results of an earlier run are kept.

    Returns
    -------
    dict
        Machine, command and date, and earlier results under ``suite``.
    """
    earlier = json.loads(path.read_text()) if keep and path.exists() else {suite: {}}
    return earlier | {
        "machine": describe_machine(),
        "command": shlex.join(["python", "-m", suite, *(sys.argv[1:] if argv is None else argv)]),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def describe_machine() -> dict[str, str]:
    """Say on what a suite runs.

    Returns
    -------
    dict of str
        Processor, memory, system, versions.
    """
    cpu = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    packages = ("numpy", "scipy", "scikit-learn", "numba", "nilearn", "pybids", "isal")
    return {
        "processor": f"{cpu[0] if cpu else platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in packages),
    }


def head_lines(record: Mapping[str, Any]) -> list[str]:
    """Say in Markdown what was run when, and on what.

    Parameters
    ----------
    record : mapping
        As `begin` makes it.

    Returns
    -------
    list of str
        A list, and an empty line.
    """
    lines = [f"- {name}: {value}" for name, value in record["machine"].items()]
    return [*lines, f"- command: `{record['command']}`", f"- date: {record['date']}", ""]


def table_line(cells: Iterable[str]) -> str:
    """Make a line of a Markdown table.

    Parameters
    ----------
    cells : iterable of str
        Its cells.

    Returns
    -------
    str
        The line.
    """
    return f"| {' | '.join(cells)} |"


def insert(page: Path, name: str, tables: str) -> None:
    """Put tables into a page, between ``<!-- name: begin -->`` and ``<!-- name: end -->``.

    Parameters
    ----------
    page : Path
        A Markdown file.
    name : str
        Name of the marks, each of which is there once.
    tables : str
        What to put there.
    """
    begin_mark, end_mark = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.read_text().split(begin_mark)
    _, after = rest.split(end_mark)
    page.write_text(f"{before}{begin_mark}\n\n{tables}\n{end_mark}{after}")
