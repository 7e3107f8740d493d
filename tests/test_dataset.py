"""Tests of the selection of runs: against plain pybids, on generated trees and on real data."""

import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bids.layout import BIDSLayout, BIDSLayoutIndexer, Query
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_parcellate.config import SelectionConfig
from bids_parcellate.dataset import Dataset, Selection, select_runs
from bids_parcellate.dataset.filters import QUERIES, parse_filters
from bids_parcellate.dataset.index import find_files
from bids_parcellate.dataset.sidecars import Sidecars
from bids_parcellate.errors import (
    DatasetError,
    MissingInputError,
    NothingSelectedError,
    OutputError,
    UsageError,
)
from bids_parcellate.io.naming import bids_name, parse_entities
from tests import trees
from tests.trees import FMRIPREP_VERSIONS, MNI


def select(bids_dir: Path, needs: dict | None = None, **request) -> Selection:
    return select_runs(bids_dir, SelectionConfig(**request), **(needs or {}))


def names(selection: Selection) -> list[str]:
    return [run.bold.name for run in selection.runs]


@lru_cache(maxsize=4)
def plain_layout(root: Path) -> BIDSLayout:
    """Open a dataset the way pybids' documentation does: its own configuration, all files, no metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PipelineDescription of old versions
        indexer = BIDSLayoutIndexer(validate=False, index_metadata=False)
        return BIDSLayout(root, validate=False, is_derivative=True, indexer=indexer)


def plain_pybids(root: Path, **query) -> list[str]:
    query = {"suffix": "bold", "extension": [".nii", ".nii.gz"], "desc": "preproc", "echo": Query.NONE} | query
    return [Path(path).name for path in sorted(plain_layout(root).get(return_type="filename", **query))]


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(root.rglob("*"))}


def write_filter(path: Path, content: object) -> Path:
    return trees.write_json(path, content)


class TestVersions:
    @pytest.mark.parametrize("version", FMRIPREP_VERSIONS)
    def test_every_version_of_fmriprep_is_read(self, tmp_path: Path, version: str) -> None:
        root = trees.write_fmriprep(
            tmp_path, version=version, sessions=("a", None), runs=(1,), surfaces=True, t_r=1.5, spaces=(MNI, "T1w")
        )
        selection = select(tmp_path, space=MNI)
        assert not selection.rejected
        assert names(selection) == plain_pybids(root, space=MNI)
        assert len(selection.runs) == 4
        for run in selection.runs:
            prefix = run.bold.name.partition("_space-")[0]
            suffix = "regressors" if version.startswith(("1.", "20.1")) else "timeseries"
            assert run.label == prefix
            assert run.t_r == 1.5
            assert run.n_volumes == trees.N_VOLUMES
            assert run.mask == run.bold.with_name(f"{prefix}_space-{MNI}_desc-brain_mask.nii.gz")
            assert run.confounds == run.bold.with_name(f"{prefix}_desc-confounds_{suffix}.tsv")
            assert run.confounds_json == run.confounds.with_suffix(".json")
            assert run.dataset.root == root
            assert (run.dataset.pipeline, run.dataset.pipeline_version) == ("fMRIPrep", version)

    def test_a_run_is_a_record_of_its_entities(self, tmp_path: Path) -> None:
        trees.write_fmriprep(tmp_path, subjects=("x1",), sessions=("2",), runs=(3,), resolutions=("2",))
        (run,) = select(tmp_path).runs
        assert list(run.entities.items()) == [
            ("sub", "x1"), ("ses", "2"), ("task", "rest"), ("run", "03"),
            ("space", MNI), ("res", "2"), ("desc", "preproc"),
        ]  # fmt: skip
        assert (run.participant, run.session, run.label) == ("x1", "2", "sub-x1_ses-2_task-rest_run-03")
        assert run.files == (run.bold, run.mask, run.confounds, run.confounds_json)
        assert run.uri(run.confounds) == f"bids:{tmp_path.name}:sub-x1/ses-2/func/{run.confounds.name}"
        with pytest.raises(ValueError, match="none of the datasets"):
            run.uri(Path("/elsewhere/file.nii.gz"))
        copy = pickle.loads(pickle.dumps(run))
        assert copy == run
        assert hash(copy) == hash(run)
        assert copy.grid == run.grid

    def test_records_are_read_without_pybids(self) -> None:
        # Workers only unpickle runs: they must not pay for pybids.
        code = "import sys, bids_parcellate.dataset; sys.exit('bids' in sys.modules or 'sqlalchemy' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[1]).returncode == 0

    def test_nibabies_with_cohorts(self, tmp_path: Path) -> None:
        spaces = ("MNIInfant_cohort-1", "MNIInfant_cohort-2")
        trees.write_fmriprep(tmp_path / "in", pipeline="NiBabies", spaces=spaces, subjects=("01",))
        with pytest.raises(UsageError, match="several 'cohort-' labels") as error:
            select(tmp_path / "in", space="MNIInfant")
        assert "1 (1 image), 2 (1 image)" in error.value.hint
        filter_file = write_filter(tmp_path / "filter.json", {"bold": {"cohort": "2"}})
        (run,) = select(tmp_path / "in", bids_filter_file=filter_file).runs
        assert run.entities["cohort"] == "2"
        assert "cohort-2" in run.mask.name

    def test_nibabies_with_plus(self, tmp_path: Path) -> None:
        trees.write_fmriprep(tmp_path, pipeline="NiBabies", spaces=("MNIInfant+1", "T1w"), subjects=("01",))
        (run,) = select(tmp_path, space="MNIInfant+1").runs
        assert run.entities["space"] == "MNIInfant+1"


class TestDatasets:
    @pytest.mark.parametrize("legacy", [False, True])
    @pytest.mark.parametrize("given", ["dataset", "derivatives", "raw"])
    def test_the_same_runs_from_wherever_one_points(self, tmp_path: Path, given: str, legacy: bool) -> None:
        raw = trees.write_raw(tmp_path / "study")
        (raw / "derivatives" / "freesurfer" / "sub-01" / "surf").mkdir(parents=True)
        trees.write_description(raw / "derivatives" / "mriqc", "MRIQC", "24.0.2")
        target = raw / "derivatives" / ("out" if legacy else "fmriprep")
        root = trees.write_fmriprep(target, version="20.2.7" if legacy else "24.1.1")
        folder = {"dataset": target, "derivatives": raw / "derivatives", "raw": raw}[given]
        selection = select(folder)
        assert names(selection) == plain_pybids(root)
        assert [dataset.root for dataset in selection.datasets] == [root]
        assert selection.datasets[0].name == "fmriprep"

    def test_descending_is_said(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        trees.write_fmriprep(tmp_path, version="20.2.7")
        with caplog.at_level(logging.INFO, logger="bids_parcellate"):
            select(tmp_path)
        assert f"reading {tmp_path / 'fmriprep'}" in caplog.text

    def test_named_derivatives_replace_those_in_the_raw_dataset(self, tmp_path: Path) -> None:
        raw = trees.write_raw(tmp_path / "study")
        trees.write_fmriprep(raw / "derivatives" / "old", version="21.0.4")
        new = trees.write_fmriprep(tmp_path / "new")
        selection = select(raw, derivatives=(f"prep={new}",))
        assert [(dataset.name, dataset.root) for dataset in selection.datasets] == [("prep", new)]
        assert selection.runs[0].uri(selection.runs[0].bold).startswith("bids:prep:sub-01/func/")
        unnamed = select(raw, derivatives=(str(new),))
        assert unnamed.datasets[0].name == "new"

    def test_two_cohorts_of_participants_from_two_datasets(self, tmp_path: Path) -> None:
        raw = trees.write_raw(tmp_path / "study")
        first = trees.write_fmriprep(tmp_path / "a" / "prep", subjects=("01",))
        second = trees.write_fmriprep(tmp_path / "b" / "prep", subjects=("02",))
        selection = select(raw, derivatives=(str(first), str(second)))
        assert [run.uri(run.bold).split(":")[1] for run in selection.runs] == ["prep", "prep-2"]

    def test_two_pipelines_with_the_same_runs_are_refused(self, tmp_path: Path) -> None:
        raw = trees.write_raw(tmp_path)
        old = trees.write_fmriprep(raw / "derivatives" / "v21", version="21.0.4", runs=(1,))
        new = trees.write_fmriprep(raw / "derivatives" / "v25", version="25.2.5", runs=(1,))  # run-01, not run-1
        with pytest.raises(
            UsageError, match=r"is in two datasets: fMRIPrep 21\.0\.4 in .*, and fMRIPrep 25\.2\.5 in "
        ) as error:
            select(raw)
        assert f"--derivatives {old}" in error.value.hint
        assert f"--derivatives {new}" in error.value.hint
        assert len(select(raw, derivatives=(str(new),)).runs) == 2

    def test_fmriprep_is_preferred_to_others(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        raw = trees.write_raw(tmp_path)
        trees.write_fmriprep(raw / "derivatives" / "cpac", pipeline="C-PAC", version="1.8.5")
        prep = trees.write_fmriprep(raw / "derivatives" / "fmriprep")
        selection = select(raw)
        assert {run.dataset.root for run in selection.runs} == {prep}
        assert "C-PAC 1.8.5" in caplog.text

    @pytest.mark.parametrize(
        ("derivatives", "message"),
        [(("a={0}", "a={1}"), "several datasets the name 'a'"), (("x={2}",), "holds 2 datasets, which cannot share")],
    )
    def test_names_of_datasets_must_be_unique(self, tmp_path: Path, derivatives: tuple[str, ...], message: str) -> None:
        first = trees.write_fmriprep(tmp_path / "both" / "1")
        second = trees.write_fmriprep(tmp_path / "both" / "2")
        with pytest.raises(UsageError, match=message):
            select(tmp_path, derivatives=tuple(each.format(first, second, tmp_path / "both") for each in derivatives))

    def test_what_is_no_derivative_dataset(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").touch()
        raw = trees.write_raw(tmp_path / "raw")
        for folder, message, way_out in (
            (tmp_path / "nowhere", "does not exist", "Give the folder"),
            (tmp_path / "file", "is not a folder", "Give the folder"),
            (tmp_path / "empty", "is no BIDS dataset", "output folder of fMRIPrep"),
            (raw, "is a raw dataset", "--derivatives PATH"),
        ):
            with pytest.raises(DatasetError, match=message) as error:
                select(folder)
            assert str(folder) in error.value.message
            assert way_out in error.value.hint
            assert error.value.exit_code == 16

    def test_a_dataset_without_description(self, tmp_path: Path) -> None:
        root = trees.write_fmriprep(tmp_path)
        (root / "dataset_description.json").unlink()
        with pytest.raises(DatasetError, match=r"has no dataset_description\.json") as error:
            select(root)
        assert "--skip-bids-validation" in error.value.hint
        selection = select(root, skip_bids_validation=True)
        assert names(selection) == plain_pybids(root)
        assert selection.datasets[0].pipeline is None

    @pytest.mark.parametrize("content", [b'{"Name": "fMRIPrep",', b"\xff\xfe\x00{", b""])
    def test_a_broken_description(self, tmp_path: Path, content: bytes) -> None:
        root = trees.write_fmriprep(tmp_path)
        (root / "dataset_description.json").write_bytes(content)
        with pytest.raises(DatasetError, match=re.escape(str(root / "dataset_description.json"))):
            select(root)
        assert len(select(root, skip_bids_validation=True).runs) == 2

    @pytest.mark.parametrize(
        "content", [[], {"DatasetType": "derivative", "GeneratedBy": {"Name": "fMRIPrep"}}, {"GeneratedBy": None}]
    )
    def test_a_description_of_another_shape_is_never_accepted(self, tmp_path: Path, content: object) -> None:
        root = trees.write_fmriprep(tmp_path)
        trees.write_json(root / "dataset_description.json", content)
        with pytest.raises(DatasetError, match=r"dataset_description\.json"):
            select(root, skip_bids_validation=True)

    def test_a_derivative_that_does_not_say_its_type(self, tmp_path: Path) -> None:
        root = trees.write_fmriprep(tmp_path)
        description = {"Name": "x", "BIDSVersion": "1.8.0", "GeneratedBy": [{"Name": "fMRIPrep"}]}
        trees.write_json(root / "dataset_description.json", description)
        assert len(select(root).runs) == 2

    def test_odd_places(self, tmp_path: Path) -> None:
        # pybids' own patterns take such folders for entities of every file.
        parent = tmp_path / "Zürich 脳 #1 100%" / "sub-99" / "ses-7_task-x_space-y"
        root = trees.write_fmriprep(parent, subjects=("01", "02"), spaces=(MNI, "T1w"))
        selection = select(root, space=MNI, participant_label=("02",))
        assert names(selection) == [f"sub-02_task-rest_space-{MNI}_desc-preproc_bold.nii.gz"]
        assert selection.runs[0].session is None
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", selection.datasets[0].name)

    def test_nothing_is_written_to_the_dataset(self, tmp_path: Path) -> None:
        raw = trees.write_raw(tmp_path / "raw")
        trees.write_fmriprep(raw / "derivatives" / "fmriprep")
        before = snapshot(raw)
        select(raw, bids_database_dir=tmp_path / "database")
        assert snapshot(raw) == before

    def test_relative_paths(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        trees.write_fmriprep(tmp_path / "prep")
        monkeypatch.chdir(tmp_path)
        assert all(run.bold.is_absolute() for run in select(Path("prep")).runs)


@pytest.fixture(scope="module")
def several_places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("several")
    return trees.write_fmriprep(root, spaces=(None, MNI, "MNI152NLin6Asym"), resolutions=(None, "1", "2"))


class TestSpacesAndResolutions:
    def test_several_spaces_are_refused(self, several_places: Path) -> None:
        with pytest.raises(UsageError, match="several 'space-' labels") as error:
            select(several_places)
        assert "MNI152NLin2009cAsym (6 images), MNI152NLin6Asym (6 images)" in error.value.hint
        assert "--space" in error.value.hint
        assert error.value.exit_code == 64

    def test_several_resolutions_are_refused(self, several_places: Path) -> None:
        with pytest.raises(UsageError, match="several 'res-' labels") as error:
            select(several_places, space=MNI)
        assert "1 (2 images), 2 (2 images), native (no 'res-') (2 images)" in error.value.hint

    @pytest.mark.parametrize("res", ["1", "2", "native"])
    def test_one_is_chosen(self, several_places: Path, res: str) -> None:
        selection = select(several_places, space=MNI, res=res)
        assert names(selection) == plain_pybids(several_places, space=MNI, res=Query.NONE if res == "native" else res)
        assert all(run.mask.name == run.bold.name.replace("preproc_bold", "brain_mask") for run in selection.runs)

    @pytest.mark.parametrize(("request_", "missing"), [({"space": "T1w"}, "space-T1w"), ({"res": "3"}, "res-3")])
    def test_what_is_not_there_is_said(self, several_places: Path, request_: dict[str, str], missing: str) -> None:
        with pytest.raises(NothingSelectedError, match=missing) as error:
            select(several_places, **({"space": MNI} | request_))
        assert "There are:" in error.value.hint
        assert error.value.exit_code == 18

    def test_native_images_are_used_where_asked_for_or_alone(self, several_places: Path, tmp_path: Path) -> None:
        native = select(several_places, space="native")
        assert names(native) == plain_pybids(several_places, space=Query.NONE)
        assert [run.mask.name for run in native.runs] == [
            "sub-01_task-rest_desc-brain_mask.nii.gz",
            "sub-02_task-rest_desc-brain_mask.nii.gz",
        ]
        alone = trees.write_fmriprep(tmp_path, spaces=(None,))
        assert names(select(alone)) == plain_pybids(alone)

    def test_a_run_that_is_not_in_the_space_is_reported(self, tmp_path: Path) -> None:
        root = trees.write_fmriprep(tmp_path, spaces=(None, MNI))
        for path in (root / "sub-02" / "func").glob(f"*space-{MNI}*"):
            path.unlink()
        selection = select(root)
        assert [run.participant for run in selection.runs] == ["01"]
        (rejected,) = selection.rejected
        assert rejected.participant == "02"
        assert "no image in the space" in rejected.reason
        assert rejected.uri == f"bids:{tmp_path.name}:sub-02/func/sub-02_task-rest_desc-preproc_bold.nii.gz"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labels")
    return trees.write_fmriprep(
        root, subjects=("01", "02", "011"), sessions=("a", "b"), tasks=("rest", "nback"), runs=(1, 2)
    )


class TestLabels:
    @pytest.mark.parametrize(
        ("request_", "query"),
        [
            ({}, {}),
            ({"participant_label": ("01",)}, {"subject": "01"}),
            ({"participant_label": ("sub-02", "011")}, {"subject": ["02", "011"]}),
            ({"session_label": ("a",)}, {"session": "a"}),
            ({"task_id": ("rest",)}, {"task": "rest"}),
            (
                {"participant_label": ("02",), "session_label": ("b",), "task_id": ("nback",)},
                {"subject": "02", "session": "b", "task": "nback"},
            ),
        ],
    )
    def test_labels_select_as_in_pybids(self, labelled: Path, request_: dict, query: dict) -> None:
        assert names(select(labelled, **request_)) == plain_pybids(labelled, **query)

    @pytest.mark.parametrize(
        ("request_", "message", "there_are"),
        [
            ({"participant_label": ("03", "01", "04")}, "sub-03 or sub-04", "sub-01, sub-011, sub-02."),
            ({"session_label": ("c",)}, "ses-c", "ses-a, ses-b."),
            ({"task_id": ("motor",)}, "task-motor", "task-nback, task-rest."),
        ],
    )
    def test_labels_that_are_not_there(self, labelled: Path, request_: dict, message: str, there_are: str) -> None:
        with pytest.raises(NothingSelectedError, match=message) as error:
            select(labelled, **request_)
        assert error.value.hint.endswith(there_are)

    def test_a_participant_without_images_is_named(self, labelled: Path, tmp_path: Path) -> None:
        copy = shutil.copytree(labelled, tmp_path / "copy")
        shutil.rmtree(copy / "sub-02" / "ses-b")
        selection = select(copy, participant_label=("01", "02"), session_label=("b",))
        assert {run.participant for run in selection.runs} == {"01"}
        assert selection.warnings == ("sub-02 has no image that the request means.",)

    def test_order_does_not_depend_on_threads_or_place(self, labelled: Path, tmp_path: Path) -> None:
        copy = shutil.copytree(labelled, tmp_path / "copy")
        one, many = select(labelled, {"nprocs": 1}), select(copy, {"nprocs": 4})
        places = [run.uri(run.bold).partition(":")[2] for run in many.runs]
        assert names(one) == names(many)
        assert places == sorted(places)
        assert one == select(labelled, {"nprocs": 4})


@pytest.fixture(scope="module")
def filterable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filter")
    trees.write_fmriprep(root, sessions=("a", None), runs=(1, 2, None), echoes=2, version="24.1.1")
    return trees.write_fmriprep(root, sessions=("b",), runs=(3,), version="24.1.1")


def test_pybids_is_shown_only_what_can_answer(labelled: Path) -> None:
    shown = find_files(Dataset("x", labelled), {"all": {}}, participants=("01",))["all"]
    assert {path.relative_to(labelled).parts[0] for path in shown} == {"sub-01"}
    assert {path.parent.name for path in shown} == {"func"}
    assert Counter(path.name.rpartition("_")[2] for path in shown) == {
        "bold.nii.gz": 8,
        "mask.nii.gz": 16,  # in the template's space and in the run's own
        "timeseries.tsv": 8,
    }


LONG_NAMES = {"sub": "subject", "ses": "session", "acq": "acquisition", "run": "run", "space": "space", "desc": "desc"}
PLAIN_LABELS = {None: Query.NONE, "*": Query.ANY}
file_names = st.builds(
    lambda sub, entities, kind: bids_name({"sub": sub} | entities | kind[0], *kind[1:]),
    st.sampled_from(["01", "02", "1"]),
    st.fixed_dictionaries(
        {},
        optional={
            "ses": st.just("a"),
            "acq": st.sampled_from(["x", "boldMask"]),
            "run": st.sampled_from(["1", "01", "2"]),
            "echo": st.just("1"),
            "space": st.sampled_from([MNI, "MNIInfant+1"]),
        },
    ),
    st.sampled_from(
        [
            ({"desc": "preproc"}, "bold", ".nii.gz"), ({}, "bold", ".nii"), ({"desc": "preproc"}, "bold", ".json"),
            ({"desc": "preproc"}, "boldref", ".nii.gz"), ({"den": "91k"}, "bold", ".dtseries.nii"),
            ({"desc": "brain"}, "mask", ".nii.gz"), ({"desc": "brain"}, "mask", ".nii"), ({}, "mask", ".nii.gz"),
            ({"desc": "confounds"}, "timeseries", ".tsv"), ({"desc": "confounds"}, "regressors", ".tsv"),
            ({"desc": "confounds"}, "timeseries", ".json"), ({}, "timeseries", ".tsv"),
        ]
    ),
)  # fmt: skip
filters_of_runs = st.fixed_dictionaries(
    {},
    optional={
        "sub": st.sampled_from([("01",), ("1", "02")]),
        "ses": st.sampled_from([("a",), (None,), ("*",)]),
        "acq": st.sampled_from([("x",), (None, "x")]),
        "run": st.sampled_from([("1",), ("01", "2"), (None,)]),
        "space": st.sampled_from([(MNI,), ("MNIInfant+1", None)]),
    },
)


@settings(deadline=None, max_examples=10)
@given(
    st.sets(st.tuples(st.sampled_from(["func", "anat", "figures"]), file_names), min_size=10, max_size=30),
    st.sampled_from(sorted(QUERIES)),
    filters_of_runs,
)
def test_any_query_finds_what_plain_pybids_finds(
    tmp_path_factory: pytest.TempPathFactory, files: set, name: str, filters: dict
) -> None:
    root = tmp_path_factory.mktemp("any")
    trees.write_description(root)
    for place, file in files:
        # Where names and folders disagree, or in folders that BIDS does not know, pybids' patterns look at the folders.
        sub, *rest = file.split("_")
        path = root / sub / ("ses-a" if "ses-a" in rest else "") / place / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    query = {**QUERIES[name], **filters}
    plain_query = {
        LONG_NAMES.get(key, key): [PLAIN_LABELS.get(label, label) for label in labels] for key, labels in query.items()
    }
    layout = plain_layout(root)
    expected = set(layout.get(return_type="filename", invalid_filters="allow", **plain_query))
    layout.connection_manager.engine.dispose()
    for database in (None, root.with_name(f"{root.name}-database")):
        found = find_files(Dataset("x", root), {name: query}, database_dir=database)
        assert set(map(str, found[name])) == expected


class TestOddTrees:
    """What lies in datasets beside files with proper names."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return trees.write_fmriprep(tmp_path / "prep", subjects=("01", "02"), sessions=("a",))

    def test_folders_that_are_links(self, root: Path, tmp_path: Path) -> None:
        plain = names(select(root))
        for number, folder in enumerate(
            (root / "sub-01", root / "sub-02" / "ses-a", root / "sub-02" / "ses-a" / "func")
        ):
            target = folder.rename(tmp_path / f"elsewhere-{number}")
            folder.symlink_to(target)
            assert names(select(root)) == plain == plain_pybids(root)
            assert all(run.bold.is_relative_to(root) for run in select(root).runs)
            folder.unlink()
            target.rename(folder)

    def test_what_only_looks_like_data(self, root: Path) -> None:
        plain = select(root)
        func = root / "sub-01" / "ses-a" / "func"
        image = plain.runs[0].bold
        (func / image.name.replace("rest", "folder")).mkdir()  # a folder with an image's name
        shutil.copy(image, func / "task-x_desc-preproc_bold.nii.gz")  # nobody's
        (func / "work").mkdir()
        shutil.copy(image, func / "work" / image.name)
        shutil.copytree(root / "sub-01", root / "sub-01_backup")
        (root / "sub-03").touch()
        (root / "sub-04").symlink_to("nowhere")
        (root / "sub-05").mkdir()
        (root / "sub-06" / "ses-a").mkdir(parents=True)
        (root / "sub-06" / "ses-a" / "func").touch()
        assert select(root) == plain

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_folder_that_must_not_be_read(self, root: Path) -> None:
        folder = root / "sub-02" / "ses-a"
        folder.chmod(0)
        try:
            with pytest.raises(MissingInputError, match=f"{folder} cannot be read") as error:
                select(root)
            assert "permissions" in error.value.hint
            assert len(select(root, participant_label=("01",)).runs) == 1
        finally:
            folder.chmod(0o755)


