"""The story of a job, top to bottom: select, reduce, merge, cluster, write, extract."""

import logging
import shlex
import uuid
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from bids_parcellate.config import Config
from bids_parcellate.dataset import Run
from bids_parcellate.errors import DataError, NothingSelectedError, OutputError, ParcellateError, WriteError
from bids_parcellate.execution.executor import open_executor
from bids_parcellate.execution.monitoring import Step, Steps
from bids_parcellate.group.data import GroupData
from bids_parcellate.group.fit import GroupFit, fit_group
from bids_parcellate.group.individuals import fit_individuals
from bids_parcellate.io.files import make_folder, require_space, write_atomically
from bids_parcellate.job import Job, prepare
from bids_parcellate.log import Progress, log_file
from bids_parcellate.outputs import dataset_files, derivatives
from bids_parcellate.outputs.boilerplate import methods_text
from bids_parcellate.outputs.citation import write_methods
from bids_parcellate.outputs.denoising import describe_denoising
from bids_parcellate.outputs.derivatives import RunRecord
from bids_parcellate.outputs.provenance import FinishedJob, JobRecord, read_finished_job
from bids_parcellate.outputs.tangents import write_tangents
from bids_parcellate.parcels.atlas import Parcellation, read_parcellation
from bids_parcellate.plan import describe
from bids_parcellate.runs.processing import RunTask, build_operator, read_confounds
from bids_parcellate.runs.tasks import Reduced, extract_task, reduce_task
from bids_parcellate.summary import announce, summarise

if TYPE_CHECKING:
    from bids_parcellate.report.documents import Reports

logger = logging.getLogger(__name__)


@dataclass
class Failures:
    """Runs that could not be processed.

    Parameters
    ----------
    stop_at_first : bool
        Whether the first one ends the job.
    """

    stop_at_first: bool
    reasons: dict[Run, str] = field(default_factory=dict)
    n_crashes: int = 0

    def add(self, task: RunTask, error: Exception) -> None:
        """Take note of a failure.

        Parameters
        ----------
        task : RunTask
            The run.
        error : Exception
            What went wrong. Errors that are not our own are our mistakes, and counted.
        """
        if self.stop_at_first or isinstance(error, OutputError | WriteError):
            raise error  # a full disk or an unwritable folder is not the run's fault
        if isinstance(error, ParcellateError):
            logger.warning("%s cannot be used. %s", task, error)
            self.reasons[task.run] = error.message
        else:
            logger.error("%s failed with an unexpected error.", task, exc_info=error)
            self.reasons[task.run] = f"Unexpected {type(error).__name__}: {error}"
            self.n_crashes += 1


def check(config: Config) -> tuple[str, int]:
    """Say what a job would do, without doing it.

    Parameters
    ----------
    config : Config
        The configuration.

    Returns
    -------
    text : str
        The runs that would be used, the others with the reason, and what the job needs.
    n_usable : int
        Number of the former.
    """
    job = prepare(config)
    unusable = {}
    for task in job.tasks:
        try:
            build_operator(task, read_confounds(task))
        except ParcellateError as error:
            unusable[task.run] = error
    return describe(job.selection, unusable, job.needs), len(job.tasks) - len(unusable)


def run(config: Config, command_line: Sequence[str]) -> int:
    """Run a job.

    Parameters
    ----------
    config : Config
        The configuration.
    command_line : sequence of str
        The command that was given, for the record.

    Returns
    -------
    int
        Number of runs that failed for a reason that is not their own, which calls for a report to us.

    Raises
    ------
    ParcellateError
        If the job cannot be done.
    """
    steps = Steps()
    logger.info("Looking for runs in %s.", config.bids_dir)
    with steps.step("Select runs"):
        job = prepare(config)
    require_space(make_folder(config.work_dir), job.needs.disk_megabytes)
    folder = make_folder(job.names.root / "logs" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}_{uuid.uuid4()}")
    write_atomically(folder / "config.toml", config.to_toml().encode())
    failures = Failures(config.execution.stop_on_first_crash)
    record = JobRecord(config, job.strategy, command_line, job.selection, steps)
    with (
        log_file(folder / "bids-parcellate.log"),
        record.kept(folder / "provenance.json"),
        _open_workers(job) as executor,
        threadpool_limits(1),
    ):
        logger.info("Command: %s", shlex.join(command_line))
        announce(job)
        reduced, parcellations = _compute(job, executor, record, failures)
        record.n_parcels += [parcellation.n_parcels for parcellation in parcellations]
        records = _records(job, reduced, failures)
        derivatives.write_records(job.names, records)
        with steps.step("Write the reports"):
            _document(job, executor, record.finished)
        summarise(job, records, parcellations, folder, steps)
    return failures.n_crashes


