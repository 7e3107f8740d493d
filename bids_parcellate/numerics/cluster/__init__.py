"""Methods that cluster the voxels (features) of an array (n_samples, n_voxels) into parcels."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.cluster.agglomerative import Agglomerative
from bids_parcellate.numerics.cluster.base import FeatureClusterer, FloatArray
from bids_parcellate.numerics.cluster.hierarchical_kmeans import HierarchicalKMeans
from bids_parcellate.numerics.cluster.kmeans import KMeans
from bids_parcellate.numerics.cluster.rena import ReNA

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


def parcellate(  # noqa: PLR0913 -- the options of a parcellation, by keyword
    features: FloatArray,
    method: Method,
    n_parcels: Sequence[int],
    *,
    adjacency: sparse.sparray,
    random_state: int = 0,
    contiguous: bool = False,
    min_size: int = 1,
    weights: NDArray[np.floating] | None = None,
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
        The voxels that are neighbours; k-means methods use it for contiguous parcels only. Where an edge is left out
        no parcel grows across: `bids_parcellate.numerics.graph.separate` keeps hemispheres apart.
    random_state : int, default=0
        Seed of the k-means methods.
    contiguous : bool, default=False
        Whether the parcels of k-means methods are contiguous, too.
    min_size : int, default=1
        The fewest voxels of a parcel; above 1, parcels of k-means methods must be contiguous.
    weights : ndarray of float, shape (n_voxels,), or None, default=None
        How much each voxel counts in means and sums of squares, above 0; for example its share of grey matter. Complete
        linkage has neither and does not use them.

    Returns
    -------
    dict of int to ndarray of int32, shape (n_voxels,)
        For each number of parcels the parcel of each voxel, numbered from 0 in the order of their first voxels.

    Raises
    ------
    UsageError
        If the method is unknown, or a number of parcels is larger than that of the voxels or, for contiguous
        parcels, smaller than the number of pieces of the mask, or a piece is smaller than ``min_size``.
    DataError
        If the data cannot be split into that many parcels.
    """

    def make(n_clusters: int) -> FeatureClusterer:
        return make_clusterer(
            method,
            n_clusters,
            adjacency=adjacency,
            random_state=random_state,
            contiguous=contiguous,
            min_size=min_size,
        ).fit(features, weights=weights)

    finest = make(max(n_parcels))
    if isinstance(finest, Agglomerative):
        return {n: finest.cut(n) for n in n_parcels}
    return {n: (finest if n == finest.n_clusters else make(n)).labels_ for n in n_parcels}


def make_clusterer(
    method: Method,
    n_clusters: int,
    *,
    adjacency: sparse.sparray,
    random_state: int | np.random.RandomState | None = 0,
    contiguous: bool = False,
    min_size: int = 1,
) -> FeatureClusterer:
    """Make the estimator of a method.

    Parameters
    ----------
    method : {"ward", "complete", "average", "kmeans", "hierarchical_kmeans", "rena"}
        How voxels are clustered.
    n_clusters : int
        Number of parcels.
    adjacency : sparse array, shape (n_voxels, n_voxels)
        The voxels that are neighbours; k-means methods use it for contiguous parcels only. Where an edge is left out
        no parcel grows across: `bids_parcellate.numerics.graph.separate` keeps hemispheres apart.
    random_state : int, RandomState or None, default=0
        Seed of the k-means methods.
    contiguous : bool, default=False
        Whether the parcels of k-means methods are contiguous, too.
    min_size : int, default=1
        The fewest voxels of a parcel; above 1, parcels of k-means methods must be contiguous.

    Returns
    -------
    FeatureClusterer
        Not fitted; ``fit`` takes ``weights`` of the voxels. For ward, complete and average it is an
        `Agglomerative`, whose tree has other cuts, too.

    Raises
    ------
    UsageError
        If the method is unknown.
    """
    if method in ("ward", "complete", "average"):
        return Agglomerative(n_clusters, linkage=method, connectivity=adjacency, min_size=min_size)
    if method == "rena":
        return ReNA(n_clusters, connectivity=adjacency, min_size=min_size)
    space = adjacency if contiguous else None
    if method == "kmeans":
        return KMeans(n_clusters, random_state=random_state, connectivity=space, min_size=min_size)
    if method == "hierarchical_kmeans":
        return HierarchicalKMeans(n_clusters, random_state=random_state, connectivity=space, min_size=min_size)
    raise UsageError(f"method={method!r} is none of {', '.join(METHODS)}.")
