"""Scale: a simulated cohort that is merged and clustered, and how accurate the merge is."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from sklearn.metrics import adjusted_rand_score

from benchmarks.measure import step
from benchmarks.phantom import brain_mask
from benchmarks.results import Figure, Outcome
from benchmarks.settings import Settings
from bids_parcellate.numerics.cluster.estimators import make_clusterer
from bids_parcellate.numerics.graph import voxel_adjacency
from bids_parcellate.numerics.reduction import Merger, Reduction
from bids_parcellate.numerics.simulation.brain import grow_parcels, make_brain
from bids_parcellate.numerics.simulation.run import N_NETWORKS, parcel_signals

_EXTRAPOLATED = 10_000  # runs
_N_VOLUMES = 200
_HALF_LIFE = 60  # component after which the share of signal in them has halved
_N_CORES = 2

# The small case whose full decomposition is possible.
_SMALL_RUNS, _HELD_OUT_RUNS, _SMALL_VOLUMES, _SMALL_VOXELS = 40, 10, 60, 1700
_SMALL_PARCELS, _SMALL_COMPONENTS = 30, 50

Single = NDArray[np.float32]
Results = dict[str, Any]


def scale(settings: Settings) -> Outcome:
    """Merge and cluster 1,600 runs on 2 cores."""
    n_runs, voxel_size, n_voxels, rank = (12, 10.0, 1700, 20) if settings.tiny else (1600, 3.0, 60_000, 200)
    folder = settings.work / "cohort"
    folder.mkdir(exist_ok=True)
    peer = step("cohort:merge_and_cluster", folder, n_runs, voxel_size, n_voxels, rank, threads=_N_CORES)
    usage = peer.run()
    found = np.load(peer.results)
    checkpoints, cpu, wall = found["checkpoints"], found["merging_cpu"], found["merging_wall"]
    n_later = checkpoints[-1] - checkpoints[-2]
    cpu_slope, wall_slope = ((each[-1] - each[-2]) / n_later for each in (cpu, wall))
    clustering_cpu, clustering_wall = found["clustering"]
    title = f"{n_runs:,} runs ({n_voxels:,} voxels, rank {rank})"
    ari = float(found["ari"])
    return Outcome(
        figures=[
            Figure(f"{title} merged and clustered, wall, making them up included", usage.wall, "s",
                   target="<= 1200 s"),
            Figure(f"{title} merged and clustered, CPU, making them up included", usage.cpu, "s"),
            Figure(f"{title}, peak memory", usage.memory, "MB", target="<= 2000 MB"),
            Figure(f"{title}: making them up, CPU", float(found["making_cpu"]), "s"),
            Figure(f"{title}: merging, CPU", cpu[-1], "s"),
            Figure(f"{title}: merging, wall", wall[-1], "s"),
            Figure(f"{title}: clustering, CPU", clustering_cpu, "s"),
            Figure("each added run: merging, CPU, in the first quarter", cpu[0] / checkpoints[0], "s"),
            Figure("each added run: merging, CPU, in the last half", cpu_slope, "s"),
            Figure(f"{_EXTRAPOLATED:,} runs merged and clustered, extrapolated, CPU",
                   cpu[-1] + cpu_slope * (_EXTRAPOLATED - n_runs) + clustering_cpu, "s"),
            Figure(f"{_EXTRAPOLATED:,} runs merged and clustered, extrapolated, wall",
                   wall[-1] + wall_slope * (_EXTRAPOLATED - n_runs) + clustering_wall, "s"),
            Figure("one more run on a finished merge: merge and clustering, CPU",
                   float(found["one_more_cpu"]) + clustering_cpu, "s"),
            Figure(f"{title}: adjusted Rand index to the truth", ari, "", ari > 0.9, "> 0.9"),
        ]
    )  # fmt: skip


def merge_accuracy(settings: Settings) -> Outcome:
    """Compare the merge with the full decomposition, where that is possible."""
    folder = settings.work / "cohort"
    folder.mkdir(exist_ok=True)
    peer = step("cohort:compare_with_full_decomposition", folder)
    peer.run()
    found = np.load(peer.results)
    angle, overlap, held_out = (float(found[name]) for name in ("angle", "overlap", "held_out"))
    title = f"merge of {_SMALL_RUNS} runs to {_SMALL_COMPONENTS} components against the full decomposition"
    return Outcome(
        figures=[
            Figure(f"{title}: largest angle, {_SMALL_PARCELS} leading components", angle, "degrees", angle < 2, "< 2"),
            Figure(f"{title}: overlap, noise included (mean squared cosine)", overlap),
            Figure(f"{title}: variance of held-out runs", held_out, "x", held_out > 0.999, "> 0.999"),
        ]
    )


# The steps that run in processes of their own.


def merge_and_cluster(
    folder: Path, n_runs: str, voxel_size: str, n_voxels: str, rank: str
) -> Callable[[], Results]:  # numbers as text
    """Merge reductions as they are made up, and cluster the result with Ward."""
    del folder
    n, n_components = int(n_runs), int(rank)
    brain = make_brain(float(voxel_size))
    mask = brain_mask(brain, int(n_voxels))
    truth = grow_parcels(mask, n_components, np.random.default_rng(0))[mask] - 1
    order = np.argsort(truth, kind="stable")
    columns = np.empty_like(order)
    columns[order] = np.arange(len(order))
    checkpoints = [n // 4, n // 2, n]

    def work() -> Results:
        reductions = _made_up_reductions(np.bincount(truth))
        merger = Merger(mask.sum(), n_components)
        merging, making, noted = _Clock(), _Clock(), []
        for i in range(1, n + 1):
            with making:
                reduction = next(reductions)
            with merging:
                merger.add(reduction, columns)
            if i in checkpoints:
                noted.append((merging.cpu, merging.wall))
        with merging:
            merged = merger.result()
        clustering = _Clock()
        with clustering:
            estimator = make_clusterer("ward", n_components, adjacency=voxel_adjacency(mask))
            scaled = merged.components * merged.singular_values.astype(np.float32)[:, np.newaxis]
            labels = estimator.fit(scaled).labels_
        one_more = _Clock()
        another = next(reductions)
        with one_more:
            longer = Merger(mask.sum(), n_components)
            longer.add(merged, np.arange(mask.sum()))
            longer.add(another, columns)
            longer.result()
        noted[-1] = (merging.cpu, merging.wall)
        return {
            "checkpoints": checkpoints,
            "merging_cpu": [cpu for cpu, _ in noted],
            "merging_wall": [wall for _, wall in noted],
            "making_cpu": making.cpu,
            "clustering": (clustering.cpu, clustering.wall),
            "one_more_cpu": one_more.cpu,
            "ari": adjusted_rand_score(truth, labels),
        }

    return work


class _Clock:
    """Adds up CPU and wall time of the blocks that it is entered for."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def __enter__(self) -> None:
        self.cpu -= time.process_time()
        self.wall -= time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.cpu += time.process_time()
        self.wall += time.perf_counter()


