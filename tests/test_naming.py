from dataclasses import replace
from pathlib import Path

import pytest
from bidsschematools.schema import load_schema
from hypothesis import given
from hypothesis import strategies as st

from bids_parcellate.io.naming import ENTITY_ORDER, OutputNames, as_label, bids_name, parse_entities

RUN = {"sub": "01", "ses": "a", "task": "rest", "run": "1", "space": "MNI", "res": "2", "desc": "preproc"}
NAMES = OutputNames(Path("/out"), "MNI", "Study", "hierarchical_kmeans", "simple", res="2")


def test_order_is_that_of_the_specification():
    schema = load_schema()
    short = [schema.objects.entities[entity].name for entity in schema.rules.entities]
    assert [key for key in ENTITY_ORDER if key != "stat"] == [key for key in short if key in ENTITY_ORDER]


@given(st.dictionaries(st.sampled_from(ENTITY_ORDER), st.from_regex(r"[A-Za-z0-9]{1,6}", fullmatch=True)))
def test_names_hold_every_entity_once_in_order(entities):
    parts = bids_name(entities, "bold", ".tsv").removesuffix("bold.tsv").rstrip("_").split("_")
    found = dict(part.split("-") for part in parts if part)
    assert found == entities
    assert list(found) == sorted(found, key=ENTITY_ORDER.index)


@given(st.dictionaries(st.sampled_from(ENTITY_ORDER), st.from_regex(r"[A-Za-z0-9+]{1,6}", fullmatch=True)))
def test_entities_of_a_name_are_read_back(entities):
    name = bids_name(entities, "bold", ".nii.gz")
    parsed = parse_entities(name)
    assert parsed == entities
    assert bids_name(parsed, "bold", ".nii.gz") == name
    assert list(parsed) == sorted(parsed, key=ENTITY_ORDER.index)


def test_unknown_entities_are_kept_and_come_last():
    assert list(parse_entities("sub-1_foo-2_task-x_bold.json").items()) == [("sub", "1"), ("task", "x"), ("foo", "2")]


@pytest.mark.parametrize("label", ["../x", "a/b", "", "a_b", "ü", "a-b"])
def test_labels_that_are_none_are_refused(label):
    with pytest.raises(ValueError, match="no BIDS label"):
        bids_name({"sub": label}, "bold", ".tsv")


def test_unknown_entities_are_refused():
    with pytest.raises(ValueError, match="'subject' is no BIDS entity"):
        bids_name({"subject": "01"}, "bold", ".tsv")


def test_names_of_a_run():
    folder = "/out/sub-01/ses-a/func/sub-01_ses-a_task-rest_run-1"
    atlas = "space-MNI_atlas-Study_seg-hierarchicalkmeans_scale-50_res-2"
    assert str(NAMES.signals(RUN, 50, "mean", ".tsv")) == f"{folder}_{atlas}_stat-mean_desc-simple_timeseries.tsv"
    for kind, label in (("pearson", "pearsoncorrelation"), ("tangent", "tangent")):
        expected = f"{folder}_{atlas}_stat-{label}_desc-simple_relmat.json"
        assert str(NAMES.connectivity(RUN, 50, kind, ".json")) == expected
    assert str(NAMES.outliers(RUN, ".tsv")) == f"{folder}_desc-simple_outliers.tsv"


def test_names_of_the_group():
    assert str(NAMES.parcellation(50, ".nii.gz")) == (
        "/out/tpl-MNI/anat/tpl-MNI_atlas-Study_seg-hierarchicalkmeans_scale-50_res-2_dseg.nii.gz"
    )
    cohort = OutputNames(Path("/out"), "MNIInfant", "Study", "ward", "simple", cohort="1")
    assert str(cohort.group_mask(".json")) == (
        "/out/tpl-MNIInfant/cohort-1/anat/tpl-MNIInfant_cohort-1_desc-group_mask.json"
    )
    assert NAMES.uri(NAMES.atlas_description(50)) == "bids::atlas-Study_description.json"


def test_the_atlas_can_be_named_after_its_number_of_parcels():
    names = replace(NAMES, atlas="Study{}")
    assert "_atlas-Study50_seg-hierarchicalkmeans_scale-50_" in names.parcellation(50, ".tsv").name
    assert "_atlas-Study50_seg-hierarchicalkmeans_scale-50_" in names.signals(RUN, 50, "mean", ".tsv").name
    assert names.atlas_description(50).name == "atlas-Study50_description.json"
    assert "_atlas-Study_seg-hierarchicalkmeans_" in names.figures(".tsv").name


def test_labels_from_text():
    assert as_label("ica_aroma + GSR") == "icaaromaGSR"