def write_boilerplate(config: Config) -> list[Path]:
    """Write the methods of a job, as if all runs that are selected could be used, without doing it.

    Parameters
    ----------
    config : Config
        The configuration.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    ParcellateError
        If no run can be used.
    """
    job = prepare(config)
    return write_methods(job.names.root / "logs", methods_text(config, job.strategy, job.selection.runs))


def write_reports(config: Config) -> list[Path]:
    """Write the pages of a job that is done anew, from its outputs and from what its work folder still holds.

    Parameters
    ----------
    config : Config
        The folders, the analysis level, and those options that say which job is meant.

    Returns
    -------
    list of Path
        The pages.

    Raises
    ------
    ParcellateError
        If there is nothing to report on, or its inputs are gone.
    """
    finished = read_finished_job(config)
    job = prepare(finished.config)
    with _open_workers(job) as executor, threadpool_limits(1):
        return _reports(job, finished).write(executor)


def _compute(
    job: Job, executor: Executor, record: JobRecord, failures: Failures
) -> tuple[list[Reduced], list[Parcellation]]:
    """Reduce the runs, fit or find the parcellations, and write all that follows from both."""
    config, steps = job.config, record.steps
    with steps.step("Reduce runs") as step:
        reduced = _reduce(job, executor, failures, step)
    record.digests.update({each.run: each.digest for each in reduced})
    with steps.step("Fit parcellations"):
        is_group = config.analysis_level == "group"
        parcellations = _fit(job, reduced).parcellations if is_group else _find_parcellations(job)
    denoising = describe_denoising(config.denoising, job.strategy)
    dataset_files.write_dataset(job.names, config, job.selection.datasets, denoising)
    if parcellations:
        with steps.step("Extract signals") as step:
            _extract(job, executor, reduced, parcellations, failures, step)
    if "tangent" in config.signals.connectivity:
        with steps.step("Compare connectivity with the group's"):
            _write_tangents(job, reduced, parcellations, failures)
    return reduced, parcellations


def _open_workers(job: Job) -> AbstractContextManager[Executor]:
    execution, needs = job.config.execution, job.needs
    if execution.executor == "local":
        return open_executor(needs.n_workers)
    from bids_parcellate.execution.dask_executor import connect, start_cluster  # noqa: PLC0415 - it need not be installed

    if execution.dask_address is not None:
        return connect(execution.dask_address)
    return start_cluster(
        execution.dask_cluster or "",
        needs.n_workers,
        n_cores=execution.omp_nthreads,
        megabytes=needs.worker_megabytes,
        folder=job.config.work_dir / "dask",
    )


def _reduce(job: Job, executor: Executor, failures: Failures, step: Step) -> list[Reduced]:
    """Make sure that every run has its reduction in the store."""
    reduced = []
    with Progress("Reducing runs", len(job.tasks)) as progress:
        for task, outcome in step.run(executor, reduce_task, job.tasks):
            if isinstance(outcome, Exception):
                failures.add(task, outcome)
            else:
                reduced.append(outcome)
            progress.advance(str(task))
    if not reduced:
        raise NothingSelectedError(
            f"No run is left of the {len(job.tasks)} that were selected, for the reasons above.",
            f"Mend what they name, or choose other options. The log in {job.names.root / 'logs'} has them, too.",
        )
    return reduced


def _fit(job: Job, reduced: Sequence[Reduced]) -> GroupFit:
    """Fit the group's parcellations and write them, once all of it is known."""
    space, cohort = job.names.space, job.names.cohort
    n_threads = max(job.needs.n_threads, job.config.execution.omp_nthreads)
    data = GroupData(job.config, job.grid, reduced, space=space, cohort=cohort, n_threads=n_threads)
    fit = fit_group(data)
    runs = [each.run for each in reduced]
    for parcellation in fit.parcellations:
        if warning := derivatives.foreign_signals(job.names, parcellation):
            logger.warning("%s", warning)
    derivatives.write_group_mask(job.names, fit.mask, job.config, runs)
    for parcellation in fit.parcellations:
        logger.info("Wrote %s.", derivatives.write_parcellation(job.names, parcellation, job.config, runs))
    for n_parcels, share in fit.stability.items():
        derivatives.write_stability(job.names, n_parcels, share, job.grid, runs)
    if fit.figures is not None:
        logger.info("Wrote %s.", derivatives.write_figures(job.names, fit.figures, fit.reason, fit.parcellations))
    n_participants = len({run.participant for run in runs})
    for n_parcels in (each.n_parcels for each in fit.parcellations):
        dataset_files.write_atlas_description(job.names, n_parcels, job.config, job.selection.datasets, n_participants)
    if job.config.parcellation.individual:
        _write_individuals(job, data, fit)
    return fit


