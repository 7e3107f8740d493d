"""Datasets that are none, or do not hold together."""

import os
import shutil
from pathlib import Path

import pytest

from tests.badinput.sandbox import Case, Sandbox, assert_helpful, cases, edit_json, put, snapshot

DESCRIPTION = "dataset_description.json"
LONG = "x" * 2000


def empty(box: Sandbox) -> Path:
    shutil.rmtree(box.dataset)
    box.dataset.mkdir()
    return box.dataset


def replace_by_file(box: Sandbox) -> Path:
    shutil.rmtree(box.dataset)
    return put(box.dataset, "")


def replace_by_dead_link(box: Sandbox) -> Path:
    shutil.rmtree(box.dataset)
    box.dataset.symlink_to("nowhere")
    return box.dataset


def describe(content: str | bytes):
    return lambda box: put(box.dataset / DESCRIPTION, content)


def description(**values: object):
    return lambda box: edit_json(box.dataset / DESCRIPTION, **values)


def replace_description(make):
    def spoil(box: Sandbox) -> Path:
        path = box.dataset / DESCRIPTION
        path.unlink()
        make(path)
        return path

    return spoil


def forget_derivatives(box: Sandbox) -> Path:
    put(box.dataset / DESCRIPTION, '{"Name": "raw", "BIDSVersion": "1.8.0", "DatasetType": "raw"}')
    return box.dataset


def remove_images(box: Sandbox) -> Path:
    for path in box.dataset.rglob("*_bold.nii.gz"):
        path.unlink()
    return box.dataset


def only_surfaces(box: Sandbox) -> Path:
    for path in list(box.dataset.rglob("*_bold.nii.gz")):
        path.rename(path.with_name(path.name.replace("_desc-preproc_bold.nii.gz", "_den-91k_bold.dtseries.nii")))
    return box.dataset


def two_spaces(box: Sandbox) -> None:
    shutil.copy(box.bold, box.bold.with_name(box.bold.name.replace("2009cAsym", "6Asym")))


NESTED = "[" * 100_000


@cases(
    Case("does not exist", lambda box: shutil.rmtree(box.dataset), "does not exist"),
    Case("a file", replace_by_file, "is not a folder"),
    Case("a link that leads nowhere", replace_by_dead_link, "does not exist"),
    Case("empty", empty, "no BIDS dataset"),
    Case("no description", lambda box: (box.dataset / DESCRIPTION).unlink(), ("description", "--skip-bids")),
    Case("description is empty", describe(""), "cannot be read"),
    Case("description is no JSON", describe("{'Name': 1}"), "cannot be read"),
    Case("description is a list", describe("[]"), "JSON object"),
    Case("description is nested too deep", describe(NESTED), "cannot be read"),
    Case("description is no text", describe(b"\xff\xfe\x00{"), "cannot be read"),
    Case("description is a loop of links", replace_description(lambda path: path.symlink_to(path.name))),
    Case("description is a folder", replace_description(Path.mkdir), "not a file"),
    Case("description is a pipe", replace_description(os.mkfifo), "not a file"),
    Case("description is not fetched", describe("/annex/objects/MD5E-s1--0.json\n"), "datalad get"),
    Case("pipelines are no list", description(GeneratedBy={"Name": "fMRIPrep"}), "must be a list"),
    Case("pipelines are texts", description(GeneratedBy=["fMRIPrep"]), "must be a list"),
    Case("a pipeline's name is a list", description(GeneratedBy=[{"Name": ["fMRIPrep"]}]), "Name"),
    Case("a container is a text", description(GeneratedBy=[{"Name": "fMRIPrep", "Container": "img"}]), "Container"),
    Case("authors are a number", description(Authors=7), "Authors"),
    Case("half a character", description(Authors=["\ud800"]), "surrogates"),
    Case("a pipeline's version is a list", description(GeneratedBy=[{"Name": "fMRIPrep", "Version": [1]}]), "Version"),
    Case("raw", forget_derivatives, "is a raw dataset"),
)
def test_no_dataset(box, case):
    box.refuses(Case(case.name, case.spoil, case.says, case.options, code=16))


@cases(
    Case("no image", remove_images, "There is no BOLD image"),
    Case("images on surfaces only", only_surfaces, "volumetric output space"),
    Case("two spaces", two_spaces, "--space", code=64),
)
def test_nothing_to_use(box, case):
    box.refuses(case)


# Files of one run: it is left out, and alone it ends the job.


