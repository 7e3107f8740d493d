"""Use the app on a simulated study, with each option that has kernels of its own.

numba keeps what it compiles, and Python the byte code of what is imported, which neither can in a read-only image.
"""

import sys
import tempfile
from pathlib import Path

from bids_parcellate.cli import main
from bids_parcellate.demo import write_dataset

JOBS = (
    "--method ward --n-parcels auto 10 20 --quality full --n-bootstrap 2 --n-random 2 --individual",
    "--method average --n-parcels 10",
    "--method rena --n-parcels 10",
    "--method kmeans --n-parcels 10 --contiguous",
    "--method hierarchical_kmeans --n-parcels 10 --n-components 20",  # the images are read again
)


def compile_kernels(folder: Path) -> None:
    """Do all jobs.

    Parameters
    ----------
    folder : Path
        Where the study and the outputs go.

    Raises
    ------
    SystemExit
        If a job fails.
    """
    write_dataset(folder / "study", n_subjects=2, n_volumes=80, voxel_size=8.0, n_parcels=10)
    for number, job in enumerate(JOBS):
        places = [str(folder / "study"), str(folder / str(number)), "group", "--work-dir", str(folder / "work")]
        if main([*places, "--nprocs", "1", *job.split()]) != 0:
            sys.exit(f"This job failed: {job}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        compile_kernels(Path(scratch))
