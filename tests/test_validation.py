"""Each mistake that the BIDS validator passes over is found."""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_parcellate.cli import main
from bids_parcellate.errors import MissingInputError
from bids_parcellate.outputs.validation import find_problems
from tests.outputs import validator_issues


@pytest.fixture(scope="module")
def everything(study, outputs, tmp_path_factory):
    """What a job writes that is asked for all that there is."""
    folder = tmp_path_factory.mktemp("everything")
    options = ["--individual", "--quality", "full", "--n-bootstrap", "2", "--n-random", "2", "--color-tables"]
    options += ["--connectivity", "pearson", "tangent", "--work-dir", str(outputs / ".work")]
    assert main([str(study[0]), str(folder), "group", "--nprocs", "1", "--n-parcels", "10", *options]) == 0
    return folder


@pytest.fixture
def folder(everything, tmp_path):
    return shutil.copytree(everything, tmp_path / "copy")


def edit_image(path, change):
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), path)


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
    "no table": (lambda f: first(f, "tpl-*/anat/*_dseg.tsv").unlink(), "cannot be read"),
    "broken JSON": (lambda f: first(f, "sub-*/*/func/*_relmat.json").write_text("{"), "cannot be read"),
    "no key": (lambda f: edit_json(first(f, "sub-*/*/func/*_relmat.json"), NodeFiles=None), "NodeFiles is missing"),
    "URI of no file in the qc": (lambda f: edit_json(first(f, "tpl-*/anat/*_qc.json"), Sources=["bids::a"]), "no file"),
    "figure without words": (
        lambda f: edit_table(first(f, "tpl-*/anat/*_qc.tsv"), lambda t: t.replace({"figure": {"silhouette": "s"}})),
        "s is not described",
    ),
    "column of participants": (lambda f: edit_json(f / "participants.json", used=None), "column used"),
    "column of runs": (lambda f: edit_json(f / "logs" / "runs.json", reason=None), "column reason"),
    "table without JSON": (lambda f: first(f, "sub-*/*/func/*_outliers.json").unlink(), "no JSON file"),
    "label without words": (lambda f: edit_table(f / "descriptions.tsv", lambda t: t[1:]), "does not explain desc-"),
    "atlas without words": (lambda f: first(f, "atlas-*.json").unlink(), "there is no atlas-"),
    "size": (
        lambda f: edit_table(first(f, "tpl-*/anat/*_dseg.tsv"), lambda t: t.assign(n_voxels=t["n_voxels"] + 1)),
        "n_voxels",
    ),
    "colour": (
        lambda f: edit_table(first(f, "sub-*/anat/*_dseg.tsv"), lambda t: t.assign(color="red")),
        "a colour that is none",
    ),
    "name of an individual parcel": (
        lambda f: edit_table(first(f, "sub-*/anat/*_dseg.tsv"), lambda t: t.assign(name=t["name"][::-1].to_numpy())),
        "name of its table is not that of the group's",
    ),
    "individual label": (
        lambda f: edit_image(first(f, "sub-*/anat/*_dseg.nii.gz"), lambda labels: np.where(labels == 3, 0, labels)),
        "its labels are not those",
    ),
    "stability": (
        lambda f: edit_image(first(f, "tpl-*/anat/*_probseg.nii.gz"), lambda share: 1 - share),
        "no shares in the voxels of the parcels",
    ),
    "nodes of the group's mean": (
        lambda f: edit_table(first(f, "tpl-*/anat/*_relmat.tsv"), lambda t: t[::-1]),
        "order",
    ),
    "symmetry": (
        lambda f: edit_table(first(f, "sub-*/*/func/*_relmat.tsv"), lambda t: t.assign(parcel002=0.5)),
        "not symmetric",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_found(folder, spoil, message):
    spoil(folder)
    assert any(message in problem for problem in find_problems(folder))


def test_there_is_nothing_to_find_in_good_outputs(outputs, everything):
    assert find_problems(outputs) == []
    assert find_problems(everything) == []


def test_the_validator_finds_nothing_in_all_that_there_is(everything):
    assert validator_issues(everything) == []


def test_the_command_line_says_what_is_wrong(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--check-outputs", str(folder)])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{folder}: no problem was found.\n"
    first(folder, "sub-*/*/func/*_outliers.json").unlink()
    assert main(["--check-outputs", str(folder)]) == 65
    assert "_outliers.tsv: no JSON file describes it" in capsys.readouterr().err


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(MissingInputError, match="no output folder"):
        find_problems(tmp_path)