def _write_individuals(job: Job, data: GroupData, fit: GroupFit) -> None:
    groups = {parcellation.n_parcels: parcellation for parcellation in fit.parcellations}
    labels = {number: fit.mask.apply(group.labels) for number, group in groups.items()}
    for participant, n_parcels, own in fit_individuals(data, labels):
        runs = [each.run for each in data.reduced if each.run.participant == participant]
        derivatives.write_individual(job.names, own, groups[n_parcels], fit.mask, runs)


def _find_parcellations(job: Job) -> list[Parcellation]:
    """Read the parcellations of an earlier group job; none if there are none yet."""
    found = []
    for n_parcels in job.config.parcellation.n_parcels:
        image = job.names.parcellation(n_parcels, ".nii.gz")
        if image.exists():
            found.append(_read_parcellation(job, n_parcels))
        elif not job.config.parcellation.choose_n_parcels:  # else one of the candidates is there at most
            logger.info("There is no %s yet; signals are extracted once the group level has made it.", image)
    return found


def _read_parcellation(job: Job, n_parcels: int) -> Parcellation:
    image = job.names.parcellation(n_parcels, ".nii.gz")
    parcellation = read_parcellation(image, job.names.parcellation(n_parcels, ".tsv"))
    if not parcellation.grid.matches(job.grid):
        raise DataError(
            f"{image} lies on another grid than the runs: {parcellation.grid} and {job.grid}.",
            "Choose the runs' resolution with --res, or --target-res as in the group job.",
        )
    return parcellation


def _extract(
    job: Job,
    executor: Executor,
    reduced: Sequence[Reduced],
    parcellations: Sequence[Parcellation],
    failures: Failures,
    step: Step,
) -> None:
    """Write the parcel signals of every run that was reduced."""
    usable = {each.run for each in reduced}
    tasks = [task for task in job.tasks if task.run in usable]
    with Progress("Extracting signals", len(tasks)) as progress:
        function = partial(extract_task, names=job.names, parcellations=parcellations)
        for task, outcome in step.run(executor, function, tasks):
            if isinstance(outcome, Exception):
                failures.add(task, outcome)
            progress.advance(str(task))


def _write_tangents(
    job: Job, reduced: Sequence[Reduced], parcellations: Sequence[Parcellation], failures: Failures
) -> None:
    runs = [each.run for each in reduced if each.run not in failures.reasons]
    is_group = job.config.analysis_level == "group"
    for parcellation in parcellations:
        for problem in write_tangents(job.names, runs, parcellation, job.config, is_group=is_group):
            logger.warning("%s", problem)


def _document(job: Job, executor: Executor, finished: FinishedJob) -> None:
    """Write the reports and, for the group, the methods."""
    reports = _reports(job, finished)
    if job.config.analysis_level == "group":
        write_methods(job.names.root / "logs", reports.methods)
    *_, last = reports.write(executor)
    logger.info("Wrote %s.", last)


def _reports(job: Job, finished: FinishedJob) -> "Reports":
    """Read the parcellations as they are written, so that pages are the same whenever they are made."""
    # Workers import this module; they need not load what draws pictures.
    from bids_parcellate.report.documents import Reports  # noqa: PLC0415

    parcellations = [_read_parcellation(job, n_parcels) for n_parcels in finished.n_parcels]
    return Reports(job.names, job.strategy, job.selection, job.grid, parcellations, finished)


def _records(job: Job, reduced: Sequence[Reduced], failures: Failures) -> list[RunRecord]:
    """Put down what became of every run that was found."""
    kept = {each.run: each for each in reduced}
    records = [
        RunRecord(
            participant=run.participant,
            run=run.label,
            source=run.uri(run.bold),
            reason=failures.reasons.get(run),
            n_volumes=run.n_volumes,
            n_kept=kept[run].n_kept if run in kept else None,
            mean_fd=kept[run].mean_fd if run in kept else None,
            used=run in kept,
        )
        for run in job.selection.runs
    ]
    rejected = [
        RunRecord(participant=each.participant, run=each.label, source=each.uri, reason=each.reason, used=False)
        for each in job.selection.rejected
    ]
    return sorted(records + rejected, key=lambda record: record.source)
