"""The benchmark suite works: at tiny sizes, and without its slow peers."""

import json
import os
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

from benchmarks import __main__ as suite
from benchmarks.measure import measure
from benchmarks.phantom import TINY_MM2, make_phantom
from benchmarks.record import Record, head_lines
from benchmarks.results import Comparison, Figure, Outcome, Usage
from bids_parcellate.config import SelectionConfig
from bids_parcellate.dataset import select_runs

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="the suite runs on Linux")  # noqa: PTH110


def test_the_suite_measures_checks_and_writes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmarks: begin -->old<!-- benchmarks: end -->\nafter\n")
    names = ["hierarchical-kmeans", "indexing"]
    code = suite.main(["--quick", "--only", *names, "--work", str(tmp_path / "w"), "--docs", str(page)])
    assert code == 0
    results = json.loads((tmp_path / "w" / "results-quick.json").read_text())
    assert results["benchmarks"]["indexing"]["right"] is True
    found = results["benchmarks"]["hierarchical-kmeans"]
    assert found["right"] is True
    (comparison,) = found["comparisons"]
    ours, theirs = comparison["ours"][0], comparison["theirs"][0]
    assert comparison["ratios"]["cpu"]["median"] == pytest.approx(theirs["cpu"] / ours["cpu"])
    assert ours["memory"] > 50
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| nilearn HierarchicalKMeans |" in text


def test_a_benchmark_that_fails_is_reported_and_the_others_go_on(tmp_path, monkeypatch, capfd):
    def broken(settings):
        raise RuntimeError("out of luck")

    def wrong(settings):
        return Outcome(figures=[Figure("a figure", 1.0, ok=np.bool_(False))])

    monkeypatch.setattr(suite, "BENCHMARKS", {"broken": broken, "wrong": wrong})
    assert suite.main(["--quick", "--work", str(tmp_path)]) == 1
    results = json.loads((tmp_path / "results-quick.json").read_text())["benchmarks"]
    assert (results["broken"]["right"], results["broken"]["error"]) == (False, "out of luck")
    assert results["wrong"]["right"] is False
    assert "**WRONG**" in (tmp_path / "results-quick.md").read_text()
    assert "broken failed: out of luck" in (tmp_path / "results-quick.md").read_text()


def test_what_was_found_earlier_is_kept_with_its_command_but_not_from_another_machine(tmp_path, monkeypatch):
    path = tmp_path / "results.json"

    def run(name):
        record = Record(path, "suite", ["--only", name], keep=True)
        record.run([name], lambda _: {}, lambda content: "\n".join(head_lines(content, "suite")), None)
        return path.with_suffix(".md").read_text()

    run("first")
    assert f"`python -m suite --only first` ({datetime.now(UTC):%Y-%m-%d})" in run("second")
    monkeypatch.setattr("benchmarks.record.describe_machine", lambda: {"processor": "another"})
    text = run("third")
    assert "- processor: another" in text
    assert "--only third" in text
    assert "--only first" not in text


def test_ratios_are_of_the_same_repeat():
    ours, theirs = [Usage(1, 1, 1), Usage(2, 1, 1)], [Usage(10, 1, 1), Usage(40, 1, 1)]
    ratio = Comparison("work", "peer", ours, theirs).ratio("cpu")
    assert (ratio.median, ratio.low, ratio.high) == (15, 10, 20)


def test_cpu_and_memory_of_children_count():
    child = "x = bytearray(200_000_000); x[::1000] = x[::1000]; s = sum(range(5_000_000))"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    alone, both = measure([sys.executable, "-c", "pass"]), measure([sys.executable, "-c", parent])
    assert alone.memory > 5
    assert both.memory > 200
    assert both.cpu > alone.cpu + 0.05
    assert both.wall > alone.wall


def test_a_command_that_fails_says_why():
    with pytest.raises(RuntimeError, match="no such luck"):
        measure([sys.executable, "-c", "raise SystemExit('no such luck')"])


def test_a_phantom_is_a_dataset_whose_runs_can_all_be_used(tmp_path):
    phantom = make_phantom(tmp_path, TINY_MM2, n_runs=3, n_distinct=2, dtype="int16")
    selection = select_runs(phantom.data, SelectionConfig())
    assert [run.participant for run in selection.runs] == ["01", "02", "03"]
    assert not selection.rejected
    assert not selection.warnings
    assert {run.n_volumes for run in selection.runs} == {TINY_MM2.n_volumes}
    assert {run.t_r for run in selection.runs} == {2.0}
    assert phantom.bold(1).samefile(phantom.bold(3))
    assert not phantom.bold(1).samefile(phantom.bold(2))
    assert make_phantom(tmp_path, TINY_MM2, n_runs=3, n_distinct=2, dtype="int16") == phantom
