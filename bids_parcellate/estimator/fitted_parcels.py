"""What fitted parcels are good for: signals, images, scores, other cuts of the tree, pictures and a report."""

import copy
from typing import TYPE_CHECKING, Any, Self

import joblib
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from bids_parcellate.errors import UsageError
from bids_parcellate.estimator.containers import ContainerMixin, Signals
from bids_parcellate.estimator.fitting import move_labels
from bids_parcellate.estimator.masker import Masker, check_signals
from bids_parcellate.estimator.resources import working
from bids_parcellate.io.masking import Mask
from bids_parcellate.numerics.cluster import Method
from bids_parcellate.numerics.cluster.estimators import Agglomerative, FeatureClusterer
from bids_parcellate.numerics.features import FeatureMode, features
from bids_parcellate.numerics.graph import voxel_adjacency
from bids_parcellate.numerics.quality.shape import shapes
from bids_parcellate.numerics.quality.variance import ExplainedVariance, explained_variance
from bids_parcellate.numerics.reduction import MergedReduction
from bids_parcellate.numerics.signals import Labels
from bids_parcellate.parcels.atlas import Parcellation, paint
from bids_parcellate.runs.inputs import InputRun, collect_runs
from bids_parcellate.runs.preprocessing import Preprocessing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bids_parcellate.report.group_page import HTMLReport


