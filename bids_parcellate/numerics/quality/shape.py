"""Sizes and shapes of parcels: how many voxels, how compact, in how many pieces."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics import graph
from bids_parcellate.numerics.quality.sums import Double, Labels, count_voxels, divide

_BALL = np.sqrt(3 / 5) * (3 / (4 * np.pi)) ** (1 / 3)  # radius of gyration of a ball of volume 1


@dataclass(frozen=True)
class SizeDistribution:
    """The numbers of voxels of all parcels, in short.

    Parameters
    ----------
    smallest, median, largest : float
        Numbers of voxels.
    variation : float
        Standard deviation divided by the mean.
    largest_share : float
        Share of all voxels that the largest parcel holds.
    effective_number : float
        Number of parcels of equal size of which two random voxels are in the same one as often: ``1 / sum(share^2)``.
        Far below the number of parcels if one giant parcel is surrounded by crumbs.
    """

    smallest: float
    median: float
    largest: float
    variation: float
    largest_share: float
    effective_number: float


def size_distribution(labels: Labels) -> SizeDistribution:
    """Describe the sizes of parcels.

    Parameters
    ----------
    labels : ndarray of int, shape (V,)
        The parcel of each voxel, from 1; 0 means none.

    Returns
    -------
    SizeDistribution
        Of the parcels that have voxels.

    Raises
    ------
    UsageError
        If there is no parcel.
    """
    sizes = np.bincount(labels)[1:]
    sizes = sizes[sizes > 0]
    if not sizes.size:
        raise UsageError("no voxel has a parcel: there are no sizes to describe")
    shares = sizes / sizes.sum()
    return SizeDistribution(
        smallest=float(sizes.min()),
        median=float(np.median(sizes)),
        largest=float(sizes.max()),
        variation=float(sizes.std() / sizes.mean()),
        largest_share=float(shares.max()),
        effective_number=float(1 / np.square(shares).sum()),
    )


@dataclass(frozen=True)
class Shapes:
    """The shape of each parcel; NaN (or 0 pieces) for a parcel without voxels.

    Parameters
    ----------
    compactness : ndarray of shape (n_parcels,), float64
        Radius of gyration of a ball of the same volume, divided by the parcel's: 1 for a ball, 0.96 for a cube, less
        the longer, more branched or more scattered the parcel is.
    surface_to_volume : ndarray of shape (n_parcels,), float64
        Surface (the faces of its voxels that no other voxel of the parcel shares) divided by volume, 1/mm.
    n_pieces : ndarray of shape (n_parcels,), int64
        Number of pieces that do not touch.
    """

    compactness: Double
    surface_to_volume: Double
    n_pieces: NDArray[np.int64]


def shapes(
    labels: Labels, positions: NDArray[np.integer], axes: NDArray[np.floating], adjacency: sparse.sparray
) -> Shapes:
    """Describe the shape of each parcel.

    Parameters
    ----------
    labels : ndarray of int, shape (V,)
        The parcel of each voxel, from 1; 0 means none.
    positions : ndarray of int, shape (V, 3)
        Indices of the voxels in the image.
    axes : ndarray of shape (3, 3)
        The linear part of the affine: column i is the step from one voxel to the next along axis i, in mm.
    adjacency : sparse array, shape (V, V)
        The voxels that share a face.

    Returns
    -------
    Shapes
        With an entry for each parcel.
    """
    n_parcels = int(labels.max(initial=0))
    sizes = count_voxels(labels, n_parcels)
    volumes = sizes * abs(np.linalg.det(axes))
    inner = _inner_edges(labels, adjacency)
    return Shapes(
        compactness=divide(_BALL * np.cbrt(volumes), _radii_of_gyration(labels, positions @ axes.T, axes, sizes)),
        surface_to_volume=divide(_surfaces(labels, positions, axes, inner, sizes), volumes),
        n_pieces=_count_pieces(labels, inner, n_parcels),
    )


def _inner_edges(labels: Labels, adjacency: sparse.sparray) -> NDArray[np.int32]:
    """List the edges within parcels, shape (E, 2)."""
    pairs = graph.edges(adjacency)
    one, other = labels[pairs.T]
    return np.asarray(pairs[(one == other) & (one > 0)])


def _radii_of_gyration(labels: Labels, places: Double, axes: NDArray[np.floating], sizes: Double) -> Double:
    """Root mean square distance from the centre, over the parcels' volumes: voxels are solid, not points."""
    n_parcels = sizes.size
    spread = np.full(n_parcels, np.square(axes).sum() / 12)  # within a voxel
    for coordinate in places.T:
        centred = coordinate - coordinate.mean()
        mean, mean_square = (
            divide(np.bincount(labels, values, n_parcels + 1)[1:], sizes) for values in (centred, centred**2)
        )
        spread += mean_square - mean**2
    return np.asarray(np.sqrt(spread))


def _surfaces(
    labels: Labels, positions: NDArray[np.integer], axes: NDArray[np.floating], inner: NDArray[np.int32], sizes: Double
) -> Double:
    """Areas of the outer faces of the parcels' voxels, mm^2."""
    areas = [np.linalg.norm(np.cross(axes[:, (axis + 1) % 3], axes[:, (axis + 2) % 3])) for axis in range(3)]
    along = np.abs(positions[inner[:, 0]] - positions[inner[:, 1]]).argmax(axis=1)
    surfaces = np.zeros(sizes.size)
    for axis, area in enumerate(areas):
        shared = np.bincount(labels[inner[along == axis, 0]], minlength=sizes.size + 1)[1:]
        surfaces += area * 2 * (sizes - shared)
    return surfaces


def _count_pieces(labels: Labels, inner: NDArray[np.int32], n_parcels: int) -> NDArray[np.int64]:
    n_voxels = labels.size
    within = sparse.coo_array((np.ones(len(inner), dtype=bool), tuple(inner.T)), shape=(n_voxels, n_voxels))
    n_pieces, piece = graph.connected_pieces(within)
    label_of_piece = np.empty(n_pieces, dtype=labels.dtype)
    label_of_piece[piece] = labels
    return np.bincount(label_of_piece, minlength=n_parcels + 1)[1:].astype(np.int64)
