"""K-means clustering of features."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn import cluster as sklearn_cluster
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from threadpoolctl import threadpool_limits

from bids_parcellate.cluster.base import FeatureClusterer, FloatArray
from bids_parcellate.errors import DataError


class KMeans(FeatureClusterer):
    """K-means (Lloyd, k-means++) of the features, with exactly ``n_clusters`` clusters or an error.

    Clusters are not spatial: a parcel may lie in several places.

    Parameters
    ----------
    n_clusters : int, default=2
        Number of clusters.
    random_state : int, RandomState or None, default=0
        Seed of the initial means. An int makes the result reproducible.
    n_init : int, default=1
        Number of starts, of which the one with the lowest inertia is kept.

    Attributes
    ----------
    labels_ : ndarray of int32, shape (n_features,)
        Cluster of each feature.
    n_clusters_ : int
        Number of clusters.

    Notes
    -----
    A step costs O(n_features * n_samples * n_clusters). It runs in one thread: the last bits of scikit-learn's means,
    and so labels, depend on the number of threads, and k-means++ makes so many small products that threads of BLAS
    which wait for each other can cost many times what they save.
    """

    def __init__(
        self, n_clusters: int = 2, *, random_state: int | np.random.RandomState | None = 0, n_init: int = 1
    ) -> None:
        self.n_clusters = n_clusters
        self.random_state = random_state
        self.n_init = n_init

    def _cluster(self, columns: FloatArray) -> NDArray[np.int32]:
        random_state = check_random_state(self.random_state)
        return k_means(np.ascontiguousarray(columns), self.n_clusters, random_state=random_state, n_init=self.n_init)


def k_means(
    rows: FloatArray, n_clusters: int, *, random_state: np.random.RandomState, n_init: int = 1
) -> NDArray[np.int32]:
    """Cluster rows with k-means; no cluster is empty.

    Parameters
    ----------
    rows : ndarray of float32 or float64, shape (n_rows, n_samples)
        The points, C-contiguous.
    n_clusters : int
        Number of clusters, at most ``n_rows``.
    random_state : RandomState
        Source of the initial means.
    n_init : int, default=1
        Number of starts.

    Returns
    -------
    ndarray of int32, shape (n_rows,)
        Cluster of each row, 0 to ``n_clusters - 1``.

    Raises
    ------
    DataError
        If there are fewer distinct rows than clusters.
    """
    estimator = sklearn_cluster.KMeans(n_clusters, n_init=n_init, random_state=random_state)
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        # Warns of clusters that are lost to identical rows; what can be done about them is done below.
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        labels = estimator.fit_predict(rows)
    return _fill_empty_clusters(rows, labels, n_clusters)


def _fill_empty_clusters(rows: FloatArray, found: NDArray[np.int32], n_clusters: int) -> NDArray[np.int32]:
    """Give each empty cluster the row (and its copies) farthest from the first row of the cluster that it is in."""
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    labels = inverse.astype(np.int32)
    for empty in range(first.size, n_clusters):
        distances = np.square(rows - rows[first[labels]]).sum(axis=1)
        farthest = int(distances.argmax())
        if distances[farthest] == 0:
            raise DataError(
                f"n_clusters={n_clusters} is larger than the number of distinct features, {empty}.",
                hint="Ask for fewer clusters (parcels), or leave constant and duplicate voxels out of the mask.",
            )
        labels[(rows == rows[farthest]).all(axis=1)] = empty
        first = np.append(first, farthest)
    return labels
