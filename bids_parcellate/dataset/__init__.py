"""From a BIDS derivatives dataset to the runs that can be used, and the reasons why the others cannot.

Nothing is written to a dataset, and no image data are read: names, sidecars and headers only.
"""

from bids_parcellate.dataset.records import Dataset, RejectedRun, Run, Selection
from bids_parcellate.dataset.selection import select_runs

__all__ = ["Dataset", "RejectedRun", "Run", "Selection", "select_runs"]