class TestFilterFile:
    @pytest.mark.parametrize(
        ("bold", "query"),
        [
            ({"run": 1}, {"run": 1}),
            ({"run": "01"}, {"run": "01"}),
            ({"run": [1, 3]}, {"run": [1, 3]}),
            ({"run": None}, {"run": Query.NONE}),
            ({"run": "*"}, {"run": Query.ANY}),
            ({"run": [None, 2]}, {"run": [Query.NONE, 2]}),
            ({"session": ["*", None]}, {}),
            ({"ses": "ses-a", "subject": "01"}, {"session": "a", "subject": "01"}),
            ({"echo": ["1", "2"], "space": None}, {"echo": ["1", "2"], "space": Query.NONE}),
            ({"datatype": "func", "suffix": "bold", "extension": "nii.gz"}, {}),
        ],
    )
    def test_filters_select_as_in_pybids(self, filterable: Path, tmp_path: Path, bold: dict, query: dict) -> None:
        selection = select(filterable, bids_filter_file=write_filter(tmp_path / "f.json", {"bold": bold}))
        assert names(selection) == plain_pybids(filterable, **query)
        assert not selection.rejected

    def test_one_file_serves_several_programs(self, filterable: Path, tmp_path: Path) -> None:
        content = {"t1w": {"session": "a"}, "fmap": {}, "bold": {"datatype": "func", "session": "a"}}
        selection = select(filterable, bids_filter_file=write_filter(tmp_path / "f.json", content))
        assert names(selection) == plain_pybids(filterable, session="a")
        assert any("fmap, t1w" in warning for warning in selection.warnings)

    def test_masks_and_confounds(self, tmp_path: Path) -> None:
        root = trees.write_fmriprep(tmp_path / "in", subjects=("01",))
        func = root / "sub-01" / "func"
        for old, new in (("desc-brain_mask", "desc-bold_mask"), ("desc-confounds_", "desc-mine_")):
            for path in list(func.glob(f"*{old}*")):
                path.rename(path.with_name(path.name.replace(old, new)))
        content = {"mask": {"desc": "bold"}, "confounds": {"desc": "mine"}}
        (run,) = select(root, bids_filter_file=write_filter(tmp_path / "f.json", content)).runs
        assert run.mask.name.endswith("desc-bold_mask.nii.gz")
        assert run.confounds.name.endswith("desc-mine_timeseries.tsv")

    def test_command_line_and_file_must_not_both_say(self, filterable: Path, tmp_path: Path) -> None:
        filter_file = write_filter(tmp_path / "f.json", {"bold": {"session": "a"}})
        with pytest.raises(UsageError, match=r"--session-label and the filter file both say which 'ses-'"):
            select(filterable, session_label=("b",), bids_filter_file=filter_file)

    def test_several_kinds_of_one_run(self, tmp_path: Path) -> None:
        root = trees.write_fmriprep(tmp_path / "in", aroma=True, spaces=("MNI152NLin6Asym",), version="21.0.4")
        with pytest.raises(UsageError, match="is there as desc-preproc and as desc-smoothAROMAnonaggr"):
            select(root, bids_filter_file=write_filter(tmp_path / "f.json", {"bold": {"desc": "*"}}))

    def test_a_filter_that_leaves_nothing(self, filterable: Path, tmp_path: Path) -> None:
        with pytest.raises(NothingSelectedError, match="filter file leaves no BOLD image"):
            select(filterable, bids_filter_file=write_filter(tmp_path / "f.json", {"bold": {"acquisition": "x"}}))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("[", "no valid JSON"),
            ("[]", "must be a JSON object, not \\[\\]"),
            ('{"bold": 1}', "the query 'bold' must be a JSON object"),
            ('{"blod": {}}', "'blod' is no query"),
            ('{"bold": {"sesion": "a"}}', "'sesion' in the query 'bold' is no BIDS entity"),
            ('{"bold": {"session": "a", "ses": "b"}}', "names the entity 'ses' twice"),
            ('{"bold": {"run": 1.5}}', "1.5 for 'run'"),
            ('{"bold": {"run": true}}', "true for 'run'"),
            ('{"bold": {"run": {"a": 1}}}', "is no label"),
            ('{"bold": {"run": [[1]]}}', "is no label"),
            ('{"bold": {"suffix": "cbv"}}', "'suffix' in the query 'bold' cannot be \"cbv\""),
            ('{"bold": {"extension": ".dtseries.nii"}}', "cannot be"),
            ('{"mask": {"datatype": "anat"}}', "cannot be"),
        ],
    )
    def test_what_means_nothing_is_refused(self, filterable: Path, tmp_path: Path, content: str, message: str) -> None:
        path = tmp_path / "f.json"
        path.write_text(content)
        with pytest.raises(UsageError, match=message) as error:
            select(filterable, bids_filter_file=path)
        assert str(path) in error.value.message
        assert error.value.hint

    def test_a_file_that_is_not_there(self, filterable: Path, tmp_path: Path) -> None:
        with pytest.raises(MissingInputError, match=r"nowhere\.json"):
            select(filterable, bids_filter_file=tmp_path / "nowhere.json")

    @settings(deadline=None, max_examples=60)
    @given(
        st.dictionaries(
            st.sampled_from(["session", "ses", "run", "acquisition", "space", "cohort", "nonsense"])
            | st.text(max_size=5),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
                lambda inner: st.lists(inner, max_size=3),
                max_leaves=5,
            ),
            max_size=4,
        )
    )
    def test_parsing_gives_labels_or_our_error(self, query: dict) -> None:
        try:
            filters, ignored = parse_filters({"bold": query})
        except UsageError:
            return
        assert ignored == ()
        assert len(filters["bold"]) == len(query)
        for labels in filters["bold"].values():
            assert all(label is None or isinstance(label, str) for label in labels)
        again, _ = parse_filters({"bold": {key: list(labels) for key, labels in filters["bold"].items()}})
        assert again == filters


