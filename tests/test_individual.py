import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.graph import edges, scattered_labels, voxel_adjacency
from bids_parcellate.numerics.individual import individual_parcels
from bids_parcellate.numerics.quality.agreement import agreement, within_and_between
from bids_parcellate.numerics.simulation.brain import grow_parcels, make_brain, smooth_field, warp_parcels


def record(mask, truth, rng, *, noise=2.0, n_volumes=80):
    """Simulate a session of a participant."""
    fields = np.stack([smooth_field(mask.shape, 0.7, rng)[mask] for _ in range(n_volumes)])
    run = rng.normal(size=(n_volumes, truth.max()))[:, truth - 1] + noise * fields
    return (run - run.mean(axis=0)) / run.std(axis=0)


@pytest.fixture(scope="module")
def people():
    """Three participants whose boundaries are shifted, in two sessions each."""
    rng = np.random.default_rng(0)
    mask = make_brain(8.0).mask
    group = grow_parcels(mask, 25, rng)
    truths = [warp_parcels(group, 1.0, rng)[mask] for _ in range(3)]
    sessions = [[record(mask, truth, rng) for _ in range(2)] for truth in truths]
    return group[mask], voxel_adjacency(mask), truths, sessions


def test_parcels_are_nearer_to_the_participants_own_than_the_groups(people):
    group, adjacency, truths, sessions = people
    for truth, (first, second) in zip(truths, sessions, strict=True):
        result = individual_parcels(np.concatenate([first, second]), group, adjacency)
        assert result.converged
        before, after = agreement(group, truth).adjusted_rand, agreement(result.labels, truth).adjusted_rand
        assert 1 - after < 0.4 * (1 - before)


def test_a_participant_resembles_himself_more_than_others(people):
    group, adjacency, _, sessions = people
    labelings = [individual_parcels(one, group, adjacency).labels for both in sessions for one in both]
    result = within_and_between(labelings, ["a", "a", "b", "b", "c", "c"])
    assert result.within.min() > result.between.max() + 0.05


def objective(features, labels, group, adjacency, prior_weight, smoothness):
    rows = features / np.linalg.norm(features, axis=0)
    lengths = [np.linalg.norm(rows[:, labels == label].sum(axis=1)) for label in np.unique(labels)]
    one, other = labels[edges(adjacency).T]
    return sum(lengths) + prior_weight * (labels == group).sum() - smoothness * (one != other).sum()


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=10)
def test_no_single_move_improves_what_is_maximized(seed):
    rng = np.random.default_rng(seed)
    mask = np.ones((5, 5, 4), dtype=bool)
    group, adjacency = grow_parcels(mask, 5, rng)[mask], voxel_adjacency(mask)
    features = rng.normal(size=(6, 100)) + rng.normal(size=(6, 6))[:, group]
    weights = {"prior_weight": 0.15, "smoothness": 0.05}
    found = individual_parcels(features, group, adjacency, **weights).labels
    reached = objective(features, found, group, adjacency, **weights)
    assert reached >= objective(features, group, group, adjacency, **weights) - 1e-9
    for voxel in range(100):
        for parcel in set(found[adjacency[[voxel]].indices]) - {found[voxel]}:
            moved = found.copy()
            moved[voxel] = parcel
            if len(set(moved)) == 5 and not scattered_labels(moved, adjacency).size:
                assert objective(features, moved, group, adjacency, **weights) <= reached + 1e-5


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_all_parcels_stay_contiguous_whatever_the_features(seed):
    rng = np.random.default_rng(seed)
    mask = np.ones((7, 6, 5), dtype=bool)
    group = grow_parcels(mask, 12, rng)[mask]
    group[rng.choice([0, 1], 210, p=[0.98, 0.02]).astype(bool) & (group == 1)] = 0
    group = np.where(np.isin(group, scattered_labels(group, voxel_adjacency(mask))), 0, group)
    result = individual_parcels(
        rng.normal(size=(8, 210)), group, voxel_adjacency(mask), prior_weight=0, smoothness=0, max_sweeps=5
    )
    np.testing.assert_array_equal(np.unique(result.labels), np.unique(group))
    np.testing.assert_array_equal(result.labels == 0, group == 0)
    scattered = scattered_labels(result.labels, voxel_adjacency(mask))
    assert not (scattered > 0).any()


def test_the_prior_decides_where_there_is_nothing_else(people):
    group, adjacency, _, sessions = people
    features = sessions[0][0]
    assert individual_parcels(features, group, adjacency, prior_weight=10).n_moved == 0
    missing = np.zeros_like(features)
    result = individual_parcels(missing, group, adjacency)
    assert result.n_moved == 0
    assert result.converged


def test_bad_input_is_refused(people):
    group, adjacency, _, sessions = people
    with pytest.raises(UsageError, match="negative"):
        individual_parcels(sessions[0][0], group, adjacency, prior_weight=-1)
    torn = group.copy()
    torn[[0, -1]] = 3
    with pytest.raises(DataError, match="not contiguous"):
        individual_parcels(sessions[0][0], torn, adjacency)
