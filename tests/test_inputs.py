"""What users pass as images, confounds and sample masks."""

import os

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_parcellate.errors import DataError, MissingInputError, ParcellateError, UsageError
from bids_parcellate.runs.inputs import InputTypeError, collect_runs

AFFINE = np.diag([3.0, 3, 3, 1])
RNG = np.random.default_rng(0)


def make_image(n_volumes=6, shape=(4, 5, 3)):
    shape = (*shape, n_volumes) if n_volumes else shape
    return nib.Nifti1Image(RNG.normal(size=shape).astype(np.float32), AFFINE)


@pytest.fixture
def folder(tmp_path):
    for name in ("b", "a", "c"):
        nib.save(make_image(), tmp_path / f"{name}.nii.gz")
    return tmp_path


def n_volumes(inputs):
    return [run.n_volumes for run in inputs.runs]


class TestImages:
    @pytest.mark.parametrize("kind", ["image", "str", "path"])
    def test_one_image_is_a_run(self, folder, kind):
        path = folder / "a.nii.gz"
        image = {"image": make_image(), "str": str(path), "path": path}[kind]
        inputs = collect_runs(image)
        assert (inputs.layout, n_volumes(inputs)) == ("single", [6])
        assert (collect_runs([image]).layout, collect_runs((image,)).layout) == ("single", "single")

    def test_a_list_is_runs(self):
        inputs = collect_runs([make_image(6), make_image(4)])
        assert (inputs.layout, n_volumes(inputs)) == ("list", [6, 4])

    def test_any_iterable_is_a_list(self):
        assert n_volumes(collect_runs(make_image(n) for n in (6, 4))) == [6, 4]

    @pytest.mark.parametrize("as_type", [str, lambda path: path])
    def test_wildcards_stand_for_files_in_order(self, folder, as_type):
        inputs = collect_runs(as_type(folder / "[ab]*.nii.gz"))
        assert [run.name for run in inputs.runs] == [str(folder / "a.nii.gz"), str(folder / "b.nii.gz")]

    def test_a_name_with_wildcards_can_be_a_file(self, folder):
        path = (folder / "a.nii.gz").rename(folder / "a[1].nii.gz")
        assert collect_runs(path).runs[0].name == str(path)

    def test_home_is_expanded(self, folder, monkeypatch):
        monkeypatch.setenv("HOME", str(folder))
        assert n_volumes(collect_runs("~/a.nii.gz")) == [6]
        assert n_volumes(collect_runs("~/*.nii.gz")) == [6, 6, 6]

    def test_3d_images_in_a_list_are_one_run(self):
        inputs = collect_runs([make_image(0) for _ in range(5)])
        assert (inputs.layout, n_volumes(inputs)) == ("volumes", [5])
        results = inputs.arrange([np.arange(10).reshape(5, 2)])
        assert [each.tolist() for each in results] == [[[0, 1]], [[2, 3]], [[4, 5]], [[6, 7]], [[8, 9]]]

    def test_a_list_within_a_list_is_a_run(self):
        inputs = collect_runs([[make_image(0), make_image(0)], [make_image(0)], make_image(4)])
        assert (inputs.layout, n_volumes(inputs)) == ("list", [2, 1, 4])

    def test_a_single_3d_image_is_a_run_of_one_volume(self):
        assert (collect_runs(make_image(0)).layout, n_volumes(collect_runs([make_image(0)]))) == ("single", [1])

    def test_inputs_stay_as_they_are(self):
        inputs = collect_runs(make_image())
        assert collect_runs(inputs) is inputs

    def test_nothing_is_loaded(self, folder):
        image = nib.load(folder / "a.nii.gz")
        collect_runs([image, folder / "b.nii.gz"])
        assert not image.in_memory

    @pytest.mark.parametrize("bad", [3, None, np.zeros((2, 2, 2)), [np.zeros((2, 2, 2))], [3], [make_image(), None]])
    def test_other_types_are_refused(self, bad):
        with pytest.raises(TypeError, match="is no image"):
            collect_runs(bad)

    def test_five_axes_are_refused(self):
        with pytest.raises(TypeError, match=r"\(2, 2, 2, 3, 2\)"):
            collect_runs(nib.Nifti1Image(np.zeros((2, 2, 2, 3, 2)), AFFINE))

    @pytest.mark.parametrize("empty", [[], (), [[]], iter([])])
    def test_nothing_is_refused(self, empty):
        with pytest.raises(UsageError, match="empty"):
            collect_runs(empty)

    @pytest.mark.parametrize("kind", [ValueError, FileNotFoundError, MissingInputError])
    @pytest.mark.parametrize("missing", ["missing.nii", "missing*.nii", ["missing.nii"]])
    def test_missing_files_are_named(self, missing, kind):
        with pytest.raises(kind, match="missing"):
            collect_runs(missing)

    def test_a_file_that_is_no_image_is_named(self, tmp_path):
        (tmp_path / "notes.nii").write_text("not an image at all")
        with pytest.raises(DataError, match=r"notes\.nii"):
            collect_runs(tmp_path / "notes.nii")


