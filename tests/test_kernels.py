"""Compiled functions are kept where that can be done, and work where it cannot."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bids_parcellate
from bids_parcellate.demo import write_dataset

# Without these, permissions count for root, too.
WITHOUT_PRIVILEGES = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
PACKAGE = Path(bids_parcellate.__file__).parent

_PREFIX = WITHOUT_PRIVILEGES if os.geteuid() == 0 else []
pytestmark = pytest.mark.skipif(
    bool(_PREFIX) and shutil.which("setpriv") is None, reason="root needs setpriv to be without privileges"
)

HIT = """
import logging, sys
import numpy as np
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
from bids_parcellate.numerics.quality.sums import _add_rows, parcel_sums
rows = np.arange(12.0).reshape(6, 2)
sums = parcel_sums(rows, np.array([1, 1, 2, 2, 3, 3], dtype=np.int32), 3)
np.testing.assert_array_equal(sums, rows.reshape(3, 2, 2).sum(axis=1))
print(sum(_add_rows.stats.cache_hits.values()), sum(_add_rows.stats.cache_misses.values()))
"""

FEW_KERNELS = ("--method", "rena", "--smoothing-fwhm", "0")  # each is compiled anew

ESTIMATOR = """
import sys
from pathlib import Path
from bids_parcellate.estimator.parcellations import Parcellations
images = sorted(map(str, Path(sys.argv[1]).rglob("*preproc_bold.nii.gz")))
fitted = Parcellations(method="rena", n_parcels=6, smoothing_fwhm=None).fit(images)
assert len(set(fitted.labels_img_.get_fdata().ravel())) == 7
"""


def run(code: str, *arguments: object, path: Path = PACKAGE.parent, **environment: str):
    """Run code in a process of its own, without privileges and with nothing in its environment but what is given."""
    command = [*_PREFIX, sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command,
        env={"PYTHONPATH": str(path), "PATH": os.environ["PATH"], **environment},
        cwd=path,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def installed(tmp_path):
    """A copy of the package without anything compiled, into whose folders nobody may write."""
    folder = tmp_path / "installed"
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in paths:
        path.chmod(0o755)


def test_the_second_process_need_not_compile(tmp_path):
    first, second = (run(HIT, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert (first.stdout.split(), second.stdout.split()) == (["0", "1"], ["1", "0"])
    assert "cannot be kept" not in first.stderr + second.stderr


def test_a_full_disk_keeps_nothing_and_stops_nothing(tmp_path):
    full = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    full += "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    result = run(full + HIT, NUMBA_CACHE_DIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("cannot be kept") == 1
    assert "NUMBA_CACHE_DIR" in result.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "nothing half-written is left"


def test_files_that_may_not_be_read_stop_nothing(tmp_path):
    assert run(HIT, NUMBA_CACHE_DIR=str(tmp_path)).returncode == 0
    for path in tmp_path.rglob("*.nbi"):
        path.chmod(0)
    result = run(HIT, NUMBA_CACHE_DIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["0", "1"]


def test_without_any_folder_to_write_to(installed):
    result = run(HIT, path=installed, HOME=str(installed / "home"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["0", "1"]
    assert result.stderr.count("cannot be kept") == 1


def test_job_and_estimator_without_any_folder_to_write_to(installed, tmp_path):
    """Only the output folder, and the folder of temporary files, can be written to."""
    dataset, output = tmp_path / "data", tmp_path / "out"
    write_dataset(dataset, n_subjects=1, n_volumes=80, voxel_size=10.0, n_parcels=6)
    job = "import sys; from bids_parcellate.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = (dataset, output, "group", "--n-parcels", "6", "--nprocs", "1", "--quality", "none", *FEW_KERNELS)
    result = run(job, *arguments, path=installed, HOME=str(installed / "home"))
    assert result.returncode == 0, result.stderr
    assert list(output.glob("tpl-*/anat/*_dseg.nii.gz"))
    result = run(ESTIMATOR, dataset, path=installed, HOME=str(installed / "home"))
    assert result.returncode == 0, result.stderr