class FittedParcels(ContainerMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """What :class:`bids_parcellate.Parcellations` can do once ``fit`` has found the parcels.

    ``fit`` sets the attributes below and calls ``_set_labels``.
    """

    method: Method | None
    n_parcels: int
    n_jobs: int
    verbose: int

    masker_: Masker
    components_: npt.NDArray[np.float32]
    clusterer_: FeatureClusterer
    _merged: MergedReduction
    _mode: FeatureMode
    _parcellation: Parcellation

    def transform(self, imgs: object, confounds: object = None, sample_mask: object = None) -> Signals | list[Signals]:
        """Extract the signals of the parcels: the means of their voxels, cleaned.

        Images on another grid are not resampled, the parcels are (nearest neighbour).

        Parameters
        ----------
        imgs, confounds, sample_mask
            As in `fit`.

        Returns
        -------
        ndarray or data frame, shape (n_volumes, n_parcels), or list of them
            The signals of a single image; a list for a list of several. A parcel that holds no voxel of an image has
            NaN there, and a warning names it. As in nilearn, signals are float32 for images of that type and for
            smoothed whole numbers, else float64.

        Raises
        ------
        ParcellateError
            If an image cannot be used.
        """
        check_is_fitted(self)
        inputs = collect_runs(imgs, confounds, sample_mask)
        mask, names = self.masker_.mask_, self.get_feature_names_out()
        grids = {run.grid.key: run.grid for run in inputs.runs}
        places = {key: move_labels(self.labels_, mask, grid, names) for key, grid in grids.items()}
        extract = joblib.delayed(self._extract)
        with working(self.verbose):
            signals = joblib.Parallel(n_jobs=self.n_jobs, prefer="threads")(
                extract(run, *places[run.grid.key]) for run in inputs.runs
            )
        typed = [each.astype(self._signal_dtype(run)) for each, run in zip(signals, inputs.runs, strict=True)]
        return self._contain(inputs.arrange(typed))

    def inverse_transform(self, signals: object) -> nib.Nifti1Image | list[nib.Nifti1Image]:
        """Paint the signals of parcels into images.

        Parameters
        ----------
        signals : array-like of shape (n_parcels,) or (n_volumes, n_parcels), or list of them
            Arrays or data frames.

        Returns
        -------
        Nifti1Image or list of Nifti1Image
            Each voxel has the value of its parcel; 0 outside. 3-D or 4-D, of the type of the signals.
        """
        check_is_fitted(self)
        items = list(signals) if isinstance(signals, list | tuple) else [signals]
        values = [check_signals(item, self.n_elements_) for item in items]
        images = [self.masker_.inverse_transform(each[..., self.labels_ - 1]) for each in values]
        return images[0] if len(images) == 1 else images

    def score(
        self,
        imgs: object,
        y: object = None,
        confounds: object = None,
        per_component: bool = False,
        sample_mask: object = None,
    ) -> float | npt.NDArray[np.float64]:
        """Measure how well the parcels describe images: the share of the voxels' variance that the parcels explain.

        Parameters
        ----------
        imgs, confounds, sample_mask
            As in `fit`; best images that were not used there.
        y : None
            Ignored.
        per_component : bool, default=False
            Whether the share is wanted for each parcel.

        Returns
        -------
        float or ndarray of float64, shape (n_parcels,)
            From 0 to 1: 1 if the (z-scored) signals of the voxels of each parcel are the same. Pooled over all images.

        Notes
        -----
        More and smaller parcels always explain more. Compare scores at the same number of parcels. nilearn scores the
        components, not the parcels.
        """
        del y
        check_is_fitted(self)
        inputs = collect_runs(imgs, confounds, sample_mask)
        preprocessing = Preprocessing.of(self.masker_).standardizing("zscore_sample")
        explain = joblib.delayed(self._explain)
        with working(self.verbose):
            sums = joblib.Parallel(n_jobs=self.n_jobs, prefer="threads")(
                explain(run, preprocessing) for run in inputs.runs
            )
        explained = sum(sums[1:], sums[0])
        return np.nan_to_num(explained.per_parcel) if per_component else float(np.nan_to_num(explained.overall))

    def cut(self, n_parcels: int) -> Self:
        """Cut the tree of ward, complete or average into another number of parcels, without a new fit.

        Parameters
        ----------
        n_parcels : int
            Number of parcels. Parcellations of one tree are nested.

        Returns
        -------
        Parcellations
            A fitted estimator that shares everything but the parcels with this one.

        Raises
        ------
        UsageError
            If the method makes no tree, or the tree has no such cut.
        """
        check_is_fitted(self)
        if not isinstance(self.clusterer_, Agglomerative):
            raise UsageError(f"method={self.method!r} makes no tree that could be cut", "fit again with n_parcels")
        other = copy.copy(self)
        other.n_parcels = n_parcels
        other._set_labels(self.clusterer_.cut(n_parcels))  # noqa: SLF001 -- of the same class
        return other

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Give the names of the parcels, which are the columns of `transform`.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        ndarray of str, shape (n_parcels,)
            ``parcel001`` and so on, as in the tables that the command line writes.
        """
        del input_features
        check_is_fitted(self)
        return self.parcels_["name"].to_numpy(dtype=object)

    def plot(self, *, background: npt.NDArray[Any] | None = None, title: str | None = None) -> "Figure":
        """Draw the parcels on slices of the brain.

        Parameters
        ----------
        background : ndarray of shape (X, Y, Z), optional
            What is shown in grey below the parcels, on the grid of ``labels_img_``.
        title : str, optional
            Title of the picture.

        Returns
        -------
        matplotlib.figure.Figure
            ``savefig`` writes it to a file; a notebook shows it.

        Raises
        ------
        UsageError
            If matplotlib is not installed, which the extra ``plotting`` brings along.
        """
        check_is_fitted(self)
        from bids_parcellate.report.figures import draw_parcellation  # noqa: PLC0415 - only pictures need matplotlib

        return draw_parcellation(self._parcellation, background=background, title=title)

    def generate_report(self, *, title: str | None = None) -> "HTMLReport":
        """Make an HTML report of the parcels, in one file.

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
        from bids_parcellate.report.group_page import HTMLReport, render_parcellation_report  # noqa: PLC0415

        heading = title or f"{self.n_elements_} parcels by {self.method}"
        return HTMLReport(
            render_parcellation_report(self._parcellation, title=heading, parameters=self.get_params(deep=False))
        )

    @property
    def n_elements_(self) -> int:
        """Number of parcels."""
        return len(self.sizes_)

    @property
    def mask_img_(self) -> nib.Nifti1Image:
        """The mask as an image of 0 and 1."""
        return self.masker_.mask_img_

    @property
    def components_img_(self) -> nib.Nifti1Image:
        """The components as a 4-D image."""
        return self.masker_.inverse_transform(self.components_)

    @property
    def connectivity_(self) -> Any:
        """Which voxels are neighbours."""
        if isinstance(self.clusterer_, Agglomerative):
            return self.clusterer_.connectivity
        raise AttributeError(f"method={self.method!r} has no connectivity_")

    @property
    def quality_(self) -> pd.DataFrame:
        """How good each parcel is, as far as the features that were clustered tell."""
        mask = self.masker_.mask_
        positions, axes = np.argwhere(mask.data), mask.grid.affine[:3, :3]
        form = shapes(self.labels_, positions, axes, voxel_adjacency(mask.data))
        return self.parcels_[["index", "name", "n_voxels"]].assign(
            n_pieces=form.n_pieces, explained_variance=np.nan_to_num(self._explained_features().per_parcel)
        )

    @property
    def explained_variance_(self) -> float:
        """Share of the variance of the features that the parcels explain."""
        return float(np.nan_to_num(self._explained_features().overall))

    def _explained_features(self) -> ExplainedVariance:
        return explained_variance(features(self._merged, self._mode), [self.labels_])[0]

    def _explain(self, run: InputRun, preprocessing: Preprocessing) -> ExplainedVariance:
        return explained_variance(preprocessing.voxel_signals(run, self.masker_.mask_), [self.labels_])[0]

    def _extract(self, run: InputRun, mask: Mask, labels: Labels) -> npt.NDArray[np.float64]:
        """Extract the signals of the parcels from a run."""
        preprocessing = Preprocessing.of(self.masker_)
        return preprocessing.parcel_signals(run, mask, [labels], [self.n_elements_])[0]

    def _signal_dtype(self, run: InputRun) -> np.dtype[Any]:
        is_smoothed = self.masker_.smoothing_fwhm is not None
        return run.signal_dtype(of_integers=np.float32 if is_smoothed else np.float64)

    def _set_labels(self, labels: npt.NDArray[np.int32]) -> None:
        parcellation = self._parcellation = paint(labels, self.masker_.mask_)
        self.labels_ = labels + 1
        self.labels_img_ = nib.Nifti1Image(parcellation.labels, parcellation.grid.affine)
        self.parcels_ = parcellation.table
        self.sizes_ = parcellation.table["n_voxels"].to_numpy()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "labels_img_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # images
        return tags
