"""Run the benchmarks: ``python -m benchmarks [--only NAME ...] [--quick] [--slow] [--docs docs/performance.md]``.

Every peer runs in a process of its own, on the same files, one after the other, several times. Results are checked
against each other and against the truth. After each benchmark everything known so far is written to WORK as JSON and as
a Markdown table; a benchmark that fails is reported, and the others go on. Each is first run at a tiny size,
which compiles and caches our kernels. Linear algebra has one thread, for all peers alike.
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

from benchmarks import clustering, cohort, jobs, steps
from benchmarks.record import Record
from benchmarks.results import Outcome, markdown
from benchmarks.settings import Settings

BENCHMARKS: Mapping[str, Callable[[Settings], Outcome]] = {
    "start-up": jobs.start_up,
    "merge-accuracy": cohort.merge_accuracy,
    "cleaning": steps.cleaning,
    "smoothing": steps.smoothing,
    "rena": clustering.rena,
    **clustering.TREES,
    "large-tree": clustering.large_tree,
    "kmeans": clustering.kmeans,
    "hierarchical-kmeans": clustering.hierarchical_kmeans,
    "two-workers": jobs.two_workers,
    "added-subject": jobs.added_subject,
    "constant-memory": jobs.constant_memory,
    "scale": cohort.scale,
    "whole-job-int16": jobs.whole_job_int16,
    "whole-job-3mm": jobs.whole_job_3mm,
    "whole-job-2mm": jobs.whole_job_2mm,
    "indexing": steps.indexing,
}
SLOW = ("indexing",)  # only with --slow or --only


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks that are asked for.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        0 if all ran and all results are right.
    """
    options = _parse(argv)
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    settings = Settings(work, 1 if options.quick else options.repeats, tiny=options.quick)
    names = options.only or [name for name in BENCHMARKS if options.slow or name not in SLOW]
    path = work / ("results-quick.json" if options.quick else "results.json")
    record = Record(path, "benchmarks", argv, keep=bool(options.only))
    record.run(names, lambda name: run(name, settings), markdown, options.docs)
    return 0 if all(record.found[name].get("right") for name in names) else 1


def run(name: str, settings: Settings) -> dict[str, Any]:
    """Run one benchmark.

    Parameters
    ----------
    name : str
        Its name.
    settings : Settings
        How it is run.

    Returns
    -------
    dict
        What it found or, under ``error``, why it failed; plain values.
    """
    sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S}  {name}\n")
    sys.stdout.flush()
    start = time.perf_counter()
    try:
        if not settings.tiny:
            BENCHMARKS[name](Settings(settings.work, repeats=1, tiny=True))
        found = BENCHMARKS[name](settings).as_json()
    except Exception as error:  # noqa: BLE001 -- the others shall go on
        traceback.print_exc()
        return {"right": False, "error": str(error).strip().splitlines()[-1] if str(error) else repr(error)}
    for rows in found["rows"].values():
        sys.stdout.writelines(f"          {' | '.join(row)}\n" for row in rows)
    return found | {"seconds": round(time.perf_counter() - start, 1)}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=rest, usage=summary.split("``")[1])
    default = Path(tempfile.gettempdir()) / "bids-parcellate-benchmarks"
    parser.add_argument("--work", type=Path, default=default, help=f"where phantoms and results are kept ({default})")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one repeat: shows that the suite works")
    parser.add_argument("--slow", action="store_true", help=f"run also: {', '.join(SLOW)}")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each peer; costly ones run at most twice (3)")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the tables into this page, between its markers")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
