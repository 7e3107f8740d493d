"""Clustering, given the same features: trees, ReNA, k-means."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from benchmarks.measure import alternate, step
from benchmarks.phantom import Size, brain_mask, once
from benchmarks.results import Comparison, Figure, Outcome
from benchmarks.settings import Settings
from bids_parcellate.numerics.graph import voxel_adjacency
from bids_parcellate.numerics.simulation.brain import grow_parcels, make_brain
from bids_parcellate.numerics.smoothing import smooth_volume

_N_FEATURES, _TINY_N_FEATURES = 200, 30
_FWHM = 6.0  # of the noise, mm
_NOISE = 0.7  # its standard deviation, that of the parcels' features being 1
_MOST_OF_NILEARN = 150  # its hierarchical k-means gives at most as many clusters as there are features

Results = dict[str, Any]


def tree(linkage: str, settings: Settings) -> Outcome:
    """Grow the whole tree of a linkage, at 3 and at 2 mm, and cut it into parcels."""
    at_3_mm = _tree(linkage, settings, settings.mm3, _n_features(settings))
    target = "CPU >= 10x" if linkage == "ward" else ""
    at_2_mm = _tree(linkage, settings, settings.mm2, _n_features(settings), target)
    return Outcome(at_3_mm.comparisons + at_2_mm.comparisons, at_3_mm.figures + at_2_mm.figures)


def large_tree(settings: Settings) -> Outcome:
    """Grow the tree of ward on a million voxels of few features, which scikit-learn needs minutes for."""
    size = settings.mm2 if settings.tiny else Size(1.0, 1_000_000, 0, 1000)
    return _tree("ward", settings, size, 10)


def _tree(linkage: str, settings: Settings, size: Size, n_features: int, target: str = "") -> Outcome:
    folder = _features(settings, size, n_features)
    arguments = (linkage, size.n_parcels)
    peers = step("clustering:ours", folder, *arguments), step("clustering:sklearn_tree", folder, *arguments)
    ours, theirs = alternate(peers, min(settings.repeats, 2))
    found, expected = (np.load(peer.results)["labels"] for peer in peers)
    title = f"{linkage} tree, {_title(folder)}"
    agreement = float(adjusted_rand_score(expected, found))
    name = f"{title}: adjusted Rand index to scikit-learn"
    return Outcome(
        [Comparison(title, "scikit-learn", ours, theirs, target)],
        [Figure(name, agreement, "", agreement == 1, "1: the same labels")],
    )


def rena(settings: Settings) -> Outcome:
    """Run ReNA to a tenth of the voxels, at 3 and at 2 mm."""
    comparisons, figures = [], []
    for size in (settings.mm3, settings.mm2):
        arguments = ("rena", size.n_voxels // 10)
        target = "CPU >= 10x" if size == settings.mm2 else ""
        outcome = _by_inertia(settings, size, "nilearn ReNA", "clustering:nilearn_rena", arguments, target)
        comparisons += outcome.comparisons
        figures += outcome.figures
    return Outcome(comparisons, figures)


def kmeans(settings: Settings) -> Outcome:
    """Run k-means, at 3 mm, against what nilearn uses."""
    size = settings.mm3
    peer = "MiniBatchKMeans as nilearn calls it"
    return _by_inertia(settings, size, peer, "clustering:mini_batch_kmeans", ("kmeans", size.n_parcels))


def hierarchical_kmeans(settings: Settings) -> Outcome:
    """Run two-level k-means, at 3 mm, for as many clusters as nilearn can give."""
    size = settings.mm3
    arguments = ("hierarchical_kmeans", min(_MOST_OF_NILEARN, size.n_parcels))
    return _by_inertia(settings, size, "nilearn HierarchicalKMeans", "clustering:nilearn_hkmeans", arguments)


TREES = {f"{linkage}-tree": partial(tree, linkage) for linkage in ("ward", "average", "complete")}


def _by_inertia(
    settings: Settings, size: Size, peer: str, target: str, arguments: tuple[str, int], aim: str = ""
) -> Outcome:
    """Compare methods that need not give the same labels: the sum of squares within clusters must not be larger."""
    method, n_clusters = arguments
    folder = _features(settings, size, _n_features(settings))
    peers = step("clustering:ours", folder, *arguments), step(target, folder, n_clusters)
    ours, theirs = alternate(peers, min(settings.repeats, 2))
    features = np.load(folder / "features.npy")
    labels = [np.load(peer.results)["labels"] for peer in peers]
    ratio = _inertia(features, labels[0]) / _inertia(features, labels[1])
    n_found, n_theirs = (len(np.unique(each)) for each in labels)
    most = 1.2 if settings.tiny else 1.01  # chance counts for more among few clusters
    title = f"{method} into {n_clusters:,}, {_title(folder)}"
    return Outcome(
        [Comparison(title, peer, ours, theirs, aim)],
        [
            Figure(f"{title}: inertia against {peer}", ratio, "x", ratio <= most, f"<= {most}"),
            Figure(f"{title}: number of clusters", n_found, "", n_found == n_clusters, f"{peer}: {n_theirs:,}"),
        ],
    )


def _inertia(features: NDArray[np.float32], labels: NDArray[np.integer]) -> float:
    """Sum of squares within clusters."""
    sizes = np.bincount(labels)
    within = 0.0
    for row in features.astype(np.float64):
        sums = np.bincount(labels, weights=row)
        within += row @ row - np.sum(np.divide(sums**2, sizes, out=np.zeros_like(sums), where=sizes > 0))
    return float(within)


def _title(folder: Path) -> str:
    n_features, n_voxels = np.load(folder / "features.npy", mmap_mode="r").shape
    return f"{n_voxels:,} voxels x {n_features}"


def _n_features(settings: Settings) -> int:
    return _TINY_N_FEATURES if settings.tiny else _N_FEATURES


def _features(settings: Settings, size: Size, n_features: int) -> Path:
    folder = settings.work / f"features-{size.n_voxels}x{n_features}"
    return once(folder, lambda path: _make_features(path, size, n_features))


def _make_features(folder: Path, size: Size, n_features: int) -> None:
    """Draw features as reductions give them: those of parcels, smooth noise, and weights that fall off."""
    rng = np.random.default_rng(0)
    brain = make_brain(size.voxel_size)
    mask = brain_mask(brain, size.n_voxels)
    truth = grow_parcels(mask, size.n_parcels, rng)[mask] - 1
    features = rng.standard_normal((n_features, size.n_parcels), dtype=np.float32)[:, truth]
    for i in range(n_features):
        noise = smooth_volume(rng.standard_normal(brain.shape, dtype=np.float32), [size.voxel_size] * 3, _FWHM)[mask]
        features[i] += _NOISE * noise / noise.std()
    features /= np.sqrt(1 + np.arange(n_features, dtype=np.float32)[:, np.newaxis] / 5)
    np.save(folder / "features.npy", features)
    np.save(folder / "mask.npy", mask)


# The steps that run in processes of their own.


def _load(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    return np.load(folder / "features.npy"), np.load(folder / "mask.npy")


def ours(folder: Path, method: str, n_clusters: str) -> Callable[[], Results]:
    """Cluster with our own estimators."""
    from bids_parcellate.numerics.cluster.estimators import make_clusterer  # noqa: PLC0415 -- each process imports only what it measures

    features, mask = _load(folder)
    estimator = make_clusterer(method, int(n_clusters), adjacency=voxel_adjacency(mask))
    return lambda: {"labels": estimator.fit(features).labels_}


def sklearn_tree(folder: Path, linkage: str, n_clusters: str) -> Callable[[], Results]:
    """Grow the tree with scikit-learn."""
    from scipy.sparse import csr_matrix  # noqa: PLC0415
    from sklearn.cluster import AgglomerativeClustering  # noqa: PLC0415

    features, mask = _load(folder)
    graph = csr_matrix(voxel_adjacency(mask))
    estimator = AgglomerativeClustering(int(n_clusters), linkage=linkage, connectivity=graph, compute_full_tree=True)
    return lambda: {"labels": estimator.fit(features.T).labels_}


def nilearn_rena(folder: Path, n_clusters: str) -> Callable[[], Results]:
    """Run nilearn's ReNA."""
    from nilearn.regions import ReNA  # noqa: PLC0415

    features, mask = _load(folder)
    estimator = ReNA(nib.Nifti1Image(mask.astype(np.uint8), np.eye(4)), n_clusters=int(n_clusters))
    return lambda: {"labels": estimator.fit(features).labels_}


def mini_batch_kmeans(folder: Path, n_clusters: str) -> Callable[[], Results]:
    """Run mini-batch k-means with the parameters that nilearn's Parcellations gives it."""
    from sklearn.cluster import MiniBatchKMeans  # noqa: PLC0415

    features, _ = _load(folder)
    estimator = MiniBatchKMeans(int(n_clusters), init="k-means++", n_init=3, random_state=0)
    return lambda: {"labels": estimator.fit(features.T).labels_}


def nilearn_hkmeans(folder: Path, n_clusters: str) -> Callable[[], Results]:
    """Run nilearn's hierarchical k-means with the parameters that its Parcellations gives it."""
    from nilearn.regions import HierarchicalKMeans  # noqa: PLC0415

    features, _ = _load(folder)
    return lambda: {"labels": HierarchicalKMeans(int(n_clusters), random_state=0).fit(features).labels_}
