"""Two-level k-means: a few coarse clusters, each of which is split into its share of fine ones."""

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.errors import DataError
from bids_parcellate.numerics.cluster.base import FloatArray
from bids_parcellate.numerics.cluster.kmeans import k_means


def hierarchical_k_means(
    rows: FloatArray, masses: NDArray[np.float64], n_clusters: int, *, random_state: np.random.RandomState
) -> NDArray[np.int32]:
    """Cluster rows with k-means in two levels.

    Parameters
    ----------
    rows : ndarray of float32 or float64, shape (n_rows, n_samples)
        The points, C-contiguous.
    masses : ndarray of float64, shape (n_rows,)
        How much each point counts.
    n_clusters : int
        Number of clusters, at most ``n_rows``.
    random_state : RandomState
        Source of the initial means.

    Returns
    -------
    ndarray of int32, shape (n_rows,)
        Cluster of each row, 0 to ``n_clusters - 1``.

    Raises
    ------
    DataError
        If there are fewer distinct rows than clusters.
    """
    try:
        coarse = k_means(rows, masses, round(np.sqrt(n_clusters)), random_state=random_state)
    except DataError as error:  # it names the number of coarse clusters, which nobody asked for
        raise _too_few(n_clusters, count_distinct_rows(rows)) from error
    members = [np.flatnonzero(coarse == cluster) for cluster in range(coarse.max() + 1)]
    sizes = np.array([len(inside) for inside in members])
    n_distinct = np.array([count_distinct_rows(rows[inside]) for inside in members])
    if n_distinct.sum() < n_clusters:
        raise _too_few(n_clusters, n_distinct.sum())
    labels = np.empty(len(rows), dtype=np.int32)
    n_before = 0
    for inside, n_fine in zip(members, share_out(n_clusters, sizes, n_distinct), strict=True):
        labels[inside] = n_before + k_means(rows[inside], masses[inside], n_fine, random_state=random_state)
        n_before += n_fine
    return labels


def _too_few(n_clusters: int, n_distinct: int) -> DataError:
    return DataError(
        f"n_clusters={n_clusters} is larger than the number of distinct features, {n_distinct}.",
        hint="Ask for fewer clusters (parcels), or leave constant and duplicate voxels out of the mask.",
    )


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
