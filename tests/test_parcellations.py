"""The estimator: simulations with a known answer, and scikit-learn's contracts."""

import logging
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc

import joblib
import nibabel as nib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from scipy import ndimage
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from bids_parcellate import Parcellations
from bids_parcellate.cli import main
from bids_parcellate.config import Config
from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.io.images import read_info
from bids_parcellate.numerics.cluster import SPATIAL_METHODS
from tests.simulated import AFFINE, simulate

METHODS = Parcellations.VALID_METHODS
SIMULATION = simulate(3)
IMAGES = SIMULATION.images
MASK = SIMULATION.mask_img
RNG = np.random.default_rng(0)


def make(method="ward", n_parcels=8, **parameters):
    return Parcellations(method, n_parcels, **{"mask": MASK, "smoothing_fwhm": None, **parameters})


def agreement(parcellations, simulation=SIMULATION):
    inside = parcellations.labels_img_.get_fdata() > 0
    return adjusted_rand_score(simulation.truth[inside], parcellations.labels_img_.get_fdata()[inside])


def n_pieces(labels):
    return [ndimage.label(labels == label)[1] for label in range(1, int(labels.max()) + 1)]


@pytest.fixture(scope="module")
def fitted():
    return make().fit(IMAGES)


class TestParcels:
    @pytest.mark.parametrize("method", METHODS)
    def test_are_near_the_truth(self, method):
        assert agreement(make(method).fit(IMAGES)) > 0.75

    @pytest.mark.parametrize("n_parcels", [5, 60, 1000])
    @pytest.mark.parametrize("method", METHODS)
    def test_are_exactly_as_many_as_asked_and_contiguous(self, method, n_parcels):
        simulation = simulate(2, shape=(17, 15, 16), n_volumes=20)
        parcellations = make(method, n_parcels, mask=simulation.mask_img, features="nilearn").fit(simulation.images)
        labels = np.asarray(parcellations.labels_img_.dataobj)
        np.testing.assert_array_equal(np.unique(labels), np.arange(n_parcels + 1))
        np.testing.assert_array_equal(labels > 0, simulation.truth > 0)
        assert parcellations.n_elements_ == n_parcels
        if method in SPATIAL_METHODS:
            assert set(n_pieces(labels)) == {1}

    @pytest.mark.parametrize("method", SPATIAL_METHODS)
    def test_never_cross_between_pieces_of_the_mask(self, method):
        mask = SIMULATION.truth > 0
        mask[6] = False
        parcellations = make(method, 12, mask=nib.Nifti1Image(mask.astype(np.uint8), AFFINE)).fit(IMAGES)
        labels = np.asarray(parcellations.labels_img_.dataobj)
        assert labels.max() == 12
        assert set(n_pieces(labels)) == {1}
        assert not set(np.unique(labels[:6])) & set(np.unique(labels[7:])) - {0}

    def test_cannot_be_fewer_than_the_pieces_of_the_mask(self):
        mask = SIMULATION.truth > 0
        mask[6] = False
        image = nib.Nifti1Image(mask.astype(np.uint8), AFFINE)
        with pytest.raises(UsageError, match=r"n_parcels is 1, but the mask has .* voxels in 2 pieces"):
            make(n_parcels=1, mask=image).fit(IMAGES)
        assert make("kmeans", n_parcels=1, mask=image).fit(IMAGES).n_elements_ == 1

    def test_leave_out_crumbs_of_the_mask(self):
        mask = (SIMULATION.truth > 0).astype(np.uint8)
        mask[0, 0, 0] = mask[12, 13, 11] = 1
        images = [nib.Nifti1Image(image.get_fdata() + RNG.normal(size=image.shape), AFFINE) for image in IMAGES]
        with pytest.warns(UserWarning, match="2 small pieces that touch no other, with 2 of its 834 voxels"):
            parcellations = make(mask=nib.Nifti1Image(mask, AFFINE)).fit(images)
        np.testing.assert_array_equal(parcellations.labels_img_.get_fdata() > 0, SIMULATION.truth > 0)
        np.testing.assert_array_equal(parcellations.mask_img_.get_fdata() > 0, SIMULATION.truth > 0)
        of_kmeans = make("kmeans", mask=nib.Nifti1Image(mask, AFFINE)).fit(images)
        np.testing.assert_array_equal(of_kmeans.labels_img_.get_fdata() > 0, mask > 0)

    @pytest.mark.parametrize("method", METHODS)
    def test_cannot_be_more_than_the_voxels(self, method):
        with pytest.raises(UsageError, match="n_parcels is 5000, but the mask has 832 voxels"):
            make(method, 5000).fit(IMAGES)

    def test_of_voxels_that_are_all_the_same_are_refused(self):
        image = nib.Nifti1Image(np.ones((4, 4, 4, 10)) * np.arange(10), AFFINE)
        with pytest.raises(DataError, match="distinct"):
            Parcellations("kmeans", 5, mask=nib.Nifti1Image(np.ones((4, 4, 4)), AFFINE)).fit(image)

    def test_do_not_depend_on_how_images_are_passed(self, fitted, tmp_path):
        paths = [tmp_path / f"run-{number}.nii{'.gz' * (number % 2)}" for number in range(3)]
        for path, image in zip(paths, IMAGES, strict=True):
            nib.save(image, path)
        for images in (paths, map(str, paths), tmp_path / "*.nii*", [nib.load(path) for path in paths]):
            np.testing.assert_array_equal(make().fit(images).labels_, fitted.labels_)

    def test_of_3d_images_are_those_of_the_4d_image(self):
        whole, volumes = make().fit(IMAGES[0]), make().fit(nib.four_to_three(IMAGES[0]))
        np.testing.assert_array_equal(volumes.labels_, whole.labels_)
        nested = make().fit([nib.four_to_three(IMAGES[0]), IMAGES[1]])
        np.testing.assert_array_equal(nested.labels_, make().fit(IMAGES[:2]).labels_)

    @pytest.mark.parametrize("features", ["scaled", "nilearn"])
    def test_of_a_single_volume_follow_its_intensity(self, features):
        volume = SIMULATION.truth.astype(float)
        parcellations = make(features=features).fit(nib.Nifti1Image(volume, AFFINE))
        assert agreement(parcellations) == 1

    @pytest.mark.parametrize("method", ["ward", "kmeans", "hierarchical_kmeans"])
    def test_are_the_same_with_several_jobs(self, method):
        alone, shared = make(method).fit(IMAGES), make(method, n_jobs=2).fit(IMAGES)
        np.testing.assert_array_equal(shared.components_, alone.components_)
        np.testing.assert_array_equal(shared.labels_, alone.labels_)

    @pytest.mark.parametrize("method", ["kmeans", "hierarchical_kmeans"])
    def test_follow_the_seed(self, method):
        labels = [make(method, 30, random_state=seed).fit(IMAGES).labels_ for seed in (0, 0, 1)]
        np.testing.assert_array_equal(labels[0], labels[1])
        assert (labels[0] != labels[2]).any()
        assert make(method, 30, random_state=np.random.RandomState(3)).fit(IMAGES).n_elements_ == 30
        assert make(method, 30, random_state=None).fit(IMAGES).n_elements_ == 30

    def test_are_those_of_the_command_line(self, study, tmp_path):
        images = sorted(study[0].rglob("*_desc-preproc_bold.nii.gz"))
        masks = [nib.load(str(path).replace("preproc_bold", "brain_mask")) for path in images]
        common = np.all([mask.get_fdata() > 0 for mask in masks], axis=0)
        nib.save(nib.Nifti1Image(common.astype(np.uint8), masks[0].affine), tmp_path / "mask.nii.gz")
        options = ["--nprocs", "1", "--n-parcels", "25", "--confounds", "none", "--mask", str(tmp_path / "mask.nii.gz")]
        assert main([str(study[0]), str(tmp_path / "out"), "group", *options]) == 0
        (path,) = (tmp_path / "out").glob("tpl-*/anat/*_scale-25_*dseg.nii.gz")
        denoising = Config(bids_dir=study[0], output_dir=tmp_path, analysis_level="group").denoising
        parcellations = Parcellations(
            "ward",
            25,
            mask=tmp_path / "mask.nii.gz",
            smoothing_fwhm=denoising.smoothing_fwhm,
            detrend=denoising.detrend,
            low_pass=denoising.low_pass,
            high_pass=denoising.high_pass,
            t_r=read_info(images[0]).t_r,
        ).fit(images)
        # The command line numbers them by their place.
        pairs = np.stack([parcellations.labels_img_.get_fdata().ravel(), nib.load(path).get_fdata().ravel()])
        assert np.unique(pairs, axis=1).shape[1] == 26
        table = pd.read_csv(path.with_suffix("").with_suffix(".tsv"), sep="\t")
        assert sorted(table["n_voxels"]) == sorted(parcellations.parcels_["n_voxels"])


