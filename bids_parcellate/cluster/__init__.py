"""Methods that cluster the voxels (features) of an array (n_samples, n_voxels) into parcels."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bids_parcellate.cluster.agglomerative import Agglomerative
from bids_parcellate.cluster.base import FeatureClusterer, FloatArray
from bids_parcellate.cluster.hierarchical_kmeans import HierarchicalKMeans
from bids_parcellate.cluster.kmeans import KMeans
from bids_parcellate.cluster.rena import ReNA
from bids_parcellate.errors import UsageError

__all__ = [
    "METHODS",
    "SPATIAL_METHODS",
    "Agglomerative",
    "FeatureClusterer",
    "HierarchicalKMeans",
    "KMeans",
    "Method",
    "ReNA",
    "make_clusterer",
    "parcellate",
]

Method = Literal["ward", "complete", "average", "kmeans", "hierarchical_kmeans", "rena"]
METHODS: tuple[Method, ...] = get_args(Method)
SPATIAL_METHODS: tuple[Method, ...] = ("ward", "complete", "average", "rena")  # their parcels are contiguous


def parcellate(
    features: FloatArray,
    method: Method,
    n_parcels: Sequence[int],
    *,
    adjacency: sparse.sparray,
    random_state: int = 0,
) -> dict[int, NDArray[np.int32]]:
    """Cluster voxels into parcels, for one or several numbers of parcels.

    Parameters
    ----------
    features : ndarray of float32 or float64, shape (n_samples, n_voxels)
        What the voxels are compared by.
    method : {"ward", "complete", "average", "kmeans", "hierarchical_kmeans", "rena"}
        How they are clustered. Ward, complete, average and ReNA give contiguous parcels. Ward, complete and average
        fit one tree, of which every parcellation is a cut.
    n_parcels : sequence of int
        Numbers of parcels.
    adjacency : sparse array, shape (n_voxels, n_voxels)
        The voxels that are neighbours; k-means methods do not use it.
    random_state : int, default=0
        Seed of the k-means methods.

    Returns
    -------
    dict of int to ndarray of int32, shape (n_voxels,)
        For each number of parcels the parcel of each voxel, numbered from 0 in the order of their first voxels.

    Raises
    ------
    UsageError
        If the method is unknown, or a number of parcels is larger than that of the voxels or, for contiguous
        parcels, smaller than the number of pieces of the mask.
    DataError
        If the data cannot be split into that many parcels.
    """
    if method in ("ward", "complete", "average"):
        tree = Agglomerative(max(n_parcels), linkage=method, connectivity=adjacency).fit(features)
        return {n: tree.cut(n) for n in n_parcels}
    clusterers = {n: make_clusterer(method, n, adjacency=adjacency, random_state=random_state) for n in n_parcels}
    return {n: clusterer.fit(features).labels_ for n, clusterer in clusterers.items()}


def make_clusterer(
    method: Method,
    n_clusters: int,
    *,
    adjacency: sparse.sparray,
    random_state: int | np.random.RandomState | None = 0,
) -> FeatureClusterer:
    """Make the estimator of a method.

    Parameters
    ----------
    method : {"ward", "complete", "average", "kmeans", "hierarchical_kmeans", "rena"}
        How voxels are clustered.
    n_clusters : int
        Number of parcels.
    adjacency : sparse array, shape (n_voxels, n_voxels)
        The voxels that are neighbours; k-means methods do not use it.
    random_state : int, RandomState or None, default=0
        Seed of the k-means methods.

    Returns
    -------
    FeatureClusterer
        Not fitted. For ward, complete and average it is an `Agglomerative`, whose tree has other cuts, too.

    Raises
    ------
    UsageError
        If the method is unknown.
    """
    if method in ("ward", "complete", "average"):
        return Agglomerative(n_clusters, linkage=method, connectivity=adjacency)
    if method == "rena":
        return ReNA(n_clusters, connectivity=adjacency)
    if method == "kmeans":
        return KMeans(n_clusters, random_state=random_state)
    if method == "hierarchical_kmeans":
        return HierarchicalKMeans(n_clusters, random_state=random_state)
    raise UsageError(f"method={method!r} is none of {', '.join(METHODS)}.")
