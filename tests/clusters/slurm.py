"""How jobs are submitted to Slurm here: with the documented scripts."""

import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.containers.jobs import REPOSITORY, open_folder

SCRIPTS = REPOSITORY / "docs" / "slurm"
OPTIONS = ("--confounds", "none", "--n-parcels", "20", "50")


class Study:
    """The documented scripts, with settings for a dataset.

    Parameters
    ----------
    data, folder : Path
        The dataset, and where outputs, intermediate results and settings go.
    app : sequence of str
        The command; in it, ``{out}`` and ``{work}`` stand for the two folders.
    """

    def __init__(self, data: Path, folder: Path, app: Sequence[str]) -> None:
        self.data, self.out, self.work = data, open_folder(folder / "out"), open_folder(folder / "work")
        self.settings = folder / "settings.sh"
        command = shlex.join(part.format(out=self.out, work=self.work) for part in app)
        self.settings.write_text(
            (SCRIPTS / "settings.sh").read_text().replace("/data/study/derivatives/fmriprep", str(data))
            + f"OUT={self.out} WORK={self.work}\nOPTIONS=({shlex.join(OPTIONS)})\nAPP=({command})\n"
        )

    def submit(self, *options: str) -> tuple[str, list[dict[str, str]]]:
        """Submit and wait; give what the script says, and the final state of every task of every job."""
        command = [SCRIPTS / "submit.sh", self.settings, "--cpus-per-task=1", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        jobs = [line.split()[1].rstrip(":") for line in done.stdout.splitlines()]
        return done.stdout, [wait_for(job) for job in jobs]

    def reductions(self) -> dict[Path, int]:
        """Say when each stored reduction was written."""
        return {path: path.stat().st_mtime_ns for path in self.work.glob("*/*.npz")}

    def logs(self) -> str:
        """Give everything that the jobs have printed."""
        return "\n".join(path.read_text() for path in self.work.glob("slurm/*/*.log"))


def show_jobs(*job: str) -> list[dict[str, str]]:
    """Give what Slurm knows of the tasks of one job, or of all jobs."""
    shown = subprocess.run(["scontrol", "-o", "show", "job", *job], capture_output=True, text=True, check=True)
    lines = [line for line in shown.stdout.splitlines() if "JobId=" in line]
    return [dict(field.split("=", 1) for field in line.split() if "=" in field) for line in lines]


def wait_for(job: str, timeout: float = 240) -> dict[str, str]:
    """Wait for a job, or all tasks of an array; give their states by task."""
    ending = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL"}
    start = time.monotonic()
    while time.monotonic() - start < timeout:
        states = {task.get("ArrayTaskId", ""): task["JobState"] for task in show_jobs(job)}
        if set(states.values()) <= ending:
            return states
        time.sleep(0.5)
    raise AssertionError(f"job {job} does not end: {states}")
