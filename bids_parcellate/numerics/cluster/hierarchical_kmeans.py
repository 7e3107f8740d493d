"""Two-level k-means: a few coarse clusters, each of which is split into its share of fine ones."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import check_random_state

from bids_parcellate.errors import DataError
from bids_parcellate.numerics.cluster.base import FeatureClusterer, FloatArray, contiguous_rows
from bids_parcellate.numerics.cluster.contiguity import make_contiguous
from bids_parcellate.numerics.cluster.kmeans import check_space, k_means


class HierarchicalKMeans(FeatureClusterer):
    """K-means in two levels: about ``sqrt(n_clusters)`` coarse clusters, split in proportion to their sizes.

    Clusters have more even sizes than those of `KMeans`, at a fraction of its cost. They are not spatial, a parcel
    may lie in several places, unless a graph is given: then its connected pieces are merged by Ward's criterion until
    ``n_clusters`` contiguous clusters are left (see `make_contiguous`).

    Parameters
    ----------
    n_clusters : int, default=2
        Number of clusters; it may exceed the number of samples.
    random_state : int, RandomState or None, default=0
        Seed of the initial means. An int makes the result reproducible.
    connectivity : sparse array, shape (n_features, n_features), or None, default=None
        The features that are neighbours, for contiguous clusters: every stored entry is an edge.
    min_size : int, default=1
        The fewest features of a cluster; above 1 it needs the graph.

    Attributes
    ----------
    labels_ : ndarray of int32, shape (n_features,)
        Cluster of each feature.
    n_clusters_ : int
        Number of clusters.

    Notes
    -----
    A step costs O(n_features * n_samples * sqrt(n_clusters)). Each coarse cluster gets at least one fine cluster and at
    most as many as it has distinct members; the rest is shared out by the largest remainders.
    """

    def __init__(
        self,
        n_clusters: int = 2,
        *,
        random_state: int | np.random.RandomState | None = 0,
        connectivity: sparse.sparray | None = None,
        min_size: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.random_state = random_state
        self.connectivity = connectivity
        self.min_size = min_size

    def _cluster(self, columns: FloatArray, masses: NDArray[np.float64]) -> NDArray[np.int32]:
        rows = contiguous_rows(columns)
        space = check_space(self.connectivity, rows, masses, n_clusters=self.n_clusters, min_size=self.min_size)
        labels = self._cluster_freely(rows, masses)
        return labels if space is None else make_contiguous(labels, space, self.n_clusters, min_size=self.min_size)

    def _cluster_freely(self, rows: FloatArray, masses: NDArray[np.float64]) -> NDArray[np.int32]:
        random_state = check_random_state(self.random_state)
        coarse = k_means(rows, masses, round(np.sqrt(self.n_clusters)), random_state=random_state)
        members = [np.flatnonzero(coarse == cluster) for cluster in range(coarse.max() + 1)]
        sizes = np.array([len(inside) for inside in members])
        n_distinct = np.array([count_distinct_rows(rows[inside]) for inside in members])
        if n_distinct.sum() < self.n_clusters:
            raise DataError(
                f"n_clusters={self.n_clusters} is larger than the number of distinct features, {n_distinct.sum()}.",
                hint="Ask for fewer clusters (parcels), or leave constant and duplicate voxels out of the mask.",
            )
        labels = np.empty(len(rows), dtype=np.int32)
        n_before = 0
        for inside, n_fine in zip(members, share_out(self.n_clusters, sizes, n_distinct), strict=True):
            labels[inside] = n_before + k_means(rows[inside], masses[inside], n_fine, random_state=random_state)
            n_before += n_fine
        return labels


def share_out(n_shares: int, sizes: NDArray[np.integer], limits: NDArray[np.integer]) -> NDArray[np.int64]:
    """Share out a number in proportion to sizes, by the largest remainders.

    Parameters
    ----------
    n_shares : int
        What is shared out: at least one for each, and not more than all limits together.
    sizes : ndarray of int, shape (n,)
        The proportions.
    limits : ndarray of int, shape (n,)
        The most that each can get, at least 1.

    Returns
    -------
    ndarray of int64, shape (n,)
        The shares; they sum to ``n_shares``.
    """
    quotas = n_shares * sizes / sizes.sum()
    shares: NDArray[np.int64] = np.clip(np.floor(quotas).astype(np.int64), 1, limits)
    while shares.sum() < n_shares:
        shares[np.where(shares < limits, quotas - shares, -np.inf).argmax()] += 1
    while shares.sum() > n_shares:
        shares[np.where(shares > 1, quotas - shares, np.inf).argmin()] -= 1
    return shares


def count_distinct_rows(rows: FloatArray) -> int:
    """Count the rows that differ from each other.

    Parameters
    ----------
    rows : ndarray of float32 or float64, shape (n_rows, n_samples)
        The points, without NaN.

    Returns
    -------
    int
        Number of distinct rows.
    """
    positive_zeros = rows + 0.0  # -0.0 equals 0.0 but has other bytes
    as_bytes = positive_zeros.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))
    return len(np.unique(as_bytes))
