"""Streams of volumes and written files: nibabel is the truth."""

import gzip
import itertools
import os
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_parcellate.errors import DataError, InputOutputError, MissingInputError, UsageError
from bids_parcellate.io import images
from bids_parcellate.io.content import require_content
from bids_parcellate.io.images import iter_volumes, read_info, read_volume, volume_to_bytes
from bids_parcellate.numerics.grids import Grid

AFFINE = np.array([[-2.0, 0.1, 0, 90], [0.1, 2.5, 0, -120], [0, 0, 3, -70], [0, 0, 0, 1]])
RNG = np.random.default_rng(0)
READ_AHEAD = 10  # volumes of `run` that decompression may be ahead, and so see the damage early
DTYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


@pytest.fixture(params=["isal", "gzip"])
def decompressor(request, monkeypatch):
    """Run a test with and without the optional fast decompression."""
    if request.param == "gzip":
        monkeypatch.setattr(images, "_GzipFile", gzip.GzipFile)
    else:
        igzip = pytest.importorskip("isal.igzip")
        monkeypatch.setattr(images, "_GzipFile", igzip.GzipFile)


@pytest.fixture
def run(tmp_path):
    """Write a run of 20 volumes of 60 kB of noise, which hardly compresses."""
    path = tmp_path / "bold.nii.gz"
    data = RNG.integers(-3000, 3000, size=(30, 31, 32, 20)).astype(np.int16)
    nib.Nifti1Image(data, AFFINE).to_filename(path)
    return path


def values_of(path):
    """Read with nibabel; the last axis is time."""
    data = nib.load(path).get_fdata()
    return data.astype(np.float32).reshape(*data.shape[:3], -1)


@pytest.mark.usefixtures("decompressor")
class TestIterVolumes:
    @settings(deadline=None, max_examples=60)
    @given(
        dtype=st.sampled_from(DTYPES),
        endianness=st.sampled_from("<>"),
        nifti=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
        shape=st.lists(st.integers(1, 5), min_size=3, max_size=4),
        scaling=st.sampled_from([None, (1, 0), (0.37, 0), (1, -5), (2.5e-3, 1000.25), (-3, 7)]),
    )
    def test_gives_what_nibabel_gives(self, tmp_path_factory, dtype, endianness, nifti, shape, scaling):
        header = nifti.header_class(endianness=endianness)
        header.set_data_dtype(dtype)
        image = nifti(RNG.integers(0, 100, size=shape).astype(dtype), AFFINE, header)
        if scaling is not None:
            image.header.set_slope_inter(*scaling)
        path = tmp_path_factory.getbasetemp() / "image.nii.gz"
        image.to_filename(path)
        truth = values_of(path)
        volumes = list(iter_volumes(path))
        assert len(volumes) == truth.shape[-1] == read_info(path).n_volumes
        for volume, expected in zip(volumes, np.moveaxis(truth, -1, 0), strict=True):
            assert volume.dtype == np.float32
            np.testing.assert_array_equal(volume, expected)

    def test_real_runs(self, shared_data):
        paths = sorted((shared_data / "real").glob("*/sub-*/func/*_bold.nii.gz"))
        for path in paths[-2:]:
            np.testing.assert_array_equal(np.stack(list(iter_volumes(path)), axis=-1), values_of(path))

    @pytest.mark.parametrize("dtype", [np.int16, np.float32])
    def test_volumes_can_be_kept_but_not_written_to(self, run, dtype):
        image = nib.Nifti1Image(values_of(run).astype(dtype), AFFINE)
        image.to_filename(run)
        for source in (run, image):
            volumes = list(iter_volumes(source))
            assert not any(volume.flags.writeable for volume in volumes)
            assert all(volume.flags.f_contiguous for volume in volumes)
            np.testing.assert_array_equal(np.stack(volumes, axis=-1), values_of(run))

    def test_memory_is_that_of_few_volumes(self, tmp_path):
        path = tmp_path / "bold.nii.gz"
        nib.Nifti1Image(np.zeros((64, 64, 40, 60), np.int16), AFFINE).to_filename(path)
        tracemalloc.start()
        n_volumes = sum(1 for _ in iter_volumes(path))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert n_volumes == 60
        assert peak < 6 * 64 * 64 * 40 * 4

    def test_the_content_tells_whether_it_is_gzipped_not_the_name(self, run, tmp_path):
        (tmp_path / "plain.nii.gz").write_bytes(gzip.decompress(run.read_bytes()))
        (tmp_path / "gzipped.nii").write_bytes(run.read_bytes())
        for name in ("plain.nii.gz", "gzipped.nii"):
            assert len(list(iter_volumes(tmp_path / name))) == 20

    def test_several_gzip_members(self, run):
        content = gzip.decompress(run.read_bytes())
        run.write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]))
        assert len(list(iter_volumes(run))) == 20

    def test_a_path_as_text(self, run):
        assert len(list(iter_volumes(str(run)))) == 20

    def test_a_stream_that_is_left_early_closes_its_file(self, run):
        stream = iter_volumes(run)
        next(stream)
        stream.close()
        open_files = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
        assert run not in open_files

    def test_values_beyond_float32_become_infinite(self, tmp_path):
        path = tmp_path / "image.nii"
        nib.Nifti1Image(np.full((2, 2, 2), 1e300), AFFINE).to_filename(path)
        assert np.isinf(next(iter_volumes(path))).all()