class TestCleaning:
    def test_regresses_confounds_out_before_the_fit(self):
        gradients = np.stack(np.indices(SIMULATION.truth.shape) - 6, axis=-1) * (SIMULATION.truth > 0)[..., np.newaxis]
        confounds = [RNG.normal(size=(40, 3)) for _ in IMAGES]
        dirty = [
            nib.Nifti1Image(image.get_fdata() + 10 * gradients @ confound.T, AFFINE)
            for image, confound in zip(IMAGES, confounds, strict=True)
        ]
        assert agreement(make().fit(dirty)) < 0.5
        assert agreement(make().fit(dirty, confounds=confounds)) > 0.9

    def test_censors_volumes_in_the_fit(self):
        censored = [5, 17, 18]
        kept = np.delete(np.arange(40), censored)
        spoilt = []
        for image in IMAGES:
            data = np.array(image.dataobj)
            data[..., censored] += 1e4 * RNG.normal(size=(*data.shape[:3], 3))
            spoilt.append(nib.Nifti1Image(data, AFFINE))
        parcellations = make().fit(spoilt, sample_mask=[kept] * 3)
        clean = [nib.Nifti1Image(np.array(image.dataobj)[..., kept], AFFINE) for image in IMAGES]
        np.testing.assert_array_equal(parcellations.labels_, make().fit(clean).labels_)
        assert agreement(make().fit(spoilt)) < 0.5
        signals = parcellations.transform(spoilt[0], sample_mask=kept)
        np.testing.assert_allclose(signals, parcellations.transform(clean[0]), rtol=1e-6)

    def test_voxels_that_a_run_lacks_are_made_up_for(self):
        data = np.array(IMAGES[0].dataobj)
        data[:6] = 0
        parcellations = make().fit([nib.Nifti1Image(data, AFFINE), *IMAGES[1:]])
        assert agreement(parcellations) > 0.9

    def test_of_the_masker_that_is_given_overrides_our_own(self, fitted):
        masker = clone(fitted.masker_).set_params(detrend=True, standardize="psc")
        with pytest.warns(UserWarning, match="detrend=True"):
            parcellations = make(mask=masker).fit(IMAGES)
        expected = make(detrend=True, standardize="psc").fit(IMAGES)
        np.testing.assert_array_equal(parcellations.labels_, expected.labels_)
        np.testing.assert_array_equal(parcellations.transform(IMAGES[0]), expected.transform(IMAGES[0]))


