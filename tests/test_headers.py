"""Headers of NIfTI files: nibabel writes them, and says what they hold."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_parcellate.errors import DataError
from bids_parcellate.io.images import read_info

AFFINE = np.diag([-2.0, 2.5, 3.0, 1.0])


def saved(path, shape=(4, 5, 6, 7), nifti=nib.Nifti1Image, **fields):
    """Save an image, then set fields of its header as no tool that checks them would."""
    image = nifti(np.ones(shape, dtype=np.int16), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    content = bytearray(path.read_bytes())
    header = image.header_class(bytes(content[: image.header.sizeof_hdr]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[: image.header.sizeof_hdr] = header.binaryblock
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("nifti", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("endianness", "<>")
def test_says_what_nibabel_says(tmp_path, nifti, suffix, endianness):
    header = nifti.header_class(endianness=endianness)
    header.set_xyzt_units("mm", "sec")
    header.set_data_dtype(np.int16)
    image = nifti(np.ones((4, 5, 6, 7), np.int16), AFFINE, header)
    image.header.set_zooms((2.0, 2.5, 3.0, 2.2))
    path = tmp_path / f"bold{suffix}"
    image.to_filename(path)
    info, truth = read_info(path), nib.load(path)
    assert info.path == path
    assert (*info.grid.shape, info.n_volumes) == truth.shape
    assert info.ndim == truth.ndim
    assert info.t_r == 2.2
    assert info.dtype == truth.get_data_dtype()
    assert info.volume_bytes == 4 * 5 * 6 * 2
    np.testing.assert_array_equal(info.grid.affine, truth.affine)


def test_says_what_nibabel_says_of_real_files(shared_data):
    paths = sorted((shared_data / "real").glob("*/sub-*/func/*_bold.nii.gz"))
    assert len(paths) >= 14
    for path in paths:
        info, truth = read_info(path), nib.load(path)
        assert (*info.grid.shape, info.n_volumes) == truth.shape
        assert info.t_r == pytest.approx(truth.header.get_zooms()[3])
        np.testing.assert_array_equal(info.grid.affine, truth.affine)


def test_extensions_are_passed_over(tmp_path):
    image = nib.Nifti1Image(np.ones((3, 4, 5), np.int16), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 1000))
    image.to_filename(tmp_path / "image.nii")
    assert read_info(tmp_path / "image.nii").offset == nib.load(tmp_path / "image.nii").dataobj.offset > 1000


def _with_extra_field(content):
    """Give gzip's header a field of 8,000 bytes, which is rare and allowed."""
    compressed = gzip.compress(content)
    return (
        compressed[:3]
        + bytes([compressed[3] | 4])
        + compressed[4:10]
        + (8000).to_bytes(2, "little")
        + bytes(8000)
        + (compressed[10:])
    )


@pytest.mark.parametrize(
    "compress",
    [
        gzip.compress,
        lambda content: gzip.compress(content[:100]) + gzip.compress(content[100:]),
        _with_extra_field,
    ],
    ids=["plain", "in two members", "with an extra field"],
)
def test_headers_of_gzipped_files(tmp_path, compress):
    path = saved(tmp_path / "image.nii", (4, 5, 6, 7))
    expected = read_info(path)
    (tmp_path / "image.nii.gz").write_bytes(compress(path.read_bytes()))
    info = read_info(tmp_path / "image.nii.gz")
    assert info.grid == expected.grid
    assert (info.n_volumes, info.t_r, info.offset) == (7, expected.t_r, expected.offset)


def test_of_a_large_file_only_the_start_is_read(tmp_path):
    noise = np.random.default_rng(0).normal(size=(40, 40, 40, 10)).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), tmp_path / "image.nii.gz")
    before = _bytes_read()
    read_info(tmp_path / "image.nii.gz")
    assert 0 < _bytes_read() - before < 30_000


def _bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])


def test_equal_headers_are_told_apart_by_their_file(tmp_path):
    for name in ("first.nii", "second.nii"):
        assert read_info(saved(tmp_path / name)).path == tmp_path / name
    for name in ("third.nii", "fourth.nii"):
        with pytest.raises(DataError, match=f"{name} has the shape"):
            read_info(saved(tmp_path / name, dim=[2, 4, 5, 1, 1, 1, 1, 1]))


