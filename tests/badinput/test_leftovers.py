"""Outputs and intermediate results of earlier jobs that are damaged, or are something else by now."""

import json
import shutil

import numpy as np
import pytest

from bids_parcellate.errors import OutputError
from bids_parcellate.io.ledger import Ledger
from tests.badinput.sandbox import Case, Sandbox, assert_helpful, cases, put, snapshot


def replace(pattern: str, content: str | bytes):
    """Give all outputs of a name other content."""

    def spoil(box: Sandbox):
        # The file is a link to that of other tests.
        paths = [path for path in sorted(box.output.glob(pattern)) if not path.unlink()]
        return [put(path, content) for path in paths][-1]

    return spoil


def records(content: str | bytes):
    """Leave records of runs, as an earlier job does."""

    def spoil(box: Sandbox):
        folder = box.output / "logs" / "runs"
        folder.mkdir(parents=True)
        return put(folder / "sub-01_runs.tsv", content)

    return spoil


@cases(
    Case("descriptions are empty", replace("descriptions.tsv", ""), "is empty", code=65),
    Case("descriptions have one column", replace("descriptions.tsv", "a\nb\n"), "desc_id", code=65),
    Case("descriptions are no text", replace("descriptions.tsv", b"\xff\xfe\0"), "UTF-8", code=65),
    Case("records are empty", records(""), "no table of runs", code=65),
    Case("records are another table", records("x\ty\n1\t2\n"), "no table of runs", code=65),
    Case("records are no text", records(b"\xff\xfe\0\0"), "no table of runs", code=65),
    Case("records name no source", records("participant_id\trun\nsub-01\tx\n"), "no table of runs", code=65),
)
def test_damaged_outputs_of_an_earlier_job(box, case):
    """The job has done its work by then; nothing of it is lost, and once the file is gone the next one is quick."""
    named = case.spoil(box)
    content = named.read_bytes()
    inputs = snapshot(box.dataset)
    outcome = box.run()
    assert outcome.code == case.code, outcome.text
    assert_helpful(outcome, named, case.says)
    assert snapshot(box.dataset) == inputs
    assert named.read_bytes() == content
    named.unlink()
    assert box.run().code == 0


@cases(
    Case("empty table", replace("tpl-*/anat/*_dseg.tsv", ""), (), code=65),
    Case("table of other labels", replace("tpl-*/anat/*_dseg.tsv", "index\tname\n1\ty\n"), "labels", code=65),
    Case("table without names", replace("tpl-*/anat/*_dseg.tsv", "a\tb\n1\ty\n"), "labels", code=65),
    Case("truncated image", replace("tpl-*/anat/*_dseg.nii.gz", b"\x1f\x8b\x08"), "truncated", code=65),
)
def test_a_damaged_parcellation(box, case):
    named = case.spoil(box)
    outcome = box.run(level="participant")
    assert outcome.code == case.code, outcome.text
    assert named.name in outcome.err
    assert "Traceback" not in outcome.err


def stored(box: Sandbox):
    """Let a job keep its reductions."""
    work = box.folder / "work"
    assert box.run("-w", work, level="participant").code == 0
    return work


@pytest.mark.parametrize("kind", ["folder", "file in place of its folder"])
def test_a_stored_result_that_cannot_be_read(box, kind):
    work = stored(box)
    path = min(work.glob("??/*.npz"))
    if kind == "folder":
        path.unlink()
        path.mkdir()
    else:
        shutil.rmtree(path.parent)
        path.parent.touch()
    outcome = box.run("-w", work)
    assert outcome.code == 73, outcome.text
    assert_helpful(outcome, path, "--work-dir")


@pytest.mark.parametrize("content", ["other arrays", "nothing"])
def test_a_stored_result_that_is_none_is_made_anew(box, content):
    work = stored(box)
    for path in work.glob("??/*.npz"):
        path.write_bytes(b"")
        if content == "other arrays":
            np.savez(path, a=1)
    outcome = box.run("-w", work)
    assert outcome.code == 0, outcome.text
    assert outcome.err.count("is made anew") == 3


@pytest.mark.parametrize("content", ["", "[]", "3", "null", "[" * 100_000, '{"a\\u0000b": [1, 2]}', "\0"])
def test_a_damaged_note_of_a_step_is_no_note(tmp_path, content, caplog):
    ledger = Ledger(tmp_path / "ledger")
    path = ledger.note("ab" * 32, [put(tmp_path / "output", "x")])
    assert ledger.is_done("ab" * 32)
    path.write_text(content)
    assert not ledger.is_done("ab" * 32)
    assert "is damaged" in caplog.text


def test_a_folder_in_place_of_a_note(tmp_path):
    ledger = Ledger(tmp_path)
    path = ledger.note("ab" * 32, [])
    path.unlink()
    path.mkdir()
    with pytest.raises(OutputError, match="cannot be read") as caught:
        ledger.is_done("ab" * 32)
    assert "--work-dir" in caught.value.hint


CHECKED = {
    "all JSON is a list": ("**/*.json", "[]"),
    "all JSON is broken": ("**/*.json", "{"),
    "all JSON is nested too deep": ("**/*.json", "[" * 100_000),
    "all JSON is an empty object": ("**/*.json", "{}"),
    "lists are texts": ("sub-*/**/*.json", json.dumps(dict.fromkeys(["Sources", "NodeFiles", "CensoredVolumes"], "x"))),
    "lists are of numbers": ("sub-*/**/*.json", json.dumps({"Sources": [1], "NodeFiles": [2], "CensoredVolumes": 3})),
    "URIs are none": ("sub-*/**/*.json", json.dumps({"Description": "", "Sources": ["bids:x", "bids:a:b", "bids::c"]})),
    "all tables are empty": ("**/*.tsv", ""),
    "all tables are others": ("**/*.tsv", "a\tb\n1\t2\n"),
    "all tables are no text": ("**/*.tsv", b"\xff\xfe"),
    "images are empty": ("tpl-*/**/*.nii.gz", ""),
}


@pytest.mark.parametrize(("pattern", "content"), CHECKED.values(), ids=CHECKED)
def test_the_check_of_outputs_finds_all_damage(box, pattern, content):
    named = replace(pattern, content)(box)
    outcome = box.command("--check-outputs", box.output)
    assert outcome.code == 65, outcome.text
    assert_helpful(outcome, None, named.suffix)


def test_the_check_of_outputs_finds_words_in_a_matrix(box):
    named = replace("sub-*/**/*_relmat.tsv", "Node\ta\na\tx\n")(box)
    outcome = box.command("--check-outputs", box.output)
    assert outcome.code == 65, outcome.text
    assert f"{named.with_suffix('.json')}: the matrix has cells that are no numbers" in outcome.err


@pytest.mark.parametrize("kind", ["nothing", "a file", "an empty folder"])
def test_the_check_of_outputs_needs_outputs(box, kind):
    path = box.folder / "there"
    if kind == "a file":
        path.touch()
    elif kind == "an empty folder":
        path.mkdir()
    outcome = box.command("--check-outputs", path)
    assert outcome.code == 66
    assert_helpful(outcome, path, "no output folder")
