"""The story of a job, top to bottom: select, reduce, merge, cluster, write, extract."""

import logging
import shlex
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from bids_parcellate.config import MASK_STRATEGIES, TEMPLATE_MASKS, Config
from bids_parcellate.dataset import Run, Selection, select_runs
from bids_parcellate.errors import (
    DataError,
    InputOutputError,
    NothingSelectedError,
    OutputError,
    ParcellateError,
    UsageError,
    WriteError,
)
from bids_parcellate.execution.executor import open_executor, usable_cores
from bids_parcellate.execution.monitoring import Step, Steps
from bids_parcellate.group.data import GroupData, Reduced, vanished
from bids_parcellate.group.fit import GroupFit, fit_group
from bids_parcellate.group.individuals import fit_individuals
from bids_parcellate.io.files import make_folder, require_space, write_atomically
from bids_parcellate.io.images import require_content
from bids_parcellate.io.ledger import Ledger
from bids_parcellate.io.masking import read_mask
from bids_parcellate.io.naming import OutputNames
from bids_parcellate.io.store import ReductionStore, digest_of
from bids_parcellate.io.strategies import ConfoundStrategy, load_strategy
from bids_parcellate.log import Progress, duration, log_file
from bids_parcellate.numerics.grids import Grid, grid_with_resolution
from bids_parcellate.outputs import dataset_files, derivatives
from bids_parcellate.outputs.boilerplate import methods_text
from bids_parcellate.outputs.citation import write_methods
from bids_parcellate.outputs.denoising import denoising_label, describe_denoising
from bids_parcellate.outputs.derivatives import RunRecord
from bids_parcellate.outputs.destination import refuse_unfit_folders
from bids_parcellate.outputs.provenance import FinishedJob, JobRecord, read_finished_job
from bids_parcellate.outputs.run_outputs import write_outliers, write_signals
from bids_parcellate.outputs.tangents import write_tangents
from bids_parcellate.parcels.atlas import Parcellation, read_parcellation
from bids_parcellate.parcels.references import find_reference
from bids_parcellate.plan import Needs, describe, predict_needs
from bids_parcellate.runs.processing import (
    RunTask,
    build_operator,
    check_holds_mean,
    extract_signals,
    read_confounds,
    reduce_run,
)
from bids_parcellate.version import __version__

