"""Pages of a finished job, made from its outputs, for the tests that read them or open them in a browser."""

from pathlib import Path

import numpy as np
import pandas as pd

from bids_parcellate.config import build_config
from bids_parcellate.io.images import iter_volumes, read_volume
from bids_parcellate.job import prepare
from bids_parcellate.numerics.portrait import sketch
from bids_parcellate.outputs.boilerplate import methods_text
from bids_parcellate.parcels.atlas import read_parcellation
from bids_parcellate.report.group_page import GroupResult, mean_background, write_group_report
from bids_parcellate.report.readings import read_activity, read_coverage, read_figures, read_records
from bids_parcellate.report.run_pages import PageSettings, RunMaterial, write_participant_report

N_PARCELS = (10, 30)
WARNING = "A warning that <script>alert(1)</script> must not run."


def material_of(run, names):
    """Portray a run, whose cleaned signals are its raw ones without their first volumes' mean."""
    voxels = np.flatnonzero(read_volume(run.mask)[0])
    raw = np.stack([volume.ravel()[voxels] for volume in iter_volumes(run.bold)])
    kept = pd.read_csv(names.outliers(run.entities, ".tsv"), sep="\t")["censored"].to_numpy() == 0
    drawn = sketch(raw)
    return RunMaterial(run, kept, voxels, drawn.finish((raw[kept] - raw[kept].mean(axis=0))[:, drawn.rows]))


def write_pages(dataset: Path, folder: Path) -> Path:
    """Write a page for each participant and one for the group, with every section, and give the latter."""
    parcellation = {"n_parcels": N_PARCELS}
    config = build_config(
        {"bids_dir": str(dataset), "output_dir": str(folder), "analysis_level": "group", "parcellation": parcellation}
    )
    job = prepare(config)
    names, runs = job.names, job.selection.runs
    parcellations = [
        read_parcellation(names.parcellation(number, ".nii.gz"), names.parcellation(number, ".tsv"))
        for number in N_PARCELS
    ]
    records = read_records(names)
    material = [material_of(run, names) for run in runs]
    settings = PageSettings(names, config, parcellations, fd_threshold=0.5, std_dvars_threshold=1.5)
    for label in sorted({run.participant for run in runs}):
        of_participant = [each for each in material if each.run.participant == label]
        write_participant_report(label, [r for r in records if r.participant == label], of_participant, settings)
    result = GroupResult(
        config,
        parcellations,
        records,
        methods_text(config, job.strategy, runs),
        ["bids-parcellate", str(dataset), str(folder), "group"],
        [WARNING],
        mean_background(((each.voxels, each.portrait.mean_volume) for each in material), job.grid),
        {each.n_parcels: read_activity(names, runs, each, "mean") for each in parcellations},
        read_coverage(names, runs, parcellations[0], "mean"),
        *read_figures(names),
    )
    return write_group_report(names, result)