class TestCompanions:
    def test_without_mask(self, tmp_path: Path) -> None:
        root = trees.write_fmriprep(tmp_path)
        next(root.glob("sub-01/func/*space-*_mask.nii.gz")).unlink()
        selection = select(root)
        assert [run.participant for run in selection.runs] == ["02"]
        (rejected,) = selection.rejected
        assert (rejected.label, rejected.bold.exists()) == ("sub-01_task-rest", True)
        assert f"{rejected.bold} has no brain mask" in rejected.reason
        assert "--mask" in rejected.hint
        assert len(select(root, {"needs_mask": False}).runs) == 2

    def test_without_confounds(self, tmp_path: Path) -> None:
        root = trees.write_fmriprep(tmp_path)
        next(root.glob("sub-01/func/*_timeseries.tsv")).unlink()
        (rejected,) = select(root).rejected
        assert "has no table of confounds" in rejected.reason
        assert "--confounds none" in rejected.hint
        assert len(select(root, {"needs_confounds": False}).runs) == 2

    def test_without_the_description_of_confounds(self, tmp_path: Path) -> None:
        root = trees.write_fmriprep(tmp_path, subjects=("01",))
        next(root.glob("sub-01/func/*_timeseries.json")).unlink()
        (run,) = select(root).runs
        assert run.confounds is not None
        assert run.confounds_json is None

    def test_two_tables_of_confounds(self, tmp_path: Path) -> None:
        root = trees.write_fmriprep(tmp_path, version="20.2.7", subjects=("01",))
        table = next(root.glob("sub-01/func/*_timeseries.tsv"))
        other = shutil.copy(table, table.with_name(table.name.replace("timeseries", "regressors")))
        (rejected,) = select(root).rejected
        assert "more than one table of confounds" in rejected.reason
        assert str(other) in rejected.reason
        assert str(table) in rejected.reason

    def test_several_echoes(self, tmp_path: Path) -> None:
        root = trees.write_fmriprep(tmp_path, echoes=3, runs=(1, 2))
        selection = select(root)
        assert names(selection) == plain_pybids(root)
        assert len(selection.runs) == 4

    def test_images_denoised_by_aroma(self, tmp_path: Path) -> None:
        root = trees.write_fmriprep(tmp_path / "in", aroma=True, subjects=("01",), version="20.2.7")
        needs = {"needs_aroma_image": True}
        (rejected,) = select(root, needs).rejected  # fMRIPrep writes no mask in a space that was not asked for
        assert "has no brain mask" in rejected.reason
        (run,) = select(root, needs | {"needs_mask": False}).runs
        assert run.bold.name == "sub-01_task-rest_space-MNI152NLin6Asym_desc-smoothAROMAnonaggr_bold.nii.gz"
        mask = trees.write_image(
            run.bold.with_name("sub-01_task-rest_space-MNI152NLin6Asym_res-2_desc-brain_mask.nii.gz"), trees.SHAPE
        )
        assert select(root, needs).runs[0].mask == mask
        assert "desc-preproc" in select(root).runs[0].bold.name

    def test_fmripost_aroma_beside_fmriprep(self, tmp_path: Path) -> None:
        raw = trees.write_raw(tmp_path)
        place = {"spaces": ("MNI152NLin6Asym",), "resolutions": ("2",)}
        prep = trees.write_fmriprep(raw / "derivatives" / "fmriprep", version="24.1.1", **place)
        post = raw / "derivatives" / "fmripost"
        trees.write_description(post, "fMRIPost-AROMA", "0.0.12")
        for subject in ("01", "02"):
            func = post / f"sub-{subject}" / "func"
            prefix = f"sub-{subject}_task-rest"
            trees.write_image(func / f"{prefix}_space-MNI152NLin6Asym_res-2_desc-nonaggrDenoised_bold.nii.gz")
            trees.write_image(func / f"{prefix}_space-MNI152NLin6Asym_res-2_desc-aggrDenoised_bold.nii.gz")
            trees.write_confounds(func / f"{prefix}_desc-aroma_timeseries.tsv")
            (func / f"{prefix}_desc-aroma_metrics.tsv").touch()
        run = select(raw).runs[0]
        assert run.dataset.root == prep
        assert run.aroma_tables == (post / "sub-01" / "func" / "sub-01_task-rest_desc-aroma_timeseries.tsv",)
        assert run.uri(run.aroma_tables[0]) == "bids:fmripost:sub-01/func/sub-01_task-rest_desc-aroma_timeseries.tsv"
        denoised = select(raw, {"needs_aroma_image": True}).runs[0]
        assert denoised.dataset.root == post
        assert "nonaggrDenoised" in denoised.bold.name
        assert denoised.mask == run.mask
        assert denoised.confounds == run.confounds
        assert denoised.t_r == 2.0  # from the header: metadata are not inherited from another dataset
        # The same with the datasets named one by one.
        assert select(prep, derivatives=(str(post),)).runs[0].aroma_tables == run.aroma_tables

    def test_xcpd(self, tmp_path: Path) -> None:
        root = tmp_path
        trees.write_description(root, "xcp_d", "0.10.0")
        func = root / "sub-01" / "func"
        for desc in ("denoised", "denoisedSmoothed"):
            trees.write_image(func / f"sub-01_task-rest_space-{MNI}_res-2_desc-{desc}_bold.nii.gz")
        trees.write_image(func / f"sub-01_task-rest_space-{MNI}_res-2_desc-brain_mask.nii.gz", trees.SHAPE)
        (func / "sub-01_task-rest_motion.tsv").touch()
        with pytest.raises(NothingSelectedError, match="with desc-preproc") as error:
            select(root)
        assert "desc-denoised, desc-denoisedSmoothed" in error.value.hint
        assert "--confounds none" in error.value.hint
        (run,) = select(root, {"needs_confounds": False}).runs
        assert run.entities["desc"] == "denoised"

    def test_surfaces_only(self, tmp_path: Path) -> None:
        root = trees.write_fmriprep(tmp_path, spaces=(), surfaces=True)
        with pytest.raises(NothingSelectedError, match="on surfaces only") as error:
            select(root)
        assert MNI in error.value.hint

    def test_no_image_at_all(self, tmp_path: Path) -> None:
        root = trees.write_fmriprep(tmp_path, spaces=())
        with pytest.raises(NothingSelectedError, match="There is no BOLD image") as error:
            select(root)
        assert str(root) in error.value.message


