"""Connectivity against nilearn, scikit-learn, closed forms and simulations with a known answer."""

from collections.abc import Collection

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.connectome import ConnectivityMeasure
from scipy import linalg
from sklearn import covariance as sk

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.cleaning import standardize
from bids_parcellate.numerics.connectivity import (
    correlation,
    geometric_mean,
    ledoit_wolf,
    partial_correlation,
    pearson,
    precision,
    tangent,
)

SHAPES = [(60, 8), (25, 40), (200, 20)]  # fewer volumes than parcels too


def mixed(rng, n_volumes, n_parcels, offset=0.0):
    """Correlated signals of unequal variance."""
    return rng.normal(size=(n_volumes, n_parcels)) @ rng.normal(size=(n_parcels, n_parcels)) + offset


def group(seed=0, n_runs=5, n_volumes=80, n_parcels=10):
    """Signals of runs that share a mixture, each with its own deviation."""
    rng = np.random.default_rng(seed)
    mixture = rng.normal(size=(n_parcels, n_parcels))
    own = [mixture + 0.3 * rng.normal(size=mixture.shape) for _ in range(n_runs)]
    return [rng.normal(size=(n_volumes + 10 * run, n_parcels)) @ matrix for run, matrix in enumerate(own)]


def positive_definite(rng, size, spread=1.0):
    vectors = linalg.qr(rng.normal(size=(size, size)))[0]
    return (vectors * np.exp(spread * rng.normal(size=size))) @ vectors.T


def covariances_of(signals):
    return [ledoit_wolf(run)[0] for run in signals]


def without(matrix, missing):
    """Blank rows and columns."""
    matrix = matrix.copy()
    matrix[missing], matrix[:, missing] = np.nan, np.nan
    return matrix


def nilearn(kind, signals):
    """With its defaults: only for ``standardize=True`` does nilearn 0.14.1 standardize, and only for correlations."""
    return ConnectivityMeasure(kind=kind, standardize=True).fit_transform(signals)