class TestShape:
    @pytest.mark.parametrize(
        ("shape", "ndim", "n_volumes"),
        [((4, 5, 6), 3, 1), ((4, 5, 1), 3, 1), ((4, 5, 6, 1), 4, 1), ((4, 5, 6, 7, 1), 4, 7)],
    )
    def test_accepted(self, tmp_path, shape, ndim, n_volumes):
        # nibabel itself drops trailing axes of length 1, so they are written into the header
        dim = [len(shape), *shape, *[1] * (7 - len(shape))]
        info = read_info(saved(tmp_path / "image.nii", shape, dim=dim))
        assert (info.grid.shape, info.ndim, info.n_volumes) == (shape[:3], ndim, n_volumes)

    @pytest.mark.parametrize(
        "dim", [[2, 4, 5, 1, 1], [0, 4, 5, 6, 7], [4, 4, 0, 6, 7], [4, 4, 5, -6, 7], [-1, 4, 5, 6]]
    )
    def test_empty_or_too_few_axes(self, tmp_path, dim):
        path = saved(tmp_path / "image.nii", dim=[*dim, *[1] * (8 - len(dim))])
        with pytest.raises(DataError, match=r"image.nii has the shape \("):
            read_info(path)

    def test_five_axes(self, tmp_path):
        with pytest.raises(DataError, match=r"5 axes, shape \(4, 5, 6, 7, 2\)"):
            read_info(saved(tmp_path / "image.nii", (4, 5, 6, 7, 2)))


class TestRepetitionTime:
    @pytest.mark.parametrize(
        ("unit", "period", "seconds"),
        [("sec", 0.8, 0.8), ("msec", 2200, 2.2), ("usec", 720_000, 0.72), ("sec", 0, None), ("msec", 0, None)],
    )
    def test_is_in_seconds(self, tmp_path, unit, period, seconds):
        image = nib.Nifti1Image(np.ones((3, 3, 3, 2), np.int16), AFFINE)
        image.header.set_xyzt_units("mm", unit)
        image.header["pixdim"][4] = period
        image.to_filename(tmp_path / "bold.nii")
        assert read_info(tmp_path / "bold.nii").t_r == seconds

    @pytest.mark.parametrize("unit", [0, 32, 40, 48, 56])  # unknown, Hz, ppm, rad/s, none of NIfTI's
    def test_without_a_unit_of_time_it_is_not_guessed(self, tmp_path, unit):
        assert read_info(saved(tmp_path / "bold.nii", xyzt_units=2 + unit)).t_r is None

    @pytest.mark.parametrize("period", [-2, np.nan, np.inf])
    def test_impossible_period_is_none(self, tmp_path, period):
        assert read_info(saved(tmp_path / "bold.nii", pixdim=[1, 2, 2, 2, period, 0, 0, 0])).t_r is None

    def test_a_3d_image_has_none(self, tmp_path):
        assert read_info(saved(tmp_path / "mask.nii", (3, 3, 3), pixdim=[1, 2, 2, 2, 2, 0, 0, 0])).t_r is None


class TestSpace:
    @pytest.mark.parametrize("size", [0, -2, np.nan, np.inf])
    def test_impossible_voxel_size(self, tmp_path, size):
        path = saved(tmp_path / "bold.nii", pixdim=[1, 2, size, 2, 2, 0, 0, 0])
        with pytest.raises(DataError, match=r"bold.nii has voxel sizes of"):
            read_info(path)

    @pytest.mark.parametrize(("unit", "name"), [(1, "metres"), (3, "micrometres")])
    def test_lengths_that_are_not_in_mm(self, tmp_path, unit, name):
        with pytest.raises(DataError, match=name):
            read_info(saved(tmp_path / "bold.nii", xyzt_units=unit + 8))

    def test_neither_sform_nor_qform(self, tmp_path):
        path = saved(tmp_path / "bold.nii", sform_code=0, qform_code=0)
        with pytest.raises(DataError, match="sform_code and qform_code are both 0") as caught:
            read_info(path)
        assert "set_sform" in caught.value.hint

    @pytest.mark.parametrize("qfac", [-1, 1])
    def test_qform_alone(self, tmp_path, qfac):
        image = nib.Nifti1Image(np.ones((3, 3, 3), np.int16), None)
        image.set_qform(np.diag([2, 2, 2 * qfac, 1]), code=1)
        image.set_sform(None, code=0)
        image.to_filename(tmp_path / "mask.nii")
        np.testing.assert_array_equal(read_info(tmp_path / "mask.nii").grid.affine, np.diag([2, 2, 2 * qfac, 1]))

    def test_qform_without_handedness_is_right_handed_as_the_standard_says(self, tmp_path):
        codes = {"sform_code": 0, "qform_code": 1, "quatern_b": 0, "quatern_c": 0, "quatern_d": 0}
        path = saved(tmp_path / "mask.nii", (3, 3, 3), pixdim=[0, 2, 2, 2, 0, 0, 0, 0], **codes)
        np.testing.assert_array_equal(np.diag(read_info(path).grid.affine), [2, 2, 2, 1])

    @pytest.mark.parametrize("row", [[0, 0, 0, 1], [np.nan, 0, 0, 1]])
    def test_affine_without_inverse(self, tmp_path, row):
        with pytest.raises(DataError, match=r"bold.nii does not say where it lies"):
            read_info(saved(tmp_path / "bold.nii", srow_x=row))

    def test_impossible_quaternion(self, tmp_path):
        path = saved(tmp_path / "bold.nii", sform_code=0, qform_code=1, quatern_b=2)
        with pytest.raises(DataError, match=r"bold.nii does not say where it lies"):
            read_info(path)