class TestConfounds:
    table = RNG.normal(size=(6, 3))

    def confounds_of(self, confounds, image=None):
        return [run.confounds for run in collect_runs(make_image() if image is None else image, confounds).runs]

    @pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame])
    @pytest.mark.parametrize("wrap", [lambda table: table, lambda table: [table], lambda table: (table,)])
    def test_of_one_image(self, kind, wrap):
        (confounds,) = self.confounds_of(wrap(kind(self.table)))
        np.testing.assert_array_equal(confounds, self.table)

    def test_tables_are_joined_side_by_side(self):
        (confounds,) = self.confounds_of([[self.table[:, :1], pd.DataFrame(self.table[:, 1:])]])
        np.testing.assert_array_equal(confounds, self.table)

    def test_of_several_images(self):
        found = self.confounds_of([self.table, None, pd.DataFrame(self.table[:4])], [make_image(n) for n in (6, 5, 4)])
        np.testing.assert_array_equal(found[0], self.table)
        assert found[1] is None
        np.testing.assert_array_equal(found[2], self.table[:4])

    def test_a_single_column(self):
        (confounds,) = self.confounds_of(self.table[:, 0])
        np.testing.assert_array_equal(confounds, self.table[:, :1])

    @pytest.mark.parametrize("split", [False, True])
    def test_of_a_list_of_3d_images(self, split):
        volumes = [make_image(0) for _ in range(6)]
        (confounds,) = self.confounds_of(np.split(self.table, 6) if split else self.table, volumes)
        np.testing.assert_array_equal(confounds, self.table)

    @pytest.mark.parametrize("n_tables", [1, 3])
    def test_their_number_must_be_that_of_the_images(self, n_tables):
        with pytest.raises(UsageError, match="for 2 images"):
            self.confounds_of([self.table] * n_tables, [make_image()] * 2)

    def test_an_array_is_not_spread_over_images(self):
        with pytest.raises(UsageError, match="for 2 images"):
            self.confounds_of(self.table[:2], [make_image()] * 2)

    @pytest.mark.parametrize("bad", [3, [3], [[[1.0, 2.0]] * 6], {"a": 1}])
    def test_other_types_are_refused(self, bad):
        with pytest.raises(InputTypeError, match="confounds are of the type"):
            self.confounds_of(bad)

    def test_text_is_refused(self):
        with pytest.raises(DataError, match="not all numbers"):
            self.confounds_of(pd.DataFrame({"a": ["one"] * 6}))

    def test_rows_must_be_volumes(self, tmp_path):
        path = tmp_path / "short.tsv"
        pd.DataFrame(self.table[:4], columns=list("xyz")).to_csv(path, sep="\t", index=False)
        with pytest.raises(DataError, match=r"short\.tsv have 4 rows, but the image has 6 volumes"):
            self.confounds_of(path)


