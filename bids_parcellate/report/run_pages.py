"""The report of one participant: each run's motion, carpets, mask and connectivity."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from bids_parcellate.config import Config
from bids_parcellate.dataset import Run
from bids_parcellate.io.files import write_atomically
from bids_parcellate.io.naming import OutputNames
from bids_parcellate.numerics.connectivity import pearson
from bids_parcellate.numerics.portrait import RunPortrait
from bids_parcellate.outputs.derivatives import RunRecord
from bids_parcellate.parcels.atlas import Parcellation
from bids_parcellate.report.charts import draw_trace
from bids_parcellate.report.drawings import draw_carpet, draw_matrix, draw_slices
from bids_parcellate.report.pages import (
    MISSING,
    Drawing,
    ParticipantContent,
    RunPart,
    atlas_title,
    render_report,
    software_versions,
)
from bids_parcellate.report.readings import Motion, read_motion, read_series
from bids_parcellate.report.sections import run_facts
from bids_parcellate.report.slices import Layers, cut_layers

# Voxels of the run's mask only, of both masks, and of the group's mask only: colours and opacity.
_OUTSIDE, _OWN, _SHARED, _LACKING = (
    (0.0, 0.0, 0.0, 0.0),
    (0.2, 0.5, 0.9, 0.35),
    (0.0, 0.0, 0.0, 0.0),
    (0.9, 0.4, 0.0, 0.8),
)
_OUTLINE = (1.0, 0.7, 0.2)

_SIDES = {"L": 0, "B": 1, "R": 2}


@dataclass(frozen=True)
class RunMaterial:
    """What a participant's page shows of a run that was used.

    Parameters
    ----------
    run : Run
        The run.
    kept : ndarray of bool, shape (n_volumes,), or None
        The volumes that were not censored, where they are known.
    voxels : ndarray of int64, shape (n_voxels,), optional
        The run's voxels, as flat C-order positions in the group's grid.
    portrait : RunPortrait, optional
        Its mean volume and its carpets.
    """

    run: Run
    kept: npt.NDArray[np.bool_] | None
    voxels: npt.NDArray[np.int64] | None = None
    portrait: RunPortrait | None = None


@dataclass(frozen=True)
class PageSettings:
    """What is common to the pages of all participants of a job.

    Parameters
    ----------
    names : OutputNames
        Names of the outputs.
    config : Config
        The configuration.
    parcellations : sequence of Parcellation
        Those that time series were extracted of; none before the group level.
    fd_threshold, std_dvars_threshold : float or None
        Above which volumes are censored.
    has_group_page : bool, default=True
        Whether there is, or will be, a report of the group to link to.
    """

    names: OutputNames
    config: Config
    parcellations: Sequence[Parcellation]
    fd_threshold: float | None = None
    std_dvars_threshold: float | None = None
    has_group_page: bool = True


def write_participant_report(
    participant: str, records: Sequence[RunRecord], material: Iterable[RunMaterial], settings: PageSettings
) -> Path:
    """Write the report of a participant.

    Parameters
    ----------
    participant : str
        Label.
    records : sequence of RunRecord
        What became of each of the participant's runs.
    material : iterable of RunMaterial
        Of the runs that were used; taken one at a time.
    settings : PageSettings
        What all pages share.

    Returns
    -------
    Path
        The page, ``sub-<label>.html`` in the output folder.
    """
    parts = {each.run.label: _run_part(each, _record_of(each.run, records), settings) for each in material}
    content = ParticipantContent(
        title=f"sub-{participant}",
        subtitle=_subtitle(settings),
        versions=software_versions(),
        facts=run_facts(records),
        runs=[parts.get(record.run) or RunPart(record) for record in records],
        group_page="group.html" if settings.has_group_page else None,
    )
    return write_atomically(settings.names.root / f"sub-{participant}.html", render_report(content).encode())


def _record_of(run: Run, records: Sequence[RunRecord]) -> RunRecord:
    return next(record for record in records if record.run == run.label)


def _subtitle(settings: PageSettings) -> str:
    names = settings.names
    title = atlas_title(names, [parcellation.n_parcels for parcellation in settings.parcellations])
    return f"{title or 'No atlas yet'}, space {names.space}, denoising {names.desc}"


_FORGOTTEN = (
    "The work folder no longer holds the mean image and the carpets of this run, so they are not shown. Run the job "
    "again to see them."
)


def _run_part(material: RunMaterial, record: RunRecord, settings: PageSettings) -> RunPart:
    run, kept, portrait = material.run, material.kept, material.portrait
    mean_fd = MISSING if record.mean_fd is None or np.isnan(record.mean_fd) else f"{record.mean_fd:.3f} mm"
    return RunPart(
        record=record,
        facts={
            "Volumes kept": f"{record.n_kept:,} of {record.n_volumes:,}",
            "Duration kept": f"{(record.n_kept or 0) * run.t_r / 60:.1f} min",
            "Mean framewise displacement": mean_fd,
            "Voxels": MISSING if material.voxels is None else f"{len(material.voxels):,}",
        },
        traces=[] if kept is None else [*_motion(read_motion(run), kept, settings), *_carpets(portrait, kept)],
        slices=_mask(material, settings),
        matrices=_matrices(run, settings),
        files=_files(run, settings),
        note="" if portrait is not None else _FORGOTTEN,
    )


def _motion(motion: Motion, kept: npt.NDArray[np.bool_], settings: PageSettings) -> list[Drawing]:
    traces = (
        (motion.framewise_displacement, "Framewise displacement", "mm", settings.fd_threshold),
        (motion.std_dvars, "Standardised DVARS", "", settings.std_dvars_threshold),
    )
    return [
        _chart(name, draw_trace(values, name=name, unit=unit, kept=kept, threshold=threshold))
        for values, name, unit, threshold in traces
        if values is not None
    ]


def _carpets(portrait: RunPortrait | None, kept: npt.NDArray[np.bool_]) -> list[Drawing]:
    if portrait is None:
        return []
    global_signal = portrait.global_signal.astype(np.float64)
    caption = (
        f"{len(portrait.carpet):,} of the run's voxels, sorted by their correlation with the mean of all of them. "
        "Volumes run from left to right; orange ones are censored."
    )
    return [
        _chart("Global signal", draw_trace(global_signal, name="Global signal", unit="", kept=kept, from_zero=False)),
        _chart("Carpet before cleaning", draw_carpet(portrait.carpet, name="Before cleaning", kept=kept)),
        _chart(
            "Carpet after cleaning",
            draw_carpet(portrait.cleaned_carpet, name="After cleaning", kept=kept, is_cleaned=True),
            caption,
        ),
    ]


def _chart(label: str, markup: Markup, caption: str = "") -> Drawing:
    return Drawing(kind="chart", label=label, markup=markup, caption=caption)


def _mask(material: RunMaterial, settings: PageSettings) -> list[Drawing]:
    """Draw the run's mean image, the outline of what is parcellated, and what the run lacks of it."""
    voxels, portrait = material.voxels, material.portrait
    if voxels is None or portrait is None:
        return []
    grid = settings.parcellations[0].grid if settings.parcellations else material.run.grid
    background = np.zeros(grid.shape)
    background.ravel()[voxels] = portrait.mean_volume
    own = np.zeros(grid.shape, dtype=bool)
    own.ravel()[voxels] = True
    group = settings.parcellations[0].labels > 0 if settings.parcellations else own
    labels = np.select([own & group, group, own], [2, 3, 1], 0).astype(np.int32)
    layers = Layers(labels, grid, np.array([_OUTSIDE, _OWN, _SHARED, _LACKING]), background, _OUTLINE)
    n_lacking, n_own = int((labels == 3).sum()), int((labels == 1).sum())
    told = f"{n_lacking:,} voxels of the group's mask are not in the run's, {n_own:,} are in the run's alone."
    drawing = Drawing(
        kind="slices",
        label="Mask on the mean image",
        markup=draw_slices(cut_layers(layers, n_pixels=200), label=f"Slices through the run's mean image. {told}"),
        caption=f"The mean image in the run's mask, with the outline of the masks. {told} The former are orange, the "
        "latter blue. Left is left (neurological convention).",
    )
    return [drawing]


