"""Images that are damaged, say nonsense of themselves, or hold nothing that can be used."""

import gzip
import shutil
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_parcellate.cli import main
from bids_parcellate.io.store import ReductionStore
from tests.badinput.sandbox import (
    HEADER_SIZE,
    Case,
    Sandbox,
    assert_helpful,
    cases,
    edit_header,
    edit_json,
    edit_voxels,
    put,
    put_image,
    raw_image,
    snapshot,
)

ONLY = ("--participant-label", "02")


def damage(change):
    """Change the bytes of the image's file."""
    return lambda box: put(box.bold, change(box.bold.read_bytes()))


def header(**fields: object):
    return lambda box: edit_header(box.bold, **fields)


def voxels(change):
    return lambda box: edit_voxels(box.bold, change)


def flip_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 20]) + content[middle + 20 :]


@pytest.mark.parametrize("n_twentieths", range(20))
def test_truncated(box, n_twentieths):
    size = box.bold.stat().st_size
    case = Case("truncated", damage(lambda content: content[: size * n_twentieths // 20]), "truncated")
    box.refuses(case, *ONLY)


@cases(
    Case("damaged in the middle", damage(flip_middle), ("damaged", "copy or download")),
    Case("wrong checksum", damage(lambda content: content[:-8] + b"\0\0\0\0" + content[-4:]), "damaged"),
    Case("wrong length", damage(lambda content: content[:-4] + b"\1\0\0\0"), "damaged"),
    Case("the last byte is missing", damage(lambda content: content[:-1]), "truncated"),
    Case("rubbish after the end", damage(lambda content: content + b"rubbish"), "reading it fails"),
    Case("a picture", damage(lambda _: b"\x89PNG\r\n\x1a\n" + bytes(400)), "no NIfTI image"),
    Case("text", damage(lambda _: b"not found\n" * 50), "no NIfTI image"),
    Case("zeros", damage(lambda content: bytes(len(content))), "no NIfTI image"),
    Case("gzipped twice", damage(gzip.compress), "no NIfTI image"),
    Case("wrong magic", header(magic=b"abc"), "magic"),
    Case("header of a pair of files", header(magic=b"ni1"), "magic"),
    Case("no volumes", header(dim={4: 0}), "shape"),
    Case("minus one volume", header(dim={4: -1}), "shape"),
    Case("empty axis", header(dim={1: 0}), "shape"),
    Case("no axes", header(dim={0: 0}), "shape"),
    Case("minus one axes", header(dim={0: -1}), "shape"),
    Case("300 axes", header(dim={0: 300}), "300 axes"),
    Case("3-D", header(dim={0: 3}), "single volume"),
    Case("one volume", header(dim={4: 1}), "single volume"),
    Case("5-D", header(dim={0: 5, 5: 3}), "at most 4"),
    Case("no voxel size", header(pixdim={1: 0}), "voxel sizes"),
    Case("negative voxel size", header(pixdim={2: -3}), "voxel sizes"),
    Case("voxel size is no number", header(pixdim={3: np.nan}), "voxel sizes"),
    Case("infinite voxel size", header(pixdim={3: np.inf}), "voxel sizes"),
    Case("no place", header(sform_code=0, qform_code=0), "does not say where it lies"),
    Case("flat", header(srow_x=[0, 0, 0, 0]), "no 4 x 4 matrix"),
    Case("axes that coincide", header(srow_x=[1, 0, 0, 0], srow_y=[1, 0, 0, 0]), "no 4 x 4 matrix"),
    Case("place is no number", header(srow_x=[np.nan, 0, 0, 0]), "no 4 x 4 matrix"),
    Case("no rotation", header(sform_code=0, quatern_b=3), "does not say where it lies"),
    Case("metres", header(xyzt_units=1 + 8), "metres"),
    Case("unknown type", header(datatype=12345), "unknown data type"),
    Case("complex numbers", header(datatype=32, bitpix=64), "whole or real numbers"),
    Case("colours", header(datatype=128, bitpix=24), "whole or real numbers"),
    Case("infinite scaling", header(scl_slope=1, scl_inter=np.inf), "scaling"),
    Case("data in the header", header(vox_offset=10), "vox_offset"),
    Case("data before the file", header(vox_offset=-352), "vox_offset"),
    Case("data nowhere", header(vox_offset=np.nan), "vox_offset"),
    Case("data far behind the end", header(vox_offset=2**30), "truncated"),
    Case("more volumes than there are", header(dim={4: 81}), "81 volumes"),
    Case("all NaN", voxels(lambda data: np.full_like(data, np.nan)), "does not vary"),
    Case("all infinite", voxels(lambda data: np.full_like(data, np.inf)), "does not vary"),
    Case("all zero", voxels(np.zeros_like), "does not vary"),
    Case("constant", voxels(lambda data: np.full_like(data, 100)), "does not vary"),
)
def test_an_image_that_cannot_be_used(box, case):
    box.refuses(case, *ONLY)


def bomb(box: Sandbox):
    """10 kB that declare 100 GB."""
    start, _ = raw_image(box.bold)
    start["dim"] = [4, 1000, 1000, 1000, 50, 1, 1, 1]
    path = put_image(box.bold, start, bytes(10_000_000 - HEADER_SIZE))
    assert path.stat().st_size < 50_000
    return path


def honest_giant(box: Sandbox):
    """What could be true of its size: only the prediction of memory can refuse it."""
    start, _ = raw_image(box.bold)
    start["dim"] = [4, 2000, 2000, 2000, 80, 1, 1, 1]
    content = start.binaryblock
    path = box.bold.with_suffix("")
    box.bold.unlink()
    with path.open("wb") as file:
        file.write(content)
        file.truncate(HEADER_SIZE + 4 + 2000**3 * 80 * 2)  # a file with a hole in it takes no room


def endless_nifti2(box: Sandbox):
    image = nib.Nifti2Image(np.zeros((2, 2, 2, 2), np.int16), np.eye(4))
    image.header["dim"][1:5] = 2**40
    image.header["vox_offset"] = 544
    return put(box.bold, gzip.compress(image.header.binaryblock + bytes(100)))


@cases(
    Case("10 kB that declare 100 GB", bomb, ("truncated", "100000000352")),
    Case("more numbers than a computer can count", endless_nifti2, "truncated"),
    Case("640 GB in a file with a hole", honest_giant, ("MB are allowed", "--target-res"), ("--mask", "epi"), 64),
)
def test_bombs(box, case):
    outcome = box.refuses(case, *ONLY)
    assert "MemoryError" not in outcome.text


# Time


def sidecar(**values: object):
    def spoil(box: Sandbox):
        edit_json(box.sidecar, **values)
        return box.bold

    return spoil


def no_time(box: Sandbox):
    put(box.sidecar, "{}")
    return edit_header(box.bold, xyzt_units=2)


def milliseconds(box: Sandbox):
    put(box.sidecar, "{}")
    return edit_header(box.bold, xyzt_units=2 + 8, pixdim={4: 2000.0})


def volume_timing(box: Sandbox):
    put(box.sidecar, '{"VolumeTiming": [0, 3, 7]}')
    return box.bold


def in_sidecar(content: str | bytes):
    return lambda box: put(box.sidecar, content)


@cases(
    Case("neither in the header nor beside it", no_time, "repetition time"),
    Case("zero", sidecar(RepetitionTime=0), "no positive number"),
    Case("negative", sidecar(RepetitionTime=-2), "no positive number"),
    Case("text", sidecar(RepetitionTime="2 s"), "no positive number"),
    Case("true", sidecar(RepetitionTime=True), "no positive number"),
    Case("null", sidecar(RepetitionTime=None), "no positive number"),
    Case("a list", sidecar(RepetitionTime=[2]), "no positive number"),
    Case("no number", sidecar(RepetitionTime=float("nan")), "no positive number"),
    Case("infinite", sidecar(RepetitionTime=float("inf")), "no positive number"),
    Case("larger than any number", sidecar(RepetitionTime=10**400), "no positive number"),
    Case("milliseconds", sidecar(RepetitionTime=2000), "milliseconds"),
    Case("kiloseconds", sidecar(RepetitionTime=0.002), "0.01 to 100"),
    Case("milliseconds that the header calls seconds", milliseconds, ("in the header", "milliseconds")),
    Case("not equally spaced", volume_timing, "VolumeTiming"),
    Case("no JSON", in_sidecar("{"), "JSON"),
    Case("a list of JSON", in_sidecar("[]"), "JSON object"),
    Case("nested too deep", in_sidecar("[" * 100_000), "JSON"),
    Case("no text", in_sidecar(b"\xff\xff"), "JSON"),
    Case("not fetched", in_sidecar("/annex/objects/x\n"), "datalad get"),
)
def test_the_sidecar(box, case):
    box.refuses(case, *ONLY)


# Masks


def mask(change, dtype="<f4"):
    return lambda box: edit_voxels(box.mask, change, dtype=dtype)


def remove_mask(box: Sandbox):
    box.mask.unlink()
    return box.bold


@cases(
    Case("missing", remove_mask, ("no brain mask", "--mask")),
    Case("empty", mask(np.zeros_like), "empty mask"),
    Case("all NaN", mask(lambda data: np.full_like(data, np.nan)), "empty mask"),
    Case("a probability map", mask(lambda data: data * np.linspace(0.1, 1, data.size).reshape(data.shape)), "no mask"),
    Case("4-D", mask(lambda data: np.stack([data, data], axis=3)), "3-D image"),
    Case("truncated", lambda box: put(box.mask, box.mask.read_bytes()[:200]), "truncated"),
    Case("elsewhere", lambda box: edit_header(box.mask, srow_x=[10, 0, 0, 5000]), "no voxel"),
    Case("10 kB that declare 100 GB", lambda box: edit_header(box.mask, dim={1: 5000, 2: 5000, 3: 4000}), "truncated"),
    Case("of voxels that do not vary", lambda b: (edit_voxels(b.mask, in_corner), b.bold)[1], "does not vary"),
)
def test_a_brain_mask_that_cannot_be_used(box, case):
    box.refuses(case, *ONLY)


def in_corner(data: np.ndarray) -> np.ndarray:
    corner = np.zeros_like(data)
    corner[0, 0, 0] = 1
    return corner


@pytest.mark.parametrize(
    ("name", "change", "code", "says"),
    [
        ("empty", np.zeros_like, 65, "empty mask"),
        ("labels", lambda data: data * 7 * np.arange(data.size).reshape(data.shape), 65, "no mask"),
        ("4-D", lambda data: np.stack([data, data], axis=3), 65, "3-D image"),
    ],
)
def test_a_mask_that_was_named(box, name, change, code, says):
    path = box.write("named.nii.gz", box.mask.read_bytes())
    case = Case(name, lambda _: edit_voxels(path, change), says, ("--mask", str(path)), code)
    box.refuses(case, *ONLY)


def test_another_grid_is_left_out(box):
    path = edit_header(box.bold, srow_x=[10, 0, 0, -80.5])
    inputs, outputs = snapshot(box.dataset), snapshot(box.output)
    outcome = box.run("--check")
    assert outcome.code == 0
    assert_helpful(outcome, path, ("another grid", "--target-res"))
    assert "2 runs will be used" in outcome.out
    assert snapshot(box.dataset) == inputs
    assert snapshot(box.output) == outputs


# What is odd but sound gives the same reduction.


def reduction(dataset: Path, folder: Path):
    """Reduce participant 02's run; give what is the same whatever the signs of components."""
    work = folder / "work"
    arguments = [dataset, folder / "results", "participant", *ONLY, "--work-dir", work, "--smoothing-fwhm", "0"]
    assert main([*map(str, arguments), "--nprocs", "1"]) == 0
    (path,) = (path for path in work.rglob("*.npz") if len(path.relative_to(work).parts) == 2)
    found = ReductionStore(work).load(path.stem)
    return np.abs(found.signals.components * found.signals.singular_values[:, np.newaxis]), found.voxels


@pytest.fixture(scope="module")
def of_whole_numbers(pristine, tmp_path_factory):
    """The reduction of the run, rounded to whole numbers, which every type holds."""
    folder = tmp_path_factory.mktemp("whole")
    dataset = shutil.copytree(pristine, folder / "data")
    (bold,) = dataset.glob("sub-02/ses-1/func/*preproc_bold.nii.gz")
    edit_voxels(bold, np.rint, dtype="<i2")
    return reduction(dataset, folder)


def as_type(dtype: str):
    return lambda box: edit_voxels(box.bold, lambda data: data, dtype=dtype)


def big_endian(box: Sandbox):
    start, rest = raw_image(box.bold)
    return put_image(
        box.bold, start.as_byteswapped(">"), rest[:4] + np.frombuffer(rest[4:], "<i2").byteswap().tobytes()
    )


def scaled(box: Sandbox):
    start, rest = raw_image(box.bold)
    stored = np.frombuffer(rest[4:], "<i2").astype("<i4")
    start.set_data_dtype(np.int32)
    start["scl_inter"] = -50 * start["scl_slope"]
    return put_image(box.bold, start, rest[:4] + (stored + 50).tobytes())


def nifti2(box: Sandbox):
    image = nib.load(box.bold)
    header = nib.Nifti2Header.from_header(image.header)
    header.set_data_dtype(np.float32)
    header["xyzt_units"] = image.header["xyzt_units"]
    nib.save(nib.Nifti2Image(image.get_fdata(dtype=np.float32), image.affine, header), box.bold)


def plain(box: Sandbox):
    content = gzip.decompress(box.bold.read_bytes())
    path = box.bold
    path.unlink()
    put(path.with_suffix(""), content)


def extended(box: Sandbox):
    """A header with an extension of 4 kB before the data."""
    start, rest = raw_image(box.bold)
    start["vox_offset"] = 352 + 4096
    extension = struct.pack("<ii", 4096, 6) + bytes(4088)
    return put_image(box.bold, start, b"\1\0\0\0" + extension + rest[4:])


@pytest.mark.parametrize(
    "change",
    [
        *(pytest.param(as_type(dtype), id=dtype) for dtype in ("<f4", "<f8", "<i4", "<u2", "<u4", "<i8", "<u8")),
        pytest.param(big_endian, id="big-endian"),
        pytest.param(scaled, id="scaled integers"),
        pytest.param(nifti2, id="NIfTI-2"),
        pytest.param(plain, id="not compressed"),
        pytest.param(extended, id="header extension"),
        pytest.param(header(xyzt_units=2 + 16, pixdim={4: 2000.0}), id="milliseconds"),
        pytest.param(header(qform_code=0), id="no qform"),
        pytest.param(header(xyzt_units=0), id="no units"),
        pytest.param(header(pixdim={0: 0}), id="no handedness"),
        pytest.param(header(descrip=b"\xff" * 80, aux_file=b"../../etc/passwd"), id="strange texts"),
    ],
)
def test_odd_but_sound_images_are_read_alike(box, of_whole_numbers, change):
    edit_voxels(box.bold, np.rint, dtype="<i2")
    expected, expected_voxels = of_whole_numbers
    change(box)
    inputs = snapshot(box.dataset)
    found, voxels = reduction(box.dataset, box.folder)
    np.testing.assert_array_equal(voxels, expected_voxels)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.max())
    assert snapshot(box.dataset) == inputs


def test_percent_of_a_mean_that_was_removed(box):
    case = Case("demeaned", voxels(lambda values: values - values.mean(axis=-1, keepdims=True)), "% of their mean")
    box.refuses(case, *ONLY, "--standardize", "psc")
