"""Simulated runs for the tests of the estimator: parcels with a known answer in a brain-like ellipsoid."""

from dataclasses import dataclass

import nibabel as nib
import numpy as np

AFFINE = np.array([[-3.0, 0, 0, 18], [0, 3, 0, -20], [0, 0, 3.5, -16], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Simulation:
    """Images with the parcels from which they were made."""

    images: list[nib.Nifti1Image]
    truth: np.ndarray  # (X, Y, Z): parcels from 1, and 0 outside

    @property
    def mask_img(self):
        return nib.Nifti1Image((self.truth > 0).astype(np.uint8), AFFINE)

    @property
    def labels(self):
        return self.truth[self.truth > 0]


def ellipsoid(shape):
    axes = [np.linspace(-1, 1, size) for size in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 <= 0.95


def simulate(n_runs=2, *, shape=(13, 14, 12), n_volumes=40, n_parcels=8, noise=1.0, dtype=np.float64, seed=0):
    """Give each parcel (the voxels nearest to a random seed) a random signal, the same share of it to each voxel."""
    rng = np.random.default_rng(seed)
    brain = ellipsoid(shape)
    voxels = np.argwhere(brain)
    seeds = voxels[rng.choice(len(voxels), n_parcels, replace=False)]
    parcels = np.square(voxels[:, np.newaxis] - seeds).sum(axis=2).argmin(axis=1)
    truth = np.zeros(shape, dtype=np.int32)
    truth[brain] = parcels + 1
    intensity = rng.uniform(900, 1100, len(voxels))
    images = []
    for _ in range(n_runs):
        signals = rng.normal(size=(n_volumes, n_parcels))[:, parcels]
        data = np.zeros((*shape, n_volumes), dtype=dtype)
        data[brain] = (intensity + 5 * signals + 5 * noise * rng.normal(size=signals.shape)).T
        images.append(nib.Nifti1Image(data, AFFINE))
    return Simulation(images, truth)
