"""The fit of a group's parcellations: the number of parcels, the parcels, and how good they are."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_parcellate.errors import UsageError
from bids_parcellate.group.data import GroupData, Labels, Single
from bids_parcellate.group.individuals import reproduce_individuals
from bids_parcellate.io.masking import Mask
from bids_parcellate.numerics.matching import renumber, spatial_order
from bids_parcellate.numerics.quality.choice import choose_n_parcels
from bids_parcellate.numerics.quality.folds import bootstrap, split_halves
from bids_parcellate.numerics.quality.stability import StabilityMap
from bids_parcellate.parcels.appraisal import Appraisal, appraise, describe_halves
from bids_parcellate.parcels.atlas import Parcellation
from bids_parcellate.parcels.parcel_tables import describe_parcellations, gather_figures
from bids_parcellate.parcels.split_halves import SplitHalves, fit_halves, join_curves

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroupFit:
    """What the group's part of a job makes.

    Parameters
    ----------
    mask : Mask
        The voxels.
    parcellations : list of Parcellation
        In ascending order of their numbers of parcels; their tables hold the figures of each parcel.
    figures : DataFrame or None
        Figures of the parcellations, as :attr:`bids_parcellate.parcels.appraisal.Appraisal.figures`.
    stability : dict of int to ndarray of float, shape (X, Y, Z)
        For each number of parcels, the share of bootstrap fits in which a voxel keeps its parcel; empty if there are
        none.
    reason : str or None
        Why the number of parcels was chosen, if it was.
    """

    mask: Mask
    parcellations: list[Parcellation]
    figures: pd.DataFrame | None
    stability: dict[int, npt.NDArray[np.float64]]
    reason: str | None


def fit_group(data: GroupData) -> GroupFit:
    """Fit the group's parcellations, and appraise them.

    Parameters
    ----------
    data : GroupData
        The group.

    Returns
    -------
    GroupFit
        Nothing of it is written yet.

    Raises
    ------
    ParcellateError
        If the voxels cannot be divided as asked.
    """
    config = data.config
    references = data.references()  # what is missing is said before the work
    halves = _fit_halves(data)
    n_parcels, reason, choice = _choose(data, halves)
    logger.info("Merging %d runs in %d voxels.", len(data.reduced), data.mask.n_voxels)
    values = data.find_features()
    logger.info("Clustering by %s into %s parcels.", config.parcellation.method, ", ".join(map(str, n_parcels)))
    labels = {number: _ordered(each, data) for number, each in data.cluster(values, n_parcels).items()}
    appraisals = _appraise(data, labels, values, halves)
    stability = _bootstrap(data, labels)
    parcellations = describe_parcellations(labels, appraisals, references, data.mask, config.parcellation.match_labels)
    if config.parcellation.individual:
        rows = reproduce_individuals(data, labels)
        choice = pd.concat([choice, pd.DataFrame(rows)]) if rows else choice
    figures = gather_figures(labels, appraisals, references, choice)
    return GroupFit(data.mask, parcellations, figures, stability, reason)


def _fit_halves(data: GroupData) -> SplitHalves | None:
    quality, units = data.config.quality, data.units
    if data.config.parcellation.choose_n_parcels and len(set(units)) < 2:
        raise UsageError(
            "The number of parcels cannot be chosen from a single run: nothing is left to test it on.",
            "State --n-parcels, or give more runs.",
        )
    n_splits = data.config.n_splits
    if len(set(units)) < 2 or n_splits == 0:
        return None
    seed = data.config.execution.random_seed
    splits = split_halves(units, n_splits, seed=seed)
    return fit_halves(splits, data.find_features, data.cluster, data.adjacency, n_random=quality.n_random, seed=seed)


def _choose(data: GroupData, halves: SplitHalves | None) -> tuple[Sequence[int], str | None, pd.DataFrame | None]:
    """Give the numbers of parcels; if one is to be chosen, also why, and the figures of all candidates."""
    candidates = data.config.parcellation.n_parcels
    if not data.config.parcellation.choose_n_parcels or halves is None:
        return candidates, None, None
    choice = choose_n_parcels(candidates, join_curves(halves.explained_variance), join_curves(halves.adjusted_rand))
    logger.info("%s", choice.reason)
    rows = [row for number in candidates if number != choice.n_parcels for row in describe_halves(number, halves)]
    rows += [
        {"n_parcels": number, "figure": "choice_score", "value": score}
        for number, score in zip(candidates, choice.score, strict=True)
    ]
    return (choice.n_parcels,), choice.reason, pd.DataFrame(rows)


def _ordered(labels: Labels, data: GroupData) -> Labels:
    """Give parcels numbers by their place."""
    return renumber(labels - 1, spatial_order(labels - 1, data.coordinates)) + 1


def _appraise(
    data: GroupData, labels: Mapping[int, Labels], values: Single, halves: SplitHalves | None
) -> dict[int, Appraisal]:
    quality = data.config.quality
    if quality.level == "none":
        return {}
    return {
        number: appraise(
            each,
            values,
            data.mask,
            data.adjacency,
            n_random=quality.n_random,
            seed=data.config.execution.random_seed,
            halves=halves,
        )
        for number, each in labels.items()
    }


def _bootstrap(data: GroupData, labels: Mapping[int, Labels]) -> dict[int, npt.NDArray[np.float64]]:
    """Fit to bootstrap samples of the participants, and see in how many each voxel keeps its parcel."""
    quality, units = data.config.quality, data.units
    if quality.level != "full" or len(set(units)) < 2:
        return {}
    maps = {number: StabilityMap(each) for number, each in labels.items()}
    samples = bootstrap(units, quality.n_bootstrap, seed=data.config.execution.random_seed)
    for number, sample in enumerate(samples, start=1):
        logger.info("Fitting to a bootstrap sample of the participants (%d of %d).", number, len(samples))
        for n_parcels, fit in data.cluster(data.find_features(sample), list(labels)).items():
            maps[n_parcels].add(fit)
    return {number: data.mask.unmask(each.share) for number, each in maps.items()}
