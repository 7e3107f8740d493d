import numpy as np
import pytest
from scipy import ndimage

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.graph import voxel_adjacency
from bids_parcellate.numerics.quality.shape import shapes, size_distribution


def describe(volume, axes=None):
    inside = volume > 0
    axes = np.eye(3) if axes is None else axes
    return shapes(volume[inside], np.argwhere(inside), axes, voxel_adjacency(inside))


def test_cubes_rods_and_pieces():
    volume = np.zeros((12, 5, 5), dtype=int)
    volume[:4, :4, :4] = 1
    volume[:, 4, 4] = 2
    volume[6, 0, 0] = volume[9, 2, 2] = 3
    result = describe(volume)
    ball = np.sqrt(3 / 5) * np.cbrt(3 / (4 * np.pi))
    assert result.compactness[0] == pytest.approx(ball * 4 / np.sqrt(3 * 4**2 / 12))
    assert result.compactness[1] == pytest.approx(ball * np.cbrt(12) / np.sqrt((12**2 + 1 + 1) / 12))
    np.testing.assert_allclose(result.surface_to_volume, [96 / 64, 50 / 12, 6])
    np.testing.assert_array_equal(result.n_pieces, [1, 1, 2])


def test_a_ball_has_compactness_one_whatever_the_voxels():
    axes = np.array([[0, -1.0, 0], [2.0, 0, 0], [0, 0, 1.5]])
    indices = np.stack(np.meshgrid(*[np.arange(-14, 15)] * 3, indexing="ij"), axis=-1)
    ball = np.linalg.norm(indices @ axes.T, axis=-1) < 12
    result = describe(ball.astype(int), axes)
    assert result.compactness[0] == pytest.approx(1, abs=0.005)
    # Faces along the grid overestimate the surface of a ball by one half.
    assert result.surface_to_volume[0] == pytest.approx(1.5 * 3 / 12, rel=0.05)


def test_pieces_are_those_of_scipy():
    volume = np.random.default_rng(0).integers(0, 4, (8, 7, 6))
    expected = [ndimage.label(volume == label)[1] for label in (1, 2, 3)]
    np.testing.assert_array_equal(describe(volume).n_pieces, expected)


def test_sizes():
    labels = np.repeat([0, 1, 2, 4], [7, 90, 5, 5])
    result = size_distribution(labels)
    assert (result.smallest, result.median, result.largest, result.largest_share) == (5, 5, 90, 0.9)
    assert result.effective_number == pytest.approx(1 / (0.9**2 + 2 * 0.05**2))
    assert result.variation == pytest.approx(np.std([90, 5, 5]) / np.mean([90, 5, 5]))
    assert size_distribution(np.repeat([1, 2, 3], 4)).effective_number == pytest.approx(3)
    with pytest.raises(UsageError, match="no voxel"):
        size_distribution(np.zeros(3, dtype=int))
