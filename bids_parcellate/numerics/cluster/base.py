"""What all methods share: they cluster features (voxels), and reduce them to their clusters' means."""

from abc import ABC, abstractmethod
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics import graph

FloatArray = NDArray[np.floating]  # float32 or float64
_FLOATS = [np.float64, np.float32]
_BLOCK = 64  # rows that are transposed at once


class FeatureClusterer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):  # type: ignore[misc]  # sklearn has no types
    """Base of the estimators that cluster features, as `sklearn.cluster.FeatureAgglomeration` does.

    scikit-learn's own clusterers label samples; these label the columns of ``X``, so they are transformers.
    ``fit`` checks the data, calls the method's ``_cluster`` and checks that there are exactly
    ``n_clusters`` clusters, none of them empty.

    Attributes
    ----------
    labels_ : ndarray of int32, shape (n_features,)
        Cluster of each feature, 0 to ``n_clusters_ - 1``, numbered in the order of their first features.
    n_clusters_ : int
        Number of clusters.
    n_features_in_ : int
        Number of features.
    """

    n_clusters: int

    def fit(self, X: ArrayLike, y: object = None, *, weights: ArrayLike | None = None) -> Self:
        """Cluster the features.

        Parameters
        ----------
        X : array-like of float32 or float64, shape (n_samples, n_features)
            One column for each feature.
        y : None
            Ignored.
        weights : array-like of float, shape (n_features,), or None, default=None
            How much each feature counts in means and sums of squares, above 0; for example the share of grey
            matter in a voxel. A weight of 2 is the same as two
            copies of the feature that stay together. `transform` does not use them.

        Returns
        -------
        FeatureClusterer
            The estimator itself.

        Raises
        ------
        UsageError
            If ``n_clusters`` is not between 1 and the number of features, or a weight is not above 0.
        DataError
            If the data cannot be split into that many clusters.
        """
        del y
        data: FloatArray = validate_data(self, X, dtype=_FLOATS)
        check_n_clusters(self.n_clusters, n_features=data.shape[1])
        labels = number_by_first_feature(self._cluster(data.T, _check_weights(weights, data.shape[1])))
        n_found = int(labels.max()) + 1
        if n_found != self.n_clusters:
            raise DataError(f"{type(self).__name__} found {n_found} clusters, not n_clusters={self.n_clusters}.")
        self.labels_ = labels
        self.n_clusters_ = n_found
        self._n_features_out = n_found
        return self

    @abstractmethod
    def _cluster(self, columns: FloatArray, masses: NDArray[np.float64]) -> NDArray[np.integer]:
        """Cluster the rows of an array (n_features, n_samples), the transpose of X and often a view of it."""

    def transform(self, X: ArrayLike) -> FloatArray:
        """Average the features of each cluster.

        Parameters
        ----------
        X : array-like of float32 or float64, shape (n_samples, n_features)
            One column for each feature.

        Returns
        -------
        ndarray of X's dtype, shape (n_samples, n_clusters)
            The means, one column for each cluster.
        """
        check_is_fitted(self)
        data: FloatArray = validate_data(self, X, dtype=_FLOATS, reset=False)
        sums = [np.bincount(self.labels_, weights=sample, minlength=self.n_clusters_) for sample in data]
        means = np.stack(sums) / self._sizes()
        return (means * self._scale()).astype(data.dtype, copy=False)

    def inverse_transform(self, X: ArrayLike) -> FloatArray:
        """Give every feature the value of its cluster.

        Parameters
        ----------
        X : array-like of float32 or float64, shape (n_samples, n_clusters)
            One column for each cluster.

        Returns
        -------
        ndarray of X's dtype, shape (n_samples, n_features)
            The values, one column for each feature.
        """
        check_is_fitted(self)
        data: FloatArray = check_array(X, dtype=_FLOATS)
        if data.shape[1] != self.n_clusters_:
            raise UsageError(f"X has {data.shape[1]} columns, but there are {self.n_clusters_} clusters.")
        means = (data / self._scale()).astype(data.dtype, copy=False)
        return means[:, self.labels_]

    def _sizes(self) -> NDArray[np.intp]:
        """Count the features of each cluster."""
        return np.bincount(self.labels_, minlength=self.n_clusters_)

    def _scale(self) -> NDArray[np.float64]:
        """Return by what `transform` multiplies the means, shape (n_clusters,)."""
        return np.ones(self.n_clusters_)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _check_weights(weights: ArrayLike | None, n_features: int) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(n_features)
    masses = np.asarray(weights, dtype=np.float64)
    if masses.shape != (n_features,):
        raise UsageError(f"weights has shape {masses.shape}, but X has n_features={n_features}.")
    if not (np.isfinite(masses) & (masses > 0)).all():
        raise UsageError(
            f"weights are not all above 0 and finite: the smallest is {masses.min()}.",
            hint="Leave voxels that should not count out of the mask, or give them a small weight.",
        )
    return masses


