"""What suites write down of themselves: machine, command and date, what was found earlier, and tables in a page."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

Found = dict[str, Any]


class Record:
    """What a suite finds, with the machine, and the command and date of each part; written down after each.

    Parameters
    ----------
    path : Path
        Its JSON file, which may be there from an earlier run; the tables are beside it, in Markdown.
    suite : str
        Name of the module, under which results are kept, too.
    argv : sequence of str or None
        Arguments; None for those of the process.
    keep : bool
        Whether results of an earlier run on the same machine, with the same packages, are kept.
    """

    def __init__(self, path: Path, suite: str, argv: Sequence[str] | None, *, keep: bool) -> None:
        earlier = json.loads(path.read_text()) if keep and path.exists() else {}
        machine = describe_machine()
        same = earlier.get("machine") == machine
        self._path, self._suite = path, suite
        self._content = {"machine": machine, suite: earlier[suite] if same else {}}
        self._source = {
            "command": shlex.join(["python", "-m", suite, *(sys.argv[1:] if argv is None else argv)]),
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
        }

    @property
    def found(self) -> dict[str, Found]:
        """What is known of each part."""
        found: dict[str, Found] = self._content[self._suite]
        return found

    def run(
        self,
        names: Iterable[str],
        function: Callable[[str], Found],
        markdown: Callable[[Mapping[str, Any]], str],
        page: Path | None,
    ) -> None:
        """Run parts of the suite, one after another.

        Parameters
        ----------
        names : iterable of str
            The parts.
        function : callable
            It runs a part, and gives what it found as plain values.
        markdown : callable
            It makes the tables of the record.
        page : Path or None
            Where the tables are put in the end, between marks of the last word of the suite's name.
        """
        for name in names:
            self.found[name] = function(name) | self._source
            self._path.write_text(json.dumps(self._content, indent=1))
            self._path.with_suffix(".md").write_text(markdown(self._content))
        tables = markdown(self._content)
        sys.stdout.write(f"\n{tables}\nWritten to {self._path} and {self._path.with_suffix('.md')}\n")
        if page:
            insert(page, self._suite.rpartition(".")[2], tables)


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


def head_lines(record: Mapping[str, Any], suite: str) -> list[str]:
    """Say in Markdown what was run when, and on what.

    Parameters
    ----------
    record : mapping
        What a :class:`Record` writes.
    suite : str
        Name of the module.

    Returns
    -------
    list of str
        A list, and an empty line.
    """
    sources = {(found["date"], found["command"]) for found in record[suite].values()}
    commands = [f"- command: `{command}` ({date})" for date, command in sorted(sources)]
    return [*(f"- {name}: {value}" for name, value in record["machine"].items()), *commands, ""]


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
