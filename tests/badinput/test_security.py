"""What a dataset from a stranger can try: leaving its folder, running code, mark-up in the report."""

import ast
import json
import os
import pickle
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import bids_parcellate
from bids_parcellate.io.naming import bids_name
from bids_parcellate.io.store import ArrayStore
from tests.badinput.sandbox import assert_helpful, edit_json, put, snapshot

PACKAGE = Path(bids_parcellate.__file__).parent
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"

# What runs text as code, reads pickles or starts a shell.
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "Popen", "call", "check_output"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "subprocess", "yaml", "xml"}


def modules():
    return [pytest.param(path, id=path.name) for path in sorted(PACKAGE.rglob("*.py"))]


@pytest.mark.parametrize("path", modules())
def test_no_module_runs_text_reads_pickles_or_starts_a_shell(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
            owner = getattr(getattr(node.func, "value", None), "id", "")
            assert name not in FORBIDDEN_CALLS or owner == "re", f"{path.name}:{node.lineno} calls {name}"
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            assert not given.get("shell"), f"{path.name}:{node.lineno} starts a shell"
            if name == "load" and owner == "np":
                assert given.get("allow_pickle") is False, f"{path.name}:{node.lineno} may read pickles"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.split(".")[0] for alias in node.names} | {
                (getattr(node, "module", "") or "").split(".")[0]
            }
            assert not names & FORBIDDEN_MODULES, f"{path.name}:{node.lineno} imports {names & FORBIDDEN_MODULES}"


class Boom:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


def test_a_pickle_in_the_work_folder_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = ArrayStore(tmp_path / "work")
    path = store.path("ab" * 32)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        np.savez(file, components=np.array([Boom()], dtype=object))
    assert store.load("ab" * 32) is None
    path.write_bytes(pickle.dumps(Boom()))
    assert store.load("ab" * 32) is None
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("label", ["..", "../x", "/etc", "a/b", "", "a b", "<b>", "a\0b", "a\n", "ä"])
def test_no_label_leaves_its_folder(label):
    with pytest.raises(ValueError, match="no BIDS label"):
        bids_name({"sub": label}, "bold", ".nii.gz")


class Tags(HTMLParser):
    """Collects what a browser would run or fetch."""

    def __init__(self):
        super().__init__()
        self.scripts: list[str] = []
        self.handlers: list[str] = []
        self.fetched: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag, attrs):
        self._in_script = tag == "script"
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.fetched += [value for name, value in attrs if name in ("src", "href") and str(value).startswith("http")]
        self.handlers += [str(value) for _, value in attrs if str(value).strip().lower().startswith("javascript:")]

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script:
            self.scripts.append(data)


def test_names_from_the_data_are_no_mark_up(box):
    """In the description, in the columns of a strategy, in the names of folders and files, in the options."""
    edit_json(
        box.dataset / "dataset_description.json",
        Name=SCRIPT,
        License=SCRIPT,
        Authors=[SCRIPT, "</title><script>alert(2)</script>"],
        GeneratedBy=[{"Name": SCRIPT, "Version": SCRIPT, "CodeURL": "javascript:alert(1)"}],
    )
    dataset = box.dataset.rename(box.folder / "<script>alert(3)<")
    column = "<script>alert(4)<"
    for table in dataset.rglob("*confounds_timeseries.tsv"):
        lines = table.read_text().splitlines()
        put(table, "\n".join([lines[0].replace("csf\t", f"{column}\t", 1), *lines[1:]]) + "\n")
    strategy = box.write("s<b>.toml", f'strategy = ["motion"]\ncolumns = ["{column}"]')
    (bold,) = dataset.glob("sub-02/ses-1/func/*preproc_bold.nii.gz")
    put(bold, "")  # its reason for being left out names the path
    options = ["--confounds", strategy, "--authors", SCRIPT, "--license", SCRIPT, "--verbose"]
    outcome = box.command(dataset, box.output, "group", "--nprocs", "1", "--n-parcels", "6", *options)
    assert outcome.code == 0, outcome.text
    pages = list(box.output.rglob("*.html"))
    assert pages
    for page in pages:
        tags = Tags()
        tags.feed(page.read_text())
        assert not any("alert(" in script and "<script" not in script for script in tags.scripts), page
        assert tags.handlers == [], page
        assert not any(text in page.read_text() for text in ("<script>alert", "<img src=x", "</title><script"))