def _matrices(run: Run, settings: PageSettings) -> list[Drawing]:
    drawings = []
    for parcellation in settings.parcellations:
        series = read_series(settings.names, run, parcellation, settings.config.signals.summary)
        if series is None:
            continue
        order = _by_side(parcellation)
        matrix = pearson(series)[np.ix_(order, order)]
        label = f"Correlations between {parcellation.n_parcels:,} parcels: {_summarise(matrix)}."
        drawings.append(
            Drawing(
                kind="matrix",
                label=label,
                markup=draw_matrix(matrix, label=label),
                caption=f"{label} Parcels of the left hemisphere come first, those of the right last; blue is -1, red "
                "1.".replace("-", "\N{MINUS SIGN}"),
            )
        )
    return drawings


def _by_side(parcellation: Parcellation) -> npt.NDArray[np.intp]:
    """Order parcels from left to right, as far as their hemispheres say."""
    sides = [_SIDES.get(str(side), 1) for side in parcellation.table["hemisphere"]]
    return np.argsort(sides, kind="stable")


def _summarise(matrix: npt.NDArray[np.float64]) -> str:
    values = matrix[np.triu_indices(len(matrix), 1)]
    known = values[~np.isnan(values)]
    if not known.size:
        return "none"
    median, low, high = (round(float(value), 2) + 0.0 for value in (np.median(known), known.min(), known.max()))
    return f"median {median:.2f}, from {low:.2f} to {high:.2f}"


def _files(run: Run, settings: PageSettings) -> Mapping[str, str]:
    names, signals = settings.names, settings.config.signals
    paths = {"censored volumes": names.outliers(run.entities, ".tsv")}
    for parcellation in settings.parcellations:
        number = parcellation.n_parcels
        paths[f"time series of {number:,} parcels"] = names.signals(run.entities, number, signals.summary, ".tsv")
        for kind in signals.connectivity:
            path = names.connectivity(run.entities, number, kind, ".tsv")
            paths[f"{kind} connectivity of {number:,} parcels"] = path
    return {text: quote(path.relative_to(names.root).as_posix()) for text, path in paths.items() if path.exists()}