@pytest.mark.usefixtures("decompressor")
class TestDamagedFiles:
    @pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9, 0.999])
    def test_truncated_gzip_names_the_volume(self, run, share):
        content = run.read_bytes()
        run.write_bytes(content[: int(len(content) * share)])
        n_read = 0
        with pytest.raises(DataError, match=r"bold.nii.gz is truncated") as caught:
            for n_read, _ in enumerate(iter_volumes(run), start=1):  # noqa: B007
                pass
        assert f"volume {n_read + 1} of 20" in caught.value.message
        assert share * 20 - READ_AHEAD <= n_read <= share * 20
        assert "copy or download" in caught.value.hint

    @pytest.mark.parametrize("n_bytes", [1, 4, 8])
    def test_truncated_checksum(self, run, n_bytes):
        run.write_bytes(run.read_bytes()[:-n_bytes])
        with pytest.raises(DataError, match=r"bold.nii.gz is truncated"):
            list(iter_volumes(run))

    @pytest.mark.parametrize("n_bytes", [5, 15, 30])
    def test_truncated_header(self, run, n_bytes):
        run.write_bytes(run.read_bytes()[:n_bytes])
        with pytest.raises(DataError, match="truncated: reading it fails at the header"):
            read_info(run)

    @pytest.mark.parametrize("n_bytes", [0, 1, 3, 100, 347])
    def test_truncated_header_of_a_plain_file(self, run, tmp_path, n_bytes):
        path = tmp_path / "bold.nii"
        path.write_bytes(gzip.decompress(run.read_bytes())[:n_bytes])
        with pytest.raises(DataError, match="truncated: reading it fails at the header"):
            read_info(path)

    @pytest.mark.parametrize(("n_volumes", "surplus"), [(0, 0), (3, 0), (12, 100), (19, 59519)])
    def test_truncated_plain_file(self, run, tmp_path, n_volumes, surplus):
        path = tmp_path / "bold.nii"
        path.write_bytes(gzip.decompress(run.read_bytes())[: 352 + n_volumes * 59520 + surplus])
        stream = iter_volumes(path)
        assert len(list(itertools.islice(stream, n_volumes))) == n_volumes
        with pytest.raises(DataError, match=rf"bold.nii is truncated: .*volume {n_volumes + 1} of 20"):
            next(stream)

    @pytest.mark.parametrize("position", [-8, -1])  # checksum, length
    def test_wrong_checksum_is_seen_though_every_volume_can_be_read(self, run, position):
        content = bytearray(run.read_bytes())
        content[position] ^= 0xFF
        run.write_bytes(content)
        with pytest.raises(DataError, match=r"bold.nii.gz is damaged"):
            list(iter_volumes(run))
        assert len(list(itertools.islice(iter_volumes(run), 20 - READ_AHEAD))) == 20 - READ_AHEAD

    def test_padding_after_the_last_volume_is_read_to_its_checksum(self, run):
        content = gzip.compress(gzip.decompress(run.read_bytes()) + bytes(3 * 2**20))
        run.write_bytes(content)
        assert len(list(iter_volumes(run))) == 20
        run.write_bytes(content[:-1])
        with pytest.raises(DataError, match=r"truncated: reading it fails at its end, after the last volume"):
            list(iter_volumes(run))

    def test_flipped_bit_is_seen(self, run):
        content = bytearray(run.read_bytes())
        content[len(content) // 2] ^= 0x10
        run.write_bytes(content)
        with pytest.raises(DataError, match=r"bold.nii.gz is (damaged|truncated)"):
            list(iter_volumes(run))

    def test_no_deflate_stream(self, run):
        run.write_bytes(run.read_bytes()[:10] + b"\xff" * 5000)
        with pytest.raises(DataError, match=r"bold.nii.gz is damaged: reading it fails at the header"):
            list(iter_volumes(run))

    def test_truncated_mask(self, run, tmp_path):
        path = tmp_path / "mask.nii.gz"
        nib.Nifti1Image(RNG.integers(0, 2, (20, 20, 20)).astype(np.uint8), AFFINE).to_filename(path)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(DataError, match="truncated"):
            read_volume(path)

    def test_disk_that_fails(self):
        class FailingDisk:
            def read(self, n_bytes):
                raise OSError(5, "Input/output error")

        with pytest.raises(InputOutputError, match="volume 3 of 7"):
            images._read(FailingDisk(), 10, "bold.nii", "volume 3 of 7")


def make_socket(name):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(name)


class TestMissingFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(MissingInputError, match=r"nothing.nii.gz is missing"):
            read_info(tmp_path / "nothing.nii.gz")

    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, make_socket])
    def test_what_is_no_file_is_refused_and_not_waited_for(self, make, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # a socket's name must be short
        make("bold")
        with pytest.raises(MissingInputError, match="bold is not a file"):
            read_info("bold")

    @pytest.mark.parametrize("name", ["file/bold.nii", "bo\0ld.nii"])
    def test_names_that_no_file_can_have(self, name, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(MissingInputError, match="is missing"):
            require_content(tmp_path / name)

    def test_names_that_the_disk_refuses(self, tmp_path):
        with pytest.raises(MissingInputError, match="cannot be read: File name too long"):
            require_content(tmp_path / ("x" * 300))

    def test_link_to_itself(self, tmp_path):
        (tmp_path / "bold.nii").symlink_to("bold.nii")
        with pytest.raises(MissingInputError, match=r"is a link to bold\.nii"):
            require_content(tmp_path / "bold.nii")

    def test_annex_link_that_leads_nowhere(self, tmp_path):
        path = tmp_path / "bold.nii.gz"
        path.symlink_to("../.git/annex/objects/Xk/9Q/MD5E-s1--0.nii.gz/MD5E-s1--0.nii.gz")
        for read in (read_info, read_volume, require_content, lambda path: next(iter_volumes(path))):
            with pytest.raises(MissingInputError, match=r"bold.nii.gz is not here") as caught:
                read(path)
            assert caught.value.hint == f"datalad get {path}"

    def test_other_link_that_leads_nowhere(self, tmp_path):
        path = tmp_path / "bold.nii.gz"
        path.symlink_to("elsewhere.nii.gz")
        with pytest.raises(MissingInputError, match=r"link to elsewhere.nii.gz") as caught:
            require_content(path)
        assert "datalad" not in caught.value.hint

    def test_annex_pointer(self, tmp_path):
        path = tmp_path / "bold.nii.gz"
        path.write_text("/annex/objects/MD5E-s1024--d41d8cd98f00b204e9800998ecf8427e.nii.gz\n")
        with pytest.raises(MissingInputError, match="git-annex pointer") as caught:
            read_info(path)
        assert caught.value.hint == f"datalad get {path}"

    def test_link_with_content_is_read(self, run, tmp_path):
        (tmp_path / "link.nii.gz").symlink_to(run)
        assert read_info(tmp_path / "link.nii.gz").n_volumes == 20

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_unreadable(self, run):
        run.chmod(0)
        with pytest.raises(MissingInputError, match="cannot be read"):
            read_info(run)


class TestInMemory:
    @pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 6), (3, 4, 5, 6, 1)])
    def test_arrays(self, shape):
        data = RNG.normal(size=shape)
        volumes = list(iter_volumes(nib.Nifti1Image(data, AFFINE)))
        np.testing.assert_array_equal(np.stack(volumes, -1), data.reshape(3, 4, 5, -1).astype(np.float32))

    def test_an_image_on_disk_is_streamed(self, run):
        image = nib.load(run)
        np.testing.assert_array_equal(np.stack(list(iter_volumes(image)), -1), values_of(run))
        assert not image.in_memory
        run.write_bytes(run.read_bytes()[:-100])
        with pytest.raises(DataError, match=r"bold.nii.gz is truncated"):
            list(iter_volumes(image))

    def test_scaled_pair_of_files(self, tmp_path):
        image = nib.Nifti1Pair(np.arange(60, dtype=np.int16).reshape(3, 4, 5), AFFINE)
        image.header.set_slope_inter(0.5, 3)
        image.to_filename(tmp_path / "image.img")
        loaded = nib.load(tmp_path / "image.img")
        np.testing.assert_array_equal(next(iter_volumes(loaded)), loaded.get_fdata().astype(np.float32))
        np.testing.assert_array_equal(read_volume(loaded)[0], loaded.get_fdata())