class TestRepetitionTime:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return trees.write_fmriprep(tmp_path, subjects=("01",), t_r=2.0)

    @staticmethod
    def sidecar(root: Path) -> Path:
        return next(root.glob("sub-*/func/*preproc_bold.json"))

    def test_sidecars_are_inherited_as_bids_says(self, root: Path) -> None:
        self.sidecar(root).unlink()
        trees.write_json(root / "task-rest_bold.json", {"RepetitionTime": 1.0})
        trees.write_json(root / "bold.json", {"RepetitionTime": 9.0})
        trees.write_json(root / "task-other_bold.json", {"RepetitionTime": 7.0})
        trees.write_json(root / "task-rest_events.json", {"RepetitionTime": 6.0})
        assert select(root).runs[0].t_r == 1.0
        trees.write_json(root / "sub-01" / "sub-01_bold.json", {"RepetitionTime": 1.1})
        assert select(root).runs[0].t_r == 1.1
        trees.write_json(root / "sub-01" / "func" / "sub-01_task-rest_bold.json", {"RepetitionTime": 1.2})
        assert select(root).runs[0].t_r == 1.2
        layout = BIDSLayout(root, validate=False)  # pybids inherits alike
        assert layout.get_metadata(str(select(root).runs[0].bold))["RepetitionTime"] == 1.2
        layout.connection_manager.engine.dispose()

    def test_nothing_is_inherited_from_outside(self, root: Path) -> None:
        trees.write_json(root.parent / "task-rest_bold.json", {"TaskName": "not ours"})
        bold = next(root.glob("sub-01/func/*preproc_bold.nii.gz"))
        assert Sidecars(root).metadata(bold, parse_entities(bold.name))["TaskName"] == "rest"

    def test_the_header_serves_where_no_sidecar_does(self, root: Path) -> None:
        self.sidecar(root).unlink()
        selection = select(root)
        assert selection.runs[0].t_r == pytest.approx(2.0)
        assert not selection.warnings

    def test_a_header_without_unit_does_not(self, root: Path) -> None:
        self.sidecar(root).unlink()
        trees.write_image(next(root.glob("sub-01/func/*preproc_bold.nii.gz")), t_r=None)
        (rejected,) = select(root).rejected
        assert "has no repetition time" in rejected.reason
        assert '"RepetitionTime"' in rejected.hint

    def test_a_sidecar_that_differs_from_the_header(self, root: Path) -> None:
        trees.write_json(self.sidecar(root), {"RepetitionTime": 2.5})
        selection = select(root)
        assert selection.runs[0].t_r == 2.5
        assert "header" in selection.warnings[0]
        assert "2.5 s" in selection.warnings[0]
        trees.write_json(self.sidecar(root), {"RepetitionTime": 2.0009})
        assert not select(root).warnings

    def test_runs_that_differ(self, root: Path) -> None:
        trees.write_fmriprep(root, subjects=("02", "03"), t_r=0.8)
        selection = select(root)
        assert [run.t_r for run in selection.runs] == [2.0, 0.8, 0.8]
        assert selection.warnings == ("The runs differ in repetition time: 0.8 s (2 runs), 2 s (1 run).",)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"VolumeTiming": [0, 1, 5]}, "not equally spaced"),
            ({"RepetitionTime": "2"}, 'is "2", which is no positive number'),
            ({"RepetitionTime": 0}, "is 0, which"),
            ({"RepetitionTime": True}, "is true, which"),
            ({"RepetitionTime": None}, "is null, which"),
            ({"RepetitionTime": float("inf")}, "no positive number"),
            ([], "must hold a JSON object"),
        ],
    )
    def test_sidecars_that_cannot_be_used(self, root: Path, content: object, message: str) -> None:
        trees.write_json(self.sidecar(root), content)
        (rejected,) = select(root).rejected
        assert message in rejected.reason
        assert str(root) in rejected.reason

    def test_a_broken_sidecar(self, root: Path) -> None:
        self.sidecar(root).write_text("{")
        (rejected,) = select(root).rejected
        assert f"{self.sidecar(root)} cannot be read as JSON" in rejected.reason


