"""The reports of a job: a page for each participant, and one for the group."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_parcellate.config import Config
from bids_parcellate.group.data import Reduced
from bids_parcellate.io.naming import OutputNames
from bids_parcellate.io.store import ReductionStore
from bids_parcellate.io.strategies import ConfoundStrategy
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.outputs.derivatives import RunRecord
from bids_parcellate.parcels.atlas import Parcellation
from bids_parcellate.report.group_page import GroupResult, mean_background, write_group_report
from bids_parcellate.report.readings import read_activity, read_coverage, read_figures
from bids_parcellate.report.run_pages import PageSettings, RunMaterial, write_participant_report

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reports:
    """Writes the reports of a job, once everything else is written.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    config : Config
        The configuration.
    strategy : ConfoundStrategy
        What was regressed out and which volumes were censored.
    grid : Grid
        The grid of the group.
    parcellations : sequence of Parcellation
        Those that signals were extracted of.
    reduced : sequence of Reduced
        The runs that were used.
    records : sequence of RunRecord
        What became of every run that was found.
    """

    names: OutputNames
    config: Config
    strategy: ConfoundStrategy
    grid: Grid
    parcellations: Sequence[Parcellation]
    reduced: Sequence[Reduced]
    records: Sequence[RunRecord]

    def write_participants(self) -> list[Path]:
        """Write the pages of the participants.

        Returns
        -------
        list of Path
            One for each.
        """
        censors = "scrub" in self.strategy.strategy
        settings = PageSettings(
            self.names,
            self.config,
            self.parcellations,
            fd_threshold=self.strategy.fd_threshold if censors else None,
            std_dvars_threshold=self.strategy.std_dvars_threshold if censors else None,
            has_group_page=self.config.analysis_level == "group",
        )
        pages = []
        for participant in sorted({record.participant for record in self.records}):
            records = [record for record in self.records if record.participant == participant]
            pages.append(write_participant_report(participant, records, self._material(participant), settings))
        return pages

    def _material(self, participant: str | None = None) -> Iterator[RunMaterial]:
        """Read what is shown of the runs of a participant, or of all, one at a time."""
        store = ReductionStore(self.config.work_dir)
        for each in self.reduced:
            if participant in (None, each.run.participant):
                voxels, kept, portrait = store.load_portrait(each.digest)
                yield RunMaterial(each.run, kept, voxels, portrait)

    def write_group(self, methods: str, command_line: Sequence[str], warnings: Sequence[str]) -> Path:
        """Write the page of the group.

        Parameters
        ----------
        methods : str
            The methods in Markdown.
        command_line : sequence of str
            The command that was given.
        warnings : sequence of str
            What the user should know of the runs that were used.

        Returns
        -------
        Path
            The page.
        """
        runs, summary = [each.run for each in self.reduced], self.config.signals.summary
        means = ((each.voxels, each.portrait.mean_volume) for each in self._material() if each.portrait is not None)
        figures, reason = read_figures(self.names)
        activities = {
            parcellation.n_parcels: activity
            for parcellation in self.parcellations
            if (activity := read_activity(self.names, runs, parcellation, summary)) is not None
        }
        result = GroupResult(
            self.config,
            self.parcellations,
            self.records,
            methods,
            command_line,
            warnings,
            mean_background(means, self.grid),
            activities,
            read_coverage(self.names, runs, self.parcellations[0], summary),
            figures,
            reason,
        )
        return write_group_report(self.names, result)
