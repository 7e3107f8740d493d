import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage, sparse
from sklearn.feature_extraction.image import grid_to_graph

from bids_parcellate.graph import connected_pieces, edges, scattered_labels, voxel_adjacency

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
