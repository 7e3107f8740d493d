"""The report of a participant, and what reports read back from the outputs."""

import html
import json
import re
import shutil
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from bids_parcellate.config import build_config
from bids_parcellate.errors import DataError
from bids_parcellate.job import prepare
from bids_parcellate.outputs.derivatives import RunRecord
from bids_parcellate.parcels.atlas import read_parcellation
from bids_parcellate.report.readings import (
    read_activity,
    read_coverage,
    read_figures,
    read_kept,
    read_motion,
    read_records,
    read_series,
)
from bids_parcellate.report.run_pages import PageSettings, RunMaterial, write_participant_report
from tests.reporting import material_of

NASTY = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(outputs, tmp_path_factory):
    copy = tmp_path_factory.mktemp("pages") / "outputs"
    shutil.copytree(outputs, copy)
    return copy


@pytest.fixture(scope="module")
def job(study, folder):
    options = {"bids_dir": str(study[0]), "output_dir": str(folder), "analysis_level": "group"}
    return prepare(build_config(options))


@pytest.fixture(scope="module")
def parcellation(job):
    return read_parcellation(job.names.parcellation(10, ".nii.gz"), job.names.parcellation(10, ".tsv"))


@pytest.fixture(scope="module")
def settings(job, parcellation):
    return PageSettings(job.names, job.config, [parcellation], fd_threshold=0.5)


@pytest.fixture(scope="module")
def material(job):
    return [material_of(run, job.names) for run in job.selection.runs if run.participant == "01"]


@pytest.fixture(scope="module")
def records(job):
    return [record for record in read_records(job.names) if record.participant == "01"]


def words_of(path):
    text = re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


class TestPage:
    def test_every_run_has_its_pictures(self, settings, material, records):
        path = write_participant_report("01", records, material, settings)
        assert path == settings.names.root / "sub-01.html"
        text, words = path.read_text(encoding="utf-8"), words_of(path)
        labels = [html.unescape(label) for label in re.findall(r'<svg [^>]*aria-label="([^"]*)"', text)]
        for start in ("Framewise displacement", "Standardised DVARS", "Global signal", "Carpet", "Slices", "Correl"):
            assert sum(label.startswith(start) for label in labels) == len(material) * (2 if start == "Carpet" else 1)
        for each in material:
            assert each.run.label in words
            assert f"{int(each.kept.sum())} of {len(each.kept)}" in words
        assert 'href="group.html"' in text
        assert len(text) < 3e6

    def test_links_lead_to_files(self, settings, material, records):
        path = write_participant_report("01", records, material, settings)
        links = [unquote(link) for link in re.findall(r'<a href="([^"#]+)"', path.read_text(encoding="utf-8"))]
        assert len(links) == 1 + 3 * len(material)
        assert all((path.parent / link).is_file() for link in links)

    def test_a_run_that_was_left_out_has_its_reason(self, settings, material, records):
        left_out = RunRecord("01", f"sub-01_{NASTY}", "bids::x", f"Too short {NASTY}.", used=False)
        path = write_participant_report("01", [*records, left_out], material, settings)
        assert f"Left out: Too short {NASTY}." in words_of(path)
        assert NASTY not in path.read_text(encoding="utf-8")

    def test_a_participant_of_any_name_is_mere_text(self, settings, material, records):
        path = write_participant_report("<script>", records, material, settings)
        text = path.read_text(encoding="utf-8")
        path.unlink()
        assert "sub-<script>" not in text
        assert "<h1>sub-&lt;script&gt;</h1>" in text

    def test_the_atlas_is_that_of_its_parcels(self, settings, material, records):
        named = replace(settings, names=replace(settings.names, atlas="Study{}"))
        assert "Atlas Study10, space" in words_of(write_participant_report("01", records, material, named))

    def test_what_the_work_folder_no_longer_holds_is_told(self, settings, material, records):
        forgotten = [RunMaterial(each.run, each.kept) for each in material]
        text = words_of(write_participant_report("01", records, forgotten, settings))
        assert text.count("no longer holds the mean image and the carpets of this run") == len(material)
        assert "Framewise displacement (mm)" in text
        assert "Before cleaning" not in text

    def test_without_portrait_confounds_or_parcels_there_is_less(self, settings, material, records):
        bare = [replace(each, portrait=None, run=replace(each.run, confounds=None)) for each in material]
        path = write_participant_report("01", records, bare, replace(settings, parcellations=[], has_group_page=False))
        text = path.read_text(encoding="utf-8")
        assert "<svg" not in text
        assert "group.html" not in text

    def test_what_a_run_lacks_of_the_group_is_told(self, settings, material, records, parcellation):
        flat = parcellation.labels.ravel()
        lacking = np.flatnonzero(flat == 3)
        has = ~np.isin(material[0].voxels, lacking)
        portrait = replace(material[0].portrait, mean_volume=material[0].portrait.mean_volume[has])
        less = replace(material[0], voxels=material[0].voxels[has], portrait=portrait)
        path = write_participant_report("01", records, [less], settings)
        assert f"{len(lacking):,} voxels of the group's mask are not in the run's" in words_of(path)

    def test_the_same_run_gives_the_same_bytes(self, settings, material, records):
        first = write_participant_report("01", records, material, settings).read_bytes()
        assert write_participant_report("01", records, iter(material), settings).read_bytes() == first