class TestRefusals:
    @pytest.mark.parametrize("code", [32, 1792, 128, 2304])  # complex64, complex128, RGB, RGBA
    def test_numbers_that_are_not_real(self, tmp_path, code):
        with pytest.raises(DataError, match="whole or real numbers are needed"):
            read_info(saved(tmp_path / "bold.nii", datatype=code))

    @pytest.mark.parametrize("code", [0, 1, 9999])
    def test_unknown_data_type(self, tmp_path, code):
        with pytest.raises(DataError, match="data"):
            read_info(saved(tmp_path / "bold.nii", datatype=code))

    @pytest.mark.parametrize("magic", [b"ni1", b"", b"nix"])
    def test_wrong_magic(self, tmp_path, magic):
        with pytest.raises(DataError, match="no NIfTI image in one file"):
            read_info(saved(tmp_path / "bold.nii", magic=magic))

    @pytest.mark.parametrize("offset", [0, 100, np.nan, 1e30])
    def test_impossible_offset(self, tmp_path, offset):
        with pytest.raises(DataError, match="vox_offset"):
            read_info(saved(tmp_path / "bold.nii", vox_offset=offset))

    def test_impossible_intercept(self, tmp_path):
        with pytest.raises(DataError, match="scaling"):
            read_info(saved(tmp_path / "bold.nii", scl_slope=2, scl_inter=np.inf))

    @pytest.mark.parametrize("content", [b"sub-01\ttrans_x\n" * 100, b"\x00" * 1000, b"PK\x03\x04" * 100])
    def test_something_else(self, tmp_path, content):
        (tmp_path / "bold.nii.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"bold.nii.gz is no NIfTI image: it starts with"):
            read_info(tmp_path / "bold.nii.gz")

    def test_other_image_formats(self, tmp_path):
        nib.MGHImage(np.ones((3, 3, 3), np.float32), AFFINE).to_filename(tmp_path / "brain.mgz")
        with pytest.raises(DataError, match="no NIfTI image"):
            read_info(tmp_path / "brain.mgz")


class TestInMemory:
    def test_says_what_nibabel_says(self):
        image = nib.Nifti1Image(np.ones((4, 5, 6, 7), np.float32), AFFINE)
        image.header.set_xyzt_units("mm", "msec")
        image.header["pixdim"][4] = 800
        info = read_info(image)
        assert (info.path, info.ndim, info.n_volumes, info.t_r) == (None, 4, 7, 0.8)
        assert info.grid.shape == (4, 5, 6)
        np.testing.assert_array_equal(info.grid.affine, AFFINE)

    def test_without_a_unit_of_time_the_period_is_not_guessed(self):
        assert read_info(nib.Nifti1Image(np.ones((4, 5, 6, 7), np.float32), AFFINE)).t_r is None

    def test_names_the_file_that_holds_the_numbers(self, tmp_path):
        path = saved(tmp_path / "bold.nii")
        assert read_info(nib.load(path)).path == path

    def test_other_formats_are_welcome(self):
        info = read_info(nib.MGHImage(np.ones((3, 4, 5), np.float32), AFFINE))
        assert (info.grid.shape, info.t_r) == ((3, 4, 5), None)

    @pytest.mark.parametrize(
        ("data", "affine", "message"),
        [
            (np.ones((4, 5), np.int16), AFFINE, "shape"),
            (np.ones((4, 5, 6, 7, 2), np.int16), AFFINE, "5 axes"),
            (np.ones((4, 5, 6), np.complex64), AFFINE, "complex64"),
            (np.ones((4, 5, 6), np.int16), np.diag([0, 2, 2, 1]), "inverse"),
        ],
    )
    def test_refusals(self, data, affine, message):
        image = nib.spatialimages.SpatialImage(data, affine)
        with pytest.raises(DataError, match=message):
            read_info(image)
