"""Compare parcels with a reference atlas, and name them after it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.quality.agreement import agreement, contingency, dice
from bids_parcellate.numerics.quality.sums import Double, Labels

NAME_RULE = (
    "Hemisphere (LH, RH, or BH for both), network of the reference atlas that holds the largest share of the parcel's "
    "voxels, and a running number within these two. The network is 'None' if that share is below {minimum_share:.0%}."
)
"""The rule of :func:`name_parcels`, in words."""

_HEMISPHERES = {"L": "LH", "R": "RH", "B": "BH"}
_NETWORKS_PREFIX = re.compile(r"^\d+Networks_")
_SIDE = re.compile(r"^(?:LH|RH|L|R|lh|rh|left|right|Left|Right)$")


@dataclass(frozen=True)
class AtlasAgreement:
    """How parcels agree with a reference atlas.

    Parameters
    ----------
    adjusted_rand : float
        Adjusted Rand index, over the voxels that have a parcel in both.
    best_match : ndarray of int64, shape (n_parcels,)
        The parcel of the atlas with the largest Dice coefficient; 0 if none overlaps. Several parcels may share one.
    dice : ndarray of shape (n_parcels,), float64
        That coefficient.
    coverage : ndarray of shape (n_parcels,), float64
        Share of the parcel's voxels that have a parcel in the atlas; NaN for a parcel without voxels.
    """

    adjusted_rand: float
    best_match: NDArray[np.int64]
    dice: Double
    coverage: Double


def atlas_agreement(labels: Labels, reference: Labels) -> AtlasAgreement:
    """Compare parcels with a reference atlas.

    Parameters
    ----------
    labels : ndarray of int, shape (V,)
        The parcel of each voxel, from 1; 0 means none.
    reference : ndarray of int, shape (V,)
        The atlas's parcel of each voxel; 0 means none.

    Returns
    -------
    AtlasAgreement
        Of each parcel.

    Raises
    ------
    UsageError
        If the voxels differ, or a label is negative.
    """
    counts = contingency(labels, reference)
    overlap = np.pad(dice(counts), ((0, 0), (1, 0)))  # column 0: no parcel
    best = overlap.argmax(axis=1)
    with np.errstate(invalid="ignore"):
        coverage = counts[1:, 1:].sum(axis=1) / counts[1:].sum(axis=1)
    return AtlasAgreement(
        agreement(labels, reference).adjusted_rand, best, overlap[np.arange(len(best)), best], coverage
    )


def network_of(name: str) -> str:
    """Take the network out of the name of an atlas's parcel.

    Parameters
    ----------
    name : str
        Such as ``7Networks_LH_Default_PFC_1``, ``LH_SomMot_3`` or ``Frontal_Sup_L``.

    Returns
    -------
    str
        A name that starts with the number of networks or with ``LH_`` or ``RH_``, as Schaefer's do, holds the network
        next: ``Default``, ``SomMot``. Of other names all is kept but sides and numbers: ``FrontalSup``. The name itself
        if nothing would be left.
    """
    short = _NETWORKS_PREFIX.sub("", name)
    pieces = short.split("_")
    words = [piece for piece in pieces if not _SIDE.match(piece) and not piece.isdigit()]
    if not words:
        return name
    is_schaefer = short != name or pieces[0] in ("LH", "RH")
    return words[0] if is_schaefer else "".join(words)


def name_parcels(
    labels: Labels,
    reference: Labels,
    networks: Sequence[str],
    hemispheres: Sequence[str],
    *,
    minimum_share: float = 0.25,
) -> list[str]:
    """Name parcels after the networks of a reference atlas, as ``LH_Default_12``.

    Parameters
    ----------
    labels : ndarray of int, shape (V,)
        The parcel of each voxel, from 1 to n_parcels; 0 means none.
    reference : ndarray of int, shape (V,)
        The atlas's parcel of each voxel, from 1; 0 means none.
    networks : sequence of str
        The network (or region) of each parcel of the atlas, in the order of its labels; several may have the same.
    hemispheres : sequence of {"L", "R", "B"}
        The side of each parcel: left, right or both.
    minimum_share : float, default=0.25
        Share of a parcel's voxels that its network must hold.

    Returns
    -------
    list of str
        A name for each parcel, all different. Hemisphere; the network that holds the largest share of the
        parcel's voxels (of equal ones the first in the alphabet), or ``None`` if that share is below ``minimum_share``;
        and a number that counts the parcels of this hemisphere and network from 1, in the order of their labels.

    Raises
    ------
    UsageError
        If there are too few networks or hemispheres, or one of the latter is none of those above.
    """
    counts = contingency(labels, reference)
    if counts.shape[1] > len(networks) + 1 or len(counts) != len(hemispheres) + 1:
        raise UsageError(
            f"{len(networks)} networks and {len(hemispheres)} hemispheres do not fit "
            f"{counts.shape[1] - 1} parcels of the atlas and {len(counts) - 1} parcels"
        )
    unknown = set(hemispheres) - set(_HEMISPHERES)
    if unknown:
        raise UsageError(f"hemispheres hold {sorted(unknown)}; allowed are L, R and B")
    known, network = np.unique(np.asarray(networks), return_inverse=True)
    shares = np.zeros((len(counts) - 1, known.size + 1))
    np.add.at(shares.T, network[: counts.shape[1] - 1], counts[1:, 1:].T)
    shares /= np.maximum(counts[1:].sum(axis=1, keepdims=True), 1)
    names, n_named = [], dict[str, int]()
    for share, hemisphere in zip(shares, hemispheres, strict=True):
        best = int(share.argmax())
        is_known = share[best] >= minimum_share and share[best] > 0
        stem = f"{_HEMISPHERES[hemisphere]}_{known[best] if is_known else 'None'}"
        n_named[stem] = n_named.get(stem, 0) + 1
        names.append(f"{stem}_{n_named[stem]}")
    return names
