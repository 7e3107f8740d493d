"""What a job works on: its runs, their grid, and the names of what it writes, known before any image is read."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bids_parcellate.config import MASK_STRATEGIES, TEMPLATE_MASKS, Config
from bids_parcellate.dataset import Run, Selection, select_runs
from bids_parcellate.errors import DataError, NothingSelectedError, UsageError
from bids_parcellate.execution.executor import usable_cores
from bids_parcellate.io.content import require_content
from bids_parcellate.io.masking import read_mask
from bids_parcellate.io.naming import OutputNames
from bids_parcellate.io.strategies import ConfoundStrategy, load_strategy
from bids_parcellate.numerics.grids import Grid, grid_with_resolution
from bids_parcellate.outputs.denoising import denoising_label
from bids_parcellate.outputs.destination import refuse_unfit_folders
from bids_parcellate.parcels.references import find_reference
from bids_parcellate.plan import Needs, predict_needs
from bids_parcellate.runs.processing import RunTask

_INDIVIDUAL_SPACES = {"boldref", "func", "T1w", "T2w", "anat", "individual"}


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
