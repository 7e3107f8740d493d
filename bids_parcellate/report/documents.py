"""The reports of a job: a page for each participant, and one for the group."""

import logging
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_parcellate.config import Config
from bids_parcellate.dataset import Run, Selection
from bids_parcellate.execution.executor import run_tasks
from bids_parcellate.io.naming import OutputNames
from bids_parcellate.io.store import ReductionStore
from bids_parcellate.io.strategies import ConfoundStrategy
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.outputs.boilerplate import methods_text
from bids_parcellate.outputs.derivatives import RunRecord
from bids_parcellate.outputs.provenance import FinishedJob
from bids_parcellate.parcels.atlas import Parcellation
from bids_parcellate.report.group_page import GroupResult, mean_background, write_group_report
from bids_parcellate.report.readings import read_activity, read_coverage, read_figures, read_kept, read_records
from bids_parcellate.report.run_pages import PageSettings, RunMaterial, write_participant_report

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reports:
    """Writes the reports of a job, from its outputs and from what its work folder still holds.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    strategy : ConfoundStrategy
        What was regressed out and which volumes were censored.
    selection : Selection
        The runs, and what the user should know of them.
    grid : Grid
        The grid of the group.
    parcellations : sequence of Parcellation
        Those that signals were extracted of.
    job : FinishedJob
        What else is known of the job.
    """

    names: OutputNames
    strategy: ConfoundStrategy
    selection: Selection
    grid: Grid
    parcellations: Sequence[Parcellation]
    job: FinishedJob

    @property
    def config(self) -> Config:
        """The configuration."""
        return self.job.config

    @cached_property
    def records(self) -> Sequence[RunRecord]:
        """What became of every run that the job found."""
        return [record for record in read_records(self.names) if record.source in self.job.sources]

    @cached_property
    def digests(self) -> Mapping[Run, str]:
        """The runs that were used, and where the store keeps their reductions."""
        digests = self.job.digests
        return {run: digests[run.label] for run in self.selection.runs if run.label in digests}

    @property
    def methods(self) -> str:
        """The methods in Markdown."""
        return methods_text(self.config, self.strategy, list(self.digests), self.job.n_parcels)

    def write(self, executor: Executor) -> list[Path]:
        """Write a page for each participant and, of a group job, one for the group.

        Parameters
        ----------
        executor : Executor
            Where the pages of participants are made.

        Returns
        -------
        list of Path
            That of the group is the last.
        """
        pages = self._write_participants(executor)
        if self.config.analysis_level != "group":
            return list(pages)
        first = list(islice(pages, 1))  # the others are with the workers now, while this process makes the group's
        group = self._write_group()
        return [*first, *pages, group]

    def _write_participants(self, executor: Executor) -> Iterator[Path]:
        censors = "scrub" in self.strategy.strategy
        settings = PageSettings(
            self.names,
            self.config,
            self.parcellations,
            fd_threshold=self.strategy.fd_threshold if censors else None,
            std_dvars_threshold=self.strategy.std_dvars_threshold if censors else None,
            has_group_page=self.config.analysis_level == "group",
        )
        function = partial(_write_page, settings=settings)
        for _, page in run_tasks(executor, function, self._participants()):
            if isinstance(page, Exception):
                raise page
            yield page

    def _participants(self) -> list["_Participant"]:
        records: dict[str, list[RunRecord]] = defaultdict(list)
        digests: dict[str, dict[Run, str]] = defaultdict(dict)
        for record in self.records:
            records[record.participant].append(record)
        for run, digest in self.digests.items():
            digests[run.participant][run] = digest
        return [_Participant(label, records[label], digests[label]) for label in sorted(records)]

    def _write_group(self) -> Path:
        runs, summary = list(self.digests), self.config.signals.summary
        without: list[str] = []
        background = mean_background(self._mean_volumes(without), self.grid)
        figures, reason = read_figures(self.names)
        activities = {
            parcellation.n_parcels: activity
            for parcellation in self.parcellations
            if (activity := read_activity(self.names, runs, parcellation, summary)) is not None
        }
        lacking = _told(without, len(runs))
        for warning in lacking:
            logger.warning("%s", warning)
        result = GroupResult(
            self.config,
            self.parcellations,
            self.records,
            self.methods,
            self.job.command_line,
            [*self.selection.warnings, *lacking],
            background if len(without) < len(runs) else None,
            activities,
            read_coverage(self.names, runs, self.parcellations[0], summary),
            figures,
            reason,
        )
        return write_group_report(self.names, result)

    def _mean_volumes(self, without: list[str]) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Give the voxels and the mean volume of each run that has them, and note which have not."""
        for each in _material(self.names, self.config, self.digests):
            if each.voxels is not None and each.portrait is not None:
                yield each.voxels, each.portrait.mean_volume
            else:
                without.append(each.run.label)


@dataclass(frozen=True)
class _Participant:
    """What the page of a participant is made of."""

    label: str
    records: Sequence[RunRecord]
    digests: Mapping[Run, str]

    def __str__(self) -> str:
        return f"the page of sub-{self.label}"


def _write_page(participant: _Participant, settings: PageSettings) -> Path:
    material = _material(settings.names, settings.config, participant.digests)
    return write_participant_report(participant.label, participant.records, material, settings)


def _material(names: OutputNames, config: Config, digests: Mapping[Run, str]) -> Iterator[RunMaterial]:
    """Read what is shown of runs, one at a time."""
    store = ReductionStore(config.work_dir)
    for run, digest in digests.items():
        try:
            voxels, kept, portrait = store.load_portrait(digest)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            logger.debug("The reduction of %s cannot be read: %s", run, error)
            yield RunMaterial(run, read_kept(names, run))
        else:
            yield RunMaterial(run, kept, voxels, portrait)


def _told(without: Sequence[str], n_runs: int) -> list[str]:
    """Say what the pages lack."""
    if not without:
        return []
    return [
        f"The pages lack the mean images and the carpets of {len(without):,} of {n_runs:,} runs, which the work folder "
        "no longer holds. Run the job again to see them."
    ]
