"""Fuzz the parsers, guided by coverage: ``python -m drills.fuzz --seconds 60 [TARGET ...]``.

It needs atheris, which is no dependency of the project: ``pip install atheris`` (CPython 3.11 to 3.13, Linux).
Each target runs in a process of its own. What breaks it is kept in the folder ``--crashes``.
"""

import argparse
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_LARGEST_INPUT = 4096
_MEGABYTES = 2048


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz some targets, or all, one after the other.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.

    Returns
    -------
    int
        The number of targets that let something else than our own errors out.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="as in tests.fuzz.targets; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="of each target (default: 60)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--crashes", type=Path, default=Path("crashes"))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        return _fuzz(options.targets[0], options)
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - it imports the package, which must be instrumented

    return sum(_start(target, options) != 0 for target in options.targets or TARGETS)


def _start(target: str, options: argparse.Namespace) -> int:
    sys.stdout.write(f"== {target}\n")
    sys.stdout.flush()
    command = [sys.executable, "-m", "drills.fuzz", "--inside", target, "--seconds", str(options.seconds)]
    command += ["--seed", str(options.seed), "--crashes", str(options.crashes)]
    return subprocess.run(command, check=False).returncode


def _fuzz(target: str, options: argparse.Namespace) -> int:
    import atheris  # noqa: PLC0415 - only this drill needs it

    resource.setrlimit(resource.RLIMIT_AS, (_MEGABYTES * 2**20,) * 2)
    with atheris.instrument_imports(include=["bids_parcellate", "tests", "json", "tomllib", "csv", "gzip"]):
        from tests.fuzz.targets import run  # noqa: PLC0415

    options.crashes.mkdir(parents=True, exist_ok=True)
    corpus = _corpus(options.crashes.parent / f"corpus-{target}", target)
    flags = [f"-max_total_time={options.seconds}", f"-max_len={_LARGEST_INPUT}", f"-seed={options.seed}", "-timeout=10"]
    flags += [f"-artifact_prefix={options.crashes}/{target}-", "-print_final_stats=1", "-verbosity=1"]
    atheris.Setup([target, *flags, str(corpus)], lambda content: run(target, content))
    atheris.Fuzz()
    return 0


def _corpus(folder: Path, target: str) -> Path:
    """Start from sound files; from nothing, a fuzzer takes hours to find a header."""
    from tests.fuzz.seeds import seeds  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds(target)):
        (folder / f"seed{number}").write_bytes(content)
    return folder


if __name__ == "__main__":
    sys.exit(main())
