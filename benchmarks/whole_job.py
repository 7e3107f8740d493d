"""The whole job against nilearn's Parcellations, on the same files, each in a process of its own.

    python benchmarks/whole_job.py [--runs 3] [--voxel-size 4] [--volumes 120] [--parcels 100]

Both fit a ward parcellation with motion confounds and 4 mm smoothing, and extract the signals of all runs. Prints CPU
seconds, wall seconds and peak memory of each (children included), and the ratios.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bids_parcellate.demo import write_dataset

NILEARN = """
import sys
from pathlib import Path
import pandas as pd
from nilearn.regions import Parcellations
folder, n_parcels = Path(sys.argv[1]), int(sys.argv[2])
images = sorted(map(str, folder.rglob("*_desc-preproc_bold.nii.gz")))
columns = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
tables = [path.split("_space-")[0] + "_desc-confounds_timeseries.tsv" for path in images]
confounds = [pd.read_csv(path, sep="\\t")[columns].to_numpy() for path in tables]
model = Parcellations("ward", n_parcels, smoothing_fwhm=4.0, detrend=True, standardize="zscore_sample", n_jobs=1)
model.fit(images, confounds=confounds)
model.transform(images, confounds=confounds)
"""

STRATEGY = 'strategy = ["motion"]\nmotion = "basic"\n'


def measure(command: list[str]) -> tuple[float, float, float]:
    """Run a command; return CPU seconds, wall seconds and peak memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    _, error = process.communicate()
    if process.returncode:
        raise SystemExit(f"{command[:3]} failed:\n{error}")
    wall = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def in_a_fork(command: list[str]) -> tuple[float, float, float]:
    """Measure in a child of our own, since the usage of children only ever adds up."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, json.dumps(measure(command)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        cpu, wall, memory = json.load(stream)
    os.wait()
    return cpu, wall, memory


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--voxel-size", type=float, default=4.0)
    parser.add_argument("--volumes", type=int, default=120)
    parser.add_argument("--parcels", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = {"voxel_size": options.voxel_size, "n_volumes": options.volumes}
        write_dataset(folder / "data", n_subjects=options.runs - 1, **size)
        (folder / "motion.toml").write_text(STRATEGY)
        ours = [sys.executable, "-m", "bids_parcellate", str(folder / "data"), str(folder / "out"), "group"]
        ours += ["--nprocs", "1", "--n-parcels", str(options.parcels), "--confounds", str(folder / "motion.toml")]
        theirs = [sys.executable, "-c", NILEARN, str(folder / "data"), str(options.parcels)]
        results = {"bids-parcellate": in_a_fork(ours), "nilearn": in_a_fork(theirs)}
    sys.stdout.write(f"{'':16} {'CPU s':>8} {'wall s':>8} {'peak MB':>8}\n")
    for label, figures in results.items():
        sys.stdout.write(f"{label:16} {figures[0]:8.1f} {figures[1]:8.1f} {figures[2]:8.0f}\n")
    ratios = [b / a for a, b in zip(results["bids-parcellate"], results["nilearn"], strict=True)]
    sys.stdout.write(f"{'nilearn / ours':16} {ratios[0]:8.1f} {ratios[1]:8.1f} {ratios[2]:8.1f}\n")


if __name__ == "__main__":
    main()
