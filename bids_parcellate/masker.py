"""The masker: from images to the signals of voxels, and back."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any, Self

import joblib
import nibabel as nib
import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from bids_parcellate.errors import UsageError
from bids_parcellate.images import ImageLike
from bids_parcellate.inputs import collect_runs
from bids_parcellate.mask_finding import MaskFinder
from bids_parcellate.run_signals import Preprocessing

logger = logging.getLogger(__name__)


class Masker(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Find the voxels to use, and extract their cleaned signals.

    It does what :class:`nilearn.maskers.NiftiMasker` and ``MultiNiftiMasker`` do, in single precision and reading one
    volume at a time.

    Parameters
    ----------
    mask_img : path or nibabel image, optional
        A mask; by default it is computed.
    smoothing_fwhm, standardize, standardize_confounds, detrend, low_pass, high_pass, t_r
        As in :class:`bids_parcellate.run_signals.Preprocessing`.
    target_affine, target_shape, mask_strategy, mask_args
        As in :class:`bids_parcellate.mask_finding.MaskFinder`.
    memory : joblib.Memory, optional
        Where the masks of images are cached.
    n_jobs : int, default=1
        Number of images that are worked on at a time, in threads.

    Attributes
    ----------
    mask_ : Mask
        The voxels.
    mask_img_ : Nifti1Image
        The same as an image of 0 and 1.
    n_elements_ : int
        Number of voxels.
    """

    def __init__(  # noqa: PLR0913 -- the parameters of nilearn's maskers
        self,
        mask_img: ImageLike | None = None,
        *,
        smoothing_fwhm: float | None = None,
        standardize: str | bool | None = None,
        standardize_confounds: bool = True,
        detrend: bool = False,
        low_pass: float | None = None,
        high_pass: float | None = None,
        t_r: float | None = None,
        target_affine: npt.ArrayLike | None = None,
        target_shape: Any = None,
        mask_strategy: str = "epi",
        mask_args: Mapping[str, Any] | None = None,
        memory: joblib.Memory | None = None,
        n_jobs: int = 1,
    ) -> None:
        self.mask_img = mask_img
        self.smoothing_fwhm = smoothing_fwhm
        self.standardize = standardize
        self.standardize_confounds = standardize_confounds
        self.detrend = detrend
        self.low_pass = low_pass
        self.high_pass = high_pass
        self.t_r = t_r
        self.target_affine = target_affine
        self.target_shape = target_shape
        self.mask_strategy = mask_strategy
        self.mask_args = mask_args
        self.memory = memory
        self.n_jobs = n_jobs

    def fit(self, imgs: object = None, y: object = None) -> Self:
        """Find the voxels.

        Parameters
        ----------
        imgs : images, optional
            As in :func:`bids_parcellate.inputs.collect_runs`. Not needed where there is a ``mask_img``.
        y : None
            Ignored.

        Returns
        -------
        Masker
            The masker itself.

        Raises
        ------
        ParcellateError
            If there is no mask and none can be computed.
        """
        del y
        Preprocessing.of(self)  # refuses values that are not allowed, before any work
        runs = () if imgs is None else collect_runs(imgs).runs
        self.mask_ = MaskFinder.of(self).find(runs, self.memory or joblib.Memory(None), self.n_jobs)
        n_elsewhere = sum(not run.grid.matches(self.mask_.grid) for run in runs)
        if n_elsewhere and self.target_affine is None:
            warnings.warn(
                f"{n_elsewhere} of {len(runs)} runs lie on another grid than the mask, and are resampled to it.",
                UserWarning,
                stacklevel=2,
            )
        logger.info("The mask has %d voxels.", self.mask_.n_voxels)
        return self

    def transform(
        self, imgs: object, confounds: object = None, sample_mask: object = None
    ) -> npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]:
        """Extract the cleaned signals of the voxels.

        Parameters
        ----------
        imgs, confounds, sample_mask
            As in :func:`bids_parcellate.inputs.collect_runs`.

        Returns
        -------
        ndarray of float32, shape (n_volumes, n_voxels), or list of ndarray
            The signals of a single 4-D image; (n_voxels,) for a 3-D one; a list for a list of several.
        """
        check_is_fitted(self)
        inputs = collect_runs(imgs, confounds, sample_mask)
        extract = joblib.delayed(Preprocessing.of(self).voxel_signals)
        parallel = joblib.Parallel(n_jobs=self.n_jobs, prefer="threads")
        signals = parallel(extract(run, self.mask_) for run in inputs.runs)
        arranged = inputs.arrange(signals)
        if inputs.layout == "volumes":
            return [volume[0] for volume in arranged]
        is_volume = inputs.layout == "single" and [info.ndim for info in inputs.runs[0].infos] == [3]
        return arranged[0] if is_volume else arranged

    def fit_transform(
        self, imgs: object, y: object = None, confounds: object = None, sample_mask: object = None
    ) -> npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]:
        """Find the voxels, and extract their signals.

        Parameters
        ----------
        imgs, confounds, sample_mask
            As in `transform`.
        y : None
            Ignored.

        Returns
        -------
        ndarray of float32, shape (n_volumes, n_voxels), or list of ndarray
            As `transform`.
        """
        inputs = collect_runs(imgs, confounds, sample_mask)
        return self.fit(inputs, y).transform(inputs)

    def inverse_transform(self, X: object) -> nib.Nifti1Image:
        """Put values of voxels into an image.

        Parameters
        ----------
        X : array-like of shape (n_voxels,) or (n_volumes, n_voxels)
            The values.

        Returns
        -------
        Nifti1Image
            3-D or 4-D, of the type of the values; 0 outside the mask.
        """
        check_is_fitted(self)
        values = check_signals(X, self.n_elements_)
        volumes = np.zeros((*self.mask_.grid.shape, *values.shape[:-1]), dtype=values.dtype)
        volumes[self.mask_.data] = values.T
        return nib.Nifti1Image(volumes, self.mask_.grid.affine)

    @property
    def mask_img_(self) -> nib.Nifti1Image:
        """The voxels as an image of 0 and 1."""
        return nib.Nifti1Image(self.mask_.data.astype(np.uint8), self.mask_.grid.affine)

    @property
    def n_elements_(self) -> int:
        """Number of voxels."""
        return self.mask_.n_voxels

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


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


def check_signals(signals: object, n_columns: int) -> npt.NDArray[Any]:
    """Check what is to be put into an image.

    Parameters
    ----------
    signals : array-like of shape (n_columns,) or (n_rows, n_columns)
        Numbers; an array or a data frame.
    n_columns : int
        Number of columns.

    Returns
    -------
    ndarray
        Of a type that NIfTI images have.

    Raises
    ------
    UsageError
        If they are no numbers of that shape.
    """
    values = np.asarray(signals.to_numpy() if hasattr(signals, "to_numpy") else signals)
    if values.ndim not in (1, 2) or values.shape[-1] != n_columns:
        expected = (len(values), n_columns) if values.ndim == 2 else (n_columns,)
        raise UsageError(f"Input to 'inverse_transform' has wrong shape. Expected {expected}. Got {values.shape}.")
    if values.dtype.kind not in "biuf":
        raise UsageError(f"input to 'inverse_transform' is of the type {values.dtype}, but numbers are needed")
    if values.dtype.kind == "b":
        warnings.warn("Casting boolean input to int32", UserWarning, stacklevel=3)
    if values.dtype.kind == "f":
        return values.astype(np.float32) if values.dtype.itemsize < 4 else values
    return values.astype(np.int32)