def _made_up_reductions(sizes: NDArray[np.integer]) -> Iterator[Reduction]:
    """Yield reductions without end; voxels are sorted by parcel, of which there are as many as components.

    A component is a mixture of the parcels' indicators (in proportions of its own in each run) and of noise. The noise
    is one orthonormal set whose voxels change their signs from run to run: it stays orthonormal, and what voxels have
    in common in one run cancels over many. The parcels' means of the noise are removed, so that the rows of a reduction
    are orthonormal to about 1 %.
    """
    rng = np.random.default_rng(1)
    rank, n_voxels = len(sizes), sizes.sum()
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    bank = np.ascontiguousarray(np.linalg.qr(rng.standard_normal((n_voxels, rank), dtype=np.float32))[0].T)
    share = np.sqrt(0.6 * 0.5 ** (np.arange(rank, dtype=np.float32) / _HALF_LIFE))[:, np.newaxis]
    singular_values = np.sqrt(_N_VOLUMES * n_voxels / (1.0 + np.arange(rank)))
    while True:
        noise = bank * rng.choice(np.array([-1, 1], np.float32), n_voxels)
        means = np.add.reduceat(noise, starts, axis=1) / sizes.astype(np.float32)
        mixture = np.linalg.qr(rng.standard_normal((rank, rank), dtype=np.float32))[0]
        inside = share * mixture / np.sqrt(sizes.astype(np.float32)) - np.sqrt(1 - share**2) * means
        noise *= np.sqrt(1 - share**2)
        noise += np.repeat(inside, sizes, axis=1)
        yield Reduction(noise, singular_values, _N_VOLUMES, float(np.sum(singular_values**2)))


def compare_with_full_decomposition(folder: Path) -> Callable[[], Results]:
    """Merge runs whose signals fit into memory all at once, and decompose them all at once."""
    del folder
    rng = np.random.default_rng(2)
    networks = rng.integers(N_NETWORKS, size=_SMALL_PARCELS, dtype=np.int32)
    labels = rng.integers(_SMALL_PARCELS, size=_SMALL_VOXELS)

    def draw() -> NDArray[np.float64]:
        signals = parcel_signals(networks, _SMALL_VOLUMES, 2.0, rng)[:, labels].astype(np.float64)
        signals += rng.standard_normal(signals.shape)
        return (signals - signals.mean(0)) / signals.std(0, ddof=1)

    runs, held_out = [draw() for _ in range(_SMALL_RUNS)], [draw() for _ in range(_HELD_OUT_RUNS)]

    def work() -> Results:
        merger = Merger(_SMALL_VOXELS, _SMALL_COMPONENTS)
        for run in runs:
            _, values, vectors = linalg.svd(run, full_matrices=False)
            kept = slice(_SMALL_COMPONENTS)
            merger.add(
                Reduction(vectors[kept].astype(np.float32), values[kept], len(run), float(np.sum(values**2))),
                np.arange(_SMALL_VOXELS),
            )
        merged = merger.result().components.astype(np.float64)
        full = linalg.svd(np.vstack(runs), full_matrices=False)[2][:_SMALL_COMPONENTS]
        leading = linalg.subspace_angles(merged[:_SMALL_PARCELS].T, full[:_SMALL_PARCELS].T)
        new = np.vstack(held_out)
        return {
            "angle": np.degrees(leading.max()),
            "overlap": np.square(merged @ full.T).sum() / _SMALL_COMPONENTS,
            "held_out": np.square(new @ merged.T).sum() / np.square(new @ full.T).sum(),
        }

    return work
