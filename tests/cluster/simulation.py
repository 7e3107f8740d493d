"""Voxels with known parcels, for the tests of all clustering methods."""

import numpy as np
from scipy import ndimage

from bids_parcellate.numerics.graph import voxel_adjacency


def brain(shape=(9, 10, 8), *, holes=0.15, pieces=1, seed=0):
    """Make a mask of so many pieces, with holes."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) > holes
    if pieces == 1:
        found, _ = ndimage.label(mask)
        return found == np.bincount(found[found > 0]).argmax()
    mask[:: -(-shape[0] // pieces)] = False
    return mask


def smooth_features(mask, n_samples=20, width=1.0, seed=0, dtype=np.float64):
    """Make features that vary smoothly over the mask."""
    rng = np.random.default_rng(seed)
    volumes = [ndimage.gaussian_filter(rng.normal(size=mask.shape), width)[mask] for _ in range(n_samples)]
    return np.array(volumes).astype(dtype)


def voronoi(mask, n_parcels, *, noise=0.3, n_samples=40, seed=0):
    """Make features of parcels around random seeds; return them with the labels."""
    rng = np.random.default_rng(seed)
    places = np.argwhere(mask)
    seeds = places[rng.choice(len(places), n_parcels, replace=False)]
    labels = np.argmin(((places[:, None] - seeds) ** 2).sum(axis=2), axis=1)
    signals = rng.normal(size=(n_samples, n_parcels))
    return signals[:, labels] + noise * rng.normal(size=(n_samples, len(labels))), labels


def graph_of(mask):
    """Neighbours by faces."""
    return voxel_adjacency(mask)
