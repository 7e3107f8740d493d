"""Each mistake that the BIDS validator passes over is found."""

import json
import shutil

import pandas as pd
import pytest

from bids_parcellate.validation import find_problems


@pytest.fixture
def folder(outputs, tmp_path):
    return shutil.copytree(outputs, tmp_path / "copy", ignore=shutil.ignore_patterns(".work"))


def edit_json(path, **values):
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def edit_table(path, change):
    table = pd.read_csv(path, sep="\t")
    change(table).to_csv(path, sep="\t", index=False)


def first(folder, pattern):
    return min(folder.glob(pattern))


MISTAKES = {
    "name of the dataset": (lambda f: edit_json(f / "dataset_description.json", Name=None), "Name"),
    "pipeline": (lambda f: edit_json(f / "dataset_description.json", GeneratedBy=[]), "GeneratedBy"),
    "links": (lambda f: edit_json(f / "dataset_description.json", DatasetLinks=None), "DatasetLinks does not have"),
    "licence of the atlas": (lambda f: edit_json(first(f, "atlas-*.json"), License=None), "License"),
    "absolute source": (lambda f: edit_json(first(f, "tpl-*/anat/*_mask.json"), Sources=["/a"]), "BIDS URIs"),
    "dead link": (lambda f: edit_json(first(f, "tpl-*/anat/*_mask.json"), Sources=["bids::a"]), "leads to no file"),
    "label without a row": (lambda f: edit_table(first(f, "tpl-*/anat/*_dseg.tsv"), lambda t: t[1:]), "labels"),
    "name twice": (lambda f: edit_table(first(f, "tpl-*/anat/*_dseg.tsv"), lambda t: t.assign(name="p")), "twice"),
    "column without words": (lambda f: edit_json(first(f, "tpl-*/anat/*_dseg.json"), name=None), "not described"),
    "columns": (lambda f: edit_table(first(f, "sub-*/*/func/*_timeseries.tsv"), lambda t: t.iloc[:, ::-1]), "order"),
    "rows": (
        lambda f: edit_table(first(f, "sub-*/*/func/*_timeseries.tsv"), lambda t: t[1:]),
        "volumes that were kept",
    ),
    "nodes": (lambda f: edit_table(first(f, "sub-*/*/func/*_relmat.tsv"), lambda t: t[::-1]), "order"),
    "symmetry": (
        lambda f: edit_table(first(f, "sub-*/*/func/*_relmat.tsv"), lambda t: t.assign(parcel002=0.5)),
        "not symmetric",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_found(folder, spoil, message):
    spoil(folder)
    assert any(message in problem for problem in find_problems(folder))


def test_there_is_nothing_to_find_in_good_outputs(folder):
    assert find_problems(folder) == []
