"""Pages that are made anew from what a job has written."""

import json
import re
import shutil
from urllib.parse import unquote

import pytest

from bids_parcellate.cli import main
from tests.outputs import digests


@pytest.fixture(scope="module")
def job(study, outputs, tmp_path_factory):
    """The arguments of a job that is done, and its output folder."""
    folder = tmp_path_factory.mktemp("reports") / "out"
    shutil.copytree(outputs / ".work", folder / ".work")
    assert main([str(study[0]), str(folder), "group", "--nprocs", "1", "--n-parcels", "10", "30"]) == 0
    return study[0], folder


@pytest.fixture
def finished(job, tmp_path):
    """The same, to be changed; the outputs have moved since."""
    dataset, folder = job
    return dataset, shutil.copytree(folder, tmp_path / "out")


def make_reports(dataset, folder, *options, level="group"):
    return main([str(dataset), str(folder), level, "--reports-only", *map(str, options)])


def pages(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.html"))}


def test_the_pages_are_the_same_bytes_and_nothing_else_is_written(job):
    dataset, folder = job
    before, others = pages(folder), digests(folder)
    assert list(before) == ["group.html", "sub-01.html", "sub-02.html"]
    for path in folder.glob("*.html"):
        path.unlink()
    assert make_reports(dataset, folder) == 0
    assert pages(folder) == before
    assert digests(folder) == others
    assert len(list(folder.glob("logs/*/provenance.json"))) == 1


def test_outputs_that_have_moved_only_differ_in_the_folder(job, finished):
    dataset, moved = finished
    assert make_reports(dataset, moved) == 0
    for name, page in pages(moved).items():
        quoted = [f"output_dir = &#34;{folder}&#34;".encode() for folder in (moved, job[1])]
        assert page.replace(*quoted) == pages(job[1])[name]


def test_without_records_of_runs_there_is_only_the_group_s_page(finished):
    dataset, folder = finished
    for page in folder.glob("*.html"):
        page.unlink()
    records = folder / "logs" / "runs.tsv"
    records.write_text(records.read_text().partition("\n")[0] + "\n")
    assert make_reports(dataset, folder) == 0
    assert [path.name for path in folder.glob("*.html")] == ["group.html"]


def test_without_the_work_folder_they_say_what_they_lack(finished, capsys):
    dataset, folder = finished
    shutil.rmtree(folder / ".work")
    assert make_reports(dataset, folder) == 0
    assert "The pages lack the mean images and the carpets of 3 of 3 runs" in capsys.readouterr().err
    texts = {name: page.decode() for name, page in pages(folder).items()}
    assert "The pages lack the mean images and the carpets of 3 of 3 runs" in texts["group.html"]
    assert "over a mean image of the runs" not in texts["group.html"]
    assert texts["sub-01.html"].count("no longer holds the mean image and the carpets") == 2
    assert "Before cleaning" not in texts["sub-01.html"]
    assert "Framewise displacement (mm)" in texts["sub-01.html"]
    for text in texts.values():
        links = {unquote(link) for link in re.findall(r'href="([^"#:]+)"', text)}
        assert links
        assert all((folder / link).is_file() for link in links)


def test_a_work_folder_elsewhere_is_found_and_a_damaged_reduction_is_told(finished, tmp_path, capsys):
    dataset, folder = finished
    work = shutil.move(folder / ".work", tmp_path / "work")
    (record,) = folder.glob("logs/*/provenance.json")
    digest = json.loads(record.read_text())["Inputs"][1]["ReductionDigest"]
    (tmp_path / "work" / digest[:2] / f"{digest}.npz").write_bytes(b"")
    assert make_reports(dataset, folder, "-w", work) == 0
    assert "the carpets of 1 of 3 runs" in capsys.readouterr().err
    assert (folder / "sub-01.html").read_text().count("no longer holds the mean image") == 1
    assert "no longer holds" not in (folder / "sub-02.html").read_text()


def test_options_say_which_job_is_meant(job, finished, outputs, capsys):
    dataset, folder = finished
    shutil.rmtree(folder / ".work")
    shutil.copytree(outputs / ".work", folder / ".work")
    options = ["--n-parcels", "5", "--quality", "none", "--nprocs", "1"]
    assert main([str(dataset), str(folder), "group", *options]) == 0
    later = pages(folder)
    assert make_reports(dataset, folder) == 0
    assert pages(folder) == later
    assert make_reports(dataset, folder, "--n-parcels", "10", "30") == 0
    assert '<h3 id="parcels-30">' in (folder / "group.html").read_text()
    assert make_reports(dataset, folder, "--n-parcels", "7") == 64
    assert "had the options that are given" in capsys.readouterr().err


def test_a_participant_s_job_has_pages_too(study, outputs, tmp_path):
    for label in ("01", "02"):
        options = ["--participant-label", label, "--nprocs", "1", "-w", str(outputs / ".work")]
        assert main([str(study[0]), str(tmp_path), "participant", *options]) == 0
    before = pages(tmp_path)
    assert list(before) == ["sub-01.html", "sub-02.html"]
    for label in ("01", "02"):
        (tmp_path / f"sub-{label}.html").unlink()
        assert make_reports(study[0], tmp_path, "--participant-label", label, level="participant") == 0
    assert pages(tmp_path) == before
    assert make_reports(study[0], tmp_path) == 66, "there is no job of the group level"


def test_where_nothing_is_there_is_nothing_to_report_on(study, tmp_path, capsys):
    assert make_reports(study[0], tmp_path / "none") == 66
    assert "there is nothing to report on" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        (lambda f: next(f.glob("tpl-*/anat/*_scale-30_dseg.nii.gz")).unlink(), 66, "There is no"),
        (lambda f: (f / "logs" / "runs.tsv").unlink(), 66, "nothing is known of the runs"),
        (lambda f: next(f.glob("logs/*/provenance.json")).write_text("{"), 65, "cannot be read"),
        (lambda f: next(f.glob("logs/*/provenance.json")).write_text('{"Outcome": "done"}'), 65, "lacks CommandLine"),
    ],
    ids=["parcellation", "runs", "record", "record of another version"],
)
def test_what_is_missing_is_named(finished, spoil, code, message, capsys):
    dataset, folder = finished
    spoil(folder)
    assert make_reports(dataset, folder) == code
    assert message in capsys.readouterr().err
