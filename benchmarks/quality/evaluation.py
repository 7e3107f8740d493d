"""Fit parcels on each half of an experiment and score them on the other."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
from nilearn.regions import Parcellations as NilearnParcellations
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from benchmarks.quality.candidates import CANDIDATES
from benchmarks.quality.experiments import Experiment, Half
from bids_parcellate.numerics.cleaning import standardize
from bids_parcellate.numerics.cluster import METHODS, Method, parcellate
from bids_parcellate.numerics.graph import voxel_adjacency

logger = logging.getLogger(__name__)

Labels = NDArray[np.integer]

# nilearn's own class, as it is and with z-scored voxels.
PEERS = {"nilearn's class": False, "nilearn's class, z-scored": "zscore_sample"}


@dataclass(frozen=True)
class Result:
    """How good the parcels of a method are.

    Parameters
    ----------
    experiment, n_parcels, method, features
        What was fitted: ``features`` is the name of a candidate or of a peer.
    explained : float
        Share of the variance of z-scored voxels of the other half that the parcels' means explain. Mean of both ways.
    agreement : float
        Adjusted Rand index of the two fits.
    truth : float
        Mean adjusted Rand index to the true parcels; NaN where they are not known.
    largest : float
        Mean share of the voxels that the largest parcel holds.
    median : float
        Mean of the median size of parcels, in voxels.
    n_found : float
        Mean number of parcels.
    """

    experiment: str
    n_parcels: int
    method: Method
    features: str
    explained: float
    agreement: float
    truth: float
    largest: float
    median: float
    n_found: float


def evaluate(experiment: Experiment, features: str, methods: Sequence[Method] = METHODS) -> list[Result]:
    """Fit and score all methods with one kind of features.

    Parameters
    ----------
    experiment : Experiment
        The data.
    features : str
        Name of a candidate or of a peer.
    methods : sequence of str
        The methods.

    Returns
    -------
    list of Result
        For each method and number of parcels, but for fits that failed; none if the features cannot be computed from
        such data.
    """
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nilearn's, about fewer parcels than asked for: the results say so
        fit = _fit_peer if features in PEERS else _fit
        first, second = (fit(experiment, half, features, methods) for half in experiment.halves)
        return [_score(experiment, key, features, (first[key], second[key])) for key in first if key in second]


Fits = dict[tuple[Method, int], Labels]


def _fit(experiment: Experiment, half: Half, features: str, methods: Sequence[Method]) -> Fits:
    """Fit parcels to a candidate's features."""
    values = CANDIDATES[features](half)
    if values is None:
        return {}
    adjacency = voxel_adjacency(experiment.mask)
    return {
        (method, n_parcels): labels
        for method in methods
        for n_parcels, labels in parcellate(values, method, experiment.n_parcels, adjacency=adjacency).items()
    }


def _fit_peer(experiment: Experiment, half: Half, features: str, methods: Sequence[Method]) -> Fits:
    """Fit parcels with nilearn's own class, to the same cleaned signals."""
    mask = nib.Nifti1Image(experiment.mask.astype(np.uint8), np.eye(4))
    images = [_image(run.signals, experiment.mask) for run in half]
    fits: Fits = {}
    with TemporaryDirectory() as cache:  # so that nilearn reduces the runs once, not for each method
        for method in methods:
            for n_parcels in experiment.n_parcels:
                model = NilearnParcellations(
                    method,
                    n_parcels,
                    mask=mask,
                    smoothing_fwhm=None,
                    standardize=PEERS[features],
                    memory=cache,
                    memory_level=2,
                )
                try:
                    labels = model.fit(images).labels_img_.get_fdata()[experiment.mask]
                except ValueError as error:  # hierarchical_kmeans ends so when a coarse cluster stays empty
                    logger.warning("%s: %s, %s, %d parcels: %s", experiment.name, features, method, n_parcels, error)
                else:
                    fits[method, n_parcels] = np.unique(labels, return_inverse=True)[1]
    return fits


def _image(signals: NDArray[np.float32], mask: NDArray[np.bool_]) -> nib.Nifti1Image:
    data = np.zeros((*mask.shape, len(signals)), np.float32)
    data[mask] = signals.T
    return nib.Nifti1Image(data, np.eye(4))


def _score(experiment: Experiment, fitted: tuple[Method, int], features: str, labels: tuple[Labels, Labels]) -> Result:
    """Score two fits, each on the half that it has not seen."""
    sizes = [np.bincount(each) for each in labels]
    scores = [explained_variance(*pair) for pair in zip(labels, experiment.halves[::-1], strict=True)]
    truth = experiment.truth
    method, n_parcels = fitted
    return Result(
        experiment.name,
        n_parcels,
        method,
        features,
        explained=float(np.mean(scores)),
        agreement=float(adjusted_rand_score(*labels)),
        truth=float("nan") if truth is None else float(np.mean([adjusted_rand_score(truth, each) for each in labels])),
        largest=float(np.mean([each.max() / each.sum() for each in sizes])),
        median=float(np.mean([np.median(each) for each in sizes])),
        n_found=float(np.mean([len(each) for each in sizes])),
    )


def explained_variance(labels: Labels, half: Half) -> float:
    """Find the share of the variance of z-scored voxels that the means of their parcels explain.

    Parameters
    ----------
    labels : ndarray of int, shape (n_voxels,)
        The parcel of each voxel, from 0, none empty.
    half : tuple of Run
        Signals.

    Returns
    -------
    float
        From 0 to 1.
    """
    belongs = np.eye(labels.max() + 1, dtype=np.float32)[labels]
    sums = [(signals @ belongs, signals) for signals in _zscores(half)]
    between = sum(float((np.square(each) / belongs.sum(axis=0)).sum()) for each, _ in sums)
    return between / sum(float(np.square(signals).sum()) for _, signals in sums)


def _zscores(half: Half) -> Iterator[NDArray[np.float32]]:
    return (standardize(run.signals, "zscore_sample") for run in half)
