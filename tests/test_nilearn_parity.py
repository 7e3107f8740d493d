"""Both classes on the same inputs: what is the same, and where nilearn's result is the one not to have."""

import inspect
import tracemalloc
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import sklearn
from nilearn.maskers import NiftiMasker
from nilearn.regions import Parcellations as NilearnParcellations
from nilearn.regions.parcellations import _estimator_fit
from scipy import ndimage
from scipy.linalg import subspace_angles
from sklearn.cluster import AgglomerativeClustering
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.metrics import adjusted_rand_score

from bids_parcellate import Parcellations
from bids_parcellate.errors import UsageError
from tests.simulated import AFFINE, simulate

METHODS = NilearnParcellations.VALID_METHODS
SIMULATION = simulate(2, n_volumes=30)
IMAGES = SIMULATION.images
MASK = SIMULATION.mask_img
RNG = np.random.default_rng(0)
CONFOUNDS = [RNG.normal(size=(30, 3)) for _ in IMAGES]
VOLUME = nib.Nifti1Image(np.array(IMAGES[0].dataobj)[..., 0], AFFINE)


@contextmanager
def quiet():
    """Silence nilearn, which warns of its own deprecations and of every resampling."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Theirs(NilearnParcellations):
    """nilearn's class, without its warnings."""

    __init__ = NilearnParcellations.__init__

    def fit(self, *args, **kwargs):
        with quiet():
            return super().fit(*args, **kwargs)

    def transform(self, *args, **kwargs):
        with quiet():
            return super().transform(*args, **kwargs)

    def score(self, *args, **kwargs):
        with quiet():
            return super().score(*args, **kwargs)


def fit_both(images, confounds=None, **parameters):
    """Fit both classes; nilearn's knows no feature mode."""
    parameters = {"method": "ward", "n_parcels": 8, "mask": MASK, "standardize": None, **parameters}
    ours = Parcellations(features="nilearn", **parameters).fit(images, confounds=confounds)
    return ours, Theirs(**parameters).fit(images, confounds=confounds)


def with_labels_of(ours, **parameters):
    """Give nilearn's class our labels, as if it had fitted them."""
    theirs = Theirs("ward", **parameters)
    theirs.labels_img_, theirs.masker_ = ours.labels_img_, NiftiMasker(ours.mask_img_, standardize=None).fit()
    theirs.mask_img_, theirs._n_elements_, theirs.memory_ = ours.mask_img_, ours.n_elements_, None
    theirs._fit_cache()
    return theirs


def assert_close(ours, theirs, tolerance=1e-5):
    """Compare each parcel's signal, relative to its size."""
    assert ours.shape == theirs.shape
    assert (np.linalg.norm(ours - theirs, axis=0) <= tolerance * np.linalg.norm(theirs, axis=0)).all()


def n_pieces(labels):
    return [ndimage.label(labels == label)[1] for label in range(1, int(labels.max()) + 1)]


def public_names(estimator):
    return {name for name in dir(estimator) if not name.startswith("_")}


# What a fitted object of nilearn's has and ours has not.
LEFT_OUT = {
    "do_cca": "a constant that nilearn's class inherits from its ICA; no step of ours reads it",
    "dtype": "always None in nilearn; signals have the types that nilearn gives them",
    "maps_masker_": "its signals are those of the components: masker_.transform(image) @ components_.T",
}
GUIDE = (Path(__file__).parents[1] / "docs" / "from-nilearn.md").read_text()


# -- The interface ----------------------------------------------------------------------------------------------------


