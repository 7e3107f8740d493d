"""Selecting runs, in a process that imports nothing else: the two peers of the benchmark of indexing.

Both import pybids, which is loaded before the clock starts.
"""

from collections.abc import Callable
from pathlib import Path

SPACE = "MNI152NLin2009cAsym"

Files = dict[str, list[str]]


def select(folder: Path) -> Callable[[], Files]:
    """Select runs with our own function."""
    import bids.layout  # noqa: F401, PLC0415

    from bids_parcellate.config import SelectionConfig  # noqa: PLC0415 -- memory counts
    from bids_parcellate.dataset import select_runs  # noqa: PLC0415

    def work() -> Files:
        runs = select_runs(folder / "data", SelectionConfig()).runs
        return {
            "bold": sorted(str(run.bold) for run in runs),
            "mask": sorted(str(run.mask) for run in runs),
            "timeseries": sorted(str(run.confounds) for run in runs),
        }

    return work


def pybids(folder: Path) -> Callable[[], Files]:
    """Index everything with pybids, and ask it."""
    from bids import BIDSLayout  # noqa: PLC0415

    def work() -> Files:
        layout = BIDSLayout(folder / "data", validate=False, config=["bids", "derivatives"])
        query = {"return_type": "filename", "datatype": "func"}
        return {
            "bold": sorted(layout.get(suffix="bold", space=SPACE, desc="preproc", extension=".nii.gz", **query)),
            "mask": sorted(layout.get(suffix="mask", space=SPACE, desc="brain", extension=".nii.gz", **query)),
            "timeseries": sorted(layout.get(suffix="timeseries", desc="confounds", extension=".tsv", **query)),
        }

    return work
