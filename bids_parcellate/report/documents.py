"""The reports of a job: a page for each participant, and one for the group."""

import logging
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_parcellate.config import Config
from bids_parcellate.dataset import Run, Selection
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

    @property
    def runs(self) -> Sequence[Run]:
        """The runs that were used."""
        return [run for run in self.selection.runs if run.label in self.job.digests]

    @property
    def methods(self) -> str:
        """The methods in Markdown."""
        return methods_text(self.config, self.strategy, self.runs, self.job.n_parcels)

    def write(self) -> list[Path]:
        """Write a page for each participant and, of a group job, one for the group.

        Returns
        -------
        list of Path
            That of the group is the last.
        """
        is_group = self.config.analysis_level == "group"
        return [*self._write_participants(), *([self._write_group()] if is_group else [])]

    def _write_participants(self) -> Iterator[Path]:
        censors = "scrub" in self.strategy.strategy
        settings = PageSettings(
            self.names,
            self.config,
            self.parcellations,
            fd_threshold=self.strategy.fd_threshold if censors else None,
            std_dvars_threshold=self.strategy.std_dvars_threshold if censors else None,
            has_group_page=self.config.analysis_level == "group",
        )
        for participant in sorted({record.participant for record in self.records}):
            records = [record for record in self.records if record.participant == participant]
            runs = (run for run in self.runs if run.participant == participant)
            yield write_participant_report(participant, records, self._material(runs), settings)

    def _material(self, runs: Iterable[Run]) -> Iterator[RunMaterial]:
        """Read what is shown of runs, one at a time."""
        store = ReductionStore(self.config.work_dir)
        for run in runs:
            try:
                voxels, kept, portrait = store.load_portrait(self.job.digests[run.label])
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                logger.debug("The reduction of %s cannot be read: %s", run, error)
                yield RunMaterial(run, read_kept(self.names, run))
            else:
                yield RunMaterial(run, kept, voxels, portrait)

    def _write_group(self) -> Path:
        runs, summary = self.runs, self.config.signals.summary
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
        for each in self._material(self.runs):
            if each.voxels is not None and each.portrait is not None:
                yield each.voxels, each.portrait.mean_volume
            else:
                without.append(each.run.label)


def _told(without: Sequence[str], n_runs: int) -> list[str]:
    """Say what the pages lack."""
    if not without:
        return []
    return [
        f"The pages lack the mean images and the carpets of {len(without):,} of {n_runs:,} runs, which the work folder "
        "no longer holds. Run the job again to see them."
    ]
