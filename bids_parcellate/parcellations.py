"""The estimator: learn a brain parcellation from fMRI images, with the interface of nilearn's ``Parcellations``."""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import joblib
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from bids_parcellate.atlas import paint
from bids_parcellate.cluster import SPATIAL_METHODS, Agglomerative, FeatureClusterer, Method, ReNA, make_clusterer
from bids_parcellate.errors import UsageError
from bids_parcellate.fitting import connect_voxels, explain, merge_runs, move_labels
from bids_parcellate.inputs import InputTypeError, collect_runs
from bids_parcellate.log import console
from bids_parcellate.masker import Masker, adopt_parameters, check_signals, is_masker
from bids_parcellate.reduction import FeatureMode, features
from bids_parcellate.run_signals import Preprocessing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bids_parcellate.report import HTMLReport

logger = logging.getLogger(__name__)

Signals = npt.NDArray[np.float64] | pd.DataFrame | Any  # Any: a data frame of polars, which need not be installed
Outputs = Literal["default", "pandas", "polars"]


class Parcellations(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[misc,call-arg]
    """Learn a parcellation of the brain from fMRI images.

    A drop-in replacement of :class:`nilearn.regions.Parcellations`. Each run is read as a stream, smoothed, cleaned and
    reduced to its leading components; the runs are merged one after another; and the voxels are clustered by what they
    contribute to the group's components.

    Parameters
    ----------
    method : {"kmeans", "ward", "complete", "average", "rena", "hierarchical_kmeans"}
        How voxels are clustered. Parcels of ward, complete, average and rena are contiguous.
    n_parcels : int, default=50
        Number of parcels: exactly so many are made, or an error says why they cannot be.
    random_state : int, RandomState or None, default=0
        Seed of kmeans and hierarchical_kmeans.
    mask : path, nibabel image, masker or None, default=None
        The voxels to use. By default the mask is computed from the images. The parameters of a masker (nilearn's
        ``NiftiMasker`` or ``MultiNiftiMasker``) override those below. Of contiguous parcels, pieces of the mask that
        touch no other and hold less than 1% of its voxels are left out, with a warning.
    smoothing_fwhm : float or None, default=4.0
        Full width at half maximum of the Gaussian with which images are smoothed, in mm.
    standardize : {False, True, "zscore_sample", "zscore", "psc", None}, default=False
        How signals are scaled; True is "zscore_sample". With ``features="scaled"`` voxels are always z-scored before
        they are reduced, and this is how the signals of parcels are scaled.
    standardize_confounds : bool, default=True
        Centre the confounds, so that regressing them out leaves the mean of a signal as it is.
    detrend : bool, default=False
        Remove the linear trend and the mean.
    low_pass : float or None, default=None
        Frequency above which the Butterworth filter takes away, in Hz.
    high_pass : float or None, default=None
        Frequency below which it takes away, in Hz.
    t_r : float or None, default=None
        Repetition time in seconds. Only filters need it.
    target_affine : array-like of shape (3, 3) or (4, 4), or None, default=None
        Grid to which mask and images are resampled for the fit.
    target_shape : sequence of 3 int or None, default=None
        Number of its voxels, for an affine of shape (4, 4).
    mask_strategy : str, default="epi"
        How the mask is computed: "epi" or "background", from the images; "whole-brain-template", "gm-template" or
        "wm-template", from TemplateFlow's MNI152NLin2009cAsym as far as it is on this machine.
    mask_args : mapping or None, default=None
        Arguments of the strategy, by name, such as ``threshold``.
    scaling : bool, default=False
        For rena, whether ``clusterer_.transform`` keeps the norm of the data. It does not change the parcels.
    n_iter : int, default=10
        Not used: rena makes as many passes as ``n_parcels`` needs.
    memory : joblib.Memory, path or None, default=None
        Where masks and reductions of runs and the clustering are cached.
    memory_level : int, default=0
        Caches from 1 on.
    n_jobs : int, default=1
        Number of runs that are worked on at a time, in threads. The result does not depend on it.
    verbose : int, default=0
        From 1 on, messages go to standard error. They always go to the logger ``bids_parcellate``.
    features : {"scaled", "nilearn"}, default="scaled"
        What voxels are compared by. "scaled": the components of z-scored signals, scaled by their singular values, so
        that distances between voxels are those of their denoised signals. "nilearn": components of the same variance
        each, as nilearn has them: noise counts as much as signal, and memory grows with the number of runs.
    n_components : int, default=200
        Largest number of components of a run, and of the group.

    Attributes
    ----------
    labels_img_ : Nifti1Image of int32
        The parcels, 1 to ``n_parcels``, and 0 outside.
    labels_ : ndarray of int32, shape (n_voxels,)
        The same for the voxels of the mask.
    sizes_ : ndarray of int, shape (n_parcels,)
        Number of voxels of each parcel.
    parcels_ : DataFrame
        A row for each parcel: index, name, colour, hemisphere, centre of mass in mm, and size.
    n_elements_ : int
        Number of parcels.
    masker_ : Masker
        It has extracted the signals of the voxels: ``transform`` and ``inverse_transform``.
    mask_img_ : Nifti1Image
        The mask.
    components_ : ndarray of float32, shape (n_components, n_voxels)
        The group's components: orthonormal rows.
    components_img_ : Nifti1Image
        The same as an image.
    variance_ : ndarray of float64, shape (n_components,)
        Their singular values, in descending order.
    clusterer_ : FeatureClusterer
        The fitted estimator of the method; with ward, complete and average it holds the whole tree.
    connectivity_ : csr_array of bool, shape (n_voxels, n_voxels)
        Which voxels are neighbours; with ward, complete and average.

    See Also
    --------
    bids_parcellate.cluster : The methods, for arrays.

    Notes
    -----
    Confounds, filters, trend and censoring are one linear operation, as in :func:`bids_parcellate.cleaning.clean`. The
    linear algebra runs in one thread for each job, so that results are the same to the last bit.
    """

    VALID_METHODS: ClassVar[tuple[str, ...]] = ("kmeans", "ward", "complete", "average", "rena", "hierarchical_kmeans")

    def __init__(  # noqa: PLR0913, PLR0917 -- the parameters of nilearn's class
        self,
        method: Method | None = None,
        n_parcels: int = 50,
        random_state: int | np.random.RandomState | None = 0,
        mask: Any = None,
        smoothing_fwhm: float | None = 4.0,
        standardize: str | bool | None = False,
        standardize_confounds: bool = True,
        detrend: bool = False,
        low_pass: float | None = None,
        high_pass: float | None = None,
        t_r: float | None = None,
        target_affine: npt.ArrayLike | None = None,
        target_shape: Sequence[int] | None = None,
        mask_strategy: str = "epi",
        mask_args: Mapping[str, Any] | None = None,
        scaling: bool = False,
        n_iter: int = 10,
        memory: joblib.Memory | str | Path | None = None,
        memory_level: int = 0,
        n_jobs: int = 1,
        verbose: int = 0,
        *,
        features: FeatureMode = "scaled",
        n_components: int = 200,
    ) -> None:
        self.method = method
        self.n_parcels = n_parcels
        self.random_state = random_state
        self.mask = mask
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
        self.scaling = scaling
        self.n_iter = n_iter
        self.memory = memory
        self.memory_level = memory_level
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.features = features
        self.n_components = n_components

    def fit(self, imgs: object, y: object = None, confounds: object = None, sample_mask: object = None) -> Self:
        """Learn the parcels.

        Parameters
        ----------
        imgs : path, nibabel image, or list of them
            A 4-D image is a run. A path with wildcards stands for the files that match it. In a list each image is a
            run, and so is a list within it; a list of nothing but 3-D images is one run.
        y : None
            Ignored.
        confounds : table, list of tables, or None
            What is regressed out, one table for each image: the path of a CSV or TSV file, an array or a data frame of
            shape (n_volumes, n_confounds), or a list of them.
        sample_mask : array-like, list of array-like, or None
            The volumes to keep of each image, others are censored: their indices, or a boolean for each volume.

        Returns
        -------
        Parcellations
            The estimator itself.

        Raises
        ------
        ParcellateError
            If a parameter or an image cannot be used, or the images cannot be split into so many parcels. It is a
            ValueError, TypeError or FileNotFoundError as well.
        """
        del y
        method = self._check_parameters()
        inputs = collect_runs(imgs, confounds, sample_mask)
        memory = self._open_memory()
        with self._working():
            masker = self._make_masker(memory).fit(inputs)
            masker.mask_, adjacency = connect_voxels(masker.mask_, self.n_parcels, contiguous=method in SPATIAL_METHODS)
            merged = merge_runs(
                inputs.runs,
                masker.mask_,
                Preprocessing.of(masker),
                self.features,
                self.n_components,
                memory,
                self.n_jobs,
            )
            logger.info("Clustering by %s into %d parcels.", method, self.n_parcels)
            clusterer = make_clusterer(method, self.n_parcels, adjacency=adjacency, random_state=self.random_state)
            if isinstance(clusterer, ReNA):
                clusterer.set_params(scaling=self.scaling)
            self.clusterer_ = memory.cache(_fit_clusterer)(clusterer, features(merged, self.features))
        self.masker_ = masker
        self.components_ = merged.components
        self.variance_ = merged.singular_values
        self._set_labels(self.clusterer_.labels_)
        return self

    def transform(self, imgs: object, confounds: object = None, sample_mask: object = None) -> Signals | list[Signals]:
        """Extract the signals of the parcels: the means of their voxels, cleaned.

        Images on another grid are not resampled, the parcels are (nearest neighbour).

        Parameters
        ----------
        imgs, confounds, sample_mask
            As in `fit`.

        Returns
        -------
        ndarray of float64 or data frame, shape (n_volumes, n_parcels), or list of them
            The signals of a single image; a list for a list of several. A parcel that holds no voxel of an image has
            NaN there, and a warning names it.

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
        extract = joblib.delayed(Preprocessing.of(self.masker_).parcel_signals)
        with self._working():
            signals = joblib.Parallel(n_jobs=self.n_jobs, prefer="threads")(
                extract(run, *places[run.grid.key], self.n_elements_) for run in inputs.runs
            )
        arranged = inputs.arrange(signals)
        return [self._contain(each) for each in arranged] if isinstance(arranged, list) else self._contain(arranged)

    def fit_transform(
        self, imgs: object, y: object = None, confounds: object = None, sample_mask: object = None
    ) -> Signals | list[Signals]:
        """Learn the parcels, and extract their signals from the same images.

        Parameters
        ----------
        imgs, confounds, sample_mask
            As in `fit`.
        y : None
            Ignored.

        Returns
        -------
        ndarray of float64 or data frame, shape (n_volumes, n_parcels), or list of them
            As `transform`.
        """
        inputs = collect_runs(imgs, confounds, sample_mask)
        return self.fit(inputs, y).transform(inputs)

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
        with self._working():
            sums = joblib.Parallel(n_jobs=self.n_jobs, prefer="threads")(
                joblib.delayed(explain)(run, self.masker_.mask_, preprocessing, self.labels_, self.n_elements_)
                for run in inputs.runs
            )
        explained, total = np.sum(sums, axis=0)
        if not per_component:
            explained, total = explained.sum(keepdims=True), total.sum(keepdims=True)
        shares = np.divide(explained, total, out=np.zeros_like(total), where=total > 0)
        return shares if per_component else float(shares[0])

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

    def set_output(self, *, transform: Outputs | None = None) -> Self:
        """Choose what `transform` and `fit_transform` return.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None
            Arrays, or data frames with the names of the parcels as columns. None changes nothing.

        Returns
        -------
        Parcellations
            The estimator itself.
        """
        if transform not in ("default", "pandas", "polars", None):
            raise UsageError(f"transform={transform!r} is none of default, pandas, polars")
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}  # where scikit-learn's clone looks for it
        return self

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
        """
        check_is_fitted(self)
        from bids_parcellate.figures import draw_parcellation  # noqa: PLC0415 - only pictures need matplotlib

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
        from bids_parcellate.report import HTMLReport, render_parcellation_report  # noqa: PLC0415

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

    def _check_parameters(self) -> Method:
        """Refuse values that are not allowed, before any work; return the method."""
        if self.method is None or self.method not in self.VALID_METHODS:
            raise UsageError(f"'method' must be one of {', '.join(self.VALID_METHODS)}, but it is {self.method!r}")
        if self.features not in ("scaled", "nilearn"):
            raise UsageError(f"features is {self.features!r}; allowed are 'scaled' and 'nilearn'")
        for name in ("n_parcels", "n_components"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise UsageError(f"{name} is {value!r}; a whole number of at least 1 is needed")
        if not isinstance(self.memory, joblib.Memory | str | Path | None):
            raise InputTypeError(f"memory is a {type(self.memory).__name__}; a joblib.Memory or a path is needed")
        return self.method

    def _open_memory(self) -> joblib.Memory:
        if self.memory is None:
            return joblib.Memory(None)
        if self.memory_level < 1:
            warnings.warn(
                "memory_level is currently set to 0 but a Memory object has been provided. Setting memory_level to 1.",
                UserWarning,
                stacklevel=3,
            )
        return self.memory if isinstance(self.memory, joblib.Memory) else joblib.Memory(self.memory, verbose=0)

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Keep linear algebra in one thread for each job, and show messages if asked to."""
        with threadpool_limits(1), console() if self.verbose > 0 else nullcontext():
            yield

    def _make_masker(self, memory: joblib.Memory) -> Masker:
        names = Masker().get_params().keys() - {"mask_img", "memory", "n_jobs"}
        parameters = {name: getattr(self, name) for name in sorted(names)}
        parameters = (
            adopt_parameters(self.mask, parameters) if is_masker(self.mask) else parameters | {"mask_img": self.mask}
        )
        return Masker(**parameters, memory=memory, n_jobs=self.n_jobs)

    def _set_labels(self, labels: npt.NDArray[np.int32]) -> None:
        parcellation = self._parcellation = paint(labels, self.masker_.mask_)
        self.labels_ = labels + 1
        self.labels_img_ = nib.Nifti1Image(parcellation.labels, parcellation.grid.affine)
        self.parcels_ = parcellation.table
        self.sizes_ = parcellation.table["n_voxels"].to_numpy()

    def _contain(self, signals: npt.NDArray[np.float64]) -> Signals:
        """Put signals into the container that was chosen."""
        chosen = getattr(self, "_sklearn_output_config", {}).get("transform", sklearn.get_config()["transform_output"])
        names = self.get_feature_names_out()
        if chosen == "pandas":
            return pd.DataFrame(signals, columns=names)
        if chosen == "polars":
            return import_module("polars").DataFrame(signals, schema=list(names), orient="row")
        return signals

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "labels_img_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # images
        return tags


def _fit_clusterer(clusterer: FeatureClusterer, values: npt.NDArray[np.float32]) -> FeatureClusterer:
    """Cluster; a function of its own, so that it can be cached."""
    return clusterer.fit(values)