class TestFeatures:
    def test_of_nilearn_drown_signal_in_noise(self):
        simulation = simulate(3, n_volumes=80, noise=2.5, seed=1)
        scores = {
            mode: agreement(make("ward", mask=simulation.mask_img, features=mode).fit(simulation.images), simulation)
            for mode in ("scaled", "nilearn")
        }
        assert scores["scaled"] > scores["nilearn"] + 0.2

    @pytest.mark.parametrize("features", ["scaled", "nilearn"])
    def test_are_as_many_as_asked(self, features):
        parcellations = make(features=features, n_components=7).fit(IMAGES)
        assert parcellations.components_.shape == (7, 832)
        np.testing.assert_allclose(parcellations.components_ @ parcellations.components_.T, np.eye(7), atol=1e-5)

    def test_of_nilearn_do_not_depend_on_the_order_of_runs(self):
        simulation = simulate(6, noise=2.5)
        fits = [
            make(mask=simulation.mask_img, features="nilearn", n_components=15).fit(images)
            for images in (simulation.images, simulation.images[::-1])
        ]
        np.testing.assert_allclose(fits[0].variance_, fits[1].variance_, rtol=1e-6)
        np.testing.assert_array_equal(fits[0].labels_, fits[1].labels_)

    def test_scaled_do_not_depend_on_the_units_of_voxels(self, fitted):
        gain = RNG.uniform(0.5, 20, (*SIMULATION.truth.shape, 1))
        scaled = make().fit([nib.Nifti1Image(gain * image.get_fdata(), AFFINE) for image in IMAGES])
        np.testing.assert_array_equal(scaled.labels_, fitted.labels_)


class TestAttributes:
    def test_belong_together(self, fitted):
        labels = np.asarray(fitted.labels_img_.dataobj)
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels[SIMULATION.truth > 0], fitted.labels_)
        np.testing.assert_array_equal(fitted.sizes_, np.bincount(fitted.labels_)[1:])
        np.testing.assert_array_equal(fitted.parcels_["n_voxels"], fitted.sizes_)
        np.testing.assert_array_equal(fitted.clusterer_.labels_ + 1, fitted.labels_)
        np.testing.assert_array_equal(fitted.mask_img_.get_fdata(), MASK.get_fdata())
        np.testing.assert_array_equal(fitted.masker_.transform(fitted.components_img_), fitted.components_)
        assert fitted.variance_.shape == (len(fitted.components_),)
        assert (np.diff(fitted.variance_) <= 0).all()

    @pytest.mark.parametrize("method", METHODS)
    def test_connectivity_is_that_of_agglomerative_methods(self, method):
        parcellations = make("ward").fit(IMAGES[0]).set_params(method=method).fit(IMAGES[0])
        assert hasattr(parcellations, "connectivity_") == (method in ("ward", "complete", "average"))

    def test_are_not_there_before_the_fit(self):
        parcellations = make()
        for name in ("labels_img_", "n_elements_", "mask_img_", "components_img_", "connectivity_", "quality_"):
            assert not hasattr(parcellations, name)
        for call in (
            lambda: parcellations.transform(IMAGES[0]),
            lambda: parcellations.inverse_transform(np.ones(8)),
            lambda: parcellations.score(IMAGES[0]),
            lambda: parcellations.cut(3),
            parcellations.get_feature_names_out,
        ):
            with pytest.raises(NotFittedError):
                call()