class TestReadVolume:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("endianness", "<>")
    def test_keeps_the_type(self, tmp_path, dtype, endianness):
        header = nib.Nifti1Header(endianness=endianness)
        header.set_data_dtype(dtype)
        data = RNG.integers(0, 100, (3, 4, 5)).astype(dtype)
        nib.Nifti1Image(data, AFFINE, header).to_filename(tmp_path / "labels.nii.gz")
        ours, grid = read_volume(tmp_path / "labels.nii.gz")
        assert ours.dtype == np.dtype(dtype)
        assert ours.flags.writeable
        np.testing.assert_array_equal(ours, data)
        np.testing.assert_allclose(grid.affine, AFFINE, atol=1e-6)

    def test_a_scaled_image_is_float32(self, tmp_path):
        image = nib.Nifti1Image(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), AFFINE)
        image.header.set_slope_inter(1 / 255, 0)
        image.to_filename(tmp_path / "probseg.nii.gz")
        ours, _ = read_volume(tmp_path / "probseg.nii.gz")
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours[..., None], values_of(tmp_path / "probseg.nii.gz"))

    def test_one_volume_with_a_time_axis(self, tmp_path):
        nib.Nifti1Image(np.ones((3, 4, 5, 1), np.uint8), AFFINE).to_filename(tmp_path / "mask.nii.gz")
        assert read_volume(tmp_path / "mask.nii.gz")[0].shape == (3, 4, 5)

    def test_several_volumes_are_refused(self, run):
        for image in (run, nib.load(run)):
            with pytest.raises(DataError, match=r"bold.nii.gz has 20 volumes; a 3-D image is needed"):
                read_volume(image)

    def test_an_array(self):
        data = RNG.integers(0, 9, (3, 4, 5)).astype(np.int16)
        ours, grid = read_volume(nib.Nifti1Image(data, AFFINE))
        assert ours is not data
        np.testing.assert_array_equal(ours, data)
        assert grid == Grid((3, 4, 5), AFFINE)


