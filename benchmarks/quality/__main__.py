"""Which features make the better parcels: ``python -m benchmarks.quality [--data DIR] [--docs docs/features.md]``.

Every candidate is clustered by every method on halves of real and of simulated data, and scored on the other half;
nilearn's own class fits the same signals. Prints Markdown tables; with --docs they take the place of those in the page.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import joblib

from benchmarks.quality.candidates import CANDIDATES
from benchmarks.quality.evaluation import PEERS, evaluate
from benchmarks.quality.experiments import (
    SCENARIOS,
    Experiment,
    one_participant,
    simulate,
    simulate_scanner,
    two_participants,
)
from benchmarks.quality.tables import report, summarise
from benchmarks.record import insert


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/real"), help="folder of the real data")
    parser.add_argument("--docs", type=Path, help="page whose tables are replaced")
    parser.add_argument("--splits", type=int, default=3, help="number of ways to split the runs of one participant")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds of each simulation")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes")
    options = parser.parse_args(argv)
    start = time.perf_counter()
    tables = run_study(all_experiments(options.data, options.splits, options.seeds), options.jobs)
    sys.stdout.write(tables)
    sys.stderr.write(f"The study took {(time.perf_counter() - start) / 60:.1f} minutes.\n")
    if options.docs:
        insert(options.docs, "study", tables)


def all_experiments(data: Path, n_splits: int, n_seeds: int) -> Iterator[Experiment]:
    """Make the experiments of the study.

    Parameters
    ----------
    data : Path
        Folder of the real data.
    n_splits : int
        Number of ways to split the runs of one participant.
    n_seeds : int
        Number of seeds of each simulation.

    Yields
    ------
    Experiment
        Real ones first.
    """
    yield from one_participant(data / "haxby2001_1slice", n_parcels=(20, 50, 100), n_splits=n_splits)
    yield from two_participants(data / "twosub_mni4mm", n_parcels=(50,))
    for scenario in SCENARIOS:
        yield from (simulate(scenario, seed) for seed in range(n_seeds))
    yield from (simulate_scanner(seed) for seed in range(n_seeds))


def run_study(experiments: Iterator[Experiment], n_jobs: int) -> str:
    """Evaluate all candidates and peers.

    Parameters
    ----------
    experiments : iterator of Experiment
        The data.
    n_jobs : int
        Number of processes.

    Returns
    -------
    str
        Tables, Markdown.
    """
    work = joblib.delayed(evaluate)
    tasks = (work(experiment, name) for experiment in experiments for name in (*CANDIDATES, *PEERS))
    found = joblib.Parallel(n_jobs=n_jobs)(tasks)
    return report(summarise([result for results in found for result in results]))


if __name__ == "__main__":
    main()