class TestQuality:
    def test_has_a_row_for_each_parcel(self, fitted):
        quality = fitted.quality_
        assert list(quality.columns) == ["index", "name", "n_voxels", "n_pieces", "explained_variance"]
        pd.testing.assert_frame_equal(quality[["index", "name", "n_voxels"]], fitted.parcels_[quality.columns[:3]])

    @pytest.mark.parametrize("method", METHODS)
    def test_counts_the_pieces_of_parcels(self, method):
        parcellations = make(method, 40).fit(simulate(2, noise=5).images)
        pieces = parcellations.quality_["n_pieces"]
        assert list(pieces) == n_pieces(np.asarray(parcellations.labels_img_.dataobj))
        assert (pieces.max() == 1) == (method in SPATIAL_METHODS)

    def test_is_the_score_of_the_images_where_components_hold_all_of_them(self):
        parcellations = make("ward", 20).fit(IMAGES[0])
        assert parcellations.explained_variance_ == pytest.approx(parcellations.score(IMAGES[0]), abs=1e-5)
        np.testing.assert_allclose(
            parcellations.quality_["explained_variance"],
            parcellations.score(IMAGES[0], per_component=True),
            atol=1e-5,
        )

    @pytest.mark.parametrize("features", ["scaled", "nilearn"])
    def test_is_one_where_parcels_are_homogeneous(self, features):
        parcellations = make(features=features, standardize="zscore_sample").fit(simulate(2, noise=0).images)
        np.testing.assert_allclose(parcellations.quality_["explained_variance"], 1, atol=1e-3)
        assert parcellations.explained_variance_ == pytest.approx(1, abs=1e-3)

    def test_follows_the_cut_of_the_tree(self):
        tree = make("ward", 4).fit(IMAGES)
        cuts = [tree.cut(n_parcels) for n_parcels in (2, 4, 8, 16)]
        assert [len(cut.quality_) for cut in cuts] == [2, 4, 8, 16]
        assert np.all(np.diff([cut.explained_variance_ for cut in cuts]) > 0)
        assert cuts[1].explained_variance_ == tree.explained_variance_


class TestTransform:
    def test_averages_parcels(self, fitted):
        data = IMAGES[0].get_fdata()[SIMULATION.truth > 0]
        means = [data[fitted.labels_ == label].mean(axis=0) for label in range(1, 9)]
        np.testing.assert_allclose(fitted.transform(IMAGES[0]), np.transpose(means), rtol=1e-6)

    def test_returns_what_was_passed(self, fitted):
        volumes = nib.four_to_three(IMAGES[0])
        assert fitted.transform(IMAGES[0]).shape == fitted.transform([IMAGES[0]]).shape == (40, 8)
        assert [each.shape for each in fitted.transform(IMAGES)] == [(40, 8)] * 3
        assert fitted.transform(volumes[0]).shape == (1, 8)
        assert [each.shape for each in fitted.transform(volumes)] == [(1, 8)] * 40
        assert [each.shape for each in fitted.transform([volumes, volumes[:2]])] == [(40, 8), (2, 8)]
        np.testing.assert_allclose(np.concatenate(fitted.transform(volumes)), fitted.transform(IMAGES[0]))

    def test_is_the_same_with_several_jobs(self, fitted):
        shared = clone(fitted).set_params(n_jobs=2).fit(IMAGES)
        for one, other in zip(shared.transform(IMAGES), fitted.transform(IMAGES), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_standardizes(self):
        parcellations = make(standardize="zscore_sample").fit(IMAGES)
        signals = parcellations.transform(IMAGES[0])
        np.testing.assert_allclose(signals.std(axis=0, ddof=1), 1)
        np.testing.assert_allclose(signals.mean(axis=0), 0, atol=1e-6)

    def test_moves_labels_and_not_images_to_another_grid(self, fitted):
        fine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
        fine[:3, 3] -= (AFFINE[:3, :3] - fine[:3, :3]) @ [0.5, 0.5, 0.5]
        data = np.repeat(np.repeat(np.repeat(IMAGES[0].get_fdata(), 2, axis=0), 2, axis=1), 2, axis=2)
        signals = fitted.transform(nib.Nifti1Image(data, fine))
        np.testing.assert_allclose(signals, fitted.transform(IMAGES[0]), rtol=1e-6)

    def test_of_parcels_out_of_sight_is_nan_with_a_warning(self, fitted):
        lower = nib.Nifti1Image(np.asarray(IMAGES[0].dataobj)[:, :, :6], AFFINE)
        visible = np.unique(np.asarray(fitted.labels_img_.dataobj)[:, :, :6])[1:] - 1
        lost = np.setdiff1d(np.arange(8), visible)
        assert lost.size, "the simulation has a parcel in its upper half"
        with pytest.warns(
            UserWarning, match=f"{lost.size} of 8 parcels hold no voxel.*parcel00{lost[0] + 1}"
        ) as caught:
            signals = fitted.transform([lower, lower, IMAGES[0]])
        assert len(caught) == 1
        assert signals[0].shape == (40, 8)
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(signals[0]).all(axis=0)), lost)
        assert np.isfinite(signals[0][:, visible]).all()
        assert np.isfinite(signals[2]).all()
        assert fitted.inverse_transform(signals[0]).shape == IMAGES[0].shape

    def test_of_parcels_out_of_sight_is_cleaned_too(self):
        parcellations = make(detrend=True, standardize="psc").fit(IMAGES)
        lower = nib.Nifti1Image(np.asarray(IMAGES[0].dataobj)[:, :, :6], AFFINE)
        with pytest.warns(UserWarning, match="hold no voxel"):
            signals = parcellations.transform(lower, confounds=RNG.normal(size=(40, 2)))
        is_lost = np.isnan(signals).all(axis=0)
        assert is_lost.any()
        np.testing.assert_allclose(signals[:, ~is_lost].mean(axis=0), 0, atol=1e-6)

    def test_of_an_image_elsewhere_is_refused(self, fitted):
        elsewhere = AFFINE.copy()
        elsewhere[:3, 3] += 500
        with pytest.raises(DataError, match="no voxel of any parcel"):
            fitted.transform(nib.Nifti1Image(np.asarray(IMAGES[0].dataobj), elsewhere))

    def test_inverse_paints_signals(self, fitted):
        signals = fitted.transform(IMAGES)
        images = fitted.inverse_transform(signals)
        assert [image.shape for image in images] == [image.shape for image in IMAGES]
        np.testing.assert_allclose(fitted.transform(images[1]), signals[1], rtol=1e-6)
        assert not images[0].get_fdata()[SIMULATION.truth == 0].any()
        single = fitted.inverse_transform(np.arange(8.0))
        np.testing.assert_array_equal(single.get_fdata()[SIMULATION.truth > 0], fitted.labels_ - 1)
        assert fitted.inverse_transform([signals[0]]).shape == IMAGES[0].shape

    def test_fit_transform_is_both(self, fitted):
        for one, other in zip(make().fit_transform(iter(IMAGES)), fitted.transform(IMAGES), strict=True):
            np.testing.assert_array_equal(one, other)