class TestRejections:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return trees.write_fmriprep(tmp_path / "my data", subjects=("01", "02", "03"))

    @staticmethod
    def file(root: Path, pattern: str) -> Path:
        return next(root.glob(f"sub-01/func/*{pattern}"))

    @pytest.mark.parametrize(
        "pattern", [f"{MNI}_desc-preproc_bold.nii.gz", f"{MNI}_desc-brain_mask.nii.gz", "timeseries.tsv"]
    )
    def test_content_that_git_annex_has_not_fetched(self, root: Path, pattern: str) -> None:
        path = self.file(root, pattern)
        path.unlink()
        path.symlink_to("../../.git/annex/objects/Xx/Yy/MD5E-s9--abc.nii.gz/MD5E-s9--abc.nii.gz")
        (rejected,) = select(root).rejected
        assert str(path) in rejected.reason
        assert "datalad get" in rejected.hint
        assert path.name in rejected.hint
        path.unlink()
        path.write_text("/annex/objects/MD5E-s9--abc.nii.gz\n")
        (rejected,) = select(root).rejected
        assert "git-annex" in rejected.reason

    def test_a_link_to_nowhere(self, root: Path) -> None:
        path = self.file(root, "preproc_bold.nii.gz")
        path.unlink()
        path.symlink_to("/nowhere/bold.nii.gz")
        (rejected,) = select(root).rejected
        assert str(path) in rejected.reason
        assert "it is a link to /nowhere/bold.nii.gz" in rejected.reason

    @pytest.mark.parametrize("content", [b"", b"not an image", b"\x1f\x8b\x08\x00broken"])
    def test_what_is_no_image(self, root: Path, content: bytes) -> None:
        path = self.file(root, "preproc_bold.nii.gz")
        path.write_bytes(content)
        selection = select(root)
        assert [run.participant for run in selection.runs] == ["02", "03"]
        assert str(path) in selection.rejected[0].reason

    @pytest.mark.parametrize("shape", [trees.SHAPE, (*trees.SHAPE, 1)])
    def test_an_image_without_time(self, root: Path, shape: tuple[int, ...]) -> None:
        path = trees.write_image(self.file(root, "preproc_bold.nii.gz"), shape)
        (rejected,) = select(root).rejected
        assert f"{path} holds a single volume" in rejected.reason

    @pytest.mark.parametrize(
        ("shape", "affine"),
        [
            ((4, 5, 7), trees.affine_of()),
            (trees.SHAPE, trees.affine_of(2.5)),
            (trees.SHAPE, trees.affine_of(3.0, (0, 0, 0))),
        ],
    )
    def test_another_grid(self, root: Path, shape: tuple[int, ...], affine: np.ndarray) -> None:
        path = trees.write_image(self.file(root, "preproc_bold.nii.gz"), (*shape, 12), affine=affine)
        selection = select(root)
        (rejected,) = selection.rejected
        assert f"{path} is on another grid ({' x '.join(map(str, shape))} voxels of" in rejected.reason
        assert "than 2 of 3 runs (4 x 5 x 6 voxels of 3 x 3 x 3 mm from (-10, -20, -30))" in rejected.reason
        assert "--target-res" in rejected.hint
        assert len(select(root, {"target_res": 3.0}).runs) == 3

    def test_grids_that_differ_by_rounding_are_one(self, root: Path) -> None:
        trees.write_image(self.file(root, "preproc_bold.nii.gz"), affine=trees.affine_of(3.0 + 1e-5))
        assert len(select(root).runs) == 3

    def test_of_two_grids_that_are_equally_frequent_the_first_counts(self, tmp_path: Path) -> None:
        for subjects, size in ((("02", "03"), 2.0), (("01", "04"), 3.0)):
            root = trees.write_fmriprep(tmp_path, subjects=subjects, affine=trees.affine_of(size))
        selection = select(root)
        assert [run.participant for run in selection.runs] == ["01", "04"]
        assert [run.participant for run in selection.rejected] == ["02", "03"]

    def test_a_run_that_is_there_twice(self, tmp_path: Path) -> None:
        trees.write_fmriprep(tmp_path, version="21.0.4", runs=(1, 2))
        trees.write_fmriprep(tmp_path, version="22.1.1", runs=(1,), subjects=("01",))  # run-01 beside run-1
        selection = select(tmp_path)
        assert len(selection.runs) == 3
        assert [run.label for run in selection.rejected] == ["sub-01_task-rest_run-01", "sub-01_task-rest_run-1"]
        assert "same run" in selection.rejected[0].reason
        assert str(selection.rejected[1].bold) in selection.rejected[0].reason

    def test_an_image_that_is_there_compressed_and_not(self, root: Path) -> None:
        path = self.file(root, "preproc_bold.nii.gz")
        trees.write_image(path.with_suffix(""))
        assert [run.bold.name for run in select(root).rejected] == [path.stem, path.name]

    def test_uncompressed_images(self, root: Path) -> None:
        for path in list(root.glob("sub-01/func/*preproc_bold.nii.gz")):
            path.unlink()
            trees.write_image(path.with_suffix(""))
        assert [run.bold.suffix for run in select(root).runs] == [".nii", ".gz", ".gz"]

    def test_all_rejected_is_still_a_selection(self, root: Path) -> None:
        for path in root.glob("sub-*/func/*mask.nii.gz"):
            path.unlink()
        selection = select(root)
        assert selection.runs == ()
        assert len(selection.rejected) == 3


