"""How good the parcels of a fit are, as far as the features that were clustered tell."""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bids_parcellate.graph import connected_pieces
from bids_parcellate.signals import Labels, parcel_means, parcel_sizes


def explained_squares(
    signals: npt.NDArray[np.floating], labels: Labels, n_parcels: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Measure what the means of parcels explain of the signals, or features, of their voxels.

    Parameters
    ----------
    signals : ndarray of float, shape (n_samples, n_voxels)
        The signals.
    labels : ndarray of int, shape (n_voxels,)
        The parcel of each voxel, from 1 to ``n_parcels``.
    n_parcels : int
        Number of parcels.

    Returns
    -------
    explained, total : ndarray of float64, shape (n_parcels,)
        The sum of squares of each parcel that its mean explains, and the whole.
    """
    means = parcel_means(signals, labels, n_parcels)
    squares = np.einsum("tv,tv->v", signals, signals, dtype=np.float64)
    explained: npt.NDArray[np.float64] = parcel_sizes(labels, n_parcels) * np.square(means).sum(axis=0)
    total = np.bincount(labels, weights=squares, minlength=n_parcels + 1)[1:].astype(np.float64)
    return explained, total


def shares(part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Divide, and give 0 for a part of nothing.

    Parameters
    ----------
    part, whole : ndarray of float64
        Of one shape.

    Returns
    -------
    ndarray of float64
        The shares.
    """
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def count_pieces(labels: Labels, adjacency: sparse.csr_array, n_parcels: int) -> npt.NDArray[np.int64]:
    """Count the connected pieces of each parcel.

    Parameters
    ----------
    labels : ndarray of int, shape (n_voxels,)
        The parcel of each voxel, from 1 to ``n_parcels``.
    adjacency : csr_array of bool, shape (n_voxels, n_voxels)
        Which voxels are neighbours.
    n_parcels : int
        Number of parcels.

    Returns
    -------
    ndarray of int64, shape (n_parcels,)
        1 for a parcel that is contiguous.
    """
    edges = adjacency.tocoo()
    row, column = edges.coords
    within = labels[row] == labels[column]
    inner = sparse.coo_array((edges.data[within], (row[within], column[within])), shape=edges.shape)
    n_pieces, piece = connected_pieces(inner)
    parcel_of_piece = np.zeros(n_pieces, dtype=np.int64)
    parcel_of_piece[piece] = labels
    return np.bincount(parcel_of_piece, minlength=n_parcels + 1)[1:]