NAMES = [f"parcel00{number}" for number in range(1, 9)]


class TestOutput:
    def test_names_are_those_of_the_table(self, fitted):
        assert list(fitted.get_feature_names_out()) == NAMES == list(fitted.parcels_["name"])

    def test_can_be_data_frames_of_pandas(self, fitted):
        parcellations = clone(fitted).set_output(transform="pandas").fit(IMAGES)
        frame = parcellations.transform(IMAGES[0])
        assert list(frame.columns) == NAMES
        np.testing.assert_array_equal(frame, fitted.transform(IMAGES[0]))
        assert all(isinstance(each, pd.DataFrame) for each in parcellations.fit_transform(IMAGES))
        assert parcellations.inverse_transform(frame).shape == IMAGES[0].shape
        assert isinstance(clone(parcellations).fit_transform(IMAGES[0]), pd.DataFrame)
        assert isinstance(parcellations.set_output(transform="default").transform(IMAGES[0]), np.ndarray)
        assert isinstance(parcellations.set_output().transform(IMAGES[0]), np.ndarray)

    def test_can_be_data_frames_of_polars(self, fitted):
        frame = clone(fitted).set_output(transform="polars").fit(IMAGES).transform(IMAGES[0])
        assert isinstance(frame, pl.DataFrame)
        assert frame.columns == NAMES
        np.testing.assert_array_equal(frame.to_numpy(), fitted.transform(IMAGES[0]))
        assert fitted.inverse_transform(frame).shape == IMAGES[0].shape

    def test_follows_the_configuration_of_scikit_learn(self, fitted):
        with sklearn.config_context(transform_output="pandas"):
            assert isinstance(fitted.transform(IMAGES[0]), pd.DataFrame)

    def test_of_other_kinds_is_refused(self, fitted):
        with pytest.raises(UsageError, match="'xarray' is none of default, pandas, polars"):
            fitted.set_output(transform="xarray")


class TestScore:
    def test_is_one_where_parcels_are_homogeneous(self):
        simulation = simulate(2, noise=0)
        parcellations = make(mask=simulation.mask_img).fit(simulation.images[0])
        assert parcellations.score(simulation.images[1]) == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(parcellations.score(simulation.images[1], per_component=True), 1, atol=1e-5)

    def test_is_the_share_of_variance_within_parcels(self, fitted):
        data = IMAGES[0].get_fdata()[SIMULATION.truth > 0].T
        scores = (data - data.mean(axis=0)) / data.std(axis=0)
        residuals = scores - np.stack([scores[:, fitted.labels_ == k].mean(axis=1) for k in fitted.labels_], axis=1)
        assert fitted.score(IMAGES[0]) == pytest.approx(1 - residuals.var() / scores.var(), abs=1e-5)
        shares = [1 - residuals[:, fitted.labels_ == k].var() for k in range(1, 9)]
        np.testing.assert_allclose(fitted.score(IMAGES[0], per_component=True), shares, atol=1e-5)

    def test_pools_images(self, fitted):
        each = [fitted.score(image) for image in IMAGES]
        assert fitted.score(IMAGES) == pytest.approx(np.mean(each), abs=1e-6)

    def test_tells_good_parcels_from_bad(self, fitted):
        random = make("kmeans").fit(simulate(1, seed=9, n_volumes=5).images)
        assert fitted.score(IMAGES[0]) > 2 * random.score(IMAGES[0])

    def test_cleans_images(self, fitted):
        trend = 200 * np.linspace(-1, 1, 40) * SIMULATION.truth[..., np.newaxis] ** 0.5
        dirty = nib.Nifti1Image(IMAGES[0].get_fdata() + trend, AFFINE)
        assert fitted.score(dirty, confounds=np.linspace(-1, 1, 40)) == pytest.approx(fitted.score(IMAGES[0]), abs=0.02)