class TestDatabase:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return trees.write_fmriprep(tmp_path / "prep", subjects=("01", "02"))

    @staticmethod
    def databases(folder: Path) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.glob("*/layout_index.sqlite")}

    def test_a_database_is_used_again(self, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, logger="bids_parcellate")
        folder = tmp_path / "database"
        plain = select(root)
        assert select(root, bids_database_dir=folder) == plain
        before = self.databases(folder)
        assert len(before) == 1
        assert "Making a pybids database" in caplog.text
        caplog.clear()
        assert select(root, bids_database_dir=folder) == plain
        assert "Using the pybids database" in caplog.text
        assert [run.participant for run in select(root, bids_database_dir=folder, participant_label=("02",)).runs] == [
            "02"
        ]
        assert self.databases(folder) == before
        assert sorted(path.name for path in folder.glob("*/*")) == ["fingerprint.json", "layout_index.sqlite"]

    def test_a_database_is_made_anew_when_files_come_or_go(self, root: Path, tmp_path: Path) -> None:
        folder = tmp_path / "database"
        select(root, bids_database_dir=folder)
        trees.write_fmriprep(root, subjects=("03",), sessions=("a",))
        assert [run.participant for run in select(root, bids_database_dir=folder).runs] == ["01", "02", "03"]
        next(root.glob("sub-01/func/*space-*_bold.nii.gz")).unlink()
        assert [run.participant for run in select(root, bids_database_dir=folder).runs] == ["02", "03"]
        assert len(self.databases(folder)) == 1

    def test_datasets_do_not_share_a_database(self, root: Path, tmp_path: Path) -> None:
        folder = tmp_path / "database"
        other = trees.write_fmriprep(tmp_path / "elsewhere" / "prep", subjects=("07",))
        select(root, bids_database_dir=folder)
        assert [run.participant for run in select(other, bids_database_dir=folder).runs] == ["07"]
        assert [run.participant for run in select(root, bids_database_dir=folder).runs] == ["01", "02"]

    @pytest.mark.parametrize("name", ["layout_index.sqlite", "fingerprint.json"])
    def test_a_database_that_is_not_whole(self, root: Path, tmp_path: Path, name: str) -> None:
        folder = tmp_path / "database"
        plain = select(root, bids_database_dir=folder)
        path = next(folder.glob(f"*/{name}"))
        path.write_bytes(path.read_bytes()[:50])
        assert select(root, bids_database_dir=folder) == plain

    def test_never_inside_the_dataset(self, root: Path) -> None:
        for folder in (root, root / "database"):
            with pytest.raises(UsageError, match="to which nothing is written"):
                select(root, bids_database_dir=folder)
        assert not (root / "database").exists()

    def test_a_folder_that_cannot_be_made(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OutputError):
            select(root, bids_database_dir=tmp_path / "file")


