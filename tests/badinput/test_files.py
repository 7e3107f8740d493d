"""Folders and files that cannot be written to or must not be, and files that may not be read."""

import os
import resource
import shutil
import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.badinput.sandbox import Case, Sandbox, assert_helpful, cases, put, snapshot

NOBODY = 65534


@contextmanager
def without_privileges():
    """Let permissions count, for root too."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared_box(box):
    """A box in a folder that every user may read."""
    folder = Path(tempfile.mkdtemp(prefix="badinput-"))
    folder.chmod(0o755)
    dataset = shutil.copytree(box.dataset, folder / "data")
    output = shutil.copytree(box.output, folder / "out")
    open_to_all(folder)
    yield Sandbox(dataset, output, box.capture)
    open_to_all(folder)
    shutil.rmtree(folder)


def open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize(
    ("place", "code"),
    [("data", 16), ("data/dataset_description.json", 16), ("data/sub-02", 66), ("data/sub-02/ses-1/func", 66)],
)
def test_what_may_not_be_read(shared_box, place, code):
    box = shared_box
    path = box.folder / place
    inputs, outputs = snapshot(box.dataset), snapshot(box.output)
    mode = path.stat().st_mode
    path.chmod(0)
    with without_privileges():
        outcome = box.run("--check")
    path.chmod(mode)
    assert outcome.code == code, outcome.text
    assert_helpful(outcome, path, ())
    assert snapshot(box.dataset) == inputs
    assert snapshot(box.output) == outputs


@pytest.mark.parametrize("ending", ["preproc_bold.nii.gz", "brain_mask.nii.gz", "timeseries.tsv", "preproc_bold.json"])
def test_a_run_s_file_that_may_not_be_read(shared_box, ending):
    box = shared_box
    path = box.file(ending)
    outputs = snapshot(box.output)
    path.chmod(0)
    with without_privileges():
        outcome = box.run("--check")
    assert outcome.code == 0, outcome.text
    assert_helpful(outcome, path, ("Permission denied", "permissions"))
    assert "2 runs will be used" in outcome.out
    assert snapshot(box.output) == outputs


def test_an_output_folder_that_may_not_be_written(shared_box):
    box = shared_box
    inputs = snapshot(box.dataset)
    for path in (box.output, *(path for path in box.output.rglob("*") if path.is_dir())):
        path.chmod(0o555)
    outputs = snapshot(box.output)
    with without_privileges():
        outcome = box.run()
    assert outcome.code == 73, outcome.text
    assert_helpful(outcome, box.output, "Permission denied")
    assert snapshot(box.dataset) == inputs
    assert snapshot(box.output) == outputs


def test_an_output_folder_whose_description_may_not_be_read(shared_box):
    box = shared_box
    path = box.output / "dataset_description.json"
    path.chmod(0)
    outputs = snapshot(box.output)
    with without_privileges():
        outcome = box.run()
    assert outcome.code == 73, outcome.text
    assert_helpful(outcome, path, "Permission denied")
    assert snapshot(box.output) == outputs


@contextmanager
def largest_file(n_bytes: int):
    """Let writing fail half-way, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("n_bytes", [20_000, 60_000])
def test_writing_that_fails_half_way(box, n_bytes):
    """The work folder comes first, so that a full disk leaves the earlier outputs as they are."""
    inputs, outputs = snapshot(box.dataset), snapshot(box.output)
    with largest_file(n_bytes):
        outcome = box.run()
    assert outcome.code == 74, outcome.text
    assert_helpful(outcome, None, (".work", "File too large"))
    assert snapshot(box.dataset) == inputs
    assert snapshot(box.output, without=("logs", ".work")) == outputs
    assert not list(box.output.rglob("*.tmp")), "nothing half-written is left"
    assert box.run().code == 0


def in_dataset(name: str):
    def spoil(box: Sandbox) -> Path:
        box.output = box.dataset / name
        return box.dataset

    return spoil


def link_to_dataset(box: Sandbox) -> Path:
    box.output = box.folder / "link"
    box.output.symlink_to(box.dataset)
    return box.output


def link_below_dataset(box: Sandbox) -> Path:
    box.output = box.folder / "link"
    box.output.symlink_to(box.dataset / "new")
    return box.output


def a_file(box: Sandbox) -> Path:
    box.output = box.write("file", "mine")
    return box.output


def below_a_file(box: Sandbox) -> Path:
    box.output = box.write("file", "mine") / "out"
    return box.output


