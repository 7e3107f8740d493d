"""How a mask is computed from the values of one volume."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_parcellate.errors import DataError, UsageError

BoolArray = npt.NDArray[np.bool_]

_SIGMA_OF_ONE_VOXEL = 1 / math.sqrt(8 * math.log(2))  # of a Gaussian with a FWHM of one voxel


def compute_epi_mask(
    mean_volume: npt.NDArray[Any],
    *,
    lower_cutoff: float = 0.2,
    upper_cutoff: float = 0.85,
    connected: bool = True,
    opening: int = 2,
    exclude_zeros: bool = False,
) -> BoolArray:
    """Find the brain in the mean of an EPI run, with the results of ``nilearn.masking.compute_epi_mask``.

    The threshold is the middle of the widest gap between neighbours in the sorted values, between two
    fractions of all values (T. Nichols' heuristic). Axes of a single voxel are left out of the opening, so
    that an image of one slice keeps its mask, which it loses in nilearn.

    Parameters
    ----------
    mean_volume : ndarray of shape (X, Y, Z)
        Mean over time. Values that are not finite count as 0.
    lower_cutoff, upper_cutoff : float, default=0.2, 0.85
        The fractions of the values between which the gap is looked for. If the mask is too large, raise
        ``lower_cutoff``.
    connected : bool, default=True
        Keep only the largest piece.
    opening : int, default=2
        Voxels by which the mask is eroded before ``connected``, to cut thin bridges, and grown again after
        it. If not 0, the mean is smoothed first (FWHM of one voxel).
    exclude_zeros : bool, default=False
        Leave values of 0 out of the search, for images that were padded with zeros.

    Returns
    -------
    ndarray of shape (X, Y, Z), bool
        True in the brain.

    Raises
    ------
    UsageError
        If the cutoffs are not in order within 0 and 1.
    DataError
        If the values leave nothing to choose between, or no voxel remains.
    """
    if not 0 <= lower_cutoff < upper_cutoff <= 1:
        raise UsageError(f"lower_cutoff={lower_cutoff} and upper_cutoff={upper_cutoff} must rise within 0 and 1")
    mean = np.array(mean_volume, dtype=np.float64)
    is_nan = np.isnan(mean)
    mean[~np.isfinite(mean)] = 0
    if opening:
        mean = ndimage.gaussian_filter(mean, _SIGMA_OF_ONE_VOXEL)
        mean[is_nan] = 0
    values = np.sort(mean[mean != 0] if exclude_zeros else mean, axis=None)
    lower = math.floor(lower_cutoff * values.size)
    upper = min(math.floor(upper_cutoff * values.size), values.size - 1)
    gaps = np.diff(values[lower : upper + 1])
    if not gaps.any():
        raise DataError(
            f"no EPI mask: the {values.size} values do not differ between the fractions {lower_cutoff} and "
            f"{upper_cutoff}",
            "use another mask strategy, or other cutoffs",
        )
    widest = lower + int(gaps.argmax())
    return _tidy(mean >= 0.5 * (values[widest] + values[widest + 1]), connected=connected, opening=opening)


def compute_background_mask(
    mean_volume: npt.NDArray[Any], *, border_size: int = 2, connected: bool = False, opening: int = 0
) -> BoolArray:
    """Find what differs from the background, with the results of ``nilearn.masking.compute_background_mask``.

    The background is the median of the image's border, or NaN where the border holds any.

    Parameters
    ----------
    mean_volume : ndarray of shape (X, Y, Z)
        Mean over time.
    border_size : int, default=2
        Voxels from the outside that are border. An axis of a single voxel has none.
    connected, opening
        As in `compute_epi_mask`.

    Returns
    -------
    ndarray of shape (X, Y, Z), bool
        True where the image is not background.

    Raises
    ------
    UsageError
        If the border is empty.
    DataError
        If no voxel remains.
    """
    if border_size < 1:
        raise UsageError(f"border_size={border_size}; it must be at least 1")
    sides = [
        np.take(mean_volume, side, axis).ravel()
        for axis, size in enumerate(mean_volume.shape)
        if size > 1
        for side in (range(min(border_size, size)), range(max(size - border_size, 0), size))
    ]
    border = np.concatenate(sides)
    mask = ~np.isnan(mean_volume) if np.isnan(border).any() else mean_volume != np.median(border)
    return _tidy(mask, connected=connected, opening=opening)


def compute_template_mask(
    template: npt.NDArray[Any], *, threshold: float = 0.5, connected: bool = True, opening: int = 0
) -> BoolArray:
    """Threshold a template, as ``nilearn.masking.compute_brain_mask`` does with its own.

    nilearn opens the mask by 2 voxels by default, which all but erases grey and white matter at the
    resolution of fMRI; the default here is none, as templates have no noise to remove.

    Parameters
    ----------
    template : ndarray of shape (X, Y, Z)
        Probability of the tissue, or a brain mask, on the grid of the data.
    threshold : float, default=0.5
        The smallest value that belongs to the mask.
    connected, opening
        As in `compute_epi_mask`.

    Returns
    -------
    ndarray of shape (X, Y, Z), bool
        The mask.

    Raises
    ------
    DataError
        If no voxel remains.
    """
    return _tidy(template >= threshold, connected=connected, opening=opening)


MASK_FUNCTIONS: dict[str, Callable[..., BoolArray]] = {
    "epi": compute_epi_mask,
    "background": compute_background_mask,
    "whole-brain-template": compute_template_mask,
    "gm-template": compute_template_mask,
    "wm-template": compute_template_mask,
}


def compute_mask(volume: npt.NDArray[Any], strategy: str, mask_args: Mapping[str, float] | None = None) -> BoolArray:
    """Compute a mask by the name of its strategy.

    Parameters
    ----------
    volume : ndarray of shape (X, Y, Z)
        Mean over time, for "epi" and "background"; otherwise the template.
    strategy : {"epi", "background", "whole-brain-template", "gm-template", "wm-template"}
        Which of the functions above is used.
    mask_args : mapping, optional
        Arguments of that function, by name.

    Returns
    -------
    ndarray of shape (X, Y, Z), bool
        The mask.

    Raises
    ------
    UsageError
        If there is no such strategy, or its function has no such argument.
    DataError
        If no voxel remains.
    """
    if strategy not in MASK_FUNCTIONS:
        raise UsageError(f"mask strategy {strategy!r} is none of {', '.join(MASK_FUNCTIONS)}")
    function, arguments = MASK_FUNCTIONS[strategy], dict(mask_args or {})
    _, *allowed = inspect.signature(function).parameters
    if unknown := sorted(arguments.keys() - set(allowed)):
        raise UsageError(
            f"mask strategy {strategy!r} has no argument {', '.join(unknown)}", f"it has {', '.join(allowed)}"
        )
    return function(volume, **arguments)


def label_pieces(mask: BoolArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Give each connected piece of a mask a number; voxels that touch at a face are connected.

    Parameters
    ----------
    mask : ndarray of shape (X, Y, Z), bool
        The mask.

    Returns
    -------
    pieces : ndarray of shape (X, Y, Z), int32
        The number of each voxel's piece, from 1; 0 outside the mask.
    sizes : ndarray of shape (n_pieces + 1,), int64
        Number of voxels of each piece; 0 for what is outside the mask.
    """
    pieces, n_pieces = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel(), minlength=n_pieces + 1)
    sizes[0] = 0
    return pieces, sizes


def _tidy(mask: BoolArray, *, connected: bool, opening: int) -> BoolArray:
    """Erode, keep the largest piece, and grow back by opening and closing."""
    steps = int(opening)
    faces = ndimage.generate_binary_structure(3, 1)
    faces = faces[tuple(slice(None) if size > 1 else slice(1, 2) for size in mask.shape)]
    if steps:
        mask = ndimage.binary_erosion(mask, faces, iterations=steps)
    if not mask.any():
        raise DataError(
            f"the mask is empty after an erosion by {steps} voxels",
            "choose a smaller opening, another threshold or cutoff, or another mask strategy",
        )
    if connected:
        pieces, sizes = label_pieces(mask)
        mask = pieces == sizes.argmax()
    if steps:
        mask = ndimage.binary_dilation(mask, faces, iterations=2 * steps)
        mask = ndimage.binary_erosion(mask, faces, iterations=steps)
    return mask
