"""The methods as scikit-learn estimators, which label the columns of an array."""

from abc import ABC, abstractmethod
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.cluster import METHODS, Method
from bids_parcellate.numerics.cluster.agglomerative import Linkage, grow_tree
from bids_parcellate.numerics.cluster.base import FloatArray, check_n_clusters, check_weights, exact_labels
from bids_parcellate.numerics.cluster.hierarchical_kmeans import hierarchical_k_means
from bids_parcellate.numerics.cluster.kmeans import k_means, partition
from bids_parcellate.numerics.cluster.rena import merge_nearest

_FLOATS = [np.float64, np.float32]


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
        labels = self._cluster(data.T, check_weights(weights, n_features=data.shape[1]))
        self.labels_ = exact_labels(labels, self.n_clusters, type(self).__name__)
        self.n_clusters_ = self._n_features_out = self.n_clusters
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


class Agglomerative(FeatureClusterer):
    """Merge neighbouring features bottom-up and keep the whole tree.

    On a connected graph the tree is that of `sklearn.cluster.AgglomerativeClustering` (Euclidean distance). On a
    graph of several pieces it is a forest: no edge is added, so that every cluster is contiguous.

    Parameters
    ----------
    n_clusters : int, default=2
        Number of clusters.
    linkage : {"ward", "complete", "average"}, default="ward"
        The height of a merge. "ward": the increase of the variance within clusters. "complete" and "average": the
        largest or the mean distance, over those neighbours only that both clusters have in common.
    connectivity : sparse array, shape (n_features, n_features), or None, default=None
        The features that are neighbours: every stored entry is an edge. None makes all of them
        neighbours, which needs memory for all pairs.
    min_size : int, default=1
        The fewest features of a cluster. Only those merges are undone that join two clusters of this size; what is
        smaller and hangs between them goes, feature by feature, to the adjacent cluster with the nearest mean.
        Where the tree has too few such merges, clusters are split along Ward's trees of their own.

    Attributes
    ----------
    labels_ : ndarray of int32, shape (n_features,)
        Cluster of each feature.
    n_clusters_ : int
        Number of clusters.
    children_ : ndarray of int64, shape (n_merges, 2)
        The two nodes that each merge joins, the older first. Nodes below ``n_leaves_`` are features; node
        ``n_leaves_ + i`` is what merge i makes.
    distances_ : ndarray of float64, shape (n_merges,)
        Height of each merge, scaled as in scikit-learn. On a graph, heights need not ascend.
    n_leaves_ : int
        Number of features.
    n_connected_components_ : int
        Number of pieces of the graph: ``n_leaves_ - n_merges``.

    Notes
    -----
    Ward looks at all neighbours of a merged cluster anew, so that time grows faster than linearly where
    one cluster takes up its neighbours one by one, as it does with voxels of very different variances.

    Memory of Ward is a copy of the data, at most ``4 * n_features * n_samples`` bytes for sums, and about 32 bytes an
    edge; of the others about 64 bytes an edge. Ties are broken as in scikit-learn's Ward: the pair whose younger node
    is the older comes first, then the one whose older node is. For complete and average linkage scikit-learn leaves
    ties to the layout of its heap.

    With ``min_size`` above 1 the estimator keeps the data, for other cuts.

    References
    ----------
    .. [1] Ward JH (1963). Hierarchical grouping to optimize an objective function. J Am Stat Assoc 58:236-244.
    .. [2] Müllner D (2011). Modern hierarchical, agglomerative clustering algorithms. arXiv:1109.2378.
    """

    def __init__(
        self,
        n_clusters: int = 2,
        *,
        linkage: Linkage = "ward",
        connectivity: sparse.sparray | None = None,
        min_size: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.linkage = linkage
        self.connectivity = connectivity
        self.min_size = min_size

    def _cluster(self, columns: FloatArray, masses: NDArray[np.float64]) -> NDArray[np.int32]:
        tree = grow_tree(
            columns,
            masses,
            self.n_clusters,
            linkage=self.linkage,
            connectivity=self.connectivity,
            min_size=self.min_size,
        )
        self.children_, self.distances_, self._tree = tree.children, tree.distances, tree
        self.n_leaves_, self.n_connected_components_ = len(columns), len(columns) - len(tree.children)
        return tree.cut(self.n_clusters)

    def cut(self, n_clusters: int) -> NDArray[np.int32]:
        """Cut the fitted tree, as `bids_parcellate.numerics.cluster.agglomerative.Tree.cut`.

        Parameters
        ----------
        n_clusters : int
            Number of clusters, from the number of pieces of the graph to the number of features.

        Returns
        -------
        ndarray of int32, shape (n_features,)
            Cluster of each feature.
        """
        check_is_fitted(self, "children_")
        return self._tree.cut(n_clusters)


class ReNA(FeatureClusterer):
    """Merge every cluster with its nearest neighbour, again and again.

    One pass joins each cluster to the neighbour that is nearest (squared Euclidean distance between means; ties go to
    the edge that comes first), so that no cluster outgrows the others. The last pass makes only its
    shortest merges, as many as lead to ``n_clusters``. No edge is added to the graph: clusters are contiguous.

    Parameters
    ----------
    n_clusters : int, default=2
        Number of clusters.
    connectivity : sparse array, shape (n_features, n_features), or None, default=None
        The features that are neighbours: every stored entry is an edge. None makes all of them
        neighbours, which needs memory for all pairs.
    n_iter : int or None, default=None
        Largest number of passes. None allows as many as are needed, at most ``log2(n_features / n_clusters)``
        on a connected graph and one more.
    scaling : bool, default=False
        Whether `transform` multiplies the mean of each cluster by the square root of its size, which keeps
        the Euclidean norm of data that are constant within clusters; `inverse_transform` divides by it.
    min_size : int, default=1
        The fewest features of a cluster: smaller ones are merged and others split (see `make_contiguous`).

    Attributes
    ----------
    labels_ : ndarray of int32, shape (n_features,)
        Cluster of each feature.
    n_clusters_ : int
        Number of clusters.
    n_iter_ : int
        Number of passes made.

    Notes
    -----
    A pass costs O(n_edges * n_samples), and each leaves at most half of the clusters that can still be merged. The mean
    of a cluster is that of its features, whereas nilearn averages the means of the clusters that were joined.

    References
    ----------
    .. [1] Hoyos-Idrobo A, Varoquaux G, Kahn J, Thirion B (2019). Recursive nearest agglomeration (ReNA): fast
       clustering for approximation of structured signals. IEEE Trans Pattern Anal Mach Intell 41:669-681.
       doi:10.1109/TPAMI.2018.2815524
    """

    def __init__(
        self,
        n_clusters: int = 2,
        *,
        connectivity: sparse.sparray | None = None,
        n_iter: int | None = None,
        scaling: bool = False,
        min_size: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.connectivity = connectivity
        self.n_iter = n_iter
        self.scaling = scaling
        self.min_size = min_size

    def _cluster(self, columns: FloatArray, masses: NDArray[np.float64]) -> NDArray[np.int32]:
        labels, self.n_iter_ = merge_nearest(
            columns,
            masses,
            self.n_clusters,
            connectivity=self.connectivity,
            n_iter=self.n_iter,
            min_size=self.min_size,
        )
        return labels

    def _scale(self) -> NDArray[np.float64]:
        return np.sqrt(self._sizes()) if self.scaling else super()._scale()


class KMeans(FeatureClusterer):
    """K-means (Lloyd, k-means++) of the features, with exactly ``n_clusters`` clusters or an error.

    Clusters are not spatial, a parcel may lie in several places, unless a graph is given: then its connected
    pieces are merged by Ward's criterion until ``n_clusters`` contiguous clusters are left (see `make_contiguous`).

    Parameters
    ----------
    n_clusters : int, default=2
        Number of clusters.
    random_state : int, RandomState or None, default=0
        Seed of the initial means. An int makes the result reproducible.
    n_init : int, default=1
        Number of starts, of which the one with the lowest inertia is kept.
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
    Up to twice 10,000 features, or twice 25 a cluster, it is `sklearn.cluster.KMeans`. Of more, the initial means are
    those of a sample of 10,000, or 25 a cluster, and at most 10 steps with all features follow. That costs about as
    much as `sklearn.cluster.MiniBatchKMeans` and ends at a lower inertia, within 3 % of that of k-means++ and all
    steps on all features. A step costs O(n_features * n_samples * n_clusters). It runs in one thread: the last bits of
    scikit-learn's means, and so labels, depend on the number of threads, and k-means++ makes so many small products
    that threads of BLAS which wait for each other can cost many times what they save.
    """

    def __init__(
        self,
        n_clusters: int = 2,
        *,
        random_state: int | np.random.RandomState | None = 0,
        n_init: int = 1,
        connectivity: sparse.sparray | None = None,
        min_size: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.random_state = random_state
        self.n_init = n_init
        self.connectivity = connectivity
        self.min_size = min_size

    def _cluster(self, columns: FloatArray, masses: NDArray[np.float64]) -> NDArray[np.int32]:
        find = partial(k_means, random_state=check_random_state(self.random_state), n_init=self.n_init)
        return partition(find, columns, masses, self.n_clusters, connectivity=self.connectivity, min_size=self.min_size)


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
        find = partial(hierarchical_k_means, random_state=check_random_state(self.random_state))
        return partition(find, columns, masses, self.n_clusters, connectivity=self.connectivity, min_size=self.min_size)


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
