"""Other programs take the outputs as they are: nilearn, pybids, and by their own rules XCP-D and giga_connectome."""

import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from bids import BIDSLayout
from nilearn.maskers import NiftiLabelsMasker

from bids_parcellate.cli import main

DOCS = Path(__file__).parents[1] / "docs" / "atlas.md"
MNI = "MNI152NLin2009cAsym"


@pytest.fixture(scope="module")
def named(study, outputs, tmp_path_factory):
    """The same job, with an atlas for each number of parcels, and with tables of colours."""
    folder = tmp_path_factory.mktemp("named")
    options = ["--atlas-name", "Study{}", "--color-tables", "--work-dir", str(outputs / ".work")]
    assert main([str(study[0]), str(folder), "group", "--nprocs", "1", "--n-parcels", "10", "30", *options]) == 0
    return folder


@pytest.fixture(scope="module")
def layout(outputs):
    config = str(files("bids_parcellate") / "data" / "pybids.json")
    return BIDSLayout(outputs, validate=False, config=["bids", "derivatives", config])


def one(files):
    (file,) = files
    return file


@pytest.mark.parametrize("n_parcels", [10, 30])
def test_pybids_gives_back_the_same_numbers(study, layout, n_parcels):
    image = one(layout.get(atlas="Parcellate", scale=n_parcels, template=MNI, suffix="dseg", extension=".nii.gz"))
    table = one(layout.get(atlas="Parcellate", scale=n_parcels, template=MNI, suffix="dseg", extension=".tsv"))
    labels, parcels = np.asarray(image.get_image().dataobj), table.get_df()
    np.testing.assert_array_equal(np.unique(labels[labels > 0]), parcels["index"])
    voxels = [np.argwhere(labels == index) for index in parcels["index"]]
    assert list(parcels["n_voxels"]) == [len(each) for each in voxels]
    centres = nib.affines.apply_affine(image.get_image().affine, [each.mean(axis=0) for each in voxels])
    np.testing.assert_allclose(parcels[["x", "y", "z"]], centres, atol=0.0051)
    assert image.get_metadata()["Parcellation"]["NumberOfParcels"] == n_parcels
    run = {"subject": "01", "session": "2", "task": "rest", "scale": n_parcels, "extension": ".tsv"}
    series = one(layout.get(**run, suffix="timeseries"))
    matrix = one(layout.get(**run, suffix="relmat", stat="pearsoncorrelation"))
    signals = pd.read_csv(series.path, sep="\t")
    related = pd.read_csv(matrix.path, sep="\t", index_col="Node")
    assert list(signals) == list(related) == list(related.index) == list(parcels["name"])
    np.testing.assert_allclose(related, np.corrcoef(signals.T), atol=1e-5)
    assert series.get_metadata()["RepetitionTime"] == 2.0


def test_pybids_gives_a_new_participant_s_numbers_of_an_atlas_that_is_there(study, outputs, tmp_path):
    """The participant level of a new subject: its tables are those of the group job that has it, byte for byte."""
    folder = tmp_path / "out"
    shutil.copytree(outputs / f"tpl-{MNI}", folder / f"tpl-{MNI}")
    shutil.copy(outputs / "dataset_description.json", folder)
    options = ["--participant-label", "02", "--n-parcels", "10", "30", "--nprocs", "1"]
    assert main([str(study[0]), str(folder), "participant", *options]) == 0
    config = str(files("bids_parcellate") / "data" / "pybids.json")
    layout = BIDSLayout(folder, validate=False, config=["bids", "derivatives", config])
    query = {"subject": "02", "suffix": ["timeseries", "relmat"], "extension": ".tsv"}
    found = layout.get(**query, return_type="file")
    assert len(found) == 4
    for path in map(Path, found):
        assert path.read_bytes() == (outputs / path.relative_to(folder)).read_bytes()


def test_pybids_finds_every_file_by_its_entities(outputs, layout):
    names = {"tpl": "template", "sub": "subject", "ses": "session", "seg": "segmentation"}
    paths = [path for top in ("tpl-*", "sub-*") for path in outputs.glob(f"{top}/**/*_*.*")]
    assert len(paths) > 30
    for path in paths:
        found = layout.get_file(path).get_entities()
        for part in path.name.split("_")[:-1]:
            key, label = part.split("-")
            assert str(found[names.get(key, key)]) == label