class TestCut:
    @pytest.mark.parametrize("method", ["ward", "complete", "average"])
    def test_is_a_fit_with_another_number_of_parcels(self, method):
        tree = make(method, 20).fit(IMAGES)
        for n_parcels in (3, 8, 100):
            cut, fit = tree.cut(n_parcels), make(method, n_parcels).fit(IMAGES)
            np.testing.assert_array_equal(cut.labels_, fit.labels_)
            assert cut.get_params()["n_parcels"] == cut.n_elements_ == n_parcels
            np.testing.assert_array_equal(cut.transform(IMAGES[0]), fit.transform(IMAGES[0]))
        assert tree.n_elements_ == tree.n_parcels == 20

    @pytest.mark.parametrize("method", ["kmeans", "hierarchical_kmeans", "rena"])
    def test_needs_a_tree(self, method):
        with pytest.raises(UsageError, match="no tree"):
            make(method).fit(IMAGES[0]).cut(3)

    @pytest.mark.parametrize("n_parcels", [0, 833])
    def test_out_of_range_is_refused(self, fitted, n_parcels):
        with pytest.raises(UsageError):
            fitted.cut(n_parcels)


class TestResources:
    def test_memory_does_not_grow_with_the_runs(self, tmp_path):
        simulation = simulate(1, shape=(20, 20, 20), n_volumes=60)
        paths = [tmp_path / f"{number}.nii.gz" for number in range(12)]
        for path in paths:
            nib.save(simulation.images[0], path)
        del simulation
        make(n_components=20, mask=None).fit(paths[:2])  # compiles
        peaks = []
        for n_runs in (4, 12):
            tracemalloc.start()
            make(n_components=20, mask=None).fit(paths[:n_runs])
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < 1.1 * peaks[0]

    def test_streams_gzipped_files(self, tmp_path):
        image = simulate(1, shape=(20, 20, 20), n_volumes=200, dtype=np.float64).images[0]
        nib.save(image, tmp_path / "run.nii.gz")
        n_bytes = image.get_fdata().nbytes
        small = nib.Nifti1Image(np.zeros((20, 20, 20), np.uint8), AFFINE)
        small.dataobj[8:12, 8:12, 8:12] = 1
        parcellations = make(mask=small).fit(image)
        tracemalloc.start()
        parcellations.fit(tmp_path / "run.nii.gz").transform(tmp_path / "run.nii.gz")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < n_bytes / 4

    @pytest.mark.parametrize("kind", [str, lambda path: path, lambda path: joblib.Memory(path, verbose=0)])
    def test_caches_runs_and_clustering(self, fitted, tmp_path, kind, caplog):
        paths = [tmp_path / f"{number}.nii.gz" for number in range(3)]
        for path, image in zip(paths, IMAGES, strict=True):
            nib.save(image, path)
        options = {"memory": kind(tmp_path / "cache"), "memory_level": 1}
        with caplog.at_level(logging.INFO, "bids_parcellate"):
            first = make(**options).fit(paths)
            assert caplog.text.count("Reducing") == 3
            assert str(first.memory_.location) == str(tmp_path / "cache")
            again = make(**options).fit(paths)
            assert caplog.text.count("Reducing") == 3
            other = make("kmeans", **options).fit(paths)
            assert caplog.text.count("Reducing") == 3
            make(**options).fit(paths, confounds=[RNG.normal(size=(40, 1))] * 3)
            assert caplog.text.count("Reducing") == 6
            nib.save(IMAGES[1], paths[0])
            changed = make(**options).fit(paths)
            assert caplog.text.count("Reducing") == 7
        np.testing.assert_array_equal(first.labels_, fitted.labels_)
        np.testing.assert_array_equal(again.labels_, fitted.labels_)
        assert other.n_elements_ == 8
        np.testing.assert_array_equal(changed.labels_, make().fit([IMAGES[1], *IMAGES[1:]]).labels_)

    def test_caches_without_a_level_with_a_warning(self, tmp_path):
        with pytest.warns(UserWarning, match="Setting memory_level to 1"):
            make(memory=tmp_path).fit(IMAGES[0])
        assert any(tmp_path.rglob("*.pkl"))

    def test_works_on_several_runs_at_a_time(self):
        meeting = threading.Barrier(2)

        class SlowToRead:
            shape, dtype = IMAGES[0].shape, np.dtype(float)

            def __init__(self, data):
                self.data = data

            def __array__(self, dtype=None, copy=None):
                meeting.wait(timeout=20)  # for the other run
                return self.data

        images = [nib.Nifti1Image(SlowToRead(np.array(image.dataobj)), AFFINE) for image in IMAGES[:2]]
        parcellations = make(n_jobs=2).fit(images)
        np.testing.assert_array_equal(parcellations.labels_, make().fit(IMAGES[:2]).labels_)

    def test_an_error_in_one_of_several_jobs_names_the_run(self):
        empty = nib.Nifti1Image(np.ones(IMAGES[0].shape), AFFINE)
        with pytest.raises(DataError, match="image 3 of 3 does not vary over time in any voxel"):
            make(n_jobs=2).fit([*IMAGES[:2], empty])

    def test_writes_nothing_unless_asked(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        make(n_jobs=2).fit_transform(IMAGES)
        assert not any(tmp_path.iterdir())

    def test_says_what_it_does_only_if_asked(self, capfd):
        make().fit_transform(IMAGES[0])
        assert capfd.readouterr() == ("", "")
        make(verbose=1).fit_transform(IMAGES[0])
        captured = capfd.readouterr()
        assert captured.out == ""
        assert "Reducing the image" in captured.err
        assert "Clustering by ward into 8 parcels" in captured.err


class TestRealData:
    @pytest.mark.parametrize("method", METHODS)
    def test_of_one_slice_with_motion_and_censoring(self, method, shared_data):
        folder = shared_data / "real" / "haxby2001_1slice" / "sub-01" / "func"
        images = sorted(folder.glob("*_desc-preproc_bold.nii.gz"))[:4]
        tables = [pd.read_csv(path, sep="\t") for path in sorted(folder.glob("*_timeseries.tsv"))[:4]]
        confounds = [table.filter(regex="trans|rot") for table in tables]
        kept = [(table["framewise_displacement"].fillna(0) < 0.2).to_numpy() for table in tables]
        parcellations = Parcellations(method, 30, detrend=True, high_pass=0.01, t_r=2.5, standardize="zscore_sample")
        signals = parcellations.fit_transform(images, confounds=confounds, sample_mask=kept)
        assert [each.shape for each in signals] == [(mask.sum(), 30) for mask in kept]
        assert sum(map(len, signals)) < 4 * 121, "something was censored"
        for each in signals:
            np.testing.assert_allclose(each.std(axis=0, ddof=1), 1, rtol=1e-5)
        if method in SPATIAL_METHODS:
            assert set(n_pieces(np.asarray(parcellations.labels_img_.dataobj))) == {1}
        held_out = sorted(folder.glob("*_desc-preproc_bold.nii.gz"))[5]
        assert 0.2 < parcellations.score(held_out) < 0.9


class TestBadParameters:
    @pytest.mark.parametrize(
        ("parameters", "error", "message"),
        [
            ({"method": None}, ValueError, "None"),
            ({"method": "wards"}, ValueError, "'method' must be one of kmeans, ward"),
            ({"n_parcels": 0}, ValueError, "n_parcels is 0"),
            ({"n_parcels": 2.5}, ValueError, "n_parcels is 2.5"),
            ({"n_parcels": True}, ValueError, "n_parcels is True"),
            ({"n_components": 0}, ValueError, "n_components is 0"),
            ({"features": "raw"}, ValueError, "'raw'; allowed are 'scaled' and 'nilearn'"),
            ({"standardize": "std"}, ValueError, "'std'"),
            ({"smoothing_fwhm": "fast"}, TypeError, "'fast'"),
            ({"low_pass": 0.1}, ValueError, "t_r"),
            ({"memory": 3}, TypeError, "int"),
            ({"mask": 3}, TypeError, "int"),
            ({"target_shape": (3, 3, 3)}, ValueError, "target_affine"),
        ],
        ids=str,
    )
    def test_are_refused(self, parameters, error, message):
        with pytest.raises(error, match=message):
            make(**parameters).fit(IMAGES[0])

    def test_are_accepted_until_the_fit(self):
        assert make("wards", features="raw").get_params()["method"] == "wards"


class OfArrays(Parcellations):
    """Takes arrays (n_samples, n_features), and makes an image of each: a row of voxels, a volume for each sample.

    scikit-learn runs no checks of estimators that say that they take no arrays, and its checks fit arrays. So all of
    them run through our fit, transform and score. What an array itself must be (finite, real, two-dimensional, with
    as many features as in the fit) is checked here, by `validate_data`: those checks say nothing about us.
    """

    def __init__(self, method="ward", n_parcels=2):
        super().__init__(method, n_parcels, smoothing_fwhm=None)

    def fit(self, X, y=None):
        self.row_ = as_row(validate_data(self, X, ensure_min_features=2))
        return super().fit(self.row_)

    def fit_transform(self, X, y=None):
        return self.fit(X).transform(X)

    def transform(self, X):
        check_is_fitted(self)
        return super().transform(as_row(validate_data(self, X, reset=False)))

    def score(self, X, y=None):
        check_is_fitted(self)
        return super().score(as_row(validate_data(self, X, reset=False)))

    def _make_masker(self):
        everywhere = nib.Nifti1Image(np.ones(self.row_.shape[:3], np.uint8), np.eye(4))
        return super()._make_masker().set_params(mask_img=everywhere)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def as_row(array):
    return nib.Nifti1Image(np.array(array, dtype=np.float64).T[:, np.newaxis, np.newaxis], np.eye(4))


@parametrize_with_checks([OfArrays("ward"), OfArrays("kmeans")])
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


class TestScikitLearn:
    """The same contracts with images."""

    def test_says_that_it_takes_no_arrays(self):
        assert not make().__sklearn_tags__().input_tags.two_d_array
        with pytest.raises(TypeError, match="is no image"):
            make().fit(np.ones((5, 5)))

    def test_clone_and_parameters(self, fitted):
        copy = clone(fitted)
        assert copy.get_params() | {"mask": None} == fitted.get_params() | {"mask": None}
        assert not hasattr(copy, "labels_img_")
        assert copy.set_params(n_parcels=3, features="nilearn").n_parcels == 3

    def test_fit_changes_no_parameter_and_returns_self(self):
        parcellations = make(mask_args={"opening": 1}, target_affine=np.diag([6.0, 6, 7]))
        before = {name: joblib.hash(value) for name, value in parcellations.get_params().items() if name != "mask"}
        assert parcellations.fit(IMAGES[0]) is parcellations
        after = {name: joblib.hash(value) for name, value in parcellations.get_params().items() if name != "mask"}
        assert before == after
        assert parcellations.get_params()["mask"] is MASK

    def test_methods_change_nothing(self, fitted):
        before = dict(vars(fitted))
        fitted.transform(IMAGES[0])
        fitted.score(IMAGES[0])
        fitted.inverse_transform(np.ones((2, 8)))
        assert {name: id(value) for name, value in vars(fitted).items()} == {
            name: id(value) for name, value in before.items()
        }

    def test_fit_is_idempotent(self, fitted):
        again = make().fit(IMAGES[:1]).fit(IMAGES)
        np.testing.assert_array_equal(again.labels_, fitted.labels_)

    def test_pickles(self, fitted):
        loaded = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(loaded.transform(IMAGES[0]), fitted.transform(IMAGES[0]))
        np.testing.assert_array_equal(loaded.cut(5).labels_, fitted.cut(5).labels_)
        assert loaded.score(IMAGES[0]) == fitted.score(IMAGES[0])

    def test_pipeline(self, fitted):
        pipeline = make_pipeline(make(), StandardScaler()).set_output(transform="pandas")
        signals = pipeline.fit_transform(IMAGES[0])
        assert signals.shape == (40, 8)
        np.testing.assert_allclose(signals.std(ddof=0), 1)
        np.testing.assert_allclose(pipeline.transform(IMAGES[1]).mean(), 0, atol=1)
        assert make_pipeline(make()).fit(IMAGES).score(IMAGES) == pytest.approx(fitted.score(IMAGES))

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_grid_search(self, n_jobs):
        grid = {"method": ["ward", "kmeans"], "features": ["scaled", "nilearn"]}
        search = GridSearchCV(make(), grid, cv=3, n_jobs=n_jobs)
        with joblib.parallel_config("threading"):
            search.fit(IMAGES)
        assert search.best_params_["features"] == "scaled"
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert search.best_estimator_.n_elements_ == 8

    def test_grid_search_splits_confounds_with_the_images(self):
        confounds = [RNG.normal(size=(40, 2)) for _ in IMAGES]
        search = GridSearchCV(make(), {"n_parcels": [4, 8]}, cv=3).fit(IMAGES, confounds=confounds)
        assert search.best_params_ == {"n_parcels": 8}

    def test_metadata_routing(self):
        confounds = [RNG.normal(size=(40, 2)) for _ in IMAGES]
        with sklearn.config_context(enable_metadata_routing=True):
            parcellations = (
                make()
                .set_fit_request(confounds=True, imgs=False, sample_mask=True)
                .set_transform_request(confounds=True, imgs=False, sample_mask=False)
                .set_inverse_transform_request(signals=False)
                .set_score_request(confounds=True, imgs=False, per_component=False, sample_mask=False)
            )
            requests = parcellations.get_metadata_routing()
            assert requests.fit.requests["confounds"] is True
            assert requests.transform.requests["sample_mask"] is False
            pipeline = make_pipeline(parcellations).fit(IMAGES, confounds=confounds)
            expected = make().fit(IMAGES, confounds=confounds)
            np.testing.assert_array_equal(pipeline[0].labels_, expected.labels_)
            for one, other in zip(
                pipeline.transform(IMAGES, confounds=confounds), expected.transform(IMAGES, confounds), strict=True
            ):
                np.testing.assert_array_equal(one, other)
            search = GridSearchCV(clone(parcellations), {"n_parcels": [3, 4]}, cv=3).fit(IMAGES, confounds=confounds)
            assert search.best_params_ == {"n_parcels": 4}


def test_importing_the_package_is_light():
    code = "import bids_parcellate, sys; assert 'numpy' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
