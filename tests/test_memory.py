"""What a job needs is predicted, and what it then takes is below that."""

import re
import subprocess
import sys

import pytest

from bids_parcellate.demo import write_dataset

# The kernel's own record of the process: resource.getrusage also knows of the process that started this one.
_RUN = """
import re, sys
from pathlib import Path
from bids_parcellate.cli import main
code = main(sys.argv[1:])
print("peak", int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
sys.exit(code)
"""


def run(*arguments):
    job = subprocess.run([sys.executable, "-c", _RUN, *map(str, arguments)], capture_output=True, text=True, check=True)
    return job.stdout


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Two runs at 3 mm: their signals are larger than the interpreter with its libraries."""
    folder = tmp_path_factory.mktemp("large")
    write_dataset(folder, n_subjects=1, n_volumes=400, t_r=1.0, voxel_size=3.0, n_parcels=50)
    return folder


@pytest.mark.parametrize("options", [("--quality", "none"), ("--quality", "standard")])
def test_prediction_is_an_upper_bound_and_not_a_wild_one(large, tmp_path, options):
    job = (large, tmp_path, "group", "--nprocs", "1", "--n-parcels", "200", *options)
    text = run(*job, "--check")
    predicted = int(re.search(r"Needs about (\d+) MB", text)[1])
    disk = int(re.search(r"at most (\d+) MB in the work folder", text)[1])
    peak = int(re.search(r"peak (\d+)", run(*job))[1])
    assert 0.6 * predicted < peak <= predicted
    stored = sum(path.stat().st_size for path in (tmp_path / ".work").rglob("*.npz")) / 2**20
    assert 0.6 * disk < stored <= disk
