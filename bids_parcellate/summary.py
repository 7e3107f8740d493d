"""What a job says of itself: what it found, and in the end what it made, what it left out, and where to look."""

import logging
from collections.abc import Sequence
from pathlib import Path

from bids_parcellate.execution.monitoring import Steps
from bids_parcellate.job import Job
from bids_parcellate.log import duration
from bids_parcellate.outputs.derivatives import RunRecord
from bids_parcellate.parcels.atlas import Parcellation

logger = logging.getLogger(__name__)


def announce(job: Job) -> None:
    """Say which runs were found, and which of them are left out.

    Parameters
    ----------
    job : Job
        The job, before it begins.
    """
    runs = job.selection.runs
    logger.info(
        "Found %s of %s that can be used, and %d that cannot.",
        _count(len(runs), "run"),
        _count(len({run.participant for run in runs}), "participant"),
        len(job.selection.rejected),
    )
    for rejected in job.selection.rejected:
        hint = f"\n  -> {rejected.hint}" if rejected.hint else ""
        logger.warning("%s is left out. %s%s", rejected.label, rejected.reason, hint)
    for warning in job.selection.warnings:
        logger.warning("%s", warning)


def summarise(
    job: Job, records: Sequence[RunRecord], parcellations: Sequence[Parcellation], folder: Path, steps: Steps
) -> None:
    """Say what was written, what was left out, and where to look.

    Parameters
    ----------
    job : Job
        The job, when it is done.
    records : sequence of RunRecord
        What became of each run.
    parcellations : sequence of Parcellation
        What was fitted or found.
    folder : Path
        Where the log is.
    steps : Steps
        What was done, and what it took.
    """
    root = job.names.root
    left_out = [record.run for record in records if not record.used]
    n_used = len(records) - len(left_out)
    seconds = sum(step.usage.seconds for step in steps if step.usage)
    lines = [f"Done in {duration(seconds)}. {_count(n_used, 'run')} used, {len(left_out)} left out."]
    if parcellations:
        n_without = sum(record.used and record.reason is not None for record in records)
        without = f" ({n_without} without)" if n_without else ""
        lines.append(
            f"Made:     {_join([each.n_parcels for each in parcellations])} parcels; time series and connectivity of "
            f"{_count(n_used, 'run')}{without}"
        )
    else:
        lines.append(f"Made:     reductions of {_count(n_used, 'run')}, in {job.config.work_dir}")
        lines.append("Next:     run the group level")
    if left_out:
        lines.append(f"Left out: {_shortened(left_out)}")
    if any(record.reason for record in records):
        lines.append(f"Reasons:  {root / 'logs' / 'runs.tsv'}")
    if job.config.analysis_level == "group":
        lines += [f"Report:   {root / 'group.html'} (open it first)", f"Methods:  {root / 'logs' / 'CITATION.md'}"]
    else:
        lines.append(f"Reports:  {root / 'sub-*.html'}")
    lines.append(f"Outputs:  {root}")
    lines.append(f"Log:      {folder / 'bids-parcellate.log'}")
    logger.info("%s", "\n  ".join(lines))


_MOST_LABELS = 5


def _shortened(labels: Sequence[str]) -> str:
    more = [f"and {len(labels) - _MOST_LABELS} more"] if len(labels) > _MOST_LABELS else []
    return ", ".join([*labels[:_MOST_LABELS], *more])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _join(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
