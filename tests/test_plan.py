import pytest

from bids_parcellate.config import build_config
from bids_parcellate.dataset import select_runs
from bids_parcellate.errors import UsageError
from bids_parcellate.plan import predict_needs


@pytest.fixture
def predict(study):
    def predict(**execution):
        config = build_config(
            {"bids_dir": study[0], "output_dir": "/out", "analysis_level": "group", "execution": execution}
        )
        runs = select_runs(config.bids_dir, config.selection).runs
        return predict_needs(runs, runs[0].grid, config)

    return predict


def test_workers_are_as_many_as_runs_cores_and_memory_allow(predict):
    assert predict(nprocs=2).n_workers == 2
    assert predict(nprocs=50).n_workers == 3
    two = predict(nprocs=2)
    assert predict(nprocs=3, mem_mb=two.megabytes).n_workers == 2
    assert predict(nprocs=3, mem_mb=two.megabytes - 1).n_workers == 1


def test_too_little_memory_for_one_run_is_refused(predict):
    with pytest.raises(UsageError, match="100 MB are allowed"):
        predict(mem_mb=100)


def test_disk_bounds_the_stored_reductions(predict, outputs):
    stored = sum(path.stat().st_size for path in (outputs / ".work").rglob("*.npz")) / 2**20
    # A run has at most as many components as volumes; confound regression takes some of these away.
    assert stored < predict().disk_megabytes < 2.5 * stored
