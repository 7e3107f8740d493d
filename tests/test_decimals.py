import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bids_parcellate.numerics.decimals import plain_text_of_row, text_of_rows

short = st.builds(lambda digits, power: float(f"{digits}e{power}"), st.integers(-(10**9), 10**9), st.integers(-14, 3))
values = st.one_of(st.floats(), st.floats(-2e6, 2e6), short, st.just(0.0), st.just(np.nan))


@settings(deadline=None, max_examples=500)
@given(npst.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 4)), elements=values))
def test_text_is_what_python_writes(numbers):
    expected = ["\t".join(f"{value:.7g}" for value in row).replace("nan", "n/a") for row in numbers.tolist()]
    assert text_of_rows(numbers) == expected
    assert [plain_text_of_row(row) for row in numbers] == expected


def test_ties_powers_of_ten_and_single_precision():
    rng = np.random.default_rng(0)
    ties = (rng.integers(10**6, 10**7, size=(50, 20)) + 0.5) / 10.0 ** rng.integers(1, 11, size=(50, 20))
    powers = 10.0 ** np.arange(-9, 9, dtype=np.float64)
    around = np.stack([np.nextafter(powers, 0), powers, np.nextafter(powers, np.inf), powers - powers * 1e-8])
    for numbers in (ties, around, -around, rng.normal(size=(20, 30)).astype(np.float32)):
        expected = ["\t".join(f"{value:.7g}" for value in row) for row in numbers.tolist()]
        assert text_of_rows(numbers) == expected


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_empty_tables(shape):
    assert text_of_rows(np.empty(shape)) == [""] * shape[0]