def test_nilearn_takes_the_table_as_it_is(study, outputs):
    image = one(outputs.glob("tpl-*/anat/*_scale-30_dseg.nii.gz"))
    lut = image.with_name(image.name.replace(".nii.gz", ".tsv"))
    bold = one(study[0].glob("sub-02/ses-1/func/*_desc-preproc_bold.nii.gz"))
    masker = NiftiLabelsMasker(image, lut=lut, standardize=None)
    signals = masker.fit_transform(bold)
    names = list(pd.read_csv(lut, sep="\t")["name"])
    assert list(masker.region_names_.values()) == names
    labels, data = np.asarray(nib.load(image).dataobj), nib.load(bold).get_fdata()
    np.testing.assert_allclose(signals[:, 7], data[labels == 8].mean(axis=0), rtol=1e-5)


# XCP-D's own configuration adds these two to those of pybids.
XCPD = {
    "name": "xcpd",
    "entities": [
        {"name": "template", "pattern": "[/\\\\]tpl-([a-zA-Z0-9+]+)"},
        {"name": "cohort", "pattern": "[_/\\\\]cohort-([a-zA-Z0-9+]+)"},
    ],
}


@pytest.mark.parametrize("n_parcels", [10, 30])
def test_xcpd_finds_each_atlas_and_its_own_table(named, n_parcels):
    assert json.loads((named / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    layout = BIDSLayout(named, validate=False, config=["bids", "derivatives", XCPD])
    templates = ["MNI152NLin6Asym", MNI, "MNIInfant"]
    found = layout.get(
        atlas=f"Study{n_parcels}", suffix="dseg", extension=[".nii.gz", ".nii"], template=templates, return_type="file"
    )
    assert len(found) == 1
    table = pd.read_csv(layout.get_nearest(found[0], extension=".tsv", strict=False), sep="\t")
    assert list(table["index"]) == list(range(1, n_parcels + 1))
    assert table["name"].is_unique
    assert (named / f"atlas-Study{n_parcels}_description.json").is_file()


def test_templateflow_s_client_finds_what_the_page_makes_for_giga_connectome(outputs, tmp_path):
    page = DOCS.read_text()
    commands = one(re.findall(r"```bash\n(.+?)```", page, re.DOTALL)).replace("OUT/", f"{outputs}/")
    subprocess.run(["bash", "-euc", commands], cwd=tmp_path, check=True)
    wanted = json.loads(one(re.findall(r"```json\n(.+?)```", page, re.DOTALL)))
    code = (
        "import json, sys; from templateflow import api; wanted = json.loads(sys.argv[1])\n"
        "for desc in ('10', '30'): print(api.get(**wanted, desc=desc, extension='nii.gz', raise_empty=True))"
    )
    # Nothing can be fetched: whatever is found is in the folder.
    environment = {"TEMPLATEFLOW_HOME": str(tmp_path / "templates"), "TEMPLATEFLOW_AUTOUPDATE": "0", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, json.dumps(wanted["parameters"])],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for n_parcels, path in zip((10, 30), done.stdout.splitlines(), strict=True):
        assert np.asarray(nib.load(path).dataobj).max() == n_parcels


def test_tables_of_colours_hold_the_parcels(named):
    for table in sorted(named.glob("tpl-*/anat/*_dseg.tsv")):
        parcels = pd.read_csv(table, sep="\t")
        fsleyes = [line.split() for line in table.with_suffix(".lut").read_text().splitlines()]
        freesurfer = [line.split() for line in table.with_suffix(".ctab").read_text().splitlines()]
        assert [row[4] for row in fsleyes] == [row[1] for row in freesurfer[1:]] == list(parcels["name"])
        assert ["#" + bytes(map(int, row[2:5])).hex() for row in freesurfer[1:]] == list(parcels["color"])


def test_a_name_keeps_its_colour_where_numbers_are_matched(study, outputs, tmp_path):
    earlier = one(outputs.glob("tpl-*/anat/*_scale-10_dseg.nii.gz"))
    colors = pd.read_csv(str(earlier).replace(".nii.gz", ".tsv"), sep="\t").set_index("name")["color"]
    changed = colors.iloc[::-1].to_numpy()
    table = pd.read_csv(str(earlier).replace(".nii.gz", ".tsv"), sep="\t").assign(color=changed)
    (tmp_path / "a_dseg.nii.gz").write_bytes(earlier.read_bytes())
    table.to_csv(tmp_path / "a_dseg.tsv", sep="\t", index=False)
    options = ["--match-labels", str(tmp_path / "a_dseg.nii.gz"), "--work-dir", str(outputs / ".work")]
    command = [str(study[0]), str(tmp_path / "out"), "group", "--nprocs", "1", "--n-parcels", "10", *options]
    assert main([*command, "--quality", "none", "--individual"]) == 0
    for pattern in ("tpl-*/anat/*_dseg.tsv", "sub-01/anat/*_dseg.tsv"):
        found = pd.read_csv(one((tmp_path / "out").glob(pattern)), sep="\t")
        assert list(found["color"]) == list(table.set_index("name")["color"][found["name"]])
