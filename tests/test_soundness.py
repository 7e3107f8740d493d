"""Numbers at the edge of sense, and changes of the data that must not change the result."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from sklearn.metrics import adjusted_rand_score

from bids_parcellate import Parcellations
from bids_parcellate.errors import ParcellateError
from bids_parcellate.numerics.cleaning import clean, degrees_of_freedom, temporal_operator
from bids_parcellate.numerics.cluster import METHODS, SPATIAL_METHODS, parcellate
from bids_parcellate.numerics.connectivity import ledoit_wolf, pearson, precision, tangent
from bids_parcellate.numerics.graph import connected_pieces, scattered_labels, voxel_adjacency
from bids_parcellate.numerics.reduction import Merger, reduce_signals
from bids_parcellate.numerics.signals import parcel_eigenvariates, parcel_means, parcel_medians
from bids_parcellate.numerics.smoothing import smooth_volume
from tests.simulated import AFFINE, simulate

seeds = given(st.integers(0, 2**32 - 1))
few = settings(max_examples=15, deadline=None)


def box(*shape: int):
    """All voxels of a box, and how they touch."""
    mask = np.ones(shape, dtype=bool)
    return mask, voxel_adjacency(mask)


def assert_exact(labels, n_parcels, adjacency, method):
    assert sorted(set(labels.tolist())) == list(range(n_parcels))
    if method in SPATIAL_METHODS:
        assert scattered_labels(labels, adjacency).size == 0


# Voxels that hold nothing, the same, or nearly nothing


@pytest.mark.parametrize("method", METHODS)
class TestFeaturesWithoutContrast:
    def test_voxels_that_are_all_alike(self, method):
        mask, adjacency = box(5, 4, 3)
        features = np.ones((6, mask.sum()), dtype=np.float32)
        if method in SPATIAL_METHODS:
            (labels,) = parcellate(features, method, [7], adjacency=adjacency).values()
            assert_exact(labels, 7, adjacency, method)
        else:
            with pytest.raises(ParcellateError, match="distinct features"):
                parcellate(features, method, [7], adjacency=adjacency)

    def test_duplicates_stay_together(self, method):
        """Four blocks of voxels that are the same to the last bit are the four parcels."""
        _, adjacency = box(8, 4, 2)
        truth = np.repeat(np.arange(4), 16)
        features = np.random.default_rng(3).normal(size=(9, 4)).astype(np.float32)[:, truth]
        (labels,) = parcellate(features, method, [4], adjacency=adjacency).values()
        assert adjusted_rand_score(truth, labels) == 1

    @pytest.mark.parametrize("n_parcels", [1, 60])
    def test_one_parcel_and_as_many_as_voxels(self, method, n_parcels):
        _, adjacency = box(5, 4, 3)
        features = np.random.default_rng(0).normal(size=(6, 60)).astype(np.float32)
        (labels,) = parcellate(features, method, [n_parcels], adjacency=adjacency).values()
        assert_exact(labels, n_parcels, adjacency, method)

    def test_one_voxel(self, method):
        _, adjacency = box(1, 1, 1)
        (labels,) = parcellate(np.ones((3, 1), np.float32), method, [1], adjacency=adjacency).values()
        assert labels.tolist() == [0]

    def test_a_mask_with_islands(self, method):
        mask = np.zeros((9, 4, 4), dtype=bool)
        mask[:3], mask[4], mask[6:, :2, :2], mask[8, 3, 3] = True, True, True, True
        adjacency = voxel_adjacency(mask)
        n_pieces, _ = connected_pieces(adjacency)
        assert n_pieces == 4
        features = np.random.default_rng(1).normal(size=(6, mask.sum())).astype(np.float32)
        found = parcellate(features, method, [n_pieces, 11], adjacency=adjacency)
        for n_parcels, labels in found.items():
            assert_exact(labels, n_parcels, adjacency, method)

    def test_a_mask_of_one_slice_and_of_one_row(self, method):
        for shape in ((1, 12, 10), (12, 1, 10), (12, 10, 1), (1, 1, 30)):
            mask, adjacency = box(*shape)
            features = np.random.default_rng(1).normal(size=(6, mask.sum())).astype(np.float32)
            (labels,) = parcellate(features, method, [9], adjacency=adjacency).values()
            assert_exact(labels, 9, adjacency, method)

    def test_tiny_and_huge_features_give_the_same_parcels(self, method):
        _, adjacency = box(8, 6, 2)
        truth = np.repeat(np.arange(4), 24)
        rng = np.random.default_rng(5)
        features = rng.normal(size=(9, 4))[:, truth] + 0.3 * rng.normal(size=(9, 96))
        first = parcellate(features, method, [4], adjacency=adjacency)[4]
        for factor in (1e-12, 1e12):
            np.testing.assert_array_equal(parcellate(features * factor, method, [4], adjacency=adjacency)[4], first)


def test_constant_voxels_among_others_leave_the_others_as_they_are():
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(30, 20)).astype(np.float32)
    signals[:, 7], signals[:, 11] = 5, 1e6
    cleaned = clean(signals, detrend=True, standardize="zscore_sample")
    others = [voxel for voxel in range(20) if voxel not in (7, 11)]
    assert np.isfinite(cleaned).all()
    assert not cleaned[:, [7, 11]].any()
    expected = clean(signals[:, others], detrend=True, standardize="zscore_sample")
    np.testing.assert_allclose(cleaned[:, others], expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1, 1e12, 1e30])
def test_z_scores_do_not_depend_on_the_unit(scale):
    signals = np.random.default_rng(0).normal(size=(40, 6))
    expected = clean(signals, detrend=True, standardize="zscore_sample")
    np.testing.assert_allclose(clean(signals * scale, detrend=True, standardize="zscore_sample"), expected, rtol=1e-9)


@pytest.mark.parametrize("offset", [1e3, 1e5, 1e6])
def test_a_huge_offset_in_single_precision_costs_only_what_storing_it_costs(offset):
    """A signal of deviation 1 on 1e6 is stored in steps of 1/16: cleaning must add nothing to that."""
    rng = np.random.default_rng(0)
    stored = (offset + 3 * rng.normal(size=(120, 50))).astype(np.float32)
    confounds = rng.normal(size=(120, 6))
    options = {"confounds": confounds, "detrend": True, "standardize": "zscore_sample"}
    found = clean(stored, **options)
    expected = clean(stored.astype(np.float64), **options)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(pearson(found), pearson(expected), atol=1e-4)


def test_a_huge_offset_does_not_change_the_reduction():
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(40, 5)) @ rng.normal(size=(5, 300))
    cleaned = [clean((signals * 50 + offset).astype(np.float32), standardize="zscore_sample") for offset in (0, 1e6)]
    first, second = (reduce_signals(each, 5) for each in cleaned)
    np.testing.assert_allclose(second.singular_values, first.singular_values, rtol=1e-3)
    overlap = np.abs(first.components @ second.components.T)
    np.testing.assert_allclose(np.linalg.svd(overlap)[1], 1, atol=1e-3)


# Confounds


@few
@seeds
def test_collinear_confounds_count_once(seed):
    rng = np.random.default_rng(seed)
    confounds = rng.normal(size=(50, 4))
    mixture = rng.normal(size=(4, 9))
    doubled = np.hstack([confounds, confounds[:, :2], confounds @ mixture, np.ones((50, 1)), np.zeros((50, 1))])
    first, second = (temporal_operator(50, confounds=each, detrend=True) for each in (confounds, doubled))
    assert degrees_of_freedom(first) == degrees_of_freedom(second)
    np.testing.assert_allclose(second, first, atol=1e-9)


@few
@seeds
def test_what_confounds_explain_is_gone_however_large(seed):
    rng = np.random.default_rng(seed)
    confounds = rng.normal(size=(60, 5)) * 10.0 ** rng.integers(-6, 6, size=5)
    signals = rng.normal(size=(60, 8))
    spoiled = signals + 1e4 * (confounds / confounds.std(axis=0)) @ rng.normal(size=(5, 8))
    found, expected = (clean(each, confounds=confounds, detrend=True) for each in (spoiled, signals))
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_confounds_that_explain_everything_leave_no_noise_that_is_scaled_up():
    """Voxels that the confounds explain, to the last bit, do not vary: rounding must not become a signal."""
    rng = np.random.default_rng(0)
    confounds = rng.normal(size=(80, 6))
    explained = 1000 + 5 * confounds @ rng.normal(size=(6, 50))
    options = {"confounds": confounds, "detrend": True, "standardize": "zscore_sample"}
    for dtype in (np.float32, np.float64):
        assert not clean(explained.astype(dtype), **options).any()


def test_three_volumes():
    signals = np.array([[1.0, 5, 2], [2, 5, -1], [4, 5, 3]], dtype=np.float32)
    cleaned = clean(signals, detrend=True, standardize="zscore_sample")
    assert np.isfinite(cleaned).all()
    np.testing.assert_allclose(cleaned[:, [0, 2]].std(axis=0, ddof=1), 1, rtol=1e-5)
    reduced = reduce_signals(signals, 200)
    assert len(reduced.components) <= 3
    np.testing.assert_allclose((reduced.singular_values**2).sum(), (signals.astype(float) ** 2).sum(), rtol=1e-5)


# Parcels


def test_parcels_of_one_voxel_are_the_voxel():
    signals = np.random.default_rng(0).normal(100, 3, size=(25, 6))
    labels = np.arange(1, 7, dtype=np.int32)
    np.testing.assert_allclose(parcel_means(signals, labels, 6), signals)
    np.testing.assert_allclose(parcel_medians(signals, labels, 6), signals)
    centred = signals - signals.mean(axis=0)
    ratio = parcel_eigenvariates(centred, labels, 6) / centred
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape))
    assert (ratio > 0).all()


@pytest.mark.parametrize("offset", [0, 1e6])
def test_parcel_means_in_single_precision_are_summed_exactly_enough(offset):
    rng = np.random.default_rng(0)
    signals = (offset + rng.normal(size=(10, 20_000))).astype(np.float32)
    labels = np.ones(20_000, dtype=np.int32)
    found = parcel_means(signals, labels, 1)[:, 0]
    np.testing.assert_allclose(found, signals.astype(np.float64).mean(axis=1), rtol=1e-12)


# Connectivity


@few
@seeds
def test_the_order_of_volumes_does_not_change_connectivity(seed):
    rng = np.random.default_rng(seed)
    signals = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8))
    shuffled = signals[rng.permutation(60)]
    np.testing.assert_allclose(pearson(shuffled), pearson(signals), atol=1e-12)
    (first, shrunk), (second, shrunk_too) = ledoit_wolf(signals), ledoit_wolf(shuffled)
    np.testing.assert_allclose(second, first, atol=1e-10)
    assert shrunk_too == pytest.approx(shrunk, abs=1e-12)


@few
@seeds
def test_units_and_offsets_of_parcels_do_not_change_correlations(seed):
    rng = np.random.default_rng(seed)
    signals = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8))
    changed = signals * 10.0 ** rng.integers(-9, 9, size=8) + 1e3 * rng.normal(size=8)
    scale = np.abs(changed).max(axis=0) / changed.std(axis=0)  # what is lost by the offset in double precision
    np.testing.assert_allclose(pearson(changed), pearson(signals), atol=1e-14 * scale.max() + 1e-12)


def test_parcels_that_are_alike_constant_or_missing():
    signals = np.random.default_rng(0).normal(size=(40, 5))
    signals[:, 1] = signals[:, 0]
    signals[:, 2] = 7
    signals[:, 3] = np.nan
    found = pearson(signals)
    assert found[0, 1] == pytest.approx(1)
    assert np.abs(found[np.isfinite(found)]).max() <= 1
    assert np.isnan(found[3, [0, 1, 2, 4]]).all()
    covariance, _ = ledoit_wolf(signals[:, [0, 1, 4]])
    inverse = precision(covariance)
    assert np.isfinite(inverse).all()
    np.testing.assert_allclose(inverse @ covariance, np.eye(3), atol=1e-8)


def test_fewer_volumes_than_parcels():
    signals = np.random.default_rng(0).normal(size=(3, 20))
    covariance, shrinkage = ledoit_wolf(signals)
    assert 0 <= shrinkage <= 1
    assert linalg.eigvalsh(covariance)[0] >= -1e-12
    assert np.isfinite(pearson(signals)).all()


def test_the_tangent_of_a_matrix_at_itself_is_zero():
    rng = np.random.default_rng(0)
    covariance, _ = ledoit_wolf(rng.normal(size=(50, 6)) * 10.0 ** np.arange(-3, 3))
    np.testing.assert_allclose(tangent(covariance, covariance), 0, atol=1e-8)


# The group


@few
@seeds
def test_the_order_of_runs_does_not_change_the_merged_space(seed):
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(6, 80))
    runs = [reduce_signals((rng.normal(size=(30, 6)) @ basis + 0.1 * rng.normal(size=(30, 80))).astype(np.float32), 20)
            for _ in range(5)]  # fmt: skip

    def merged(order):
        merger = Merger(80, 20)
        for index in order:
            merger.add(runs[index], np.arange(80))
        return merger.result()

    first, second = merged(range(5)), merged(rng.permutation(5))
    np.testing.assert_allclose(second.singular_values[:6], first.singular_values[:6], rtol=1e-4)
    overlap = first.components[:6] @ second.components[:6].T
    np.testing.assert_allclose(linalg.svdvals(overlap), 1, atol=1e-3)


# Images: the same brain, stored otherwise


SIMULATION = simulate(n_runs=2, n_volumes=40, n_parcels=8, noise=0.3)


def fit(images, mask, method, **options):
    options = {"smoothing_fwhm": 5.0, "standardize": "zscore_sample", "detrend": True, **options}
    return Parcellations(method=method, n_parcels=8, mask=mask, **options).fit(images).labels_img_


def in_world(image):
    """Parcels by where their voxels lie, in mm."""
    labels = np.asanyarray(image.dataobj)
    places = np.argwhere(labels)
    world = np.round(nib.affines.apply_affine(image.affine, places), 3)
    order = np.lexsort(world.T)
    return world[order], labels[tuple(places.T)][order]


def assert_same_parcels(found, expected):
    (world, labels), (expected_world, expected_labels) = in_world(found), in_world(expected)
    np.testing.assert_allclose(world, expected_world, atol=2e-3)
    assert adjusted_rand_score(expected_labels, labels) == 1


def reoriented(image, codes):
    """Store the same image along other axes, as nibabel does."""
    start = nib.orientations.io_orientation(image.affine)
    change = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes))
    return image.as_reoriented(change)


ORIENTATIONS = ["".join(code) for order in permutations(("RL", "AP", "SI")) for code in product(*order)]


@pytest.fixture(scope="module")
def reference():
    return {method: fit(SIMULATION.images, SIMULATION.mask_img, method) for method in ("ward", "kmeans", "rena")}


@pytest.mark.parametrize("codes", ["RAS", "LAS", "PSR", "SPL", "ILP"])
def test_the_order_and_direction_of_axes_do_not_move_parcels(codes, reference):
    images = [reoriented(image, codes) for image in SIMULATION.images]
    assert_same_parcels(fit(images, reoriented(SIMULATION.mask_img, codes), "ward"), reference["ward"])


def test_every_orientation_is_smoothed_alike():
    volume = np.random.default_rng(0).normal(100, 5, size=(7, 9, 8)).astype(np.float32)
    image = nib.Nifti1Image(volume, np.diag([2.0, 3, 3.5, 1]))
    expected = smooth_volume(volume, [2, 3, 3.5], 6.0)
    assert len(ORIENTATIONS) == 48
    for codes in ORIENTATIONS:
        turned = reoriented(image, codes)
        smoothed = smooth_volume(np.asanyarray(turned.dataobj), nib.affines.voxel_sizes(turned.affine), 6.0)
        back = reoriented(nib.Nifti1Image(smoothed, turned.affine), "RAS")
        np.testing.assert_allclose(np.asanyarray(back.dataobj), expected, rtol=1e-5)


@pytest.mark.parametrize("method", ["ward", "kmeans", "rena"])
def test_scaling_and_offset_of_intensities_do_not_change_parcels(method, reference):
    for scale, offset in ((1e-3, 0), (250.0, 0), (1.0, 1000.0)):
        images = [
            nib.Nifti1Image((image.get_fdata() * scale + offset).astype(np.float32), AFFINE)
            for image in SIMULATION.images
        ]
        # Smoothing mixes the offset with the zeros around the brain, as it should: without it, nothing may change.
        options = {"smoothing_fwhm": None} if offset else {}
        expected = fit(SIMULATION.images, SIMULATION.mask_img, method, **options) if offset else reference[method]
        assert_same_parcels(fit(images, SIMULATION.mask_img, method, **options), expected)


def test_each_voxel_s_own_gain_does_not_change_parcels(reference):
    """Coils see near voxels brighter; voxels are z-scored."""
    gain = np.random.default_rng(0).uniform(0.5, 2, size=SIMULATION.truth.shape)[..., np.newaxis]
    images = [nib.Nifti1Image(image.get_fdata() * gain, AFFINE) for image in SIMULATION.images]
    expected = fit(SIMULATION.images, SIMULATION.mask_img, "ward", smoothing_fwhm=None)
    assert_same_parcels(fit(images, SIMULATION.mask_img, "ward", smoothing_fwhm=None), expected)


def padded(image, before, after):
    """Widen the field of view by zeros."""
    data = np.asanyarray(image.dataobj)
    widths = [*zip(before, after, strict=True), *[(0, 0)] * (data.ndim - 3)]
    affine = image.affine.copy()
    affine[:3, 3] = nib.affines.apply_affine(image.affine, [-width for width in before])
    return nib.Nifti1Image(np.pad(data, widths), affine)


@pytest.mark.parametrize("method", ["ward", "kmeans", "rena"])
def test_the_field_of_view_does_not_change_parcels(method, reference):
    widths = ((3, 0, 2), (1, 4, 0))
    images = [padded(image, *widths) for image in SIMULATION.images]
    assert_same_parcels(fit(images, padded(SIMULATION.mask_img, *widths), method), reference[method])


def test_the_order_of_runs_does_not_change_parcels(reference):
    assert_same_parcels(fit(SIMULATION.images[::-1], SIMULATION.mask_img, "ward"), reference["ward"])


def test_the_truth_is_found(reference):
    """Invariance would also hold of nonsense."""
    for labels in reference.values():
        found = np.asanyarray(labels.dataobj)[SIMULATION.truth > 0]
        assert adjusted_rand_score(SIMULATION.labels, found) > 0.8
