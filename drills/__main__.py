"""Run the drills: ``python -m drills [NAME ...] [--quick] [--work DIR] [--docs docs/reliability.md]``.

Each drill does harm to real jobs on a small simulated study, starts them again, and compares every byte with a job
that was left alone. After each drill everything known so far is written to WORK as JSON and as a Markdown table; a
drill that fails is reported, and the others go on. Small disks are mounted, which needs root.
"""

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.record import Record
from drills import disks, files, kills, load, surroundings
from drills.results import Outcome, as_json, markdown
from drills.studies import Settings

DRILLS: Mapping[str, Callable[[Settings], list[Outcome]]] = {
    "kill": kills.kill,
    "workers": kills.workers,
    "full-disk": disks.full_disk,
    "vanishing": files.vanishing,
    "truncated": files.truncated,
    "clock-locale": surroundings.clock_and_locale,
    "determinism": surroundings.determinism,
    "concurrent": load.concurrent,
    "soak": load.soak,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drills that are asked for.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        0 if all of them were survived.
    """
    options = _parse(argv)
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    path = work / ("drills-quick.json" if options.quick else "drills.json")
    names, settings = options.names or list(DRILLS), Settings(work, quick=options.quick, seed=options.seed)
    record = Record(path, "drills", argv, keep=bool(options.names))
    record.run(names, lambda name: run(name, settings), markdown, options.docs)
    return 0 if all(record.found[name].get("survived") for name in names) else 1


def run(name: str, settings: Settings) -> dict[str, Any]:
    """Run one drill.

    Parameters
    ----------
    name : str
        Its name.
    settings : Settings
        How it is run.

    Returns
    -------
    dict
        What it found or, under ``error``, why it could not be done; plain values.
    """
    sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S}  {name}\n")
    sys.stdout.flush()
    start = time.perf_counter()
    try:
        found = as_json(DRILLS[name](settings))
    except Exception as error:  # noqa: BLE001 -- the others shall go on
        traceback.print_exc()
        found = {"survived": False, "error": str(error).strip() or repr(error)}
    seconds = round(time.perf_counter() - start, 1)
    sys.stdout.writelines(f"          {' | '.join(row)}\n" for row in found.get("rows", ()))
    sys.stdout.write(f"          {seconds} s\n")
    return found | {"seconds": seconds}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m drills", description=rest, usage=summary.split("``")[1])
    default = Path(tempfile.gettempdir()) / "bids-parcellate-drills"
    parser.add_argument("names", nargs="*", choices=[*DRILLS, []], metavar="NAME", help=", ".join(DRILLS))
    parser.add_argument("--work", type=Path, default=default, help=f"where studies and results are kept ({default})")
    parser.add_argument("--quick", action="store_true", help="few faults each: shows that the drills work")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills (1)")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the table into this page, between its markers")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
