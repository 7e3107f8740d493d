"""The estimator: learn a brain parcellation from fMRI images, with the interface of nilearn's ``Parcellations``."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import joblib
import numpy as np
import numpy.typing as npt

from bids_parcellate.errors import UsageError
from bids_parcellate.estimator.adoption import adopt_parameters, is_masker
from bids_parcellate.estimator.containers import Signals
from bids_parcellate.estimator.fitted_parcels import FittedParcels
from bids_parcellate.estimator.fitting import connect_voxels, merge_runs
from bids_parcellate.estimator.masker import Masker
from bids_parcellate.estimator.resources import open_memory, working
from bids_parcellate.numerics.cluster import SPATIAL_METHODS, Method
from bids_parcellate.numerics.cluster.estimators import FeatureClusterer, ReNA, make_clusterer
from bids_parcellate.numerics.features import FeatureMode, features
from bids_parcellate.runs.inputs import collect_runs
from bids_parcellate.runs.preprocessing import Preprocessing

logger = logging.getLogger(__name__)

# Parameters that a masker has, too, but does not override.
_NOT_OF_THE_MASK = {"memory", "memory_level", "n_jobs", "verbose"}


class Parcellations(FittedParcels):
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
    quality_ : DataFrame
        A row for each parcel: its index, name and size; ``n_pieces``, the number of its connected pieces; and
        ``explained_variance``, the share of the sum of squares of its voxels' features that their mean explains, from
        0 to 1. It is computed when it is asked for.
    explained_variance_ : float
        The same share for all parcels: the `score` of the features that were clustered. It tells parcellations with the
        same number of parcels and the same features apart, and says nothing of other data.
    n_elements_ : int
        Number of parcels.
    masker_ : Masker
        It has extracted the signals of the voxels: ``transform`` and ``inverse_transform``.
    mask_img_ : Nifti1Image
        The mask.
    memory_ : joblib.Memory
        The cache.
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
    bids_parcellate.numerics.cluster.estimators : The methods, for arrays.

    Notes
    -----
    Confounds, filters, trend and censoring are one linear operation, as in
    :func:`bids_parcellate.numerics.cleaning.clean`. The linear algebra runs in one thread for each job, so
    that results are the same to the last bit.
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
        memory = self.memory_ = open_memory(self.memory, self.memory_level)
        with working(self.verbose):
            masker = self._make_masker().fit(inputs)
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
        self.masker_ = masker.set_params(verbose=self.verbose)
        self._merged, self._mode = merged, self.features
        self.components_ = merged.components
        self.variance_ = merged.singular_values
        self._set_labels(self.clusterer_.labels_)
        return self

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
        ndarray or data frame, shape (n_volumes, n_parcels), or list of them
            As `transform`.
        """
        inputs = collect_runs(imgs, confounds, sample_mask)
        return self.fit(inputs, y).transform(inputs)

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
        return self.method

    def _make_masker(self) -> Masker:
        names = (name for name in Masker().get_params() if hasattr(self, name) and name not in _NOT_OF_THE_MASK)
        own = {name: getattr(self, name) for name in names}
        parameters = adopt_parameters(self.mask, own) if is_masker(self.mask) else own | {"mask_img": self.mask}
        return Masker(**parameters, memory=self.memory_, n_jobs=self.n_jobs, reports=False)


def _fit_clusterer(clusterer: FeatureClusterer, values: npt.NDArray[np.float32]) -> FeatureClusterer:
    """Cluster; a function of its own, so that it can be cached."""
    return clusterer.fit(values)
