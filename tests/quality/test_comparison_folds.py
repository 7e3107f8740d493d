import numpy as np
import pytest
from scipy import stats

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.quality.comparison import compare_with_null
from bids_parcellate.numerics.quality.folds import bootstrap, split_halves

RUNS = ["b", "a", "a", "c", "d", "e", "c", "c", "f", "g"]


def test_comparison_is_that_of_scipy():
    rng = np.random.default_rng(0)
    null, observed = rng.normal(size=99), 1.3
    result = compare_with_null(observed, null)
    assert result.mean == pytest.approx(null.mean())
    assert result.sd == pytest.approx(null.std(ddof=1))
    assert result.z == pytest.approx((1.3 - null.mean()) / null.std(ddof=1))
    assert result.percentile == pytest.approx(stats.percentileofscore(null, 1.3, kind="mean"))
    assert result.p_value == pytest.approx((np.sum(null >= 1.3) + 1) / 100)
    assert compare_with_null(9.0, null).p_value == pytest.approx(0.01)


def test_each_parcel_by_itself():
    null = np.array([[1.0, 2, np.nan, 4], [3, 2, 5, 4], [5, 2, 7, np.nan]])
    result = compare_with_null([3.0, 2, 8, np.nan], null)
    np.testing.assert_allclose(result.z, [0, np.nan, (8 - 6) / np.sqrt(2), np.nan])
    np.testing.assert_allclose(result.percentile, [50, 50, 100, np.nan])
    np.testing.assert_allclose(result.p_value, [3 / 4, 1, 1 / 3, np.nan])
    with pytest.raises(UsageError, match="at least two"):
        compare_with_null(1.0, [2.0])
    with pytest.raises(UsageError, match="same shape"):
        compare_with_null([1.0, 2], [2.0, 3])


def test_halves_and_bootstrap_samples_keep_participants_together():
    names = np.array(RUNS)
    halves = split_halves(RUNS, 5, seed=1)
    for half in halves:
        assert not set(names[half]) & set(names[~half])
        assert len(set(names[half])) == 3
    assert len({half.tobytes() for half in halves}) > 1
    np.testing.assert_array_equal([half[::-1] for half in split_halves(RUNS[::-1], 5, seed=1)], halves)
    for drawn in bootstrap(RUNS, 5):
        counts = np.bincount(drawn, minlength=len(RUNS))
        of_participants = {name: set(counts[names == name]) for name in names}
        assert all(len(values) == 1 for values in of_participants.values())
        assert sum(values.pop() for values in of_participants.values()) == 7


def test_one_participant_cannot_be_held_out():
    for divide in (split_halves, bootstrap):
        with pytest.raises(DataError, match="at least two"):
            divide(["a", "a"], 2)
