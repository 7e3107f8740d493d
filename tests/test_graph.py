import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage, sparse
from sklearn.feature_extraction.image import grid_to_graph

from bids_parcellate.numerics.graph import (
    connected_pieces,
    edges,
    from_edges,
    hemispheres,
    scattered_labels,
    separate,
    voxel_adjacency,
)

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6), elements=st.booleans())


@given(masks)
@settings(deadline=None, max_examples=60)
def test_adjacency_is_that_of_scikit_learn_without_the_diagonal(mask):
    if not mask.any():
        return
    adjacency = voxel_adjacency(mask)
    expected = grid_to_graph(*mask.shape, mask=mask).toarray().astype(bool)
    np.fill_diagonal(expected, False)
    np.testing.assert_array_equal(adjacency.toarray().astype(bool), expected)
    assert adjacency.nnz == expected.sum()


@given(masks)
@settings(deadline=None, max_examples=60)
def test_pieces_are_those_of_scipy(mask):
    if not mask.any():
        return
    n_pieces, labels = connected_pieces(voxel_adjacency(mask))
    expected, n_expected = ndimage.label(mask)
    assert n_pieces == n_expected
    assert len(set(zip(labels, expected[mask], strict=True))) == n_expected


def test_edges_are_listed_once():
    mask = np.ones((3, 4, 2), dtype=bool)
    adjacency = voxel_adjacency(mask)
    pairs = edges(adjacency)
    assert len(pairs) == adjacency.nnz / 2
    assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs)
    assert all(adjacency[i, j] for i, j in pairs)


@pytest.mark.parametrize(("labels", "scattered"), [([0, 0, 1, 1], []), ([0, 1, 0, 1], [0, 1]), ([2, 2, 1, 2], [2])])
def test_scattered_labels(labels, scattered):
    adjacency = voxel_adjacency(np.ones((4, 1, 1), dtype=bool))
    np.testing.assert_array_equal(scattered_labels(np.array(labels), adjacency), scattered)


def test_a_slice_and_a_volume_of_one_slice_are_the_same():
    mask = np.random.default_rng(0).random((6, 5)) > 0.3
    flat, thin = voxel_adjacency(mask[:, :, None]), voxel_adjacency(mask[None])
    np.testing.assert_array_equal(flat.toarray(), thin.toarray())
    assert flat.shape == (mask.sum(), mask.sum())


def test_an_edge_may_be_given_in_either_direction():
    adjacency = np.zeros((3, 3))
    adjacency[0, 2] = adjacency[2, 0] = adjacency[1, 0] = adjacency[1, 1] = 1
    np.testing.assert_array_equal(edges(sparse.coo_array(adjacency)), [[1, 0], [2, 0]])


def test_a_graph_from_edges_is_the_one_they_were_listed_from():
    adjacency = voxel_adjacency(np.random.default_rng(0).random((4, 4, 3)) > 0.3)
    again = from_edges(edges(adjacency), adjacency.shape[0])
    np.testing.assert_array_equal((again + again.T).toarray(), adjacency.toarray())


def test_no_edge_joins_two_groups_and_all_others_stay():
    mask = np.ones((4, 3, 2), dtype=bool)
    groups = np.random.default_rng(0).integers(0, 3, 24)
    expected = voxel_adjacency(mask).toarray() & (groups[:, None] == groups)
    np.testing.assert_array_equal(separate(voxel_adjacency(mask), groups).toarray(), expected)


class TestHemispheres:
    def test_the_sign_of_x_decides(self):
        mask = np.ones((4, 2, 2), dtype=bool)
        x = np.repeat([-3.0, -1.0, 0.0, 2.0], 4)
        np.testing.assert_array_equal(hemispheres(x, voxel_adjacency(mask)), x >= 0)

    def test_a_fragment_goes_to_the_side_that_it_hangs_on_to(self):
        mask = np.zeros((4, 5, 1), dtype=bool)
        mask[:2, :3] = mask[2:, :] = True  # on the left y 3 and 4 are missing ...
        mask[1, 4] = True  # ... but for one voxel, which touches the right only
        x = np.argwhere(mask)[:, 0] - 1.5
        side = hemispheres(x, voxel_adjacency(mask), min_size=2)
        moved = side != (x >= 0)
        assert np.argwhere(mask)[moved].tolist() == [[1, 4, 0]]
        np.testing.assert_array_equal(hemispheres(x, voxel_adjacency(mask)), x >= 0)

    def test_a_small_piece_of_the_mask_on_its_own_stays(self):
        mask = np.zeros((5, 3, 1), dtype=bool)
        mask[0, 0] = True
        mask[2:] = True
        x = np.argwhere(mask)[:, 0] - 1.0
        np.testing.assert_array_equal(hemispheres(x, voxel_adjacency(mask), min_size=4), x >= 0)

    @given(masks, st.integers(1, 6))
    @settings(deadline=None, max_examples=60)
    def test_no_small_fragment_is_left_that_touches_the_other_side(self, mask, min_size):
        if not mask.any():
            return
        adjacency = voxel_adjacency(mask)
        side = hemispheres(np.argwhere(mask)[:, 0] - mask.shape[0] / 2, adjacency, min_size=min_size)
        _, fragment = connected_pieces(separate(adjacency, side))
        _, piece = connected_pieces(adjacency)
        sizes, whole = np.bincount(fragment)[fragment], np.bincount(piece)[piece]
        assert ((sizes >= min_size) | (sizes == whole)).all()