class TestInterface:
    def test_parameters_are_the_same_in_order_and_defaults(self):
        theirs = list(inspect.signature(NilearnParcellations).parameters.values())
        ours = list(inspect.signature(Parcellations).parameters.values())
        same = [(each.name, each.default, each.kind) for each in ours[: len(theirs)]]
        assert same == [(each.name, each.default, each.kind) for each in theirs]
        assert {each.kind for each in ours[len(theirs) :]} == {inspect.Parameter.KEYWORD_ONLY}

    @pytest.mark.parametrize("method", ["fit", "transform", "fit_transform", "inverse_transform", "score"])
    def test_methods_take_the_same_and_sample_masks(self, method):
        theirs = list(inspect.signature(getattr(NilearnParcellations, method)).parameters.values())
        ours = list(inspect.signature(getattr(Parcellations, method)).parameters.values())
        for mine, their in zip(ours, theirs, strict=False):
            assert (mine.name, mine.default, mine.kind) == (their.name, their.default, their.kind)
        assert [each.name for each in ours[len(theirs) :]] == ["sample_mask"] * (method != "inverse_transform")

    def test_names_are_the_same_but_for_those_left_out(self):
        ours, theirs = fit_both(IMAGES)
        assert public_names(theirs) - public_names(ours) == set(LEFT_OUT)
        for name in LEFT_OUT:
            assert f"`{name}`" in GUIDE, f"the page for people who come from nilearn tells of {name}"

    def test_valid_methods_are_the_same(self):
        assert Parcellations.VALID_METHODS == NilearnParcellations.VALID_METHODS

    def test_requests_of_metadata_can_be_set(self):
        with sklearn.config_context(enable_metadata_routing=True):
            for method in ("fit", "transform", "inverse_transform", "score"):
                theirs = getattr(NilearnParcellations("ward").get_metadata_routing(), method).requests
                ours = getattr(Parcellations("ward").get_metadata_routing(), method).requests
                assert ours == theirs | ({} if method == "inverse_transform" else {"sample_mask": None})
                asked = dict.fromkeys(theirs, True)
                changed = getattr(Parcellations("ward"), f"set_{method}_request")(**asked)
                assert getattr(changed.get_metadata_routing(), method).requests == ours | asked

    @pytest.mark.parametrize("method", METHODS)
    def test_attributes_have_the_same_shapes(self, method):
        ours, theirs = fit_both(IMAGES, method=method)
        assert hasattr(ours, "connectivity_") == hasattr(theirs, "connectivity_")
        for name in ("labels_img_", "mask_img_", "components_", "components_img_", "variance_"):
            assert getattr(ours, name).shape == getattr(theirs, name).shape, name
        assert ours.n_elements_ == theirs.n_elements_
        assert ours.labels_img_.get_data_dtype() == theirs.labels_img_.get_data_dtype() == np.int32
        assert ours.mask_img_.get_data_dtype() == theirs.mask_img_.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(ours.labels_img_.affine, theirs.labels_img_.affine)
        assert ours.masker_.transform(IMAGES[0]).shape == theirs.masker_.transform(IMAGES[0]).shape

    def test_connectivity_is_the_same_but_for_the_diagonal(self):
        ours, theirs = fit_both(IMAGES)
        edges = theirs.connectivity_.tocsr().astype(bool)
        edges.setdiag(False)
        assert (ours.connectivity_ != edges).nnz == 0

    @pytest.mark.parametrize(
        "make",
        [
            lambda: IMAGES[0],
            lambda: [IMAGES[0]],
            lambda: IMAGES,
            lambda: tuple(IMAGES),
            lambda: VOLUME,
            lambda: [VOLUME],
            lambda: [VOLUME, VOLUME],
            lambda: [[VOLUME, VOLUME], [VOLUME]],
        ],
        ids=["4-D", "[4-D]", "[4-D, 4-D]", "tuple", "3-D", "[3-D]", "[3-D, 3-D]", "nested"],
    )
    def test_signals_and_their_images_have_the_same_shapes(self, make):
        ours, theirs = fit_both(IMAGES)
        found = []
        for parcellations in (ours, theirs):
            signals = parcellations.transform(make())
            images = parcellations.inverse_transform(signals)
            found.append(
                [signals.shape, images.shape, signals.dtype]
                if isinstance(signals, np.ndarray)
                else [(each.shape, image.shape, each.dtype) for each, image in zip(signals, images, strict=True)]
            )
        assert found[0] == found[1]