class TestConfoundsFiles:
    @settings(deadline=None, max_examples=30)
    @given(
        numbers=st.lists(
            st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=2, max_size=2), min_size=6, max_size=6
        ),
        delimiter=st.sampled_from(["\t", ",", ";", " "]),
        header=st.booleans(),
    )
    def test_are_read_whatever_their_delimiter_and_header(self, tmp_path_factory, numbers, delimiter, header):
        path = tmp_path_factory.mktemp("tables") / "confounds.csv"
        table = np.array(numbers)
        names = delimiter.join(["rot_x", "global_signal"])
        np.savetxt(path, table, delimiter=delimiter, fmt="%.17g", header=names if header else "", comments="")
        (run,) = collect_runs(make_image(), path).runs
        np.testing.assert_array_equal(run.confounds, table)

    def test_of_numpy_with_a_commented_header(self, tmp_path):
        table = RNG.normal(size=(6, 2))
        np.savetxt(tmp_path / "table.txt", table, header="rot_x rot_y")
        np.testing.assert_allclose(collect_runs(make_image(), str(tmp_path / "table.txt")).runs[0].confounds, table)

    def test_real_ones(self, shared_data):
        folder = shared_data / "real" / "haxby2001_1slice" / "sub-01" / "func"
        bold, table = min(folder.glob("*_bold.nii.gz")), min(folder.glob("*_timeseries.tsv"))
        (run,) = collect_runs(bold, table).runs
        truth = pd.read_csv(table, sep="\t", na_values="n/a")
        np.testing.assert_allclose(run.confounds, truth)
        assert np.isnan(run.confounds).sum() == 1  # the first framewise displacement; using it is refused later

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "no table"),
            ("a,b\n", "no table"),
            ("a,b\n1,2\n3\n", "rows of equal length"),
            ("a,b\n1,2\n3,four\n", "'b' has 'four' in row 2"),
            (b"\xff\xfe\x00", "UTF-8"),
        ],
    )
    def test_bad_ones_are_named(self, tmp_path, content, message):
        path = tmp_path / "bad.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(DataError, match=r"bad\.csv") as caught:
            collect_runs(make_image(), path)
        assert message in str(caught.value)

    def test_missing_ones_are_named(self):
        with pytest.raises(FileNotFoundError, match=r"missing\.tsv"):
            collect_runs(make_image(), "missing.tsv")


class TestSampleMasks:
    def masks_of(self, sample_mask, n_images=1):
        runs = collect_runs([make_image() for _ in range(n_images)], sample_mask=sample_mask).runs
        return [None if run.sample_mask is None else run.sample_mask.tolist() for run in runs]

    @pytest.mark.parametrize("one", [[0, 2, 3], [True, False, True, True, False, False]])
    @pytest.mark.parametrize("wrap", [list, tuple, np.array, lambda mask: [mask], lambda mask: [np.array(mask)]])
    def test_of_one_image(self, one, wrap):
        assert self.masks_of(wrap(one)) == [one]

    def test_of_several_images(self):
        assert self.masks_of([[0, 1], None, np.array([3, 4])], 3) == [[0, 1], None, [3, 4]]
        assert self.masks_of(np.eye(6, dtype=bool)[:2], 2) == np.eye(6, dtype=bool)[:2].tolist()

    def test_of_a_list_of_3d_images(self):
        (run,) = collect_runs([make_image(0)] * 4, sample_mask=[0, 2]).runs
        assert run.sample_mask.tolist() == [0, 2]

    def test_their_number_must_be_that_of_the_images(self):
        with pytest.raises(UsageError, match="1 sample masks for 2 images"):
            self.masks_of([0, 1, 2], 2)

    @pytest.mark.parametrize("bad", [3, "all", {1: 2}])
    def test_other_types_are_refused(self, bad):
        with pytest.raises(TypeError, match="sample_mask"):
            self.masks_of(bad)


class TestDigests:
    def test_of_images_in_memory_follow_their_numbers(self):
        image = make_image()
        same = nib.Nifti1Image(np.array(image.dataobj), AFFINE)
        other = nib.Nifti1Image(np.array(image.dataobj), AFFINE * [[1, 1, 1, 2]] + np.diag([0, 0, 0.5, 0]))
        digests = [collect_runs(each).runs[0].digest for each in (image, same, make_image(), other)]
        assert digests[0] == digests[1]
        assert len(set(digests)) == 3

    def test_of_files_change_with_the_file(self, folder):
        path = folder / "a.nii.gz"
        before = collect_runs(path).runs[0].digest
        assert collect_runs(nib.load(path)).runs[0].digest == before
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        assert collect_runs(path).runs[0].digest != before

    def test_cover_confounds_and_sample_mask(self):
        image, table = make_image(), RNG.normal(size=(6, 2))
        inputs = [(), (table,), (table + 1,), (None, [0, 1]), (None, [0, 2])]
        digests = {collect_runs(image, *rest).runs[0].digest for rest in inputs}
        assert len(digests) == len(inputs)


def test_all_errors_are_ours():
    assert issubclass(InputTypeError, ParcellateError)
    assert "-> check" in str(MissingInputError("a.nii is missing", "check the path"))
