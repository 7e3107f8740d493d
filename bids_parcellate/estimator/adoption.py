"""Maskers that users give in place of a mask: this package's and nilearn's, by what they have."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from bids_parcellate.errors import UsageError


def is_masker(mask: object) -> bool:
    """Tell whether an object is a masker: this one, or one of nilearn's for volumes.

    Parameters
    ----------
    mask : object
        Anything.

    Returns
    -------
    bool
        Whether it has a mask and transforms images.
    """
    return hasattr(mask, "mask_img") and hasattr(mask, "fit_transform")


def adopt_parameters(masker: object, own: Mapping[str, Any]) -> dict[str, Any]:
    """Take the parameters of a masker that a user gives; they override the estimator's own.

    Parameters
    ----------
    masker : object
        A masker, fitted or not.
    own : mapping
        The estimator's values of the same parameters.

    Returns
    -------
    dict
        Parameters of a `Masker`.

    Raises
    ------
    UsageError
        If the masker asks for what is not offered here.
    """
    for name in ("runs", "high_variance_confounds", "clean_args"):
        if getattr(masker, name, None):
            raise UsageError(
                f"the masker has {name}={getattr(masker, name)!r}, which is not offered here",
                "pass one image for each run, and all confounds with the images",
            )
    adopted = {name: getattr(masker, name) for name in own if hasattr(masker, name)}
    changed = [name for name, value in adopted.items() if not _is_same(value, own[name])]
    if changed:
        described = ", ".join(f"{name}={adopted[name]!r} (not {own[name]!r})" for name in changed)
        warnings.warn(f"the masker's parameters are used, not the estimator's: {described}", UserWarning, stacklevel=3)
    mask_img = getattr(masker, "mask_img_", None)
    return adopted | {"mask_img": getattr(masker, "mask_img", None) if mask_img is None else mask_img}


def _is_same(one: object, other: object) -> bool:
    same_nothing = (None, False)  # nilearn's two ways not to standardize
    return one is other or bool(np.all(one == other)) or (one in same_nothing and other in same_nothing)