class TestTypes:
    """The types of signals follow those of the images."""

    @pytest.mark.parametrize("smoothing_fwhm", [None, 4.0])
    @pytest.mark.parametrize("parameters", [{}, {"standardize": "zscore_sample"}, {"detrend": True}], ids=str)
    @pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "float32", "float64", "scaled", "float64 as int16"])
    def test_of_signals_and_their_images(self, kind, parameters, smoothing_fwhm, tmp_path):
        parameters = {"smoothing_fwhm": smoothing_fwhm, **parameters}
        ours, theirs = fit_both(IMAGES, **parameters)
        image = with_type(IMAGES[0], kind, tmp_path)
        for make in (lambda: image, lambda: [image, IMAGES[1]], lambda: nib.four_to_three(image)):
            found = [each.transform(make()) for each in (ours, theirs)]
            types = [[each.dtype for each in signals] for signals in found]  # of rows, or of the items of a list
            assert types[0] == types[1]
        signals = ours.transform(image)
        assert ours.inverse_transform(signals).get_data_dtype() == theirs.inverse_transform(signals).get_data_dtype()
        assert signals.dtype == theirs.transform(image).dtype

    @pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "u2", "i4", "i8", "f4", "f8"])
    def test_of_images_are_those_of_signals(self, dtype):
        ours, theirs = fit_both(IMAGES)
        for shape in ((8,), (3, 8)):
            with quiet():
                images = [each.inverse_transform(np.ones(shape, dtype=dtype)) for each in (ours, theirs)]
            types = [np.asanyarray(image.dataobj).dtype for image in images]
            assert types[0] == types[1]
            np.testing.assert_array_equal(images[0].get_fdata(), images[1].get_fdata())


def with_type(image, kind, folder):
    """Make an image whose numbers are of another type."""
    data = np.asarray(image.dataobj)
    if kind == "float64 as int16":  # the type that its header has, for the day when it is saved
        return nib.Nifti1Image(data, image.affine, dtype=np.int16)
    if kind != "scaled":
        return nib.Nifti1Image((data / 8).astype(kind), image.affine)
    scaled = nib.Nifti1Image(data, image.affine)
    scaled.header.set_data_dtype(np.int16)
    scaled.header.set_slope_inter(0.1, 0)
    nib.save(scaled, folder / "scaled.nii")
    return nib.load(folder / "scaled.nii")


BAD_FITS = {
    "missing file": ({}, lambda: ("missing.nii",)),
    "wildcards without a match": ({}, lambda: ("missing*.nii",)),
    "missing file in a list": ({}, lambda: (["missing.nii"],)),
    "empty list": ({}, lambda: ([],)),
    "number": ({}, lambda: (3,)),
    "array": ({}, lambda: (np.ones((4, 4, 4, 10)),)),
    "list of arrays": ({}, lambda: ([np.ones((4, 4, 4, 10))],)),
    "five axes": ({}, lambda: (nib.Nifti1Image(np.ones((4, 4, 4, 10, 2)), AFFINE),)),
    "no method": ({"method": None}, lambda: (IMAGES,)),
    "unknown method": ({"method": "wards"}, lambda: (IMAGES,)),
    "too few confounds": ({}, lambda: (IMAGES, None, CONFOUNDS[:1])),
    "short confounds": ({}, lambda: (IMAGES[0], None, [CONFOUNDS[0][:20]])),
    "confounds of another type": ({}, lambda: (IMAGES[0], None, [3])),
    "confounds in nested lists": ({}, lambda: (IMAGES[0], None, [CONFOUNDS[0].tolist()])),
    "confounds that are missing": ({}, lambda: (IMAGES[0], None, ["missing.csv"])),
    "confounds with NaN": ({}, lambda: (IMAGES[0], None, [np.full((30, 1), np.nan)])),
    "unknown standardization": ({"standardize": "std"}, lambda: (IMAGES,)),
    "mask of another type": ({"mask": 3}, lambda: (IMAGES,)),
    "mask as an array": ({"mask": np.ones((13, 14, 12))}, lambda: (IMAGES,)),
    "missing mask": ({"mask": "missing.nii"}, lambda: (IMAGES,)),
    "empty mask": ({"mask": nib.Nifti1Image(np.zeros((13, 14, 12)), AFFINE)}, lambda: (IMAGES,)),
    "unknown mask strategy": ({"mask": None, "mask_strategy": "brain"}, lambda: (IMAGES,)),
    "shape without an affine": ({"target_shape": (4, 4, 4)}, lambda: (IMAGES,)),
    "more parcels than voxels": ({"n_parcels": 10_000}, lambda: (IMAGES,)),
    "no parcels": ({"n_parcels": 0}, lambda: (IMAGES,)),
    "smoothing that is no number": ({"smoothing_fwhm": "wide"}, lambda: (IMAGES,)),
    "filter without a repetition time": ({"low_pass": 0.1}, lambda: (IMAGES,)),
    "images on different grids": (
        {"mask": None},
        lambda: ([IMAGES[0], nib.Nifti1Image(np.asarray(IMAGES[1].dataobj)[1:], AFFINE)],),
    ),
}