def duplicate(old: str, new: str):
    def spoil(box: Sandbox) -> Path:
        return Path(shutil.copy(box.bold, box.bold.with_name(box.bold.name.replace(old, new))))

    return spoil


def two_spellings(box: Sandbox) -> Path:
    image = box.bold
    for number in ("1", "01"):
        named = Path(shutil.copy(image, image.with_name(image.name.replace("_space", f"_run-{number}_space"))))
    image.unlink()
    return named


def not_fetched(box: Sandbox) -> Path:
    path = box.bold
    path.unlink()
    path.symlink_to(f"../../../.git/annex/objects/xx/yy/MD5E-s1--0.nii.gz/{LONG[:100]}")
    return path


def looping_link(box: Sandbox) -> Path:
    path = box.bold
    path.unlink()
    path.symlink_to(path.name)
    return path


def pipe(box: Sandbox) -> Path:
    path = box.bold
    path.unlink()
    os.mkfifo(path)
    return path


def relabel(old: str, new: str):
    """Rename all files of the run."""

    def spoil(box: Sandbox) -> None:
        for path in list(box.func.iterdir()):
            path.rename(path.with_name(path.name.replace(old, new)))

    return spoil


def second_mask(box: Sandbox) -> Path:
    return Path(shutil.copy(box.mask, box.mask.with_name(box.mask.name.removesuffix(".gz"))))


@cases(
    Case("the same run as run-1 and run-01", two_spellings, "same run"),
    Case("compressed and not", duplicate(".nii.gz", ".nii"), "same run"),
    Case("two masks", second_mask, "more than one brain mask"),
    Case("image is not fetched", not_fetched, "datalad get"),
    Case("image is a pointer", lambda box: put(box.bold, "/annex/objects/MD5E-s1--0.nii.gz\n"), "datalad get"),
    Case("image is a loop of links", looping_link),
    Case("image is a pipe", pipe, "not a file"),
    Case("mark-up in a label", relabel("task-rest", "task-<b>rest"), ("task", "letters, digits")),
    Case("a line break in a label", relabel("task-rest", "task-re\nst"), "There is no BOLD image"),
    Case("a label that is too long for outputs", relabel("task-rest", "task-" + LONG[:130]), "--atlas-name", code=64),
    Case("dots in a label", relabel("task-rest", "task-..rest"), "There is no BOLD image"),
    Case("a space in a label", relabel("task-rest", "task-re st"), "letters, digits"),
)
def test_a_run_that_cannot_be_used(box, case):
    box.refuses(case, "--participant-label", "02")


def test_odd_but_sound_trees_are_read(box):
    """Loops of folders, links to themselves and long or strange names beside the files that are wanted."""
    (box.func / "loop").symlink_to("..")
    (box.dataset / "sub-03").symlink_to("sub-03")
    (box.dataset / "sub-01" / "ses-9").symlink_to("ses-9")
    (box.dataset / "sub-04").symlink_to(".")
    put(box.func / f"{LONG[:200]}.nii.gz", "")
    put(box.func / "sub-02\n\udcff", "")
    put(box.func / "sub-02_ses-1_task-rest_bold.nii.gz.tmp", "")
    inputs = snapshot(box.dataset)
    outcome = box.run("--check")
    assert outcome.code == 0, outcome.text
    assert "3 runs will be used" in outcome.out
    assert "0 runs will be left out" in outcome.out
    assert snapshot(box.dataset) == inputs


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ("--mask", 66),
        ("--confounds", 66),
        ("--bids-filter-file", 66),
        ("--config-file", 66),
        ("--weights", 66),
        ("--match-labels", 66),
        ("--reference-atlas", 66),
        ("--derivatives", 16),
        ("--work-dir", 73),
        ("--bids-database-dir", 73),
    ],
)
def test_names_that_are_too_long(box, option, code):
    ending = {"--confounds": ".toml", "--reference-atlas": ".nii.gz"}.get(option, "")
    inputs, outputs = snapshot(box.dataset), snapshot(box.output, without=("logs",))
    outcome = box.run(option, f"/{LONG}{ending}")
    assert outcome.code == code, outcome.text
    assert_helpful(outcome, None, "xxx")
    assert snapshot(box.dataset) == inputs
    assert snapshot(box.output, without=("logs",)) == outputs


def test_folders_whose_names_are_too_long(box):
    for arguments, code in (((f"/{LONG}", box.output), 16), ((box.dataset, f"/{LONG}"), 73)):
        outcome = box.command(*arguments, "group", "--nprocs", "1", "--n-parcels", "6")
        assert outcome.code == code, outcome.text
        assert_helpful(outcome, None, "xxx")
