"""Against brute force, and on cases with a known answer."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.matching import match_labels, nested_parents, renumber, spatial_order

voxels = st.integers(1, 40)


def random_labels(n_voxels, n_labels, seed, *, holes=False):
    return np.random.default_rng(seed).integers(-1 if holes else 0, n_labels, n_voxels)


def best_overlap(labels, reference):
    """Try every one-to-one assignment."""
    n_labels, n_reference = labels.max() + 1, reference.max() + 1
    pad = max(n_labels, n_reference)
    counts = np.zeros((pad, pad), dtype=int)
    np.add.at(counts, (labels, reference), 1)
    return max(counts[np.arange(pad), order].sum() for order in permutations(range(pad)))


@given(voxels, st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_no_assignment_keeps_more_voxels(n_voxels, n_labels, n_reference, seed):
    labels, reference = random_labels(n_voxels, n_labels, seed), random_labels(n_voxels, n_reference, seed + 1)
    match = match_labels(labels, reference)
    assert np.count_nonzero(match.apply(labels) == reference) == best_overlap(labels, reference)


@given(voxels, st.integers(1, 8), st.integers(1, 8), st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_numbers_are_distinct_and_dice_is_right(n_voxels, n_labels, n_reference, seed):
    labels = random_labels(n_voxels, n_labels, seed, holes=True)
    reference = random_labels(n_voxels, n_reference, seed + 1, holes=True)
    match = match_labels(labels, reference)
    assert len(set(match.numbers)) == len(match.numbers) == labels.max() + 1
    for label, (number, dice) in enumerate(zip(match.numbers, match.dice, strict=True)):
        mine, other = labels == label, reference == number
        assert dice == pytest.approx(2 * (mine & other).sum() / (mine.sum() + other.sum()) if mine.any() else 0)
        if dice == 0:
            assert number > reference.max()


def test_a_permutation_is_undone():
    reference = np.repeat(np.arange(6), [3, 9, 4, 5, 2, 7])
    shuffled = np.random.default_rng(0).permutation(6)[reference]
    match = match_labels(shuffled, reference)
    np.testing.assert_array_equal(match.apply(shuffled), reference)
    np.testing.assert_array_equal(match.dice, 1)


def test_more_parcels_than_the_reference_has_get_the_next_numbers():
    reference = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    labels = np.array([2, 2, 2, 1, 0, 0, 0, 3])
    match = match_labels(labels, reference)
    np.testing.assert_array_equal(match.numbers, [1, 2, 0, 3])
    np.testing.assert_allclose(match.dice, [6 / 7, 0, 6 / 7, 0])


def test_fewer_parcels_than_the_reference_has_leave_numbers_unused():
    match = match_labels(np.array([0, 0, 1, 1]), np.array([2, 2, 1, 0]))
    np.testing.assert_array_equal(match.numbers, [2, 0])


def test_no_parcel_stays_no_parcel():
    labels = np.array([-1, 0, 1, -1])
    np.testing.assert_array_equal(match_labels(labels, np.array([0, 1, 0, -1])).apply(labels), [-1, 1, 0, -1])


def test_labels_of_other_voxels_are_refused():
    with pytest.raises(UsageError, match=r"\(3,\).*\(4,\)"):
        match_labels(np.zeros(3, dtype=int), np.zeros(4, dtype=int))


@given(voxels, st.integers(1, 8), st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_nested_parcels_have_one_parent_that_holds_them_whole(n_voxels, n_fine, seed):
    fine = random_labels(n_voxels, n_fine, seed)
    parent_of = np.random.default_rng(seed).integers(0, 3, n_fine)
    found = nested_parents(fine, parent_of[fine])
    present = np.unique(fine)
    np.testing.assert_array_equal(found.parents[present], parent_of[present])
    np.testing.assert_array_equal(found.shares[present], 1)


def test_of_a_parcel_that_is_split_the_larger_part_decides():
    found = nested_parents(np.array([0, 0, 0, 1, 1, 2, 2]), np.array([1, 1, 0, 0, 1, -1, -1]))
    np.testing.assert_array_equal(found.parents, [1, 0, -1])
    np.testing.assert_allclose(found.shares, [2 / 3, 1 / 2, 0])


class TestSpatialOrder:
    coordinates = np.array(
        [[-30, 40, 0], [-20, 40, 0], [25, -60, 10], [25, 50, 10], [-2, 0, 0], [2, 0, 0], [-40, -70, 0]], dtype=float
    )
    labels = np.array([3, 3, 0, 1, 2, 2, 4])

    def test_left_right_both_and_from_front_to_back(self):
        np.testing.assert_array_equal(spatial_order(self.labels, self.coordinates), [3, 2, 4, 0, 1])

    def test_it_does_not_depend_on_the_labels_that_come_in(self):
        expected = renumber(self.labels, spatial_order(self.labels, self.coordinates))
        other = np.array([4, 2, 0, 1, 3])[self.labels]
        np.testing.assert_array_equal(renumber(other, spatial_order(other, self.coordinates)), expected)

    def test_voxels_outside_parcels_do_not_count(self):
        labels, coordinates = np.append(self.labels, -1), np.vstack([self.coordinates, [-90, 90, 90]])
        expected = spatial_order(self.labels, self.coordinates)
        np.testing.assert_array_equal(spatial_order(labels, coordinates), expected)