if TYPE_CHECKING:
    from bids_parcellate.report.documents import Reports

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What a job works on, known before any image is read.

    Parameters
    ----------
    config : Config
        The configuration.
    strategy : ConfoundStrategy
        What is regressed out and which volumes are censored.
    selection : Selection
        The runs.
    grid : Grid
        The grid that all of them are on, or are resampled to.
    names : OutputNames
        Names of the outputs.
    """

    config: Config
    strategy: ConfoundStrategy
    selection: Selection
    grid: Grid
    names: OutputNames

    @property
    def tasks(self) -> list[RunTask]:
        """One for each run."""
        return [RunTask(run, self.grid, self.strategy, self.config) for run in self.selection.runs]

    @cached_property
    def needs(self) -> Needs:
        """What the job needs of the machine."""
        return predict_needs(self.selection.runs, self.grid, self.config)


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
    with log_file(folder / "bids-parcellate.log"), record.kept(folder / "provenance.json"):
        logger.info("Command: %s", shlex.join(command_line))
        _announce(job)
        reduced, parcellations = _compute(job, record, failures)
        record.n_parcels += [parcellation.n_parcels for parcellation in parcellations]
        records = _records(job, reduced, failures)
        derivatives.write_records(job.names, records)
        with steps.step("Write the reports"):
            _document(job, record.finished)
        _summarise(job, records, parcellations, folder, steps)
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
    return _reports(prepare(finished.config), finished).write()


def _compute(job: Job, record: JobRecord, failures: Failures) -> tuple[list[Reduced], list[Parcellation]]:
    """Reduce the runs, fit or find the parcellations, and write all that follows from both."""
    config, steps = job.config, record.steps
    with _open_workers(job) as executor, threadpool_limits(1):
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


def prepare(config: Config) -> Job:
    """Select the runs and settle what is common to them.

    Parameters
    ----------
    config : Config
        The configuration.

    Returns
    -------
    Job
        Ready to run.

    Raises
    ------
    ParcellateError
        If no run can be used, or the runs do not belong together.
    """
    denoising = config.denoising
    strategy = load_strategy(
        denoising.confounds,
        fd_threshold=denoising.fd_threshold,
        std_dvars_threshold=denoising.std_dvars_threshold,
        scrub=denoising.scrub,
    )
    if config.masking.mask not in MASK_STRATEGIES:
        read_mask(Path(config.masking.mask))
    for path in filter(None, (config.parcellation.weights, config.parcellation.match_labels)):
        require_content(path)
    selection = select_runs(
        config.bids_dir,
        config.selection,
        target_res=config.masking.target_res,
        needs_confounds=strategy.needs_confounds_file,
        needs_mask=config.masking.mask == "group",
        needs_aroma_image=strategy.needs_aroma_image,
        nprocs=config.execution.nprocs or usable_cores(),
    )
    if not selection.runs:
        raise NothingSelectedError(
            "None of the runs that were found can be used:\n"
            + "\n".join(f"  {rejected.label}: {rejected.reason}" for rejected in selection.rejected),
            selection.rejected[0].hint if selection.rejected else "",
        )
    first = selection.runs[0]
    _refuse_individual_space(first, selection)
    if config.masking.mask in TEMPLATE_MASKS and "space" not in first.entities:
        raise UsageError(
            f"--mask {config.masking.mask} needs images in a template's space; {first.bold} names no space.",
            "Choose images with --space, or --mask group.",
        )
    grid = first.grid
    res = first.entities.get("res")
    if config.masking.target_res:
        grid = grid_with_resolution(grid, config.masking.target_res)
        res = f"{config.masking.target_res:g}mm".replace(".", "p")
    names = OutputNames(
        root=config.output_dir,
        space=first.entities.get("space", "individual"),
        atlas=config.parcellation.atlas_name,
        method=config.parcellation.method,
        desc=denoising_label(denoising, strategy),
        res=res,
        cohort=first.entities.get("cohort"),
    )
    refuse_unfit_folders(config, names, selection)
    for atlas in config.quality.reference_atlas:
        require_content(find_reference(atlas, names.space, names.cohort))
    return Job(config, strategy, selection, grid, names)


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


_INDIVIDUAL_SPACES = {"boldref", "func", "T1w", "T2w", "anat", "individual"}


def _refuse_individual_space(first: Run, selection: Selection) -> None:
    """Refuse to put voxels of different heads on top of each other."""
    space = first.entities.get("space", "individual")
    participants = sorted({run.participant for run in selection.runs})
    if space in _INDIVIDUAL_SPACES and len(participants) > 1:
        raise DataError(
            f"Space {space!r} is each participant's own, so its voxels do not correspond between the "
            f"{len(participants)} participants selected.",
            "Choose a template with --space, or one participant with --participant-label.",
        )


def _announce(job: Job) -> None:
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
        n_runs = _count(len(failures.reasons), "run")
        raise NothingSelectedError(
            f"No run is left: the {n_runs} cannot be used, for the reasons above.",
            f"Mend what they name, or choose other options. The log in {job.names.root / 'logs'} has them, too.",
        )
    return reduced


def reduce_task(task: RunTask) -> Reduced:
    """Reduce one run, unless the store has its reduction already.

    Parameters
    ----------
    task : RunTask
        The run.

    Returns
    -------
    Reduced
        Where the reduction is.
    """
    store = ReductionStore(task.config.work_dir)
    digest = task.digest
    run = store.load(digest)
    if run is None:
        run = reduce_run(task)
        if task.digest != digest:
            raise InputOutputError(f"{task}: its files changed while they were read.", "Start again once they rest.")
        store.save(digest, run)
    check_holds_mean(task, run)
    return Reduced(task.run, digest, n_kept=int(run.kept.sum()), mean_fd=run.mean_fd)


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


def extract_task(task: RunTask, *, names: OutputNames, parcellations: Sequence[Parcellation]) -> None:
    """Extract and write the parcel signals of one run, unless they are there and unchanged.

    Parameters
    ----------
    task : RunTask
        The run; its reduction is in the store.
    names : OutputNames
        Names of the outputs.
    parcellations : sequence of Parcellation
        The parcels.
    """
    ledger = Ledger(task.config.work_dir / "outputs")
    digests = {parcellation.n_parcels: _digest_of_signals(task, names, parcellation) for parcellation in parcellations}
    of_outliers = digest_of(_source_of_outputs(task, names))
    missing = [each for each in parcellations if not ledger.is_done(digests[each.n_parcels])]
    if not missing and ledger.is_done(of_outliers):
        return
    reduction = ReductionStore(task.config.work_dir).load(task.digest)
    if reduction is None:
        raise vanished(task.run)
    confounds, signals = extract_signals(task, reduction, missing)
    if not ledger.is_done(of_outliers):
        table = write_outliers(names, task.run, confounds)
        ledger.note(of_outliers, [table, table.with_suffix(".json")])
    for parcellation, each in zip(missing, signals, strict=True):
        write_signals(names, task.run, confounds, parcellation, each, task.config)
        ledger.note(digests[parcellation.n_parcels], _tables_of_signals(task, names, parcellation.n_parcels))


def _source_of_outputs(task: RunTask, names: OutputNames) -> list[str]:
    return [__version__, task.digest, task.run.uri(task.run.bold), str(names)]


def _digest_of_signals(task: RunTask, names: OutputNames, parcellation: Parcellation) -> str:
    """Digest all that the signals of a run depend on, and where they are written to."""
    options = [task.config.signals.model_dump(mode="json"), task.config.denoising.standardize]
    return digest_of(_source_of_outputs(task, names), options, list(parcellation.names), parcellation.labels)


def _tables_of_signals(task: RunTask, names: OutputNames, n_parcels: int) -> Iterator[Path]:
    run, signals = task.run.entities, task.config.signals
    for extension in (".tsv", ".json"):
        yield names.signals(run, n_parcels, signals.summary, extension)
        for kind in signals.connectivity:
            if kind != "tangent":  # made later, of all runs
                yield names.connectivity(run, n_parcels, kind, extension)


def _write_tangents(
    job: Job, reduced: Sequence[Reduced], parcellations: Sequence[Parcellation], failures: Failures
) -> None:
    runs = [each.run for each in reduced if each.run not in failures.reasons]
    is_group = job.config.analysis_level == "group"
    for parcellation in parcellations:
        for problem in write_tangents(job.names, runs, parcellation, job.config, is_group=is_group):
            logger.warning("%s", problem)


def _document(job: Job, finished: FinishedJob) -> None:
    """Write the reports and, for the group, the methods."""
    reports = _reports(job, finished)
    if job.config.analysis_level == "group":
        write_methods(job.names.root / "logs", reports.methods)
    *_, last = reports.write()
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


def _summarise(
    job: Job, records: Sequence[RunRecord], parcellations: Sequence[Parcellation], folder: Path, steps: Steps
) -> None:
    """Say what was written, what was left out, and where to look."""
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
