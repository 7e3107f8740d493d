"""Which voxels of several images are used: the mask that is given, or one that is computed from all of them."""

import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import SpatialImage

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.io.headers import ImageInfo
from bids_parcellate.io.images import ImageLike, read_info
from bids_parcellate.io.masking import Mask, drop_small_pieces, group_mask, read_mask, run_mask
from bids_parcellate.io.templates import template_mask
from bids_parcellate.numerics.grids import Grid, target_grid
from bids_parcellate.numerics.mask_strategies import MASK_FUNCTIONS
from bids_parcellate.runs.inputs import InputRun, InputTypeError, image_digest
from bids_parcellate.runs.parameters import FromEstimator
from bids_parcellate.version import __version__

TEMPLATE_SPACE = "MNI152NLin2009cAsym"

_STRATEGY_ALIASES = {"template": "whole-brain-template"}  # its name in nilearn before 0.10

# Where nilearn's masks of several images have other defaults than those of one.
_GROUP_DEFAULTS: dict[str, dict[str, Any]] = {"epi": {}, "background": {"connected": True, "opening": 2}}

# nilearn wants voxels in more than this share of the masks; `group_mask` in at least this share.
_MORE_THAN = 1e-6


@dataclass(frozen=True)
class MaskFinder(FromEstimator):
    """How the voxels are found: the parameters of nilearn's maskers.

    Parameters
    ----------
    mask_img : path or nibabel image, optional
        A mask; without it, one is computed.
    mask_strategy : str
        How it is computed: "epi", "background", "whole-brain-template" (or "template"), "gm-template", "wm-template".
    mask_args : mapping, optional
        Arguments of the strategy's function in :mod:`bids_parcellate.numerics.mask_strategies`, by name; and for
        "epi" and "background" ``threshold``, the share of images whose masks must hold a voxel (default 0.5).
    target_affine, target_shape
        As in :func:`bids_parcellate.numerics.grids.target_grid`: where voxels are wanted. By default, on the grid of
        the mask that is given, or else on that of the images.
    """

    mask_img: ImageLike | None
    mask_strategy: str
    mask_args: Mapping[str, Any] | None
    target_affine: npt.ArrayLike | None
    target_shape: Any

    def find(self, runs: Sequence[InputRun], memory: joblib.Memory, n_jobs: int) -> Mask:
        """Find the voxels.

        Parameters
        ----------
        runs : sequence of InputRun
            The images; there may be none where a mask is given.
        memory : joblib.Memory
            Where the masks of images are cached.
        n_jobs : int
            Number of images that are worked on at a time, in threads.

        Returns
        -------
        Mask
            The voxels.

        Raises
        ------
        ParcellateError
            If the mask that is given cannot be used, or none can be computed.
        """
        if self.target_shape is not None and self.target_affine is None:
            raise UsageError(f"target_shape={self.target_shape} needs a target_affine, too", "give both or none")
        if self.mask_img is not None:
            return self._given(self.mask_img)
        if not runs:
            raise UsageError("without a mask, images are needed to compute one", "pass images to fit")
        strategy = _STRATEGY_ALIASES.get(self.mask_strategy, self.mask_strategy)
        if strategy not in MASK_FUNCTIONS:
            raise UsageError(f"mask_strategy is {self.mask_strategy!r}; allowed are {', '.join(MASK_FUNCTIONS)}")
        images = [each for run in runs for each in zip(run.images, run.infos, strict=True)]
        grid = self._common_grid([info for _, info in images])
        arguments = _GROUP_DEFAULTS.get(strategy, {}) | self._arguments(strategy)
        if strategy not in _GROUP_DEFAULTS:
            return template_mask(TEMPLATE_SPACE, strategy, grid, mask_args=arguments)
        threshold = arguments.pop("threshold", 0.5)
        compute = joblib.delayed(memory.cache(compute_image_mask, ignore=["image"]))
        parallel = joblib.Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")
        masks = parallel(
            compute(image, strategy, grid, arguments, digest=_cache_digest(memory, image, info))
            for image, info in images
        )
        data = group_mask(masks, threshold if threshold >= 1 else threshold + _MORE_THAN)
        if arguments.get("connected", True):
            data, *_ = drop_small_pieces(data, min_share=1)
        return Mask(data, grid)

    def _given(self, image: ImageLike) -> Mask:
        if not isinstance(image, str | os.PathLike | SpatialImage):
            raise InputTypeError(
                f"a mask cannot be of the type {type(image).__name__}", "pass a path, an image of nibabel, or a masker"
            )
        source = image if isinstance(image, SpatialImage) else Path(image).expanduser()
        return read_mask(source, self._resampled(read_info(source).grid))

    def _common_grid(self, infos: Sequence[ImageInfo]) -> Grid:
        """Find the grid of all images; without a target they must be on the same."""
        first = infos[0].grid
        for info in infos:
            if self.target_affine is None and not info.grid.matches(first):
                raise DataError(
                    f"the images lie on different grids: {infos[0].path or 'the first'} has the shape {first.shape}, "
                    f"{info.path or 'another'} has {info.grid.shape}, or their affines differ",
                    "give a mask or a target_affine, to which they are resampled",
                )
        return self._resampled(first)

    def _resampled(self, grid: Grid) -> Grid:
        return grid if self.target_affine is None else target_grid(grid, self.target_affine, self.target_shape)

    def _arguments(self, strategy: str) -> dict[str, Any]:
        """Give those of ``mask_args`` that the strategy has."""
        _, *allowed = inspect.signature(MASK_FUNCTIONS[strategy]).parameters
        if strategy in _GROUP_DEFAULTS:
            allowed.append("threshold")
        arguments = dict(self.mask_args or {})
        if unknown := sorted(arguments.keys() - set(allowed)):
            warnings.warn(
                f"mask strategy {strategy!r} has no arguments {', '.join(unknown)}: they are ignored. "
                f"It has {', '.join(allowed)}.",
                UserWarning,
                stacklevel=2,
            )
        return {name: value for name, value in arguments.items() if name in allowed}


def compute_image_mask(
    image: ImageLike, strategy: str, grid: Grid, arguments: Mapping[str, Any], *, digest: str
) -> npt.NDArray[np.bool_]:
    """Compute the mask of one image; a function of its own, so that it can be cached.

    Parameters
    ----------
    image : path or nibabel image
        The image.
    strategy : {"epi", "background"}
        How.
    grid : Grid
        Where the mask is wanted.
    arguments : mapping
        Arguments of the strategy's function, by name.
    digest : str
        What stands for the image in the cache.

    Returns
    -------
    ndarray of shape (X, Y, Z), bool
        The mask.
    """
    del digest
    return run_mask(image, strategy, grid=grid, mask_args=arguments).data


def _cache_digest(memory: joblib.Memory, image: ImageLike, info: ImageInfo) -> str:
    return "" if memory.location is None else f"{__version__} {image_digest(image, info)}"
