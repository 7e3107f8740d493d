"""Against a plain reference, and against nilearn where nilearn is right."""

import nibabel as nib
import numpy as np
import pytest
from nilearn.regions import ReNA as NilearnReNA
from sklearn.metrics import adjusted_rand_score

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.cluster.estimators import ReNA
from bids_parcellate.numerics.graph import connected_pieces, edges, scattered_labels, voxel_adjacency
from tests.cluster.simulation import brain, graph_of, smooth_features


def plain_rena(features, pairs, n_clusters):
    """Merge each cluster with its nearest neighbour; in the last pass only as often as needed, shortest first."""
    labels = np.arange(features.shape[1])
    while (n_left := len(np.unique(labels))) > n_clusters:
        means = {label: features[:, labels == label].mean(axis=1) for label in np.unique(labels)}
        borders = {tuple(sorted((labels[i], labels[j]))) for i, j in pairs if labels[i] != labels[j]}
        lengths = {pair: np.sum((means[pair[0]] - means[pair[1]]) ** 2) for pair in borders}
        nearest = {}
        for pair in sorted(borders, key=lengths.get):
            for end in pair:
                nearest.setdefault(end, pair)
        for pair in sorted(set(nearest.values()), key=lengths.get)[: n_left - n_clusters]:
            labels = _joined(labels, pair, nearest)
    return labels


def _joined(labels, pair, parents):
    """Join two clusters, which may have been joined with others in this pass."""
    first, second = (parents.setdefault(("now", end), end) for end in pair)
    while parents.get(("now", first), first) != first:
        first = parents["now", first]
    while parents.get(("now", second), second) != second:
        second = parents["now", second]
    parents["now", second] = first
    return np.where(labels == second, first, labels)


@pytest.mark.parametrize("n_clusters", [1, 7, 30, 100])
def test_a_plain_reference_gives_the_same(n_clusters):
    mask = brain((7, 6, 6))
    features, adjacency = smooth_features(mask), graph_of(mask)
    labels = ReNA(n_clusters, connectivity=adjacency).fit(features).labels_
    assert adjusted_rand_score(plain_rena(features, edges(adjacency), n_clusters), labels) == 1


def nilearn_labels(features, mask, n_clusters, **options):
    mask_img = nib.Nifti1Image(mask.astype(np.int8), np.eye(4))
    with np.errstate(divide="ignore"):  # it divides by lengths that are zero
        return NilearnReNA(mask_img, n_clusters=n_clusters, **options).fit(features).labels_


def test_a_pass_is_that_of_nilearn():
    mask = brain((10, 10, 8))
    features = smooth_features(mask)
    expected = nilearn_labels(features, mask, 2, n_iter=1)
    labels = ReNA(len(np.unique(expected)), connectivity=graph_of(mask)).fit(features).labels_
    assert adjusted_rand_score(expected, labels) == 1


def test_the_last_pass_makes_the_shortest_merges():
    """nilearn's prunes by the index of voxels: it makes the merge of length 9 before that of length 1."""
    mask = np.ones((6, 1, 1), dtype=bool)
    adjacency = voxel_adjacency(mask)
    features = np.array([[0.0, 3.0, 100.0, 101.0, 200.0, 202.0], np.zeros(6)])
    assert list(nilearn_labels(features, mask, 5)) == [0, 0, 1, 2, 3, 4]
    assert list(ReNA(5, connectivity=adjacency).fit(features).labels_) == [0, 1, 2, 2, 3, 4]
    assert list(ReNA(4, connectivity=adjacency).fit(features).labels_) == [0, 1, 2, 2, 3, 3]


def test_twins_are_merged_first():
    """nilearn's sparse graph drops edges of length zero, so it merges twins with others."""
    mask = np.ones((12, 1, 1), dtype=bool)
    features = np.random.default_rng(0).normal(size=(5, 12))
    features[:, 1::2] = features[:, ::2]
    assert list(nilearn_labels(features, mask, 6)[:4]) == [0, 1, 1, 2]
    assert list(ReNA(6, connectivity=voxel_adjacency(mask)).fit(features).labels_[:4]) == [0, 0, 1, 1]


def test_islands_of_one_voxel():
    """nilearn's loses them when it numbers the voxels, and shifts the labels of all that follow."""
    mask = np.random.default_rng(0).random((7, 7, 7)) > 0.5
    features, adjacency = smooth_features(mask), graph_of(mask)
    n_clusters = connected_pieces(adjacency)[0] + 20
    assert len(scattered_labels(nilearn_labels(features, mask, n_clusters), adjacency)) > 0
    assert len(scattered_labels(ReNA(n_clusters, connectivity=adjacency).fit(features).labels_, adjacency)) == 0


def test_too_few_passes_are_an_error_with_numbers():
    mask = brain()
    with pytest.raises(UsageError, match=r"n_iter=1 passes ReNA has \d+ clusters, not n_clusters=2"):
        ReNA(2, connectivity=graph_of(mask), n_iter=1).fit(smooth_features(mask))


def test_each_pass_leaves_at_most_half():
    mask = brain((12, 12, 10))
    adjacency = graph_of(mask)
    assert connected_pieces(adjacency)[0] == 1
    rena = ReNA(10, connectivity=adjacency).fit(smooth_features(mask))
    assert rena.n_iter_ <= np.ceil(np.log2(mask.sum() / 10)) + 1


def test_scaling_keeps_the_norm_of_constant_parcels():
    mask = brain()
    features = smooth_features(mask)
    rena = ReNA(20, connectivity=graph_of(mask), scaling=True).fit(features)
    constant = rena.inverse_transform(rena.transform(features))
    np.testing.assert_allclose(np.linalg.norm(rena.transform(constant), axis=1), np.linalg.norm(constant, axis=1))
