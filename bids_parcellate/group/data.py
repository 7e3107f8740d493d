"""The runs of a group: their reductions, merged in the voxels that enough of them have, and divided into parcels."""

import logging
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bids_parcellate.config import Config
from bids_parcellate.errors import DataError
from bids_parcellate.io.images import read_volume
from bids_parcellate.io.masking import Mask, drop_small_pieces, group_mask
from bids_parcellate.io.store import ArrayStore, ReductionStore, digest_of
from bids_parcellate.numerics import cluster
from bids_parcellate.numerics.features import WEIGHTING, features
from bids_parcellate.numerics.graph import hemispheres, separate, voxel_adjacency
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.numerics.reduction import Merger
from bids_parcellate.numerics.resampling import resample
from bids_parcellate.numerics.run_reduction import RunReduction
from bids_parcellate.numerics.threads import call_ahead
from bids_parcellate.parcels.references import ReferenceAtlas, find_reference, read_reference
from bids_parcellate.runs.processing import volume_of
from bids_parcellate.runs.tasks import Reduced, vanished

logger = logging.getLogger(__name__)

Single = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

# Raised when the same reductions would give other results, so that what earlier versions stored is not used.
_FORMAT = 3


class GroupData:
    """The reductions of a group's runs, read one at a time, in the voxels that enough of them have.

    Parameters
    ----------
    config : Config
        The configuration.
    grid : Grid
        Where the voxels lie.
    reduced : sequence of Reduced
        The runs.
    space, cohort : str or None
        The template, for atlases of TemplateFlow.
    n_threads : int, default=1
        Threads of the merge. The result does not depend on it.
    """

    def __init__(
        self,
        config: Config,
        grid: Grid,
        reduced: Sequence[Reduced],
        *,
        space: str,
        cohort: str | None = None,
        n_threads: int = 1,
    ) -> None:
        self.config = config
        self.reduced = reduced
        self._space, self._cohort = space, cohort
        self._n_threads = n_threads
        self._store = ReductionStore(config.work_dir)
        self._results = ArrayStore(config.work_dir / "group")
        self.mask = self._find_mask(grid)
        self._weights = self._read_weights()
        self.adjacency = self._connect()

    def _find_mask(self, grid: Grid) -> Mask:
        volumes = (volume_of(self._store.load_voxels(each.digest), grid) for each in self.reduced)
        data, n_pieces, n_voxels = drop_small_pieces(group_mask(volumes, self.config.masking.mask_threshold))
        if n_pieces:
            logger.info("The group mask has %d small pieces with %d voxels; they are dropped.", n_pieces, n_voxels)
        return Mask(data, grid)

    def _read_weights(self) -> npt.NDArray[np.float64] | None:
        """Read how much each voxel counts."""
        path = self.config.parcellation.weights
        if path is None:
            return None
        volume, grid = read_volume(path)
        weights = self.mask.apply(resample(volume.astype(np.float32), grid, self.mask.grid, interpolation="linear"))
        if not np.isfinite(weights).all() or not weights.max() > 0:
            message = f"{path} has no positive weights in the mask, or some that are not finite."
            raise DataError(message, "Give weights from 0 to 1, such as a map of grey matter in the same space.")
        # A voxel of no weight still needs a parcel; what it is like then hardly matters.
        return np.asarray(np.maximum(weights / weights.max(), 0.01), dtype=np.float64)

    @property
    def coordinates(self) -> npt.NDArray[np.float64]:
        """World coordinates of the voxels in mm, shape (n_voxels, 3)."""
        affine = self.mask.grid.affine
        return np.asarray(np.argwhere(self.mask.data) @ affine[:3, :3].T + affine[:3, 3])

    def _connect(self) -> sparse.csr_array:
        adjacency = voxel_adjacency(self.mask.data)
        if not self.config.parcellation.split_hemispheres:
            return adjacency
        least = max(self.config.parcellation.min_size, round(0.01 * self.mask.n_voxels))
        return separate(adjacency, hemispheres(self.coordinates[:, 0], adjacency, min_size=least))

    def find_features(self, which: npt.NDArray[np.intp] | None = None) -> Single:
        """Merge runs, one after another in their order, and give the features of the voxels.

        Those of all runs are kept in the work folder.

        Parameters
        ----------
        which : ndarray of int, optional
            Numbers of the runs; a run may come several times. All by default.

        Returns
        -------
        ndarray of float32, shape (k, n_voxels)
            The features.

        Raises
        ------
        InputOutputError
            If a reduction is no longer there.
        """
        if which is not None:
            return self._merge([self.reduced[index] for index in which])
        parcellation = self.config.parcellation
        reductions = [each.digest for each in self.reduced]
        digest = digest_of(_FORMAT, reductions, self.mask.data, parcellation.features, parcellation.n_components)
        stored = self._results.load(digest)
        if stored is None:
            stored = {"features": self._merge(self.reduced)}
            self._results.save(digest, stored)
        return stored["features"]

    def _merge(self, reduced: Sequence[Reduced]) -> Single:
        parcellation = self.config.parcellation
        merger = Merger(
            self.mask.n_voxels,
            parcellation.n_components,
            weighting=WEIGHTING[parcellation.features],
            n_threads=self._n_threads,
        )
        for load in call_ahead([partial(self._load, each) for each in reduced], self._n_threads):
            self._add(load(), merger)
        return features(merger.result(), parcellation.features)

    def _load(self, reduced: Reduced) -> RunReduction:
        reduction = self._store.load(reduced.digest)
        if reduction is None:
            raise vanished(reduced.run)
        return reduction

    def _add(self, reduction: RunReduction, merger: Merger) -> None:
        """Add a run; no name outlives this call that would keep it in memory while the next one is read."""
        merger.add(reduction.signals, reduction.columns(self.mask.voxels))

    def cluster(self, values: Single, n_parcels: Sequence[int] | None = None) -> dict[int, Labels]:
        """Divide the voxels into parcels, unless the work folder has the same features divided in the same way.

        Parameters
        ----------
        values : ndarray of float32, shape (k, n_voxels)
            The features.
        n_parcels : sequence of int, optional
            Numbers of parcels; those of the configuration by default.

        Returns
        -------
        dict of int to ndarray of int32, shape (n_voxels,)
            For each number of parcels the labels, from 1.
        """
        options = self.config.parcellation
        numbers = list(options.n_parcels if n_parcels is None else n_parcels)
        seed = self.config.execution.random_seed
        digest = digest_of(
            [_FORMAT, options.method, numbers, seed, options.contiguous, options.min_size],
            values,
            self.adjacency.indices,
            self.adjacency.indptr,
            self._weights,
        )
        stored = self._results.load(digest)
        if stored is None:
            labels = cluster.parcellate(
                values,
                options.method,
                numbers,
                adjacency=self.adjacency,
                random_state=seed,
                contiguous=options.contiguous,
                min_size=options.min_size,
                weights=self._weights,
            )
            stored = {str(number): each for number, each in labels.items()}
            self._results.save(digest, stored)
        return {int(number): each + 1 for number, each in stored.items()}

    def references(self) -> list[ReferenceAtlas]:
        """Read the atlases that parcels are compared with.

        Returns
        -------
        list of ReferenceAtlas
            In the order given.
        """
        paths = [find_reference(atlas, self._space, self._cohort) for atlas in self.config.quality.reference_atlas]
        return [read_reference(path, self.mask) for path in paths]

    @property
    def units(self) -> list[str]:
        """What is held out together: participants or, where there is but one, runs."""
        participants = [each.run.participant for each in self.reduced]
        return participants if len(set(participants)) > 1 else [each.run.label for each in self.reduced]