class TestVolumeToBytes:
    grid = Grid((3, 4, 5), AFFINE)

    def written(self, tmp_path, data, **arguments):
        (tmp_path / "image.nii.gz").write_bytes(volume_to_bytes(data, self.grid, **arguments))
        return nib.load(tmp_path / "image.nii.gz")

    @pytest.mark.parametrize(
        ("values", "stored"),
        [
            (np.array([True, False]), np.uint8),
            (np.array([0, 255]), np.uint8),
            (np.array([0, 256]), np.int16),
            (np.array([-1, 5]), np.int16),
            (np.array([0, 32768], np.uint16), np.int32),
            (np.array([0, 2**31 - 1]), np.int32),
            (np.array([0.5, -np.pi]), np.float32),
        ],
    )
    def test_nibabel_reads_it_back(self, tmp_path, values, stored):
        data = np.resize(values, (3, 4, 5))
        image = self.written(tmp_path, data)
        assert image.get_data_dtype() == stored
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), data.astype(stored))
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)

    @pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.complex128])
    def test_data_that_no_type_holds(self, dtype):
        with pytest.raises(UsageError, match="no widely read NIfTI type"):
            volume_to_bytes(np.full((3, 4, 5), 2**31, dtype=dtype), self.grid)

    @pytest.mark.parametrize("shape", [(3, 4), (3, 4, 6), (3, 4, 5, 2, 2)])
    def test_data_that_do_not_fit(self, shape):
        with pytest.raises(UsageError, match="do not fit a grid"):
            volume_to_bytes(np.ones(shape), self.grid)

    @pytest.mark.parametrize("t_r", [0.8, 2.2, None])
    def test_a_run(self, tmp_path, t_r):
        data = RNG.normal(size=(3, 4, 5, 6)).astype(np.float32)
        image = self.written(tmp_path, data, t_r=t_r)
        assert image.header.get_xyzt_units() == ("mm", "sec")
        assert read_info(tmp_path / "image.nii.gz").t_r == t_r
        np.testing.assert_array_equal(np.stack(list(iter_volumes(tmp_path / "image.nii.gz")), -1), data)

    @pytest.mark.parametrize("code", [1, 2, 4])
    def test_codes_of_space(self, tmp_path, code):
        rotation = nib.eulerangles.euler2mat(0.1, 0.2, 0.3)
        affine = nib.affines.from_matvec(rotation * [2, 2.5, 3], [90, -120, -70])
        (tmp_path / "image.nii.gz").write_bytes(
            volume_to_bytes(np.ones((3, 4, 5)), Grid((3, 4, 5), affine), space_code=code)
        )
        header = nib.load(tmp_path / "image.nii.gz").header
        for form in (header.get_sform, header.get_qform):
            found, found_code = form(coded=True)
            assert found_code == code
            np.testing.assert_allclose(found, affine, atol=1e-4)

    def test_a_sheared_grid_has_no_qform(self, tmp_path):
        header = self.written(tmp_path, np.ones((3, 4, 5))).header  # the axes of AFFINE are not orthogonal
        assert (header["sform_code"], header["qform_code"]) == (2, 0)
        np.testing.assert_allclose(header.get_sform(), AFFINE, atol=1e-5)

    def test_no_time_and_no_name_in_the_bytes(self):
        content = volume_to_bytes(np.ones((3, 4, 5)), self.grid)
        assert content[:2] == b"\x1f\x8b"
        assert content[3] == 0  # no name, comment or extra field
        assert content[4:8] == bytes(4)  # no time
        assert content == volume_to_bytes(np.ones((3, 4, 5)), self.grid)

    def test_same_bytes_whatever_the_memory_order(self):
        data = RNG.normal(size=(3, 4, 5))
        assert volume_to_bytes(data, self.grid) == volume_to_bytes(np.asfortranarray(data), self.grid)


def test_works_without_isal(run):
    """The package can be imported, and reads gzip, where isal is not installed."""
    code = (
        "import sys; sys.modules['isal'] = None\n"
        "from bids_parcellate.io.images import iter_volumes, _GzipFile\n"
        f"print(_GzipFile.__module__, sum(1 for _ in iter_volumes({str(run)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["gzip", "20"]
