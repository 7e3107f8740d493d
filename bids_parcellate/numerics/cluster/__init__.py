"""Methods that cluster the voxels (features) of an array (n_samples, n_voxels) into parcels."""

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.cluster.agglomerative import grow_tree
from bids_parcellate.numerics.cluster.base import FloatArray, check_n_clusters, check_weights, exact_labels
from bids_parcellate.numerics.cluster.hierarchical_kmeans import hierarchical_k_means
from bids_parcellate.numerics.cluster.kmeans import k_means, partition
from bids_parcellate.numerics.cluster.rena import merge_nearest

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
    if method not in METHODS:
        raise UsageError(f"method={method!r} is none of {', '.join(METHODS)}.")
    columns, n_features = features.T, features.shape[1]
    masses = check_weights(weights, n_features=n_features)
    for number in n_parcels:
        check_n_clusters(number, n_features=n_features)
    if not np.isfinite(features).all():
        raise DataError("the features hold values that are not finite", "Leave those voxels out of the mask.")
    if method in ("ward", "complete", "average"):
        tree = grow_tree(columns, masses, max(n_parcels), linkage=method, connectivity=adjacency, min_size=min_size)
        found = {number: tree.cut(number) for number in n_parcels}
    elif method == "rena":
        merge = partial(merge_nearest, columns, masses, connectivity=adjacency, min_size=min_size)
        found = {number: merge(number)[0] for number in n_parcels}
    else:
        means = {"kmeans": k_means, "hierarchical_kmeans": hierarchical_k_means}[method]
        found = {
            number: partition(
                partial(means, random_state=np.random.RandomState(random_state)),
                columns,
                masses,
                number,
                connectivity=adjacency if contiguous else None,
                min_size=min_size,
            )
            for number in n_parcels
        }
    return {number: exact_labels(labels, number, method) for number, labels in found.items()}
