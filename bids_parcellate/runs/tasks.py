"""What workers do: one run is reduced, one run's signals are extracted, unless that is done already."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_parcellate.dataset import Run
from bids_parcellate.errors import InputOutputError
from bids_parcellate.io.ledger import Ledger
from bids_parcellate.io.naming import OutputNames
from bids_parcellate.io.store import ReductionStore, digest_of
from bids_parcellate.outputs.run_outputs import write_outliers, write_signals
from bids_parcellate.parcels.atlas import Parcellation
from bids_parcellate.runs.processing import RunTask, check_holds_mean, extract_signals, reduce_run
from bids_parcellate.version import __version__


@dataclass(frozen=True)
class Reduced:
    """A run whose reduction is in the store.

    Parameters
    ----------
    run : Run
        The run.
    digest : str
        Where the store keeps its reduction.
    n_kept : int
        Number of volumes that were not censored.
    mean_fd : float
        Their mean framewise displacement in mm; NaN where it is not known.
    """

    run: Run
    digest: str
    n_kept: int
    mean_fd: float


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


def vanished(run: Run) -> InputOutputError:
    """Make the error for a reduction that is no longer in the work folder.

    Parameters
    ----------
    run : Run
        Whose it was.

    Returns
    -------
    InputOutputError
        To be raised.
    """
    return InputOutputError(
        f"The reduction of {run.label} vanished from the work folder, or the run's files changed meanwhile.",
        "Start again.",
    )
