"""The masker: from images to the signals of voxels, and back."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import joblib
import nibabel as nib
import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from bids_parcellate.errors import UsageError
from bids_parcellate.estimator.containers import ContainerMixin, Signals
from bids_parcellate.estimator.mask_finding import MaskFinder
from bids_parcellate.estimator.resources import open_memory, working
from bids_parcellate.io.images import ImageLike, iter_volumes
from bids_parcellate.numerics.resampling import resample
from bids_parcellate.runs.inputs import InputRun, Inputs, InputTypeError, collect_runs
from bids_parcellate.runs.preprocessing import Preprocessing

if TYPE_CHECKING:
    from bids_parcellate.report.group_page import HTMLReport

logger = logging.getLogger(__name__)


class Masker(ContainerMixin, ClassNamePrefixFeaturesOutMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Find the voxels to use, and extract their cleaned signals.

    It does what :class:`nilearn.maskers.NiftiMasker` and ``MultiNiftiMasker`` do, in single precision and reading one
    volume at a time.

    Parameters
    ----------
    mask_img : path or nibabel image, optional
        A mask; by default it is computed.
    smoothing_fwhm, standardize, standardize_confounds, detrend, low_pass, high_pass, t_r
        As in :class:`bids_parcellate.runs.preprocessing.Preprocessing`.
    target_affine, target_shape, mask_strategy, mask_args
        As in :class:`bids_parcellate.estimator.mask_finding.MaskFinder`.
    dtype : dtype, "auto" or None, default=None
        Type of the signals. None: as nilearn, float64 for images of that type and for scaled ones, else float32.
        "auto": float32.
    memory : joblib.Memory, path or None, default=None
        Where the masks of images are cached.
    memory_level : int, default=1
        Caches from 1 on.
    n_jobs : int, default=1
        Number of images that are worked on at a time, in threads.
    verbose : int, default=0
        From 1 on, messages go to standard error. They always go to the logger ``bids_parcellate``.
    reports : bool, default=True
        Keep a volume of the first image for `generate_report`.

    Attributes
    ----------
    mask_ : Mask
        The voxels.
    mask_img_ : Nifti1Image
        The same as an image of 0 and 1.
    affine_ : ndarray of float64, shape (4, 4)
        Affine of the mask, and of the images of `inverse_transform`.
    n_elements_ : int
        Number of voxels.
    memory_ : joblib.Memory
        The cache.
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
        dtype: npt.DTypeLike | None = None,
        memory: joblib.Memory | str | Path | None = None,
        memory_level: int = 1,
        n_jobs: int = 1,
        verbose: int = 0,
        reports: bool = True,
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
        self.dtype = dtype
        self.memory = memory
        self.memory_level = memory_level
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.reports = reports

    def fit(self, imgs: object = None, y: object = None) -> Self:
        """Find the voxels.

        Parameters
        ----------
        imgs : images, optional
            As in :func:`bids_parcellate.runs.inputs.collect_runs`. Not needed where there is a ``mask_img``.
        y : None
            Ignored.

        Returns
        -------
        Masker
            The masker itself.

        Raises
        ------
        ParcellateError
            If a parameter cannot be used, or there is no mask and none can be computed.
        """
        del y
        Preprocessing.of(self)  # refuses values that are not allowed, before any work
        if self.dtype is not None and np.dtype(self._requested_dtype).kind not in "iuf":
            raise InputTypeError(f"dtype is {self.dtype!r}; a type of numbers, 'auto' or None is needed")
        self.memory_ = open_memory(self.memory, self.memory_level)
        runs = () if imgs is None else collect_runs(imgs).runs
        with working(self.verbose):
            self.mask_ = MaskFinder.of(self).find(runs, self.memory_, self.n_jobs)
            logger.info("The mask has %d voxels.", self.mask_.n_voxels)
        n_elsewhere = sum(not run.grid.matches(self.mask_.grid) for run in runs)
        if n_elsewhere and self.target_affine is None:
            warnings.warn(
                f"{n_elsewhere} of {len(runs)} runs lie on another grid than the mask, and are resampled to it.",
                UserWarning,
                stacklevel=2,
            )
        self._background = self._first_volume(runs[0]) if self.reports and runs else None
        return self

    def transform(self, imgs: object, confounds: object = None, sample_mask: object = None) -> Signals | list[Signals]:
        """Extract the cleaned signals of the voxels.

        Parameters
        ----------
        imgs, confounds, sample_mask
            As in :func:`bids_parcellate.runs.inputs.collect_runs`.

        Returns
        -------
        ndarray of ``dtype`` or data frame, shape (n_volumes, n_voxels), or list of them
            The signals of a single 4-D image; an array of shape (n_voxels,) for a 3-D one; a list for a list of
            several.
        """
        check_is_fitted(self)
        inputs = collect_runs(imgs, confounds, sample_mask)
        arranged = inputs.arrange(self._extract(inputs, self.n_jobs))
        if isinstance(arranged, list):
            return self._contain([each[0] for each in arranged] if inputs.layout == "volumes" else arranged)
        return self._contain(_without_time(arranged, inputs.runs[0]))

    def transform_single_imgs(
        self,
        imgs: object,
        confounds: object = None,
        sample_mask: object = None,
        copy: bool = True,  # noqa: ARG002 -- of nilearn; nothing here changes an image
    ) -> Signals:
        """Extract the signals of one run, in an array also if it is a list of 3-D images.

        Parameters
        ----------
        imgs, confounds, sample_mask
            As in `transform`.
        copy : bool
            Ignored.

        Returns
        -------
        ndarray of ``dtype`` or data frame, shape (n_volumes, n_voxels)
            The signals; an array of shape (n_voxels,) for a 3-D image.

        Raises
        ------
        UsageError
            If there are several runs.
        """
        check_is_fitted(self)
        inputs = collect_runs(imgs, confounds, sample_mask)
        if len(inputs.runs) > 1:
            raise UsageError(f"one image is needed, but there are {len(inputs.runs)}", "use transform")
        (signals,) = self._extract(inputs, 1)
        return self._contain(_without_time(signals, inputs.runs[0]))

    def transform_imgs(
        self,
        imgs_list: object,
        confounds: object = None,
        sample_mask: object = None,
        copy: bool = True,  # noqa: ARG002 -- of nilearn; nothing here changes an image
        n_jobs: int = 1,
    ) -> list[Signals]:
        """Extract the signals of several images, in a list also if there is one.

        Parameters
        ----------
        imgs_list, confounds, sample_mask
            As in `transform`.
        copy : bool
            Ignored.
        n_jobs : int, default=1
            Number of images that are worked on at a time, in threads.

        Returns
        -------
        list of ndarray or data frame
            As the items of `transform`.
        """
        check_is_fitted(self)
        inputs = collect_runs(imgs_list, confounds, sample_mask)
        signals = self._extract(inputs, n_jobs)
        if inputs.layout == "volumes":
            return self._contain(list(signals[0]))
        return self._contain([_without_time(*each) for each in zip(signals, inputs.runs, strict=True)])

    def fit_transform(
        self, imgs: object, y: object = None, confounds: object = None, sample_mask: object = None
    ) -> Signals | list[Signals]:
        """Find the voxels, and extract their signals.

        Parameters
        ----------
        imgs, confounds, sample_mask
            As in `transform`.
        y : None
            Ignored.

        Returns
        -------
        ndarray of ``dtype`` or data frame, shape (n_volumes, n_voxels), or list of them
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

    def generate_report(self, *, title: str | None = None) -> "HTMLReport":
        """Make an HTML report of the mask, in one file.

        Parameters
        ----------
        title : str, optional
            Its heading.

        Returns
        -------
        HTMLReport
            ``save_as_html`` and ``open_in_browser``; a notebook shows it.
        """
        check_is_fitted(self)
        from bids_parcellate.report.group_page import HTMLReport  # noqa: PLC0415
        from bids_parcellate.report.mask_report import render_mask_report  # noqa: PLC0415 - only pictures need matplotlib

        return HTMLReport(
            render_mask_report(
                self.mask_,
                title=title or "Mask",
                parameters=self.get_params(deep=False),
                background=self._background,
            )
        )

    @property
    def mask_img_(self) -> nib.Nifti1Image:
        """The voxels as an image of 0 and 1."""
        return nib.Nifti1Image(self.mask_.data.astype(np.uint8), self.mask_.grid.affine)

    @property
    def affine_(self) -> npt.NDArray[np.float64]:
        """Affine of the mask."""
        return self.mask_.grid.affine

    @property
    def n_elements_(self) -> int:
        """Number of voxels."""
        return self.mask_.n_voxels

    @property
    def _n_features_out(self) -> int:
        """What scikit-learn makes the names of the features of."""
        return self.n_elements_

    @property
    def _requested_dtype(self) -> npt.DTypeLike | None:
        return np.float32 if isinstance(self.dtype, str) and self.dtype == "auto" else self.dtype

    def _extract(self, inputs: Inputs, n_jobs: int) -> list[npt.NDArray[Any]]:
        """Extract the signals of each run, of the type that is wanted."""
        extract = joblib.delayed(Preprocessing.of(self).voxel_signals)
        with working(self.verbose):
            signals = joblib.Parallel(n_jobs=n_jobs, prefer="threads")(extract(run, self.mask_) for run in inputs.runs)
        wanted = self._requested_dtype
        return [
            each.astype(run.signal_dtype() if wanted is None else wanted, copy=False)
            for each, run in zip(signals, inputs.runs, strict=True)
        ]

    def _first_volume(self, run: InputRun) -> npt.NDArray[Any]:
        """Read a volume to draw the mask on."""
        volumes = iter_volumes(run.images[0])
        volume = next(volumes)
        volumes.close()  # type: ignore[attr-defined]  # a generator: the file is closed
        return resample(volume, run.grid, self.mask_.grid, interpolation="linear")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "mask_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


def _without_time(signals: npt.NDArray[Any], run: InputRun) -> npt.NDArray[Any]:
    """Take away the axis of time of a 3-D image."""
    return signals[0] if [info.ndim for info in run.infos] == [3] else signals


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
    if values.dtype.kind in "iu" and values.dtype.itemsize < 8:
        return values
    if values.size and (values.min() < -(2**31) or values.max() >= 2**31):
        raise UsageError(f"input to 'inverse_transform' has values up to {values.max()}, which int32 cannot hold")
    return values.astype(np.int32)