class TestErrors:
    @staticmethod
    def error_of(call):
        with quiet(), pytest.raises(Exception) as caught:  # noqa: PT011 -- whichever nilearn raises
            call()
        return caught.value

    @pytest.mark.parametrize("case", BAD_FITS)
    def test_of_bad_fits_are_of_the_same_type(self, case):
        parameters, arguments = BAD_FITS[case]
        parameters = {"method": "ward", "n_parcels": 5, "mask": MASK, "standardize": None, **parameters}
        theirs = self.error_of(lambda: NilearnParcellations(**parameters).fit(*arguments()))
        ours = self.error_of(lambda: Parcellations(**parameters).fit(*arguments()))
        builtin = next(kind for kind in (FileNotFoundError, TypeError, ValueError) if isinstance(theirs, kind))
        if case == "no parcels":  # scikit-learn's error is a ValueError and a TypeError
            builtin = ValueError
        assert isinstance(ours, builtin)
        assert type(ours).__module__.startswith("bids_parcellate"), "an error that we foresaw"

    @pytest.mark.parametrize(
        "call",
        [
            lambda fitted: fitted.transform(3),
            lambda fitted: fitted.transform(np.ones((4, 4, 4, 10))),
            lambda fitted: fitted.transform("missing*.nii"),
            lambda fitted: fitted.transform(IMAGES, confounds=CONFOUNDS[:1]),
            lambda fitted: fitted.inverse_transform(np.ones((3, 9))),
            lambda fitted: fitted.inverse_transform(np.ones(7)),
        ],
    )
    def test_of_bad_transforms_are_of_the_same_type(self, call):
        ours, theirs = (self.error_of(lambda each=each: call(each)) for each in fit_both(IMAGES))
        assert isinstance(ours, TypeError if isinstance(theirs, TypeError) else ValueError)

    def test_before_the_fit_is_the_same(self):
        errors = [self.error_of(lambda each=each: each("ward").transform(IMAGES)) for each in (Parcellations, Theirs)]
        assert type(errors[0]) is type(errors[1])


# -- The numbers ------------------------------------------------------------------------------------------------------

CLEANING = [
    {},
    {"smoothing_fwhm": None},
    {"standardize": False},
    {"standardize": True},
    {"standardize": "zscore_sample"},
    {"standardize": "psc"},
    {"detrend": True, "standardize": "psc"},
    {"low_pass": 0.1, "high_pass": 0.02, "t_r": 2.0},
    {"high_pass": 0.02, "t_r": 2.0, "detrend": True, "standardize": "zscore_sample", "smoothing_fwhm": 8.0},
]


