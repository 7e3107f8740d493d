"""Individual parcellations: each participant's own boundaries of the group's parcels, and how well they hold."""

import logging
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from bids_parcellate.group.data import GroupData
from bids_parcellate.numerics.individual import IndividualParcellation, individual_parcels
from bids_parcellate.numerics.quality.agreement import within_and_between

logger = logging.getLogger(__name__)

Labels = npt.NDArray[np.int32]

# Runs that are compared with each other: pairs grow with the square of their number.
_MOST_COMPARED = 200


def fit_individuals(data: GroupData, labels: Mapping[int, Labels]) -> Iterator[tuple[str, int, IndividualParcellation]]:
    """Move the boundaries of the group's parcels to where each participant has them.

    Parameters
    ----------
    data : GroupData
        The group.
    labels : mapping of int to ndarray of int32, shape (n_voxels,)
        For each number of parcels the group's labels, from 1.

    Yields
    ------
    participant : str
        One after another, so that they do not pile up.
    n_parcels : int
        Number of parcels of the group's parcellation.
    individual : IndividualParcellation
        The participant's own.

    Raises
    ------
    DataError
        If parcels of the group are not contiguous.
    """
    owners = np.array([each.run.participant for each in data.reduced])
    for participant in dict.fromkeys(owners.tolist()):
        values = data.find_features(np.flatnonzero(owners == participant))
        for n_parcels, group in labels.items():
            own = individual_parcels(values, group, data.adjacency)
            logger.info(
                "Individual parcels of %s: %d of %d voxels are not in the group's (%d parcels).",
                participant,
                own.n_moved,
                group.size,
                n_parcels,
            )
            yield participant, n_parcels, own


def reproduce_individuals(data: GroupData, labels: Mapping[int, Labels]) -> list[dict[str, object]]:
    """Fit individual parcels to single runs, and compare those of the same and of different participants.

    Parameters
    ----------
    data, labels
        As in :func:`fit_individuals`.

    Returns
    -------
    list of dict
        Rows of figures: mean adjusted Rand index of runs of the same participant, and of different ones. No rows where
        no participant has several runs, or there is but one participant.
    """
    owners = [each.run.participant for each in data.reduced][:_MOST_COMPARED]
    if len(set(owners)) in (1, len(owners)):
        return []
    rows: list[dict[str, object]] = []
    for n_parcels, group in labels.items():
        fits = [
            individual_parcels(data.find_features(np.array([index])), group, data.adjacency).labels
            for index in range(len(owners))
        ]
        compared = within_and_between(fits, owners)
        rows += [
            {"n_parcels": n_parcels, "figure": f"individual_{kind}_adjusted_rand", "value": float(values.mean())}
            for kind, values in (("within", compared.within), ("between", compared.between))
        ]
    return rows
