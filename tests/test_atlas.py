import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from bids_parcellate.errors import DataError, MissingInputError
from bids_parcellate.io.files import write_atomically
from bids_parcellate.io.images import volume_to_bytes
from bids_parcellate.io.masking import Mask
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.parcels.atlas import COLUMNS, describe_parcels, paint, read_parcellation

GRID = Grid((6, 5, 4), np.array([[-2.0, 0, 0, 5], [0, 0, 3, -4], [0, 2, 0, 1], [0, 0, 0, 1]]))


@pytest.fixture
def mask():
    data = np.ones(GRID.shape, dtype=bool)
    data[0, 0, 0] = False
    return Mask(data, GRID)


@pytest.fixture
def labels(mask):
    return np.random.default_rng(0).permutation(np.arange(mask.n_voxels) % 7).astype(np.int32)


def test_labels_are_painted_in_the_order_of_the_mask(mask, labels):
    parcellation = paint(labels, mask)
    np.testing.assert_array_equal(parcellation.labels[mask.data], labels + 1)
    assert parcellation.labels[0, 0, 0] == 0
    assert parcellation.n_parcels == 7


def test_centres_and_sizes_are_those_of_scipy(mask, labels):
    parcellation = paint(labels, mask)
    table = parcellation.table
    index = range(1, 8)
    centres = np.array(ndimage.center_of_mass(parcellation.labels > 0, parcellation.labels, index))
    world = centres @ GRID.affine[:3, :3].T + GRID.affine[:3, 3]
    np.testing.assert_allclose(table[["x", "y", "z"]], world, atol=0.005)
    sizes = ndimage.sum_labels(np.ones(GRID.shape), parcellation.labels, index)
    np.testing.assert_array_equal(table["n_voxels"], sizes)
    np.testing.assert_allclose(table["volume_mm3"], sizes * 12)
    assert list(table.columns) == list(COLUMNS)


def test_hemispheres_are_those_of_world_space():
    # The first axis runs from right to left: x is 5, 3, 1, -1, -3, -5 mm.
    labels = np.zeros(GRID.shape, dtype=np.int32)
    labels[:3], labels[3:] = 1, 2
    assert list(describe_parcels(labels, GRID)["hemisphere"]) == ["R", "L"]
    labels[:] = 1
    assert list(describe_parcels(labels, GRID)["hemisphere"]) == ["B"]


def test_names_sort_as_they_count():
    labels = np.arange(1, 1201, dtype=np.int32).reshape(10, 12, 10)
    names = list(describe_parcels(labels, Grid(labels.shape, np.eye(4)))["name"])
    assert names == sorted(names)
    assert (names[0], names[-1]) == ("parcel0001", "parcel1200")


def test_reading_gives_what_was_written(tmp_path, mask, labels):
    written = paint(labels, mask)
    image = write_atomically(tmp_path / "a_dseg.nii.gz", volume_to_bytes(written.labels, GRID))
    table = tmp_path / "a_dseg.tsv"
    written.table.to_csv(table, sep="\t", index=False)
    read = read_parcellation(image, table)
    np.testing.assert_array_equal(read.labels, written.labels)
    assert read.grid.matches(GRID)
    assert read.names == written.names
    written.table[:-1].to_csv(table, sep="\t", index=False)
    with pytest.raises(DataError, match=r"a_dseg\.nii\.gz are not those in"):
        read_parcellation(image, table)
    with pytest.raises(MissingInputError, match=r"b\.tsv"):
        read_parcellation(image, tmp_path / "b.tsv")
    assert isinstance(read.table, pd.DataFrame)