class TestSignals:
    @pytest.mark.parametrize("with_confounds", [False, True])
    @pytest.mark.parametrize("parameters", CLEANING, ids=str)
    def test_are_the_same_given_the_same_labels(self, parameters, with_confounds):
        simulation = simulate(2, n_volumes=60)
        ours = Parcellations("ward", 8, mask=simulation.mask_img, **parameters).fit(simulation.images)
        theirs = with_labels_of(ours, **parameters)
        confounds = [RNG.normal(size=(60, 3)) for _ in simulation.images] if with_confounds else None
        truth = theirs.transform(simulation.images, confounds=confounds)
        for mine, their in zip(ours.transform(simulation.images, confounds=confounds), truth, strict=True):
            assert_close(mine, their)

    @pytest.mark.parametrize("parameters", [CLEANING[0], CLEANING[1], CLEANING[4], CLEANING[8]], ids=str)
    def test_are_the_same_on_real_images(self, parameters, shared_data):
        paths = sorted((shared_data / "real" / "twosub_mni4mm").rglob("*_desc-preproc_bold.nii.gz"))
        images = [nib.load(path).slicer[..., :50] for path in paths]
        # nilearn smooths whole numbers in single precision, with errors ten times as large as ours.
        exact = [nib.Nifti1Image(image.get_fdata(), image.affine) for image in images]
        ours = Parcellations("ward", 100, mask_strategy="background", n_components=20, **parameters).fit(images[0])
        theirs = with_labels_of(ours, **parameters)
        confounds = [RNG.normal(size=(50, 4)) for _ in images]
        for mine, their in zip(ours.transform(images, confounds), theirs.transform(exact, confounds), strict=True):
            assert_close(mine, their)

    @pytest.mark.parametrize("kind", ["csv", "tsv", "frame"])
    def test_are_the_same_with_confounds_of_any_kind(self, kind, tmp_path):
        frames = [pd.DataFrame(table, columns=["a", "b", "c"]) for table in CONFOUNDS]
        for number, frame in enumerate(frames):
            frame.to_csv(tmp_path / f"{number}.csv", index=False)
            frame.to_csv(tmp_path / f"{number}.tsv", index=False, sep="\t")
        confounds = frames if kind == "frame" else [tmp_path / f"{number}.{kind}" for number in range(2)]
        ours, _ = fit_both(IMAGES)
        for mine, their in zip(
            ours.transform(IMAGES, confounds), with_labels_of(ours).transform(IMAGES, confounds), strict=True
        ):
            assert_close(mine, their)

    @pytest.mark.parametrize(
        "target", [{"target_affine": np.diag([5.0, 5, 5])}, {"target_affine": AFFINE, "target_shape": (11, 13, 12)}]
    )
    def test_are_the_same_after_a_fit_on_another_grid(self, target):
        ours, theirs = fit_both(IMAGES, **target)
        assert ours.labels_img_.shape == theirs.labels_img_.shape
        np.testing.assert_allclose(ours.labels_img_.affine, theirs.labels_img_.affine)
        theirs.labels_img_ = ours.labels_img_
        assert_close(ours.transform(IMAGES[0]), theirs.transform(IMAGES[0]))

    def test_are_painted_the_same(self):
        ours, _ = fit_both(IMAGES)
        signals = ours.transform(IMAGES)
        for mine, their in zip(
            ours.inverse_transform(signals), with_labels_of(ours).inverse_transform(signals), strict=True
        ):
            np.testing.assert_array_equal(mine.get_fdata(), their.get_fdata())


class TestComponents:
    @pytest.mark.parametrize("n_runs", [1, 6])
    @pytest.mark.parametrize(
        "parameters",
        [{}, {"smoothing_fwhm": None, "detrend": True}, {"standardize": "zscore_sample"}, {"standardize": "psc"}],
        ids=str,
    )
    def test_span_the_same_space_where_the_spectrum_has_a_gap(self, n_runs, parameters):
        simulation = simulate(n_runs, n_volumes=60, n_parcels=10, noise=0.1)
        parameters = {"mask": simulation.mask_img, "standardize": None, **parameters}
        ours = Parcellations("ward", 8, features="nilearn", n_components=10, **parameters)
        ours.fit(simulation.images)
        theirs = Theirs("ward", 8, **parameters)
        theirs.n_components = 10
        theirs.fit(simulation.images)
        angles = subspace_angles(ours.components_.T.astype(float), theirs.components_.T)
        assert angles.max() < 1e-3
        np.testing.assert_allclose(ours.variance_, theirs.variance_, rtol=1e-4)

    def test_span_the_same_space_on_real_images(self, shared_data):
        paths = sorted((shared_data / "real" / "twosub_mni4mm").rglob("*_desc-preproc_bold.nii.gz"))
        images = [nib.load(path).slicer[..., :40] for path in paths]
        ours, theirs = fit_both(images, method="kmeans", mask=None, smoothing_fwhm=None)
        assert ours.components_.shape == theirs.components_.shape
        assert subspace_angles(ours.components_.T.astype(float), theirs.components_.T).max() < 1e-3

    @pytest.mark.parametrize("method", ["ward", "complete", "average"])
    @pytest.mark.parametrize("n_parcels", [5, 60, 400])
    def test_that_are_equal_give_the_same_labels(self, method, n_parcels):
        ours = Parcellations(method, n_parcels, mask=MASK, features="nilearn").fit(IMAGES)
        graph = grid_to_graph(*SIMULATION.truth.shape, mask=SIMULATION.truth > 0)
        clusterer = AgglomerativeClustering(n_parcels, connectivity=graph, linkage=method)
        labels = _estimator_fit(ours.components_, clusterer)
        assert adjusted_rand_score(labels, ours.labels_) == 1


