"""The masker: nilearn's maskers are the truth."""

import inspect
import pickle
import re
import shutil
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from joblib import Memory
from nilearn.image import resample_img
from nilearn.maskers import MultiNiftiMasker, NiftiMasker
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from bids_parcellate.errors import DataError, MissingInputError, UsageError
from bids_parcellate.estimator.adoption import adopt_parameters, is_masker
from bids_parcellate.estimator.masker import Masker, check_signals
from tests.simulated import AFFINE, simulate

SIMULATION = simulate(3)
IMAGES = SIMULATION.images
RNG = np.random.default_rng(0)
CONFOUNDS = [RNG.normal(size=(40, 3)) for _ in IMAGES]

AFFINE_4MM = np.array([[4.0, 0, 0, -16], [0, 4, 0, -16], [0, 0, 4, -12], [0, 0, 0, 1]])
TARGETS = [
    {"target_affine": AFFINE_4MM[:3, :3]},
    {"target_affine": AFFINE_4MM},
    {"target_affine": AFFINE_4MM, "target_shape": (9, 10, 8)},
]


@pytest.fixture
def real_images(shared_data):
    return sorted((shared_data / "real" / "twosub_mni4mm").rglob("*_desc-preproc_bold.nii.gz"))


def with_nilearn(images, *, masker=MultiNiftiMasker, confounds=None, sample_mask=None, **parameters):
    """Fit and transform with nilearn; return the mask and the signals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = masker(**{"standardize": None, "mask_strategy": "epi", **parameters})
        fitted.fit(images if parameters.get("mask_img") is None else None)
        signals = fitted.transform(images, confounds=confounds, sample_mask=sample_mask)
    return fitted.mask_img_.get_fdata() > 0, signals


def assert_close(ours, theirs, tolerance=1e-5):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


class TestMasks:
    @pytest.mark.parametrize(
        "parameters",
        [
            {"mask_strategy": "epi"},
            {"mask_strategy": "epi", "mask_args": {"threshold": 1.0, "opening": 1}},
            {"mask_strategy": "epi", "mask_args": {"threshold": 0.0, "lower_cutoff": 0.3, "connected": False}},
            {"mask_strategy": "background"},
            {"mask_strategy": "background", "mask_args": {"opening": 0, "connected": False}},
            {"mask_strategy": "background", "mask_args": {"opening": False, "threshold": 1}},
        ],
    )
    def test_of_real_images_are_those_of_nilearn(self, real_images, parameters):
        images = list(map(str, real_images))
        truth, _ = with_nilearn(images, **parameters)
        np.testing.assert_array_equal(Masker(**parameters).fit(images).mask_.data, truth)

    @pytest.mark.parametrize("n_images", [1, 2, 3])
    def test_of_several_images_are_those_of_nilearn(self, n_images):
        shifted = [nib.Nifti1Image(np.roll(img.get_fdata(), k, axis=k), AFFINE) for k, img in enumerate(IMAGES)]
        truth, _ = with_nilearn(shifted[:n_images], mask_args={"opening": 0})
        np.testing.assert_array_equal(Masker(mask_args={"opening": 0}).fit(shifted[:n_images]).mask_.data, truth)

    def test_of_3d_images_are_computed_one_by_one_as_in_nilearn(self, real_images):
        volumes = [image for path in real_images for image in nib.four_to_three(nib.load(path).slicer[..., :3])]
        truth, _ = with_nilearn(volumes)
        np.testing.assert_array_equal(Masker().fit(volumes).mask_.data, truth)

    @pytest.mark.parametrize("given", [False, True])
    @pytest.mark.parametrize("target", TARGETS, ids=["axes", "affine", "affine and shape"])
    def test_are_resampled_as_in_nilearn(self, target, given):
        mask_img = SIMULATION.mask_img if given else None
        truth, _ = with_nilearn(IMAGES, mask_img=mask_img, **target)
        np.testing.assert_array_equal(Masker(mask_img, **target).fit(IMAGES).mask_.data, truth)

    def test_given_ones_can_be_files(self, tmp_path):
        nib.save(SIMULATION.mask_img, tmp_path / "mask.nii.gz")
        for mask in (tmp_path / "mask.nii.gz", str(tmp_path / "mask.nii.gz")):
            np.testing.assert_array_equal(Masker(mask).fit().mask_.data, SIMULATION.truth > 0)

    def test_given_ones_decide_the_grid(self):
        finer = nib.Nifti1Image(np.ones((30, 30, 30)), np.diag([2.0, 2, 2, 1]))
        with pytest.warns(UserWarning, match="1 of 2 runs lie on another grid than the mask"):
            masker = Masker(SIMULATION.mask_img).fit([IMAGES[0], finer])
        np.testing.assert_array_equal(masker.mask_.data, SIMULATION.truth > 0)

    @pytest.mark.parametrize("strategy", ["whole-brain-template", "template", "gm-template", "wm-template"])
    def test_of_templates_come_from_templateflow(self, strategy, shared_data, real_images, tmp_path, monkeypatch):
        folder = tmp_path / "tpl-MNI152NLin2009cAsym"
        shutil.copytree(shared_data / "templateflow" / folder.name, folder)
        anat = shared_data / "real" / "anat_RND050" / "sub-RND050" / "anat"
        sources = {"gm-template": "label-GM_probseg", "wm-template": "label-WM_probseg"}
        for name in sources.values():
            shutil.copy(next(anat.glob(f"*{name}.nii.gz")), folder / f"{folder.name}_res-02_{name}.nii.gz")
        monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
        mask = Masker(mask_strategy=strategy, mask_args={"threshold": 0.4}).fit(real_images).mask_
        source = next(anat.glob(f"*{sources.get(strategy, 'desc-brain_mask')}.nii.gz"))
        # The subject's maps lie in the template's space, on a grid of half the voxel size.
        probability = nib.load(source).get_fdata()
        voxels = np.argwhere(mask.data) @ mask.grid.affine[:3, :3].T + mask.grid.affine[:3, 3]
        inverse = np.linalg.inv(nib.load(source).affine)
        indices = np.rint(voxels @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
        assert probability[tuple(indices.T)].mean() > 0.6
        assert mask.n_voxels * 64 == pytest.approx((probability >= 0.4).sum() * 8, rel=0.25)

    def test_of_a_template_that_is_not_there_says_how_to_get_it(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
        with pytest.raises(MissingInputError, match="TEMPLATEFLOW_HOME"):
            Masker(mask_strategy="whole-brain-template").fit(IMAGES)

    @pytest.mark.parametrize("strategy", ["epi", "background"])
    @pytest.mark.parametrize("kind", [NiftiMasker, MultiNiftiMasker])
    def test_overlap_with_those_of_nilearn_for_each_run(self, real_images, strategy, kind):
        # nilearn's masker of one image has other defaults than that of several, which Parcellations uses.
        options = {"opening": 2, "connected": True} if kind is NiftiMasker else {}
        for path in real_images:
            truth, _ = with_nilearn(str(path), masker=kind, mask_strategy=strategy, mask_args=options)
            mask = Masker(mask_strategy=strategy).fit(path).mask_.data
            assert 2 * np.sum(mask & truth) / (mask.sum() + truth.sum()) >= 0.99

    def test_unknown_arguments_are_ignored_with_a_warning(self):
        with pytest.warns(UserWarning, match="'background' has no arguments foo: they are ignored"):
            masker = Masker(mask_strategy="background", mask_args={"foo": 1, "opening": 0}).fit(IMAGES)
        np.testing.assert_array_equal(masker.mask_.data, SIMULATION.truth > 0)

    @pytest.mark.parametrize(
        ("parameters", "error", "message"),
        [
            ({"mask_strategy": "brain"}, UsageError, "'brain'; allowed are epi"),
            ({"target_shape": (4, 4, 4)}, UsageError, "needs a target_affine"),
            ({"mask_img": 3}, TypeError, "type int"),
            ({"mask_img": np.ones((3, 3, 3))}, TypeError, "type ndarray"),
            ({"mask_img": "missing.nii"}, ValueError, "missing"),
            ({"mask_img": "missing.nii"}, FileNotFoundError, "missing"),
            ({"mask_args": {"threshold": 1.5}}, UsageError, "1.5"),
            ({"standardize": "std"}, UsageError, "'std'; allowed are"),
            ({"smoothing_fwhm": -1}, UsageError, "negative"),
            ({"smoothing_fwhm": "fast"}, TypeError, "'fast'"),
            ({"dtype": bool}, TypeError, "dtype is <class 'bool'>"),
            ({"dtype": "U3"}, TypeError, "dtype is 'U3'"),
            ({"memory": 3}, TypeError, "memory is a int"),
        ],
    )
    def test_bad_parameters_are_refused(self, parameters, error, message):
        with pytest.raises(error, match=message):
            Masker(**parameters).fit(IMAGES)

    def test_images_on_different_grids_need_a_target(self):
        other = nib.Nifti1Image(np.asarray(IMAGES[1].dataobj)[:-1], AFFINE)
        with pytest.raises(DataError, match="different grids"):
            Masker().fit([IMAGES[0], other])
        assert Masker(target_affine=np.diag([4.0, 4, 4])).fit([IMAGES[0], other]).n_elements_ > 100

    def test_no_mask_and_no_image_is_refused(self):
        with pytest.raises(UsageError, match="images are needed"):
            Masker().fit()

    def test_are_cached(self, tmp_path, caplog):
        path = tmp_path / "image.nii"
        nib.save(IMAGES[0], path)
        memory = Memory(tmp_path / "cache", verbose=0)
        first = Masker(memory=memory).fit(path)
        n_cached = len(memory.store_backend.get_items())
        assert n_cached == 1
        np.testing.assert_array_equal(Masker(memory=memory).fit(path).mask_.data, first.mask_.data)
        assert len(memory.store_backend.get_items()) == n_cached
        other = np.array(IMAGES[0].dataobj)
        other[7:] = 0
        nib.save(nib.Nifti1Image(other, AFFINE), path)
        changed = Masker(memory=memory).fit(path)  # nilearn, which goes by the path alone, would give the old mask
        np.testing.assert_array_equal(changed.mask_.data, Masker().fit(path).mask_.data)
        assert changed.n_elements_ < first.n_elements_


class TestSignals:
    @pytest.mark.parametrize("with_confounds", [False, True])
    @pytest.mark.parametrize(
        "parameters",
        [
            {},
            {"smoothing_fwhm": 6},
            {"standardize": "zscore_sample"},
            {"standardize": "psc"},
            {"detrend": True, "standardize": "psc"},
            {"detrend": True, "low_pass": 0.1, "high_pass": 0.01, "t_r": 2.0, "smoothing_fwhm": 4},
            {"standardize_confounds": False, "detrend": True},
        ],
        ids=str,
    )
    def test_are_those_of_nilearn(self, parameters, with_confounds):
        confounds = CONFOUNDS if with_confounds else None
        _, truth = with_nilearn(IMAGES, mask_img=SIMULATION.mask_img, confounds=confounds, **parameters)
        masker = Masker(SIMULATION.mask_img, **parameters).fit()
        for ours, theirs in zip(masker.transform(IMAGES, confounds), truth, strict=True):
            assert ours.dtype == theirs.dtype
            # A voxel's signal, which is 1% of its intensity, is as exact as single precision allows.
            assert_close(ours, theirs, 5e-5)

    @pytest.mark.parametrize("axes", [np.diag([-5.0, 5, 5.5]), [[4, 2, 0], [-2, 4, 0], [0, 0, 6]]])
    def test_of_resampled_images_are_those_of_nilearn(self, axes, real_images):
        runs = [nib.load(path).slicer[..., :5] for path in real_images]
        images = [nib.Nifti1Image(run.get_fdata(dtype=np.float32), run.affine) for run in runs]
        axes = np.array(axes, dtype=float)
        mask, truth = with_nilearn(images, target_affine=axes)
        masker = Masker(target_affine=axes).fit(images)
        np.testing.assert_array_equal(masker.mask_.data, mask)
        for ours, theirs in zip(masker.transform(images), truth, strict=True):
            assert_close(ours, theirs)
        # Before it smooths, nilearn crops to the bounding box of the mask, which changes values near its faces.
        grid = masker.mask_.grid
        resampled = resample_img(images[0], grid.affine, grid.shape, force_resample=True, copy_header=True)
        _, smoothed = with_nilearn(resampled, mask_img=masker.mask_img_, smoothing_fwhm=8)
        assert_close(masker.set_params(smoothing_fwhm=8).transform(images[0]), smoothed)

    def test_without_censored_volumes_are_those_of_nilearn(self):
        kept = [np.delete(np.arange(40), drop) for drop in ([3], [0, 1], [10, 11, 12])]
        parameters = {"mask_img": SIMULATION.mask_img, "detrend": True, "standardize": "zscore_sample"}
        _, truth = with_nilearn(IMAGES, confounds=CONFOUNDS, sample_mask=kept, **parameters)
        ours = Masker(**parameters).fit().transform(IMAGES, CONFOUNDS, kept)
        for mine, theirs in zip(ours, truth, strict=True):
            assert_close(mine, theirs)

    @pytest.mark.parametrize("masker", [NiftiMasker, MultiNiftiMasker])
    def test_have_the_shapes_of_nilearns(self, masker):
        volume = nib.Nifti1Image(IMAGES[0].get_fdata()[..., 0], AFFINE)
        ours = Masker(SIMULATION.mask_img).fit()
        for image in (IMAGES[0], volume):
            _, theirs = with_nilearn(image, masker=masker, mask_img=SIMULATION.mask_img)
            assert_close(ours.transform(image), theirs)
        if masker is MultiNiftiMasker:
            _, theirs = with_nilearn([volume, volume], masker=masker, mask_img=SIMULATION.mask_img)
            assert [each.shape for each in ours.transform([volume, volume])] == [each.shape for each in theirs]

    def test_of_a_list_of_3d_images_are_standardized_over_the_list(self):
        volumes = nib.four_to_three(IMAGES[0])
        masker = Masker(SIMULATION.mask_img, standardize="zscore").fit()
        np.testing.assert_allclose(masker.transform(volumes), masker.transform(IMAGES[0]), atol=1e-5)

    def test_a_single_volume_cannot_be_standardized(self):
        volume = nib.Nifti1Image(IMAGES[0].get_fdata()[..., 0], AFFINE)
        masker = Masker(SIMULATION.mask_img, standardize="zscore").fit()
        np.testing.assert_allclose(masker.transform(volume), volume.get_fdata()[SIMULATION.truth > 0], rtol=1e-6)

    def test_fit_transform_takes_images_once(self):
        signals = Masker().fit_transform(image for image in IMAGES)
        expected = Masker().fit(IMAGES).transform(IMAGES)
        np.testing.assert_array_equal(signals, expected)

    def test_that_confounds_explain_whole_are_refused(self):
        with pytest.raises(DataError, match=r"the image: 40 kept volumes, 45 confounds .* leave 0 degrees"):
            Masker(SIMULATION.mask_img, detrend=True).fit().transform(IMAGES[0], RNG.normal(size=(40, 45)))

    def test_errors_name_the_image(self):
        confounds = [CONFOUNDS[0], np.where(np.eye(40, 3), np.nan, CONFOUNDS[1])]
        with pytest.raises(DataError, match="image 2 of 2: confounds hold 3 values that are not finite"):
            Masker(SIMULATION.mask_img).fit().transform(IMAGES[:2], confounds)
        with pytest.raises(DataError, match="image 1 of 2: 1 volume is too few"):
            Masker(SIMULATION.mask_img, standardize="zscore").fit().transform(IMAGES[:2], sample_mask=[[3], None])


def public_names(estimator):
    return {name for name in dir(estimator) if not name.startswith("_")}


# What fitted maskers of nilearn's have and ours has not.
LEFT_OUT = {
    "clean_args": "it names the arguments of nilearn.signal.clean",
    "clean_args_": "as clean_args",
    "cmap": "reports draw images in grey",
    "high_variance_confounds": "confounds are passed, not computed",
    "runs": "a run is an image: runs are a list of images",
}
GUIDE = (Path(__file__).parents[1] / "docs" / "from-nilearn.md").read_text()


class TestInterface:
    @pytest.mark.parametrize("kind", [NiftiMasker, MultiNiftiMasker])
    def test_names_are_those_of_nilearn_but_for_those_left_out(self, kind):
        theirs = kind(SIMULATION.mask_img, standardize=None).fit()
        assert public_names(theirs) - public_names(Masker(SIMULATION.mask_img).fit()) == set(LEFT_OUT)
        for name in LEFT_OUT:
            assert f"`{name}`" in GUIDE, f"the page for people who come from nilearn tells of {name}"

    @pytest.mark.parametrize(
        "name", ["fit", "transform", "fit_transform", "inverse_transform", "transform_single_imgs"]
    )
    def test_methods_take_the_same(self, name):
        theirs, ours = (
            [each.name for each in inspect.signature(getattr(kind, name)).parameters.values()]
            for kind in (NiftiMasker, Masker)
        )
        assert [each for each in theirs if each != "fit_params"] == ours

    def test_transform_imgs_takes_the_same(self):
        theirs, ours = (inspect.signature(kind.transform_imgs) for kind in (MultiNiftiMasker, Masker))
        assert list(ours.parameters) == list(theirs.parameters)

    def test_requests_of_metadata_are_the_same(self):
        with sklearn.config_context(enable_metadata_routing=True):
            masker = Masker().set_transform_request(confounds=True, sample_mask=False).set_fit_request(imgs=True)
            ours = masker.get_metadata_routing()
            theirs = NiftiMasker().get_metadata_routing()
        for method in ("fit", "transform"):
            assert getattr(ours, method).requests.keys() == getattr(theirs, method).requests.keys()
        assert ours.transform.requests["confounds"] is True
        assert ours.transform.requests["sample_mask"] is False

    def test_attributes_are_the_same(self, tmp_path):
        parameters = {"memory": tmp_path, "memory_level": 1, "target_affine": AFFINE_4MM, "verbose": 0}
        ours = Masker(SIMULATION.mask_img, **parameters).fit()
        theirs = NiftiMasker(SIMULATION.mask_img, standardize=None, **parameters).fit()
        np.testing.assert_array_equal(ours.affine_, theirs.affine_)
        assert ours.n_elements_ == theirs.n_elements_
        assert Path(ours.memory_.location) == Path(theirs.memory_.location)
        assert len(ours.get_feature_names_out()) == len(theirs.get_feature_names_out())
        assert list(ours.get_feature_names_out()[:2]) == ["masker0", "masker1"]  # scikit-learn: the name of the class

    @pytest.mark.parametrize("make", [lambda volume: volume, lambda volume: IMAGES[0], lambda volume: [volume, volume]])
    def test_transform_single_imgs_gives_an_array(self, make):
        volume = nib.Nifti1Image(IMAGES[0].get_fdata()[..., 0], AFFINE)
        theirs = NiftiMasker(SIMULATION.mask_img, standardize=None).fit().transform_single_imgs(make(volume))
        assert_close(Masker(SIMULATION.mask_img).fit().transform_single_imgs(make(volume)), theirs)

    def test_transform_single_imgs_takes_one_run(self):
        masker = Masker(SIMULATION.mask_img, detrend=True).fit()
        kept = np.arange(3, 40)
        expected = masker.transform(IMAGES[0], CONFOUNDS[0], kept)
        np.testing.assert_array_equal(masker.transform_single_imgs(IMAGES[0], CONFOUNDS[0], kept), expected)
        with pytest.raises(UsageError, match="there are 3"):
            masker.transform_single_imgs(IMAGES)

    def test_transform_imgs_gives_a_list(self):
        volume = nib.Nifti1Image(IMAGES[0].get_fdata()[..., 0], AFFINE)
        ours = Masker(SIMULATION.mask_img).fit()
        theirs = MultiNiftiMasker(SIMULATION.mask_img, standardize=None).fit()
        for images in (IMAGES, IMAGES[:1], [volume], [volume, volume]):
            for mine, their in zip(ours.transform_imgs(images, n_jobs=2), theirs.transform_imgs(images), strict=True):
                assert_close(mine, their)

    def test_says_what_it_does_only_if_asked(self, capfd):
        Masker(SIMULATION.mask_img).fit(IMAGES[0])
        assert capfd.readouterr() == ("", "")
        Masker(SIMULATION.mask_img, verbose=1).fit(IMAGES[0])
        assert "The mask has 832 voxels." in capfd.readouterr().err


class TestOutput:
    @pytest.mark.parametrize(("kind", "frame"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
    def test_can_be_data_frames(self, kind, frame):
        masker = Masker(SIMULATION.mask_img).fit().set_output(transform=kind)
        theirs = NiftiMasker(SIMULATION.mask_img, standardize=None).fit().set_output(transform=kind)
        volume = nib.Nifti1Image(IMAGES[0].get_fdata()[..., 0], AFFINE)
        for image in (IMAGES[0], volume):
            table = masker.transform(image)
            assert isinstance(table, frame)
            assert list(table.columns) == list(masker.get_feature_names_out())
            assert_close(table.to_numpy(), theirs.transform(image).to_numpy())
        assert all(isinstance(table, frame) for table in masker.transform(IMAGES))
        assert masker.inverse_transform(masker.transform(IMAGES[0])).shape == IMAGES[0].shape
        assert isinstance(clone(masker).set_output(transform="default").fit().transform(volume), np.ndarray)


class TestTypes:
    @pytest.mark.parametrize("target", [{}, {"target_affine": AFFINE_4MM}], ids=["", "resampled"])
    @pytest.mark.parametrize("smoothing_fwhm", [None, 4])
    @pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", ">f4"])
    def test_follow_the_images(self, dtype, smoothing_fwhm, target):
        image = nib.Nifti1Image((IMAGES[0].get_fdata() / 8).astype(dtype), AFFINE)
        parameters = {"mask_img": SIMULATION.mask_img, "smoothing_fwhm": smoothing_fwhm, **target}
        _, theirs = with_nilearn(image, masker=NiftiMasker, **parameters)
        assert Masker(**parameters).fit().transform(image).dtype == theirs.dtype.newbyteorder("=")

    @pytest.mark.parametrize("wanted", ["float32", "float64", np.int32, "f2"])
    def test_can_be_chosen(self, wanted):
        image = nib.Nifti1Image(IMAGES[0].get_fdata().astype(np.float32), AFFINE)
        _, theirs = with_nilearn(image, masker=NiftiMasker, mask_img=SIMULATION.mask_img, dtype=wanted)
        ours = Masker(SIMULATION.mask_img, dtype=wanted).fit().transform(image)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)

    def test_auto_is_single_precision(self):
        assert Masker(SIMULATION.mask_img, dtype="auto").fit().transform(IMAGES[0]).dtype == np.float32


class TestReport:
    @pytest.mark.parametrize("imgs", [None, IMAGES[0]])
    def test_is_one_file_with_mask_and_parameters(self, imgs, tmp_path):
        report = Masker(SIMULATION.mask_img, smoothing_fwhm=3).fit(imgs).generate_report(title="Which <voxels>")
        report.save_as_html(tmp_path / "mask.html")
        html = (tmp_path / "mask.html").read_text()
        assert "Which &lt;voxels&gt;" in html
        assert "832 voxels" in html
        assert "smoothing_fwhm" in html
        assert ("over the first volume" in html) == (imgs is not None)
        assert "http://" not in html.replace("http://www.w3.org", "")

    def test_shows_the_image_unless_told_not_to(self):
        pages = [
            Masker(SIMULATION.mask_img, reports=reports).fit(imgs).generate_report().html
            for reports, imgs in ((True, IMAGES[0]), (True, None), (False, IMAGES[0]))
        ]
        pictures = [re.findall(r"data:image/png;base64,[^\"]+", page) for page in pages]
        assert len(pictures[0]) == len(pictures[1]) > 0
        assert pictures[0] != pictures[1] == pictures[2]


class TestInverse:
    masker = Masker(SIMULATION.mask_img).fit()

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int16])
    @pytest.mark.parametrize("n_volumes", [None, 1, 5])
    def test_is_that_of_nilearn(self, dtype, n_volumes):
        n_voxels = self.masker.n_elements_
        values = (100 * RNG.normal(size=n_voxels if n_volumes is None else (n_volumes, n_voxels))).astype(dtype)
        image = self.masker.inverse_transform(values)
        truth = NiftiMasker(SIMULATION.mask_img, standardize=None).fit().inverse_transform(values)
        assert image.shape == truth.shape
        np.testing.assert_array_equal(image.get_fdata(), truth.get_fdata())
        np.testing.assert_array_equal(image.affine, truth.affine)
        np.testing.assert_array_equal(self.masker.transform(image), values.astype(np.float32))

    @pytest.mark.parametrize("make", [list, pd.DataFrame, lambda values: values.astype(np.int64)])
    def test_takes_what_is_like_an_array(self, make):
        values = np.arange(2 * self.masker.n_elements_).reshape(2, -1)
        image = self.masker.inverse_transform(make(values))
        np.testing.assert_array_equal(self.masker.transform(image), values)

    def test_booleans_become_whole_numbers(self):
        with pytest.warns(UserWarning, match="Casting boolean input to int32"):
            assert check_signals(np.array([True, False]), 2).dtype == np.int32

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (np.ones((3, 6)), r"\(3, 5\).*\(3, 6\)"),
            (np.ones(4), r"\(5,\).*\(4,\)"),
            (np.ones((1, 1, 5)), "wrong shape"),
        ],
    )
    def test_wrong_shapes_are_refused(self, bad, message):
        with pytest.raises(ValueError, match=message):
            check_signals(bad, 5)

    @pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
    def test_numbers_that_do_not_fit_are_refused(self, value):
        with pytest.raises(UsageError, match="int32 cannot hold"):
            check_signals(np.array([value, 0]), 2)
        assert check_signals(np.array([2**31 - 1, -(2**31)]), 2).dtype == np.int32

    def test_text_is_refused(self):
        with pytest.raises(UsageError, match="numbers are needed"):
            check_signals(np.array(["a", "b"]), 2)


class TestAdoption:
    def test_takes_the_parameters_of_a_masker_of_nilearn(self):
        own = {"smoothing_fwhm": 4.0, "standardize": False, "mask_strategy": "epi", "detrend": False}
        mask_img = SIMULATION.mask_img
        theirs = NiftiMasker(mask_img, smoothing_fwhm=6, standardize=None, detrend=True)
        with pytest.warns(UserWarning, match=r"smoothing_fwhm=6 \(not 4\.0\), mask_strategy='background'") as caught:
            adopted = adopt_parameters(theirs, own)
        assert "standardize" not in str(caught[0].message)
        assert adopted["mask_img"] is mask_img
        assert adopted["smoothing_fwhm"] == 6
        assert adopted["detrend"] is True

    @pytest.mark.parametrize("kind", [NiftiMasker, MultiNiftiMasker, Masker])
    def test_of_a_fitted_masker_takes_its_mask(self, kind):
        masker = kind(mask_strategy="background", mask_args={"opening": 0})
        assert is_masker(masker)
        masker.fit(IMAGES[:1])
        adopted = adopt_parameters(masker, {"mask_strategy": "background"})
        np.testing.assert_array_equal(adopted["mask_img"].get_fdata(), SIMULATION.truth > 0)

    @pytest.mark.parametrize(
        "parameter", [{"runs": [1, 1, 2]}, {"high_variance_confounds": True}, {"clean_args": {"filter": "cosine"}}]
    )
    def test_refuses_what_is_not_offered(self, parameter):
        with pytest.raises(UsageError, match=next(iter(parameter))):
            adopt_parameters(NiftiMasker(**parameter), {})

    @pytest.mark.parametrize("other", [None, "mask.nii", IMAGES[0], 3])
    def test_other_objects_are_no_maskers(self, other):
        assert not is_masker(other)


def test_is_an_estimator_of_scikit_learn():
    masker = Masker(SIMULATION.mask_img, smoothing_fwhm=3)
    with pytest.raises(NotFittedError):
        masker.transform(IMAGES[0])
    assert clone(masker).get_params() | {"mask_img": None} == masker.get_params() | {"mask_img": None}
    fitted = pickle.loads(pickle.dumps(masker.fit()))
    np.testing.assert_array_equal(fitted.transform(IMAGES[0]), masker.transform(IMAGES[0]))
    np.testing.assert_array_equal(fitted.mask_img_.get_fdata(), SIMULATION.truth > 0)