class TestPearson:
    @pytest.mark.parametrize("offset", [0, 1e6])
    def test_equals_numpy_and_nilearn(self, offset):
        signals = mixed(np.random.default_rng(0), 80, 12, offset)
        correlations = pearson(signals)
        np.testing.assert_allclose(correlations, np.corrcoef(signals.T), atol=1e-8)
        measure = ConnectivityMeasure(
            sk.EmpiricalCovariance(store_precision=False), kind="correlation", standardize="zscore_sample"
        )
        np.testing.assert_allclose(correlations, measure.fit_transform([signals])[0], atol=1e-8)

    @settings(max_examples=30, deadline=None)
    @given(n_volumes=st.integers(2, 20), n_parcels=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
    def test_is_exactly_symmetric_and_bounded(self, n_volumes, n_parcels, seed):
        correlations = pearson(np.random.default_rng(seed).normal(size=(n_volumes, n_parcels)))
        np.testing.assert_array_equal(correlations, correlations.T)
        np.testing.assert_array_equal(np.diag(correlations), 1)
        assert np.abs(correlations).max() <= 1


class TestParityWithNilearn:
    """With its default estimator, of nilearn 0.14.1."""

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize(
        ("kind", "measure"),
        [
            ("covariance", np.asarray),
            ("precision", precision),
            ("partial correlation", partial_correlation),
        ],
    )
    def test_one_run(self, kind, measure, shape):
        signals = mixed(np.random.default_rng(0), *shape, offset=100)
        found = measure(ledoit_wolf(signals)[0])
        np.testing.assert_allclose(found, nilearn(kind, [signals])[0], rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(found, found.T)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_correlation(self, shape):
        signals = mixed(np.random.default_rng(0), *shape, offset=100)
        covariance, shrinkage = ledoit_wolf(standardize(signals, "zscore_sample"))
        found = correlation(covariance)
        np.testing.assert_allclose(found, nilearn("correlation", [signals])[0], atol=1e-6)
        shrunk = (1 - shrinkage) * pearson(signals)
        np.fill_diagonal(shrunk, 1)
        np.testing.assert_allclose(found, shrunk, atol=1e-12)

    def test_tangent(self):
        signals = group()
        covariances = covariances_of(signals)
        measure = ConnectivityMeasure(kind="tangent", standardize=True).fit(signals)
        reference = geometric_mean(covariances)
        np.testing.assert_allclose(reference, measure.mean_, rtol=1e-6, atol=1e-6 * np.abs(reference).max())
        found = [tangent(covariance, reference) for covariance in covariances]
        np.testing.assert_allclose(found, measure.transform(signals), atol=1e-6)
        np.testing.assert_allclose(np.mean(found, axis=0), 0, atol=1e-8)

    def test_tangent_of_a_later_subject(self):
        signals, later = group(), group(seed=1, n_runs=2)
        measure = ConnectivityMeasure(kind="tangent", standardize=True).fit(signals)
        reference = geometric_mean(covariances_of(signals))
        found = [tangent(covariance, reference) for covariance in covariances_of(later)]
        np.testing.assert_allclose(found, measure.transform(later), rtol=1e-6, atol=1e-6)

    def test_real_signals(self, shared_data):
        """Sixty voxels of a real run in two halves: large offsets, drifts, unequal variances."""
        folder = shared_data / "real" / "haxby2001_1slice" / "sub-01" / "func"
        bold = np.asarray(nib.load(min(folder.glob("*_bold.nii.gz"))).dataobj, dtype=float)
        voxels = bold.reshape(-1, bold.shape[-1]).T
        varying = np.flatnonzero(voxels.std(axis=0) > 1)
        picked = voxels[:, varying[:: len(varying) // 60][:60]]
        signals = np.array_split(picked, 2)
        covariances = covariances_of(signals)
        for kind, measure in (("covariance", np.asarray), ("partial correlation", partial_correlation)):
            expected = nilearn(kind, signals)
            scale = np.abs(expected).max()
            np.testing.assert_allclose([measure(c) for c in covariances], expected, atol=1e-6 * scale)
        reference = geometric_mean(covariances)
        found = [tangent(covariance, reference) for covariance in covariances]
        np.testing.assert_allclose(found, nilearn("tangent", signals), atol=1e-6)


class TestLedoitWolf:
    @settings(max_examples=40, deadline=None)
    @given(n_volumes=st.integers(2, 40), n_parcels=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
    def test_equals_scikit_learn(self, n_volumes, n_parcels, seed):
        signals = mixed(np.random.default_rng(seed), n_volumes, n_parcels, offset=5)
        covariance, shrinkage = ledoit_wolf(signals)
        expected, expected_shrinkage = sk.ledoit_wolf(signals)
        np.testing.assert_allclose(covariance, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
        assert shrinkage == pytest.approx(expected_shrinkage, abs=1e-9)
        assert 0 <= shrinkage <= 1

    def test_is_nearer_to_the_truth_than_the_empirical_covariance(self):
        rng = np.random.default_rng(0)
        truth = positive_definite(rng, 40, spread=0.5)
        signals = rng.multivariate_normal(np.zeros(40), truth, size=60)
        shrunk, empirical = ledoit_wolf(signals)[0], np.cov(signals.T, bias=True)
        assert np.linalg.norm(shrunk - truth) < 0.7 * np.linalg.norm(empirical - truth)

    def test_many_volumes_need_no_shrinkage(self):
        rng = np.random.default_rng(0)
        truth = positive_definite(rng, 5)
        covariance, shrinkage = ledoit_wolf(rng.multivariate_normal(np.zeros(5), truth, size=100_000))
        assert shrinkage < 1e-3
        np.testing.assert_allclose(covariance, truth, atol=0.03 * truth.max())


class TestPartialCorrelation:
    def test_is_the_correlation_of_residuals(self):
        """Of two signals, after the others have been regressed out of both."""
        signals = mixed(np.random.default_rng(0), 100, 6)
        others = np.column_stack([np.ones(100), signals[:, 2:]])
        residuals = signals[:, :2] - others @ np.linalg.lstsq(others, signals[:, :2], rcond=None)[0]
        found = partial_correlation(np.cov(signals.T))
        np.testing.assert_allclose(found[0, 1], np.corrcoef(residuals.T)[0, 1], atol=1e-10)

    def test_tells_a_chain_from_a_triangle(self):
        """In the chain a - b - c, the ends correlate, but not given the middle."""
        rng = np.random.default_rng(0)
        a = rng.normal(size=50_000)
        b = a + rng.normal(size=a.size)
        signals = np.column_stack([a, b, b + rng.normal(size=a.size)])
        assert pearson(signals)[0, 2] > 0.5
        assert abs(partial_correlation(ledoit_wolf(signals)[0])[0, 2]) < 0.02

    def test_a_parcel_alone(self):
        np.testing.assert_array_equal(partial_correlation(np.array([[4.0]])), [[1.0]])


class TestMissingParcels:
    """Constant signals, and signals with values that are not finite."""

    MISSING, PRESENT = [1, 3, 4, 5], [0, 2, 6, 7]

    @pytest.fixture
    def signals(self):
        signals = mixed(np.random.default_rng(0), 30, 8)
        signals[:, 1] = 0.1  # the mean of thirty times 0.1 is not 0.1
        signals[:, 3] = np.nan
        signals[4, 4] = np.inf
        signals[5, 5] = np.nan
        return signals

    @pytest.mark.parametrize(
        "measure",
        [
            pearson,
            lambda signals: ledoit_wolf(signals)[0],
            lambda signals: correlation(ledoit_wolf(signals)[0]),
            lambda signals: precision(ledoit_wolf(signals)[0]),
            lambda signals: partial_correlation(ledoit_wolf(signals)[0]),
        ],
        ids=["pearson", "covariance", "correlation", "precision", "partial correlation"],
    )
    def test_are_nan_and_disturb_no_other(self, measure, signals):
        found = measure(signals)
        assert np.isnan(found[self.MISSING]).all()
        assert np.isnan(found[:, self.MISSING]).all()
        block = found[np.ix_(self.PRESENT, self.PRESENT)]
        np.testing.assert_allclose(block, measure(signals[:, self.PRESENT]), rtol=1e-12, atol=1e-14)

    def test_all_missing(self):
        signals = np.ones((5, 3))
        covariance, shrinkage = ledoit_wolf(signals)
        assert np.isnan(shrinkage)
        for matrix in (pearson(signals), covariance, correlation(covariance), partial_correlation(covariance)):
            np.testing.assert_array_equal(matrix, np.full((3, 3), np.nan))

    def test_the_tangent_is_on_the_parcels_of_all_runs(self):
        covariances = covariances_of(group())
        blanked = [without(covariances[0], [2]), without(covariances[1], [2, 7]), *covariances[2:]]
        present = [0, 1, 3, 4, 5, 6, 8, 9]
        picked = [covariance[np.ix_(present, present)] for covariance in covariances]
        reference, expected = geometric_mean(blanked), geometric_mean(picked)
        assert np.isnan(reference[[2, 7]]).all()
        np.testing.assert_allclose(reference[np.ix_(present, present)], expected, rtol=1e-12, atol=1e-14)
        for covariance, block in zip(blanked, picked, strict=True):
            found = tangent(covariance, reference)
            assert np.isnan(found[[2, 7]]).all()
            assert np.isnan(found[:, [2, 7]]).all()
            np.testing.assert_allclose(found[np.ix_(present, present)], tangent(block, expected), atol=1e-12)

    def test_a_run_that_lacks_a_parcel_of_the_reference_is_refused(self):
        covariances = covariances_of(group())
        with pytest.raises(DataError, match="lacks 2 of the 10 parcels"):
            tangent(without(covariances[0], [0, 4]), geometric_mean(covariances))


class Stored(Collection):
    """Covariances that are made as they are asked for; it counts how often they were gone through."""

    def __init__(self, matrices):
        self.matrices, self.passes = matrices, 0

    def __len__(self):
        return len(self.matrices)

    def __contains__(self, matrix):
        raise NotImplementedError

    def __iter__(self):
        self.passes += 1
        return (matrix.copy() for matrix in self.matrices)


class TestGeometricMean:
    @settings(max_examples=25, deadline=None)
    @given(size=st.integers(1, 12), spread=st.floats(0.01, 3), seed=st.integers(0, 2**32 - 1))
    def test_of_two_has_a_closed_form(self, size, spread, seed):
        """A^1/2 (A^-1/2 B A^-1/2)^1/2 A^1/2, which solves the equation X A^-1 X = B."""
        rng = np.random.default_rng(seed)
        a, b = positive_definite(rng, size, spread), positive_definite(rng, size, spread)
        mean = geometric_mean([a, b])
        np.testing.assert_allclose(mean @ np.linalg.solve(a, mean), b, atol=1e-6 * np.abs(b).max(), rtol=1e-5)
        np.testing.assert_array_equal(mean, mean.T)

    def test_of_matrices_that_commute_is_that_of_their_eigenvalues(self):
        rng = np.random.default_rng(0)
        vectors = linalg.qr(rng.normal(size=(6, 6)))[0]
        eigenvalues = np.exp(2 * rng.normal(size=(4, 6)))
        mean = geometric_mean([(vectors * values) @ vectors.T for values in eigenvalues])
        expected = (vectors * np.exp(np.log(eigenvalues).mean(axis=0))) @ vectors.T
        np.testing.assert_allclose(mean, expected, atol=1e-7)

    @settings(max_examples=15, deadline=None)
    @given(size=st.integers(2, 8), n_runs=st.integers(1, 6), spread=st.floats(0.01, 2), seed=st.integers(0, 2**32 - 1))
    def test_goes_along_with_linear_maps(self, size, n_runs, spread, seed):
        """The mean of M C M' is M mean(C) M'."""
        rng = np.random.default_rng(seed)
        covariances = [positive_definite(rng, size, spread) for _ in range(n_runs)]
        mixture = positive_definite(rng, size, 0.5)
        mapped = geometric_mean([mixture @ covariance @ mixture.T for covariance in covariances])
        expected = mixture @ geometric_mean(covariances) @ mixture.T
        np.testing.assert_allclose(mapped, expected, atol=1e-6 * np.abs(expected).max())

    def test_takes_one_run_at_a_time(self):
        covariances = covariances_of(group())
        stored = Stored(covariances)
        np.testing.assert_array_equal(geometric_mean(stored), geometric_mean(covariances))
        assert 2 < stored.passes < 30

    def test_no_run(self):
        with pytest.raises(DataError, match="no covariance"):
            geometric_mean([])

    def test_no_parcel_in_common(self):
        covariance = positive_definite(np.random.default_rng(0), 2)
        with pytest.raises(DataError, match="none of 2 parcels has a covariance in all of 2 runs"):
            geometric_mean([without(covariance, [0]), without(covariance, [1])])

    def test_covariances_too_far_apart(self):
        """Condition numbers of 1e13 in opposite directions: their mean is lost in rounding."""
        rng = np.random.default_rng(1)
        covariances = [positive_definite(rng, 10, spread=9) for _ in range(3)]
        with pytest.raises(DataError, match=r"geometric mean of 3|not positive definite"):
            geometric_mean(covariances)


class TestWhatIsRefused:
    @pytest.mark.parametrize("measure", [pearson, ledoit_wolf])
    def test_one_volume(self, measure):
        with pytest.raises(DataError, match="1 volume is too few"):
            measure(np.ones((1, 3)))

    @pytest.mark.parametrize("measure", [precision, partial_correlation, lambda c: tangent(c, np.eye(3))])
    def test_a_singular_covariance(self, measure):
        """Of two volumes, nothing can be said about the sampling error, so that nothing is shrunk."""
        covariance, shrinkage = ledoit_wolf(np.random.default_rng(0).normal(size=(2, 3)))
        assert shrinkage < 1e-12
        with pytest.raises(DataError, match="not positive definite"):
            measure(covariance)

    def test_a_shape_that_does_not_fit(self):
        with pytest.raises(UsageError, match=r"\(3, 2\).*\(3, 3\)"):
            precision(np.ones((3, 2)))
        with pytest.raises(UsageError, match=r"\(2, 2\).*\(3, 3\)"):
            tangent(np.eye(2), np.eye(3))
        with pytest.raises(UsageError, match=r"\(2, 2\).*\(3, 3\)"):
            geometric_mean([np.eye(3), np.eye(2)])

    def test_a_hole_between_parcels_that_are_there(self):
        covariance = np.eye(3)
        covariance[0, 2] = covariance[2, 0] = np.nan
        with pytest.raises(DataError, match="not finite"):
            precision(covariance)
