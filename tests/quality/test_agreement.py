from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.quality.agreement import agreement, within_and_between
from bids_parcellate.numerics.quality.stability import StabilityMap

labelings = hnp.arrays(np.int32, 30, elements=st.integers(1, 5))


@given(labelings, labelings)
@settings(deadline=None, max_examples=80)
def test_rand_and_mutual_information_are_those_of_scikit_learn(first, second):
    result = agreement(first, second)
    assert result.adjusted_rand == pytest.approx(adjusted_rand_score(first, second), abs=1e-12)
    expected = normalized_mutual_info_score(first, second)
    if len(np.unique(first)) > 1 or len(np.unique(second)) > 1:
        assert result.normalized_mutual_information == pytest.approx(expected, abs=1e-9)
    else:
        assert result.normalized_mutual_information == 1


@given(hnp.arrays(np.int32, 25, elements=st.integers(0, 4)), hnp.arrays(np.int32, 25, elements=st.integers(0, 4)))
@settings(deadline=None, max_examples=40)
def test_dice_is_that_of_the_best_of_all_matchings(first, second):
    result = agreement(np.append(first, 4), np.append(second, 4))
    one, other = np.append(first, 4), np.append(second, 4)

    def dice(a, b):
        return 2 * np.sum((one == a) & (other == b)) / max(np.sum(one == a) + np.sum(other == b), 1)

    best = max(sum(dice(a, b) for a, b in zip(range(1, 5), p, strict=True)) for p in permutations(range(1, 5)))
    assert result.dice.sum() == pytest.approx(best)
    for parcel, (partner, value) in enumerate(zip(result.partner, result.dice, strict=True), start=1):
        assert value == pytest.approx(dice(parcel, partner) if partner else 0)


def test_voxels_without_a_parcel_do_not_count_in_the_indices():
    first, second = np.array([1, 1, 2, 2, 0, 3]), np.array([2, 2, 1, 1, 1, 0])
    result = agreement(first, second)
    assert (result.adjusted_rand, result.normalized_mutual_information) == (1, 1)
    np.testing.assert_array_equal(result.partner, [2, 1, 0])
    np.testing.assert_allclose(result.dice, [1, 0.8, 0])


def test_different_voxels_are_refused():
    with pytest.raises(UsageError, match="3 and 4 voxels"):
        agreement(np.ones(3, dtype=int), np.ones(4, dtype=int))


def test_within_and_between_participants():
    one, other = np.repeat([1, 2, 3], 10), np.tile([1, 2, 3], 10)
    result = within_and_between([one, other, one, other], ["a", "b", "a", "b"])
    np.testing.assert_allclose(result.within, 1)
    np.testing.assert_allclose(result.between, adjusted_rand_score(one, other))
    assert result.difference == pytest.approx(1 - adjusted_rand_score(one, other))
    with pytest.raises(UsageError, match="one name each"):
        within_and_between([one], ["a", "b"])


def test_stability_is_the_share_of_fits_in_which_a_voxel_keeps_its_parcel():
    stability = StabilityMap(np.array([1, 1, 1, 2, 2, 2, 0]))
    stability.add(np.array([2, 2, 2, 1, 1, 1, 1]))  # other numbers, same parcels
    stability.add(np.array([1, 1, 2, 2, 2, 2, 1]))  # one voxel moved
    stability.add(np.array([1, 1, 1, 3, 3, 2, 0]))  # a parcel too many
    stability.add(np.array([1, 1, 1, 0, 2, 2, 0]))  # a voxel missing
    np.testing.assert_allclose(stability.share, [1, 1, 3 / 4, 1, 1, 3 / 4, np.nan])
