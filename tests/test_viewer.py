"""The data of the interactive viewer: what a page holds of volumes, tables and signals."""

import base64
import gzip
import hashlib
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from bids_parcellate.numerics.grids import Grid
from bids_parcellate.parcels.atlas import Parcellation, describe_parcels
from bids_parcellate.report.viewer import NIIVUE_SHA256, NIIVUE_VERSION, ParcelActivity, niivue_gzip, viewer_data

SHAPE = (20, 24, 18)
AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -40], [0, 0, 3, -20], [0, 0, 0, 1]])
CORNER, SIZE = (5, 7, 6), 8


@pytest.fixture
def parcellation():
    """Eight cubes in the middle of an image that is larger and runs from right to left."""
    labels = np.zeros(SHAPE, dtype=np.int32)
    box = tuple(slice(start, start + SIZE) for start in CORNER)
    labels[box] = 1 + np.ravel_multi_index(np.indices((SIZE,) * 3) // (SIZE // 2), (2, 2, 2))
    grid = Grid(SHAPE, AFFINE)
    return Parcellation(labels, grid, describe_parcels(labels, grid))


def image_of(text):
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def array_of(text, dtype):
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), dtype=dtype)


def test_niivue_is_the_file_that_its_developers_publish():
    script = gzip.decompress(niivue_gzip())
    assert hashlib.sha256(script).hexdigest() == NIIVUE_SHA256
    assert f'"{NIIVUE_VERSION}"'.encode() in script


def test_parcels_keep_their_places_though_the_image_is_cropped(parcellation):
    (described,) = viewer_data([parcellation])["parcellations"]
    image = image_of(described["image"])
    assert max(image.shape) < SIZE + 8
    for name, place in zip(described["names"], described["places"], strict=True):
        voxel = np.rint(np.linalg.solve(image.affine, [*place, 1])[:3]).astype(int)
        assert parcellation.names[int(image.dataobj[tuple(voxel)]) - 1] == name
    assert np.count_nonzero(image.dataobj) == SIZE**3


def test_a_place_lies_in_its_parcel_where_the_centroid_does_not(parcellation):
    labels = np.zeros(SHAPE, dtype=np.int32)
    ring = np.linalg.norm(np.indices(SHAPE)[:2] - np.array([9.5, 11.5])[:, None, None, None], axis=0)
    labels[(ring > 6) & (ring < 8)] = 1
    hollow = Parcellation(labels, parcellation.grid, describe_parcels(labels, parcellation.grid))
    (place,) = viewer_data([hollow])["parcellations"][0]["places"]
    voxel = np.rint(np.linalg.solve(AFFINE, [*place, 1])[:3]).astype(int)
    assert labels[tuple(voxel)] == 1


def test_the_background_lies_where_the_parcels_lie(parcellation):
    background = np.indices(SHAPE).sum(axis=0).astype(np.float64)
    data = viewer_data([parcellation], background=background)
    below, above = image_of(data["background"]), image_of(data["parcellations"][0]["image"])
    assert below.shape == above.shape
    np.testing.assert_array_equal(below.affine, above.affine)
    assert below.get_data_dtype() == np.uint8
    assert np.ptp(below.dataobj) == 255


def test_a_fine_background_is_thinned_out_and_stays_in_place():
    shape = (180, 200, 180)
    labels = np.ones(shape, dtype=np.int32)
    grid = Grid(shape, np.diag([1.0, 1, 1, 1]))
    fine = Parcellation(labels, grid, describe_parcels(labels, grid))
    background = np.indices(shape)[0].astype(np.float32)
    image = image_of(viewer_data([fine], background=background)["background"])
    assert np.prod(image.shape) < 2e6
    values = np.asarray(image.dataobj)[:, 0, 0].astype(float)
    places = image.affine[0, 0] * np.arange(len(values)) + image.affine[0, 3]
    assert np.corrcoef(values, places)[0, 1] > 0.99
    assert places[-1] == pytest.approx(179, abs=2)


def test_signals_are_close_and_what_is_missing_is_marked(parcellation):
    rng = np.random.default_rng(0)
    series = rng.normal(size=(50, 8)) * 10.0 ** rng.integers(-3, 3, 8)
    correlations = np.corrcoef(series.T)
    correlations[2] = correlations[:, 2] = np.nan
    series[:, 2] = np.nan
    activity = ParcelActivity(correlations, 3, series, "sub-01_<b>")
    (described,) = viewer_data([parcellation], activities={8: activity})["parcellations"]
    known = np.delete(np.arange(8), 2)
    stored = array_of(described["correlation"], np.int8).reshape(8, 8)
    np.testing.assert_allclose(stored[np.ix_(known, known)] / 127, correlations[np.ix_(known, known)], atol=0.5 / 127)
    assert (stored[2] == -128).all()
    drawn = array_of(described["series"], np.uint8).reshape(50, 8)
    for parcel in known:
        assert np.corrcoef(drawn[:, parcel], series[:, parcel])[0, 1] > 0.999
        assert np.ptp(drawn[:, parcel]) == 255
    assert np.ptp(drawn[:, 2]) == 0
    assert (described["n_runs"], described["series_of"]) == (3, "sub-01_<b>")


def test_columns_of_quality_are_shown_whichever_there_are(parcellation):
    homogeneity = np.linspace(0, 1, 8)
    homogeneity[3] = np.nan
    table = parcellation.table.assign(homogeneity=homogeneity, n_pieces=1, note="text", empty=np.nan)
    (described,) = viewer_data([replace(parcellation, table=table)])["parcellations"]
    assert [figure["name"] for figure in described["figures"]] == ["Homogeneity", "N pieces"]
    assert described["figures"][0]["values"][2:4] == [pytest.approx(2 / 7, abs=1e-6), None]
    json.dumps(described, allow_nan=False)


def test_too_many_parcels_have_no_correlations(parcellation):
    n_parcels = 1500
    activity = ParcelActivity(np.zeros((n_parcels, n_parcels)), 1, np.zeros((400, n_parcels)), "run")
    (described,) = viewer_data([parcellation], activities={8: activity})["parcellations"]
    assert described["correlation"] is None
    assert described["series"] is None
