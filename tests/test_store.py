from dataclasses import replace

import numpy as np
import pytest

from bids_parcellate.io.store import ReductionStore
from bids_parcellate.numerics.reduction import reduce_signals
from bids_parcellate.numerics.run_reduction import RunReduction, Units

DIGEST = "ab" * 32


@pytest.fixture
def run():
    signals = np.random.default_rng(0).normal(size=(20, 50)).astype(np.float32)
    units = Units(*np.random.default_rng(1).normal(size=(3, 50)).astype(np.float32))
    return RunReduction(reduce_signals(signals, 5), np.arange(0, 100, 2), units, np.arange(25) > 4, mean_fd=0.12)


def test_loading_gives_what_was_saved(tmp_path, run):
    store = ReductionStore(tmp_path)
    store.save(DIGEST, run)
    loaded = store.load(DIGEST)
    largest = np.abs(run.signals.components).max(axis=1, keepdims=True)
    assert (np.abs(loaded.signals.components - run.signals.components) <= 0.51 * largest / 32767).all()
    np.testing.assert_array_equal(loaded.signals.singular_values, run.signals.singular_values)
    np.testing.assert_array_equal(loaded.voxels, run.voxels)
    np.testing.assert_array_equal(store.load_voxels(DIGEST), run.voxels)
    np.testing.assert_array_equal(loaded.kept, run.kept)
    np.testing.assert_array_equal(loaded.signals.time_courses, run.signals.time_courses)
    np.testing.assert_array_equal(loaded.units.before, run.units.before)
    np.testing.assert_array_equal(loaded.units.deviation, run.units.deviation)
    assert loaded.mean_fd == run.mean_fd
    assert loaded.signals.n_volumes == 20
    assert loaded.signals.total_variance == run.signals.total_variance


@pytest.mark.parametrize("share_of_spike", [0, 0.9, 1])
def test_signals_that_were_saved_are_exact_to_a_ten_thousandth(tmp_path, share_of_spike):
    """Also where a component is of one voxel, and all others of its values are small."""
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(200, 3000)) + 3 * rng.normal(size=(200, 20)) @ rng.normal(size=(20, 3000))
    signals[:, 7] += share_of_spike * 1e4 * (np.arange(200) == 50)
    scores = ((signals - signals.mean(axis=0)) / signals.std(axis=0)).astype(np.float32)
    run = RunReduction(reduce_signals(scores, 200), np.arange(3000), None, np.ones(200, dtype=bool))
    store = ReductionStore(tmp_path)
    store.save(DIGEST, run)
    loaded = store.load(DIGEST).signals
    error = (loaded.time_courses * loaded.singular_values) @ loaded.components - scores
    assert 1e-6 < np.sqrt(np.square(error).mean(axis=0)).max() < 1.3e-4


def test_bytes_are_always_the_same(tmp_path, run):
    first, second = (ReductionStore(tmp_path / name).save(DIGEST, run).read_bytes() for name in "ab")
    assert first == second


def test_what_is_not_there_is_none(tmp_path):
    assert ReductionStore(tmp_path).load(DIGEST) is None


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_damaged_file_counts_as_none_and_is_logged(tmp_path, run, share, caplog):
    path = ReductionStore(tmp_path).save(DIGEST, run)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert ReductionStore(tmp_path).load(DIGEST) is None
    assert str(path) in caplog.text


def test_a_flipped_bit_is_seen(tmp_path, run):
    path = ReductionStore(tmp_path).save(DIGEST, run)
    content = bytearray(path.read_bytes())
    content[content.index(run.signals.time_courses.tobytes()) + 100] ^= 1
    path.write_bytes(content)
    assert ReductionStore(tmp_path).load(DIGEST) is None


@pytest.mark.parametrize(
    ("before", "after"), [(b"components.steps", b"components.stepz"), (b"'<i2'", b"'<U2'"), (b"'<i2'", b"'<M8'")]
)
def test_a_changed_byte_in_a_name_or_type_is_seen(tmp_path, run, before, after):
    path = ReductionStore(tmp_path).save(DIGEST, run)
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after))
    assert ReductionStore(tmp_path).load(DIGEST) is None


def test_what_is_no_zscores_has_no_units(tmp_path, run):
    store = ReductionStore(tmp_path)
    store.save(DIGEST, replace(run, units=None))
    assert store.load(DIGEST).units is None