class TestSizes:
    @pytest.mark.parametrize(
        ("n_parcels", "n_runs", "with_confounds"), [(5, 1, False), (5, 1, True), (100, 2, True), (1000, 2, False)]
    )
    @pytest.mark.parametrize("method", METHODS)
    def test_are_what_was_asked_whatever_the_method(self, method, n_parcels, n_runs, with_confounds):
        simulation = simulate(n_runs, shape=(16, 17, 15), n_volumes=20)
        images = simulation.images[0] if n_runs == 1 else simulation.images
        confounds = [RNG.normal(size=(20, 2)) for _ in range(n_runs)] if with_confounds else None
        parameters = {"method": method, "n_parcels": n_parcels, "mask": simulation.mask_img, "standardize": None}
        ours = Parcellations(features="nilearn", **parameters).fit(images, confounds=confounds)
        shape = np.shape(ours.transform(images, confounds=confounds))
        assert shape == ((20, n_parcels) if n_runs == 1 else (2, 20, n_parcels))
        if method == "hierarchical_kmeans" and n_parcels > 5:
            return  # nilearn makes at most as many parcels as there are components, and takes its time
        theirs = Theirs(**parameters).fit(images, confounds=confounds)
        if method == "kmeans" and n_parcels == 1000:
            assert theirs.n_elements_ < n_parcels  # mini-batches leave clusters empty
        else:
            assert np.shape(theirs.transform(images, confounds=confounds)) == shape


# -- Where nilearn is not the reference -------------------------------------------------------------------------------