def test_files_behind_links_in_the_output_are_not_written(box):
    """A link in place of an output is replaced; what it pointed to stays."""
    precious = box.write("precious", "mine")
    (table,) = box.output.glob("tpl-*/anat/*_dseg.tsv")
    for path in (table, box.output / "group.html", box.output / "README.md"):
        path.unlink(missing_ok=True)
        path.symlink_to(precious)
    inputs = snapshot(box.dataset)
    assert box.run().code == 0
    assert precious.read_text() == "mine"
    assert not table.is_symlink()
    assert snapshot(box.dataset) == inputs


@pytest.mark.parametrize("target", ["data", "sub-02 of the data", "elsewhere", "nowhere"])
@pytest.mark.parametrize(
    "place",
    ["sub-02", "sub-02/ses-1", "sub-02/ses-1/func", "sub-02/anat", "tpl-MNI152NLin2009cAsym", "logs", "logs/runs"],
)
def test_folders_behind_links_in_the_output_are_not_written(box, place, target):
    """A folder that the job would write to is a link into the dataset, or to anywhere else."""
    elsewhere = box.folder / "elsewhere"
    elsewhere.mkdir()
    targets = {"data": box.dataset, "sub-02 of the data": box.dataset / "sub-02", "elsewhere": elsewhere}
    link = box.output / place
    shutil.rmtree(link, ignore_errors=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(targets.get(target, box.folder / "nowhere"))
    before = snapshot(box.folder)
    outcome = box.run()
    assert outcome.code == 64, outcome.text
    assert_helpful(outcome, None, (str(link), "Remove the link"))
    assert snapshot(box.folder) == before, "nothing was done"


def test_links_that_stay_in_the_output_are_followed(box):
    (box.output / "sub-02").rename(box.output / "moved")
    (box.output / "sub-02").symlink_to("moved")
    assert box.run().code == 0


def test_a_work_folder_on_another_disk_may_be_a_link_but_not_into_the_dataset(box):
    work = box.output / ".work"
    work.symlink_to(box.folder / "scratch")
    (box.folder / "scratch").mkdir()
    assert box.run(level="participant").code == 0
    (box.folder / "scratch" / "zz").symlink_to(box.dataset / "sub-01")
    before = snapshot(box.dataset)
    outcome = box.run()
    assert outcome.code == 64, outcome.text
    assert_helpful(outcome, None, ("--work-dir", "nothing is written"))
    assert snapshot(box.dataset) == before


def test_names_with_the_shell_s_signs_are_only_names(box, monkeypatch):
    monkeypatch.chdir(box.folder)
    dataset = box.dataset.rename(box.folder / "$(touch pwned); `touch pwned` & |")
    output = box.folder / "-rf ; touch pwned"
    outcome = box.command(dataset, output, "group", "--nprocs", "1", "--n-parcels", "6", "--check")
    assert outcome.code == 0, outcome.text
    assert not (box.folder / "pwned").exists()


def test_uris_of_inputs_stay_within_their_dataset(box):
    """A link out of the dataset is read, as git-annex and datalad need it, but named by its place in the dataset."""
    outside = box.bold.rename(box.folder / "outside.nii.gz")
    (box.func / "sub-02_ses-1_task-rest_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz").symlink_to(outside)
    before = outside.read_bytes()
    assert box.run("--participant-label", "02").code == 0
    texts = [path.read_text() for path in box.output.rglob("*.json") if "logs" not in path.parts]
    uris = [uri for text in texts for uri in (json.loads(text).get("Sources") or []) if isinstance(uri, str)]
    assert uris
    assert not any(".." in uri or "outside" in uri for uri in uris)
    assert outside.read_bytes() == before
