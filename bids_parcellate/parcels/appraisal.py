"""How good parcellations are: figures of each parcel and of the whole, beside those of random parcels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from bids_parcellate.io.masking import Mask
from bids_parcellate.numerics.quality.agreement import agreement
from bids_parcellate.numerics.quality.boundary import boundary_coefficient, pair_correlations, sample_pairs
from bids_parcellate.numerics.quality.choice import Curve
from bids_parcellate.numerics.quality.comparison import compare_with_null
from bids_parcellate.numerics.quality.homogeneity import homogeneity
from bids_parcellate.numerics.quality.nulls import random_parcellations
from bids_parcellate.numerics.quality.shape import shapes, size_distribution
from bids_parcellate.numerics.quality.silhouette import silhouette
from bids_parcellate.numerics.quality.variance import explained_variance
from bids_parcellate.parcels.split_halves import SplitHalves

Single = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

FIGURES: dict[str, str] = {
    "explained_variance": "Share of the variance of the group's components that parcels explain; it rises with their "
    "number.",
    "homogeneity": "Mean correlation of two voxels of a parcel; large for random parcels, too.",
    "boundary_coefficient": "Correlation of pairs of voxels within parcels less that across parcels at the same "
    "distance, up to 35 mm (after the DCBC of Zhi et al. 2022); 0 if boundaries do not matter.",
    "silhouette": "Whether voxels are closer to their own parcel than to the nearest neighbouring one, from -1 to 1.",
    "compactness": "Median over parcels: 1 for balls.",
    "smallest_parcel": "Number of voxels of the smallest parcel.",
    "largest_parcel_share": "Share of all voxels in the largest parcel.",
    "effective_number": "Number of parcels of equal size in which two random voxels would fall together as often.",
    "held_out_explained_variance": "Share of the variance of half of the participants that parcels explain which were "
    "fitted to the other half; mean of both.",
    "split_half_adjusted_rand": "Adjusted Rand index between fits to the two halves of the participants.",
    "split_half_mutual_information": "Normalised mutual information of the same fits.",
    "individual_within_adjusted_rand": "Adjusted Rand index between individual parcels of two runs of one participant, "
    "mean over pairs.",
    "individual_between_adjusted_rand": "The same of runs of two participants.",
    "choice_score": "What the number of parcels was chosen by: 1 at most.",
}

PARCEL_COLUMNS: dict[str, dict[str, str]] = {
    "explained_variance": {"Description": "Share of the variance of its voxels that the parcel's mean explains."},
    "homogeneity": {"Description": "Mean correlation of two of its voxels."},
    "silhouette": {"Description": "Mean over its voxels: -1 to 1, closer to the own than to neighbouring parcels."},
    "compactness": {"Description": "Radius of gyration of a ball of its volume, divided by the parcel's."},
    "reproducibility": {"Description": "Dice coefficient with its match in fits to halves of the participants, mean."},
}


@dataclass(frozen=True)
class Appraisal:
    """What is known of the quality of a parcellation.

    Parameters
    ----------
    figures : DataFrame
        A row for each figure of ``FIGURES`` that could be computed: n_parcels, figure, value, and of random parcels of
        the same sizes random_mean, random_sd, z and p_value, where there are such.
    parcels : DataFrame
        A row for each parcel, with the columns of ``PARCEL_COLUMNS``.
    """

    figures: pd.DataFrame
    parcels: pd.DataFrame


def appraise(
    labels: Labels,
    features: Single,
    mask: Mask,
    adjacency: sparse.sparray,
    *,
    n_random: int,
    seed: int,
    halves: SplitHalves | None = None,
) -> Appraisal:
    """Find out how good a parcellation is.

    Parameters
    ----------
    labels : ndarray of int32, shape (n_voxels,)
        The parcel of each voxel of the mask, from 1.
    features : ndarray of float32, shape (k, n_voxels)
        What voxels are compared by.
    mask : Mask
        The voxels.
    adjacency : sparse array, shape (n_voxels, n_voxels)
        The voxels that are neighbours.
    n_random : int
        Number of random parcellations to compare with; at least 2.
    seed : int
        Their seed.
    halves : SplitHalves, optional
        Fits to halves of the participants.

    Returns
    -------
    Appraisal
        The figures.
    """
    n_parcels = int(labels.max())
    candidates = [labels, *random_parcellations(labels, adjacency, n_random, seed=seed)]
    positions, axes = np.argwhere(mask.data), mask.grid.affine[:3, :3]
    variances = explained_variance(features, candidates)
    alike = homogeneity(features, candidates)
    pairs = sample_pairs(positions, axes, seed=seed)
    correlations = pair_correlations(features, pairs)
    boundaries = [boundary_coefficient(correlations, pairs, each).coefficient for each in candidates]
    outline = silhouette(features, labels, adjacency)
    form, sizes = shapes(labels, positions, axes, adjacency), size_distribution(labels)
    rows = [
        _row(n_parcels, "explained_variance", [each.overall for each in variances]),
        _row(n_parcels, "homogeneity", [each.overall for each in alike]),
        _row(n_parcels, "boundary_coefficient", boundaries),
        _row(n_parcels, "silhouette", [outline.overall]),
        _row(n_parcels, "compactness", [float(np.nanmedian(form.compactness))]),
        _row(n_parcels, "smallest_parcel", [sizes.smallest]),
        _row(n_parcels, "largest_parcel_share", [sizes.largest_share]),
        _row(n_parcels, "effective_number", [sizes.effective_number]),
    ]
    parcels = pd.DataFrame(
        {
            "explained_variance": variances[0].per_parcel,
            "homogeneity": alike[0].per_parcel,
            "silhouette": outline.per_parcel,
            "compactness": form.compactness,
        }
    )
    if halves is not None:
        rows += describe_halves(n_parcels, halves)
        fits = [labelings[n_parcels] for pair in halves.fits for labelings in pair]
        parcels["reproducibility"] = np.mean([agreement(labels, fit).dice for fit in fits], axis=0)
    return Appraisal(pd.DataFrame(rows), parcels)


def describe_halves(n_parcels: int, halves: SplitHalves) -> list[Mapping[str, object]]:
    """Make the rows of figures that fits to halves of the participants give.

    Parameters
    ----------
    n_parcels : int
        Number of parcels.
    halves : SplitHalves
        The fits.

    Returns
    -------
    list of mapping
        Rows of :attr:`Appraisal.figures`.
    """
    curves: dict[str, Mapping[int, Curve]] = {
        "held_out_explained_variance": halves.explained_variance,
        "split_half_adjusted_rand": halves.adjusted_rand,
        "split_half_mutual_information": halves.normalized_mutual_information,
    }
    return [
        _row(n_parcels, name, [float(curve[n_parcels].mean[0]), *curve[n_parcels].random[:, 0]])
        for name, curve in curves.items()
    ]


def _row(n_parcels: int, figure: str, values: Sequence[float]) -> Mapping[str, object]:
    """Make a row of a value, followed by those of random parcels, if any."""
    row: dict[str, object] = {"n_parcels": n_parcels, "figure": figure, "value": values[0]}
    if len(values) > 1:
        compared = compare_with_null(values[0], values[1:])
        row |= {
            "random_mean": float(compared.mean),
            "random_sd": float(compared.sd),
            "z": float(compared.z),
            "p_value": float(compared.p_value),
        }
    return row