class TestDefects:
    def test_hierarchical_kmeans_stops_at_the_number_of_components(self):
        simulation = simulate(2, n_volumes=20)  # 40 components; of long runs nilearn keeps 200
        ours, theirs = fit_both(simulation.images, method="hierarchical_kmeans", n_parcels=60, mask=simulation.mask_img)
        assert theirs.n_elements_ == 40
        assert ours.n_elements_ == 60

    @pytest.mark.parametrize("method", ["ward", "complete", "average"])
    def test_parcels_lie_in_several_pieces_of_the_mask(self, method):
        mask = SIMULATION.truth > 0
        mask[:, 4] = mask[:, 9] = False  # three slabs
        image = nib.Nifti1Image(mask.astype(np.uint8), AFFINE)
        ours, theirs = fit_both(IMAGES, method=method, n_parcels=3, mask=image)
        assert n_pieces(np.asarray(ours.labels_img_.dataobj)) == [1, 1, 1]
        assert max(n_pieces(np.asarray(theirs.labels_img_.dataobj))) > 1

    def test_rena_misses_the_number_of_parcels(self):
        # Identical neighbours: their distance of zero is no edge in nilearn's graph, so they are never merged.
        blocks = np.kron(RNG.normal(size=(4, 4, 4, 30)), np.ones((3, 3, 3, 1)))
        image = nib.Nifti1Image(blocks, AFFINE)
        everywhere = nib.Nifti1Image(np.ones((12, 12, 12), np.uint8), AFFINE)
        ours, theirs = fit_both(image, method="rena", n_parcels=64, mask=everywhere, smoothing_fwhm=None)
        truth = np.kron(np.arange(64).reshape(4, 4, 4), np.ones((3, 3, 3)))
        assert adjusted_rand_score(truth.ravel(), ours.labels_) == 1
        assert adjusted_rand_score(truth.ravel(), theirs.labels_img_.get_fdata().ravel()) < 0.9

    def test_rena_gives_as_many_parcels_as_there_are_pieces(self):
        mask = SIMULATION.truth > 0
        mask[:, 4] = mask[:, 9] = False  # three slabs
        image = nib.Nifti1Image(mask.astype(np.uint8), AFFINE)
        theirs = Theirs("rena", 2, mask=image, standardize=None).fit(IMAGES)
        assert theirs.n_elements_ > 2
        with pytest.raises(UsageError, match="in 3 pieces"):
            Parcellations("rena", 2, mask=image).fit(IMAGES)

    def test_memory_grows_with_the_runs(self, tmp_path):
        simulation = simulate(1, shape=(18, 18, 18), n_volumes=40)
        paths = [tmp_path / f"{number}.nii" for number in range(9)]
        for path in paths:
            nib.save(simulation.images[0], path)
        mask, growth = simulation.mask_img, []
        del simulation
        for kind in (partial(Parcellations, n_components=40), Theirs):
            kind("rena", 50, mask=mask, standardize=None).fit(paths[:1])  # compiles
            peaks = []
            for n_runs in (3, 9):
                tracemalloc.start()
                kind("rena", 50, mask=mask, standardize=None).fit(paths[:n_runs])
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
            growth.append(peaks[1] / peaks[0])
        assert growth[0] < 1.2
        assert growth[1] > 1.5

    def test_whitened_components_count_noise_as_much_as_signal(self):
        simulation = simulate(3, n_volumes=80, noise=2.5, seed=1)
        theirs = Theirs("ward", 8, mask=simulation.mask_img, standardize=None).fit(simulation.images)
        ours = Parcellations("ward", 8, mask=simulation.mask_img).fit(simulation.images)
        inside = simulation.truth > 0
        score = adjusted_rand_score(simulation.labels, theirs.labels_img_.get_fdata()[inside])
        assert adjusted_rand_score(simulation.labels, ours.labels_) > score + 0.2

    def test_a_fit_cannot_censor(self):
        assert "sample_mask" not in inspect.signature(NilearnParcellations.fit).parameters
        kept = np.arange(18)
        spoilt = []
        for image in IMAGES:
            data = np.array(image.dataobj)
            data[..., 18:] += 1e4 * RNG.normal(size=(*data.shape[:3], 12))
            spoilt.append(nib.Nifti1Image(data, AFFINE))
        parameters = {"mask": MASK, "smoothing_fwhm": None}
        theirs = Theirs("ward", 8, standardize=None, **parameters).fit(spoilt)
        ours = Parcellations("ward", 8, **parameters).fit(spoilt, sample_mask=[kept, kept])
        inside = SIMULATION.truth > 0
        score = adjusted_rand_score(SIMULATION.labels, theirs.labels_img_.get_fdata()[inside])
        assert adjusted_rand_score(SIMULATION.labels, ours.labels_) > score + 0.1

    def test_columns_shift_where_parcels_are_lost_to_resampling(self):
        ours, _ = fit_both(IMAGES)
        lower = nib.Nifti1Image(np.asarray(IMAGES[0].dataobj)[:, :, :6], AFFINE)
        theirs = with_labels_of(ours).transform(lower)
        with pytest.warns(UserWarning, match="hold no voxel"):
            signals = ours.transform(lower)
        assert theirs.shape[1] < 8
        assert signals.shape[1] == 8
        np.testing.assert_allclose(signals[:, np.isfinite(signals).all(axis=0)], theirs, rtol=1e-5)

    def test_the_score_does_not_see_the_parcels(self):
        coarse, fine = (fit_both(IMAGES, n_parcels=n, detrend=True) for n in (4, 8))
        assert coarse[1].score(IMAGES) == pytest.approx(fine[1].score(IMAGES))
        assert coarse[0].score(IMAGES) < fine[0].score(IMAGES)

    def test_signals_are_not_cleaned_as_the_masker_asks(self):
        masker = NiftiMasker(MASK, standardize="zscore_sample", smoothing_fwhm=None)
        theirs = Theirs("ward", 8, mask=masker, standardize=None).fit(IMAGES)
        with pytest.warns(UserWarning, match="standardize='zscore_sample'"):
            ours = Parcellations("ward", 8, mask=masker, standardize=None).fit(IMAGES)
        assert theirs.transform(IMAGES[0]).std(axis=0).max() > 2
        np.testing.assert_allclose(ours.transform(IMAGES[0]).std(axis=0, ddof=1), 1)

    def test_confounds_are_standardized_where_that_is_not_wanted(self):
        # A constant confound takes the mean away, unless it is standardized, which makes it zero.
        ours, theirs = fit_both(IMAGES, standardize_confounds=False)
        constant = np.ones((30, 1))
        assert theirs.transform(IMAGES[0], [constant]).mean() > 900
        assert abs(ours.transform(IMAGES[0], [constant]).mean()) < 1e-3
