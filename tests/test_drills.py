"""The drills work: two of them with few faults, and what they look for is found."""

import gzip
import json
import os

import pytest

from drills import __main__ as suite
from drills import kills
from drills.load import _growth, _Sample
from drills.results import Outcome
from drills.studies import Ended, Settings, broken_files, differences

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="the drills run on Linux")  # noqa: PTH110


def test_a_job_that_is_killed_twice_gets_done(tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "_N_KILLS_QUICK", 2)
    (outcome,) = kills.kill(Settings(tmp_path, quick=True))
    assert outcome.n_faults == outcome.n_survived == 2
    assert outcome.problems == []


def test_a_job_whose_worker_is_killed_says_so_and_is_done_by_a_restart(tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "_HARMS", kills._HARMS[:1])
    (outcome,) = kills.workers(Settings(tmp_path, quick=True))
    assert outcome.n_faults == 1
    assert outcome.problems == []


def test_drills_are_counted_written_and_reported(tmp_path, monkeypatch, capsys):
    def survived(settings):
        return [Outcome("a fault", n_faults=3, notes=["a figure"])]

    def lost(settings):
        outcome = Outcome("another")
        outcome.add("first", [])
        outcome.add("second", ["a byte differs", "and one more"])
        return [outcome]

    def impossible(settings):
        raise PermissionError("root only")

    monkeypatch.setattr(suite, "DRILLS", {"survived": survived, "lost": lost, "impossible": impossible})
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- drills: begin -->old<!-- drills: end -->\nafter\n")
    assert suite.main(["--quick", "--work", str(tmp_path), "--docs", str(page)]) == 1
    capsys.readouterr()
    results = json.loads((tmp_path / "drills-quick.json").read_text())["drills"]
    assert [found["survived"] for found in results.values()] == [True, False, False]
    text = page.read_text()
    assert "old" not in text
    assert "| survived | a fault | 3 | 3 | a figure |" in text
    assert "| lost | another | 2 | **1** |  |" in text
    assert "- lost: second: a byte differs; and one more" in text
    assert "- impossible could not be done: root only" in text
    assert suite.main(["survived", "--quick", "--work", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("image.nii.gz", gzip.compress(bytes(1000), mtime=0)[:-4]),
        ("side.json", b'{"a": 1'),
        ("table.tsv", b"a\tb\n1\t2\n3"),
        ("table.tsv", b"a\tb\n1\t2\n3\n"),
        ("arrays.npz", b"PK\x03\x04"),
        ("page.html", b"<html><p>"),
    ],
    ids=["image", "sidecar", "table", "ragged table", "arrays", "page"],
)
def test_what_is_not_whole_is_found(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert [problem.split()[0] for problem in broken_files(tmp_path)] == [name]


def test_what_is_whole_passes(tmp_path):
    (tmp_path / "image.nii.gz").write_bytes(gzip.compress(bytes(1000)))
    (tmp_path / "table.tsv").write_text("a\tb\n1\t2\n")
    (tmp_path / "side.json").write_text("{}")
    assert broken_files(tmp_path) == []


def test_outputs_are_compared_by_name_and_content():
    found = differences({"same": "1", "other": "2", "more": "3"}, {"same": "1", "other": "1", "less": "4"})
    assert sorted(found) == ["less is missing", "more is too much", "other differs"]


def test_an_end_is_judged_by_its_code_its_words_and_traces():
    assert Ended(74, "ERROR: full", 1.0).problems(74, "full") == []
    assert len(Ended(70, "Traceback (most recent call last)", 1.0).problems(74, "full")) == 3


@pytest.mark.parametrize(("kilobytes_each", "files_each", "n_problems"), [(0, 0, 0), (100, 0, 1), (100, 0.1, 2)])
def test_a_leak_is_seen(kilobytes_each, files_each, n_problems):
    samples = [
        _Sample("Reducing runs", done, int(200_000 + kilobytes_each * done), int(10 + files_each * done))
        for done in range(0, 500, 5)
    ]
    assert len(_growth("worker 1", samples)[0]) == n_problems