class TestReadings:
    def test_records_are_those_that_were_written(self, job, folder):
        records = read_records(job.names)
        table = pd.read_csv(folder / "logs" / "runs.tsv", sep="\t")
        assert [record.run for record in records] == list(table["run"])
        assert [record.n_kept for record in records] == list(table["n_kept"])
        assert all(record.used and record.reason is None for record in records)
        np.testing.assert_allclose([record.mean_fd for record in records], table["mean_fd"])

    def test_activity_is_the_mean_of_the_runs(self, job, parcellation):
        runs = job.selection.runs
        activity = read_activity(job.names, runs, parcellation, "mean")
        series = [read_series(job.names, run, parcellation, "mean") for run in runs]
        np.testing.assert_allclose(activity.correlations, np.mean([np.corrcoef(each.T) for each in series], axis=0))
        np.testing.assert_array_equal(activity.series, series[0])
        assert (activity.n_runs, activity.series_of) == (3, runs[0].label)
        assert read_activity(job.names, runs, parcellation, "median") is None

    def test_coverage_is_the_smallest_of_a_participants_runs(self, job, parcellation):
        runs = job.selection.runs
        _, second = [run for run in runs if run.participant == "01"]
        path = job.names.signals(second.entities, 10, "mean", ".json")
        metadata = json.loads(path.read_text())
        metadata["parcel004"]["Coverage"] = 0.25
        original = path.read_text()
        path.write_text(json.dumps(metadata))
        coverage = read_coverage(job.names, runs, parcellation, "mean")
        path.write_text(original)
        assert list(coverage.participants) == ["01", "02"]
        assert coverage.shares.shape == (2, 10)
        assert coverage.shares[0, 3] == 0.25
        assert (np.delete(coverage.shares[0], 3) > 0.9).all()

    def test_tables_of_other_parcels_are_refused(self, job, parcellation):
        other = replace(parcellation, table=parcellation.table.assign(name=[f"other{n}" for n in range(10)]))
        with pytest.raises(DataError, match="other parcels"):
            read_series(job.names, job.selection.runs[0], other, "mean")
        with pytest.raises(DataError, match="coverage"):
            read_coverage(job.names, job.selection.runs, other, "mean")

    def test_motion_is_that_of_the_confounds(self, job):
        run = job.selection.runs[0]
        table = pd.read_csv(run.confounds, sep="\t")
        motion = read_motion(run)
        np.testing.assert_allclose(motion.framewise_displacement, table["framewise_displacement"])
        np.testing.assert_allclose(motion.std_dvars, table["std_dvars"])

    def test_kept_volumes_are_those_that_are_not_censored(self, job):
        run = job.selection.runs[0]
        assert list(np.flatnonzero(~read_kept(job.names, run))) == [0, 1]
        assert read_kept(replace(job.names, desc="other"), run) is None

    def test_figures_are_those_that_were_written(self, job):
        figures, reason = read_figures(job.names)
        assert set(figures["n_parcels"]) == {10, 30}
        assert reason is None
        assert read_figures(replace(job.names, method="other")) == (None, None)