def check_n_clusters(n_clusters: object, *, n_features: int) -> None:
    """Refuse a number of clusters that no clustering of the features can have.

    Parameters
    ----------
    n_clusters : object
        Number of clusters asked for.
    n_features : int
        Number of features.

    Raises
    ------
    UsageError
        If it is no integer between 1 and the number of features.
    """
    if not isinstance(n_clusters, int | np.integer) or isinstance(n_clusters, bool) or n_clusters < 1:
        raise UsageError(f"n_clusters={n_clusters!r} is not an integer of at least 1.")
    if n_clusters > n_features:
        raise UsageError(
            f"n_clusters={n_clusters} is larger than n_features={n_features}.",
            hint="Ask for at most as many clusters (parcels) as there are features (voxels).",
        )


def check_reachable(n_clusters: int, piece_sizes: NDArray[np.integer], *, min_size: object = 1) -> None:
    """Refuse a number or a size of contiguous clusters that a graph cannot have: no edge is ever added to it.

    Parameters
    ----------
    n_clusters : int
        Number of clusters asked for.
    piece_sizes : ndarray of int, shape (n_pieces,)
        Number of features in each connected component of the graph.
    min_size : int, default=1
        The fewest features of a cluster.

    Raises
    ------
    UsageError
        If there are more pieces than clusters, a piece is smaller than ``min_size``, or so many clusters
        of that size are more than all features.
    """
    if not isinstance(min_size, int | np.integer) or isinstance(min_size, bool) or min_size < 1:
        raise UsageError(f"min_size={min_size!r} is not an integer of at least 1.")
    n_pieces = len(piece_sizes)
    if n_clusters < n_pieces:
        raise UsageError(
            f"n_clusters={n_clusters} is smaller than the {n_pieces} pieces of the graph that do not touch each other.",
            hint=f"Ask for at least {n_pieces} clusters (parcels), or leave the small pieces out of the mask.",
        )
    too_small = piece_sizes < min_size
    if too_small.any():
        raise UsageError(
            f"min_size={min_size} is more than {too_small.sum()} of the {n_pieces} pieces of the graph have:"
            f" the smallest has {piece_sizes.min()} features.",
            hint="Leave the small pieces out of the mask, or ask for a smaller minimal size.",
        )
    if np.sum(piece_sizes // min_size) < n_clusters:
        raise UsageError(
            f"n_clusters={n_clusters} clusters of min_size={min_size} do not fit into {piece_sizes.sum()} features.",
            hint="Ask for fewer clusters (parcels) or a smaller minimal size.",
        )


def contiguous_rows(columns: FloatArray) -> FloatArray:
    """Copy the transpose of an array so that each row is one stretch of memory.

    Parameters
    ----------
    columns : ndarray of float32 or float64, shape (n_features, n_samples)
        Most often the view ``X.T``.

    Returns
    -------
    ndarray of the same dtype, shape (n_features, n_samples)
        A copy, C-contiguous.
    """
    rows = np.empty(columns.shape, dtype=columns.dtype)
    for start in range(0, len(rows), _BLOCK):  # small enough for the cache: several times faster than all at once
        rows[start : start + _BLOCK] = columns[start : start + _BLOCK]
    return rows


def feature_edges(connectivity: ArrayLike | sparse.sparray | None, n_features: int) -> NDArray[np.int32]:
    """List the pairs of features that may be merged.

    Parameters
    ----------
    connectivity : sparse array or array-like, shape (n_features, n_features), or None
        The graph of the features; None makes all of them neighbours.
    n_features : int
        Number of features.

    Returns
    -------
    ndarray of int32, shape (n_edges, 2)
        The ends of each edge, as `bids_parcellate.numerics.graph.edges` lists them.

    Raises
    ------
    UsageError
        If the graph is not one of these features.
    """
    if connectivity is None:
        return np.column_stack(np.tril_indices(n_features, k=-1)).astype(np.int32)
    adjacency = sparse.coo_array(connectivity)
    if adjacency.shape != (n_features, n_features):
        raise UsageError(f"connectivity has shape {adjacency.shape}, but X has n_features={n_features}.")
    return graph.edges(adjacency)


def number_by_first_feature(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Give clusters new numbers, in the order of their first features.

    Parameters
    ----------
    labels : ndarray of int, shape (n_features,)
        Any labels.

    Returns
    -------
    ndarray of int32, shape (n_features,)
        The same partition, numbered from 0 without gaps.
    """
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    number = np.empty(first.size, dtype=np.int32)
    number[np.argsort(first)] = np.arange(first.size, dtype=np.int32)
    return number[inverse]
