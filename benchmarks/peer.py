"""One step in a process of its own: ``python -m benchmarks.peer MODULE:FUNCTION RESULTS FOLDER [ARGUMENT ...]``.

The function loads what is needed and returns the work, which alone is timed. What the work returns, arrays by name, is
saved in the file RESULTS (npz), and its CPU and wall time beside it (JSON).
"""

import importlib
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np


def cpu_seconds() -> float:
    """Add up user and system time of this process and of its children.

    Returns
    -------
    float
        Seconds.
    """
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    """Prepare the step, run and time it, save what it returned."""
    target, path, folder, *arguments = sys.argv[1:]
    module, function = target.split(":")
    work = getattr(importlib.import_module(f"benchmarks.{module}"), function)(Path(folder), *arguments)
    cpu, wall = cpu_seconds(), time.perf_counter()
    results = work()
    spent = {"cpu": cpu_seconds() - cpu, "wall": time.perf_counter() - wall}
    Path(path).parent.mkdir(exist_ok=True)
    np.savez(path, **results)
    Path(path).with_suffix(".json").write_text(json.dumps(spent))


if __name__ == "__main__":
    main()
