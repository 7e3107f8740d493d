import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.cluster import MiniBatchKMeans

from bids_parcellate.numerics.cluster.estimators import HierarchicalKMeans, KMeans
from bids_parcellate.numerics.cluster.hierarchical_kmeans import count_distinct_rows, share_out
from tests.cluster.simulation import brain, smooth_features, voronoi


def inertia(features, labels):
    return sum(((features[:, labels == n].T - features[:, labels == n].mean(axis=1)) ** 2).sum() for n in set(labels))


def test_inertia_is_as_low_as_scikit_learn_s():
    features, _ = voronoi(brain((12, 12, 8)), 30, noise=1.0)
    ours = inertia(features, KMeans(30).fit(features).labels_)
    theirs = SklearnKMeans(30, n_init=3, random_state=1).fit(features.T).inertia_
    assert ours < 1.03 * theirs


def test_a_start_from_a_sample_ends_lower_than_mini_batches():
    """So many voxels that the initial means are those of a sample."""
    features = smooth_features(brain((44, 44, 36)), 30, width=2.0)
    assert features.shape[1] > 20_000
    full = SklearnKMeans(40, n_init=1, random_state=0).fit(features.T).inertia_
    for seed in range(3):
        theirs = MiniBatchKMeans(40, n_init=1, random_state=seed).fit(features.T).labels_
        ours = KMeans(40, random_state=seed).fit(features).labels_
        assert inertia(features, ours) < min(inertia(features, theirs), 1.03 * full)


def test_of_several_starts_the_best_is_kept():
    features = smooth_features(brain((20, 16, 12)), 30, width=2.0)
    found = [inertia(features, KMeans(20, n_init=n, random_state=0).fit(features).labels_) for n in (1, 8)]
    assert found[1] < found[0]


def test_the_seed_decides():
    features = smooth_features(brain())
    labels = [KMeans(20, random_state=seed).fit(features).labels_ for seed in (0, 0, 1)]
    np.testing.assert_array_equal(labels[0], labels[1])
    assert (labels[0] != labels[2]).any()


def test_two_levels_cost_little_inertia():
    features = smooth_features(brain((12, 12, 8)))
    assert inertia(features, HierarchicalKMeans(60).fit(features).labels_) < 1.3 * inertia(
        features, KMeans(60).fit(features).labels_
    )


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=12), st.data())
@settings(deadline=None, max_examples=100)
def test_shares_are_within_bounds_and_add_up(pairs, data):
    limits = np.array([limit for limit, _ in pairs])
    sizes = limits + [more for _, more in pairs]
    n_shares = data.draw(st.integers(len(pairs), int(limits.sum())))
    shares = share_out(n_shares, sizes, limits)
    assert shares.sum() == n_shares
    assert (shares >= 1).all()
    assert (shares <= limits).all()


def test_shares_are_proportional():
    assert list(share_out(10, np.array([50, 30, 20]), np.array([50, 30, 20]))) == [5, 3, 2]


@pytest.mark.parametrize("estimator", [KMeans(3), HierarchicalKMeans(3)])
def test_values_that_are_not_finite_are_refused(estimator):
    features = smooth_features(brain())
    features[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        estimator.fit(features)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_voxels_that_scikit_learn_cannot_tell_apart_still_make_as_many_parcels():
    """Its distances lose differences that are small against the largest; copies must stay together all the same."""
    values = np.append(1e-3 * np.arange(8), 1e6)
    features = np.repeat([values, values], 2, axis=1).astype(np.float32)
    assert len(np.unique(SklearnKMeans(9, n_init=1, random_state=0).fit(features.T).labels_)) < 9
    for estimator in (KMeans(9), HierarchicalKMeans(9)):
        np.testing.assert_array_equal(estimator.fit(features).labels_, np.repeat(np.arange(9), 2))


def test_copies_stay_together_when_empty_clusters_are_filled():
    features = np.repeat(np.random.default_rng(0).normal(size=(5, 4)), 6, axis=1)
    for estimator in (KMeans(4), HierarchicalKMeans(4)):
        np.testing.assert_array_equal(estimator.fit(features).labels_, np.repeat(np.arange(4), 6))


def test_zeros_of_both_signs_are_the_same():
    assert count_distinct_rows(np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, 2.0]])) == 2