class TestRealData:
    def test_two_subjects(self, shared_data: Path) -> None:
        root = shared_data / "real" / "twosub_mni4mm"
        selection = select(root, {"needs_confounds": False})
        assert names(selection) == plain_pybids(root)
        assert [(run.participant, run.t_r, run.n_volumes) for run in selection.runs] == [
            ("ds205s03", 2.2, 82),
            ("feeds", 3.0, 64),
        ]
        for run in selection.runs:
            image = nib.load(run.bold)
            assert run.grid.shape == image.shape[:3] == (49, 58, 49)
            np.testing.assert_array_equal(run.grid.affine, image.affine)
        assert "2.2 s (1 run), 3 s (1 run)" in selection.warnings[0]
        with_confounds = select(root)
        assert not with_confounds.runs
        assert all("has no table of confounds" in run.reason for run in with_confounds.rejected)

    def test_twelve_runs(self, shared_data: Path) -> None:
        root = shared_data / "real" / "haxby2001_1slice"
        selection = select(root, space="boldref")
        assert names(selection) == plain_pybids(root, space="boldref")
        assert [run.entities["run"] for run in selection.runs] == [f"{run:02}" for run in range(1, 13)]
        assert {(run.t_r, run.n_volumes, run.grid.shape) for run in selection.runs} == {(2.5, 121, (40, 20, 1))}
        assert all(len(run.files) == 4 for run in selection.runs)
        assert not selection.rejected
        assert not selection.warnings

    def test_names_of_a_real_dataset_of_fmriprep_21(self, shared_data: Path, tmp_path: Path) -> None:
        # Only the sidecars are at hand; the images beside them are made up.
        source = shared_data / "confounds" / "fmriprep-21.0.2-jsononly_ds002422"
        func = tmp_path / "sub-01" / "func"
        shutil.copytree(source, func)
        (func / "dataset_description.json").rename(tmp_path / "dataset_description.json")
        for sidecar in list(func.glob("*_space-[MT]*.json")):
            shape = trees.SHAPE if "mask" in sidecar.name else (*trees.SHAPE, 12)
            trees.write_image(sidecar.with_suffix(".nii.gz"), shape)
        trees.write_confounds(func / "sub-01_task-arithm_run-1_desc-confounds_timeseries.tsv")
        (run,) = select(tmp_path, space=MNI).runs
        sidecar = json.loads((source / run.bold.name.replace(".nii.gz", ".json")).read_text())
        assert run.t_r == sidecar["RepetitionTime"]
        assert run.entities["res"] == "2"
        assert (run.dataset.pipeline, run.dataset.pipeline_version) == ("fMRIPrep", "21.0.2")

    def test_no_functional_data(self, shared_data: Path) -> None:
        with pytest.raises(NothingSelectedError, match="no BOLD image"):
            select(shared_data / "real" / "anat_RND050")


def test_a_sidecar_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "bold.json")
    with pytest.raises(MissingInputError, match=r"bold\.json is not a file"):
        Sidecars(tmp_path).metadata(tmp_path / "sub-1_bold.nii.gz", {"sub": "1"})