def of_another_program(box: Sandbox) -> Path:
    box.output = box.folder / "precious"
    box.output.mkdir()
    return put(box.output / "dataset_description.json", '{"Name": "precious"}')


@cases(
    Case("the dataset", in_dataset("."), "output_dir must differ", code=64),
    Case("in the dataset", in_dataset("parcels"), "to which nothing is written", code=64),
    Case("in a participant's folder", in_dataset("sub-01/out"), "to which nothing is written", code=64),
    Case("a link to the dataset", link_to_dataset, "output_dir must differ", code=64),
    Case("a link into the dataset", link_below_dataset, "to which nothing is written", code=64),
    Case("a file", a_file, (), code=73),
    Case("below a file", below_a_file, (), code=73),
    Case("another program's", of_another_program, "did not write it", code=73),
)
def test_output_folders_that_are_refused(box, case):
    before = dict(snapshot(box.folder))
    named = case.spoil(box)
    spoiled = snapshot(box.folder)
    assert before.items() <= spoiled.items()
    outcome = box.run()
    assert outcome.code == case.code, outcome.text
    assert_helpful(outcome, named if case.code == 73 else None, case.says)
    assert snapshot(box.folder) == spoiled


@cases(
    Case("work folder in the dataset", lambda _: None, "nothing is written", ("-w", "{box.dataset}/work"), 64),
    Case("database in the dataset", lambda _: None, "nothing is", ("--bids-database-dir", "{box.dataset}/db"), 64),
    Case("work folder is a file", lambda box: box.write("w", ""), (), ("-w", "{box.folder}/w"), 73),
    Case("database is a file", lambda box: box.write("d", ""), (), ("--bids-database-dir", "{box.folder}/d"), 73),
    Case("no mask", lambda _: None, "none.nii.gz", ("--mask", "/no/none.nii.gz"), 66),
    Case("no weights", lambda _: None, "none.nii.gz", ("--weights", "/no/none.nii.gz"), 66),
    Case("no earlier labels", lambda _: None, "none.nii.gz", ("--match-labels", "/no/none.nii.gz"), 66),
    Case("no reference", lambda _: None, "none.nii.gz", ("--reference-atlas", "/no/none.nii.gz"), 66),
    Case("no filter file", lambda _: None, "none.json", ("--bids-filter-file", "/no/none.json"), 66),
    Case("no strategy", lambda _: None, "none.toml", ("--confounds", "/no/none.toml"), 66),
    Case("no derivatives", lambda _: None, "/no/none", ("--derivatives", "/no/none"), 16),
    Case("too little memory", lambda _: None, "MB are allowed", ("--mem", "100M"), 64),
    Case("a name that no task has", lambda _: None, "There are", ("--task-id", "nback"), 18),
    Case("a participant who is not there", lambda _: None, "There are", ("--participant-label", "77"), 18),
    Case("a band above Nyquist", lambda _: None, "Nyquist", ("--low-pass", "0.4"), 18),
    Case("more volumes than there are", lambda _: None, "--min-volumes", ("--min-volumes", "100"), 18),
    Case("more parcels than voxels", lambda _: None, "100000", ("--n-parcels", "100000"), 64),
    Case("a long name for the atlas", lambda _: None, "255 are the most", ("--atlas-name", "a" * 200), 64),
    Case("a space that is not there", lambda _: None, "MNI152NLin2009cAsym", ("--space", "MNI152NLin6Asym"), 18),
    Case("a session that is not there", lambda _: None, "There are", ("--session-label", "9"), 18),
    Case("no AROMA", lambda _: None, "AROMA", ("--confounds", "ica_aroma"), 18),
    Case("a smallest parcel larger than all", lambda _: None, "min", ("--min-size", "100000"), 64),
)
def test_files_and_folders_that_options_name(box, case):
    box.refuses(case)


@pytest.mark.parametrize(("option", "code"), [("--bids-database-dir", 73), ("--work-dir", 73), ("--derivatives", 16)])
def test_options_that_name_links_to_themselves(box, option, code):
    link = box.folder / "link"
    link.symlink_to("link")
    outcome = box.run(option, link)
    assert outcome.code == code, outcome.text
    assert_helpful(outcome, link, ())


@pytest.mark.parametrize("which", ["dataset", "output"])
def test_links_to_themselves(box, which):
    link = box.folder / "link"
    link.symlink_to("link")
    setattr(box, which, link)
    outcome = box.run()
    assert outcome.code == {"dataset": 16, "output": 73}[which], outcome.text
    assert_helpful(outcome, link, ())
