"""Break the code on purpose: ``python -m drills.mutation [GROUP ...] [--sample 100] [--keep]``.

Each mutant is a copy of the project in which one operator, number or condition is another. The tests of its module
must fail then: they kill it. A mutant that none of them kills survives, and shows what they do not look at.

cosmic-ray knows how to mutate. Mutants are tested here and not by its own command, because kernels of numba must be
compiled anew, and only they, and to import all libraries anew takes longer than most tests. Annotations, messages of
errors and of the log are left alone.
"""

import argparse
import ast
import multiprocessing
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from difflib import unified_diff
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from benchmarks.record import Record, head_lines, table_line

ROOT = Path(__file__).parents[1]
_N_WORKERS = 2
_MEGABYTES = 8000  # of address space; a loop without end may ask for all that there is
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "demo", "site")
_LIBRARIES = ["nilearn.decomposition", "nilearn.interfaces.fmriprep", "nilearn.regions", "pandas", "pydantic"]
_SIGXCPU = -24

# Only what a slip could be: no shift in place of a sum, which fails at once, and no identity in place of equality.
_OPERATORS = re.compile(
    r"core/(ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_(Div|Add)|Div_Mul|FloorDiv_(Div|Mul)|Mod_FloorDiv|Pow_Mul"
    r"|RShift_LShift|LShift_RShift|BitOr_Bit(And|Xor)|BitAnd_BitOr|BitXor_Bit(And|Or))"
    r"|ReplaceComparisonOperator_\w+_(Eq|NotEq|Lt|LtE|Gt|GtE)|ReplaceComparisonOperator_(Is_IsNot|IsNot_Is)"
    r"|ReplaceUnaryOperator_Delete_\w+|AddNot|Replace(True|False|And|Or|Break|Continue)With\w+"
    r"|ExceptionReplacer|NumberReplacer|ZeroIterationForLoop)"
)


@dataclass(frozen=True)
class Group:
    """Modules and their tests.

    Parameters
    ----------
    modules, tests : tuple of str
        Paths below the root of the project.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]


_NUMERICS = "bids_parcellate/numerics"
_TREES = ("agglomerative", "base", "contiguity", "linkage", "neighbours", "tree", "ward")
GROUPS: Mapping[str, Group] = {
    "cleaning": Group(
        (f"{_NUMERICS}/cleaning.py", f"{_NUMERICS}/filters.py"), ("tests/test_filters.py", "tests/test_cleaning.py")
    ),
    "confounds": Group(
        ("bids_parcellate/io/confounds.py", "bids_parcellate/io/strategies.py"), ("tests/test_confounds.py",)
    ),
    "agglomeration": Group(
        tuple(f"{_NUMERICS}/cluster/{name}.py" for name in _TREES),
        tuple(f"tests/cluster/test_{name}.py" for name in ("tree", "agglomerative", "contiguity", "base")),
    ),
    "reduction": Group(
        (f"{_NUMERICS}/reduction.py", f"{_NUMERICS}/run_reduction.py"),
        ("tests/test_run_reduction.py", "tests/test_reduction.py"),
    ),
}


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    Parameters
    ----------
    module : str
        Path of the module below the root of the project.
    operator : str
        cosmic-ray's name of what is done.
    occurrence : int
        To which of the places where it can be done.
    line : int
        Where that is.
    """

    module: str
    operator: str
    occurrence: int
    line: int

    def code(self) -> str:
        """Give the code of the module with the change."""
        source = (ROOT / self.module).read_text()
        mutated: str | None = mutate_code(source, get_operator(self.operator)(), self.occurrence)
        return source if mutated is None else mutated

    def change(self) -> str:
        """Show the lines that differ."""
        lines = unified_diff((ROOT / self.module).read_text().splitlines(), self.code().splitlines(), n=0, lineterm="")
        return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def main(argv: Sequence[str] | None = None) -> int:
    """Test mutants of some groups, or of all.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        0 if of each group at least as many as asked for were killed.
    """
    options = _parse(argv)
    options.work.mkdir(parents=True, exist_ok=True)
    names = options.groups or list(GROUPS)
    record = Record(options.work / "mutation.json", "drills.mutation", argv, keep=True)
    earlier = record.found if options.keep else {}
    record.run(names, lambda name: run(name, options, earlier.get(name)), markdown, options.docs)
    return 0 if all(_share(record.found[name]) >= options.least for name in names) else 1


def run(name: str, options: argparse.Namespace, earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Test mutants of one group.

    Parameters
    ----------
    name : str
        Its name.
    options : Namespace
        How many, drawn with which seed, and where.
    earlier : mapping, optional
        What was found before: what was killed is not tested again.

    Returns
    -------
    dict
        How many mutants there are, how each of the sample ended, and what survived; plain values.
    """
    start = time.perf_counter()
    mutants = [mutant for module in GROUPS[name].modules for mutant in mutants_of(module)]
    # A larger sample of the same seed has all of a smaller one.
    sample = sorted(mutants, key=lambda each: random.Random(f"{options.seed} {_key(each)}").random())[: options.sample]
    known = earlier["ends"] if earlier else {}
    ends = {key: known[key] for key in map(_key, sample) if known.get(key, "survived") != "survived"}
    tried = [mutant for mutant in sample if _key(mutant) not in ends]
    sys.stdout.write(f"== {name}: {len(tried)} of {len(mutants)} mutants\n")
    with Bench(options.work, GROUPS[name].tests) as bench, ThreadPoolExecutor(_N_WORKERS) as pool:
        for mutant, end in zip(tried, pool.map(bench.test, tried), strict=True):
            ends[_key(mutant)] = end
            sys.stdout.write(f"{end:9} {_key(mutant)}\n")
            sys.stdout.write(f"{mutant.change()}\n" if end == "survived" else "")
            sys.stdout.flush()
    survivors = [asdict(mutant) | {"change": mutant.change()} for mutant in sample if ends[_key(mutant)] == "survived"]
    seconds = round(time.perf_counter() - start)
    return {"n_mutants": len(mutants), "seed": options.seed, "seconds": seconds, "ends": ends, "survivors": survivors}


def mutants_of(module: str) -> Iterator[Mutant]:
    """List the mutants of a module.

    Parameters
    ----------
    module : str
        Its path below the root of the project.

    Yields
    ------
    Mutant
        One that is not left out.
    """
    source = (ROOT / module).read_text()
    nodes, spared, lines = list(ast_nodes(get_ast(source))), _spared(source), source.splitlines()
    for name in filter(_OPERATORS.fullmatch, operator_names()):
        operator = get_operator(name)()
        places = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, (line, column) in enumerate(places):
            marks_keywords = lines[line - 1].startswith("*,", column)
            if not marks_keywords and not any(start <= (line, column) < end for start, end in spared):
                yield Mutant(module, name, occurrence, line)


def _spared(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Find annotations, decorators, and what is said in errors and the log."""
    found: list[ast.expr | ast.stmt | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and ast.unparse(node).startswith("logger.")):
            found.append(node)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            found += [node.returns, *node.decorator_list]
        elif isinstance(node, ast.ClassDef):
            found += node.decorator_list
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)) for node in found if node
    ]


class Bench:
    """Copies of the project, one for each worker, in which mutants are tested.

    Parameters
    ----------
    work : Path
        Where to make them.
    tests : sequence of str
        The tests, which must succeed on the code as it is.
    """

    def __init__(self, work: Path, tests: Sequence[str]) -> None:
        self._tests = tests
        self._folder = Path(tempfile.mkdtemp(prefix="bench-", dir=work))
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_LIBRARIES)
        self._free: SimpleQueue[Path] = SimpleQueue()

    def __enter__(self) -> Self:
        self._seconds = 3600.0
        with ThreadPoolExecutor(_N_WORKERS) as pool:
            seconds = list(pool.map(self._prepare, range(_N_WORKERS)))
        self._seconds = 2 * max(seconds) + 5
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder)

    def _prepare(self, number: int) -> float:
        """Make a copy, and test it; give the processor time that this took."""
        copy = self._folder / str(number)
        shutil.copytree(ROOT, copy / "project", ignore=_LEFT_OUT)
        (copy / "compiled").mkdir()
        if self._run(copy, copy / "compiled") != 0:
            raise SystemExit(f"The tests fail without any mutant:\n{(copy / 'said').read_text()[-2000:]}")
        self._free.put(copy)
        return float((copy / "seconds").read_text())

    def test(self, mutant: Mutant) -> str:
        """Test a mutant.

        Parameters
        ----------
        mutant : Mutant
            The mutant.

        Returns
        -------
        {"killed", "timeout", "survived"}
            How it ended. Those that take more than twice the processor time of the code as it is are stopped.
        """
        copy = self._free.get()
        module, scratch = copy / "project" / mutant.module, copy / "scratch"
        source = module.read_text()
        shutil.copytree(copy / "compiled", scratch)
        try:
            module.write_text(mutant.code())
            for other in module.parent.glob("*.py"):
                if f".{module.stem} import" in other.read_text():
                    other.touch()  # kernels hold what they call of others: these are compiled anew, too
            code = self._run(copy, scratch)
        finally:
            module.write_text(source)
            shutil.rmtree(scratch)
            self._free.put(copy)
        return {0: "survived", _SIGXCPU: "timeout", None: "timeout"}.get(code, "killed")

    def _run(self, copy: Path, scratch: Path) -> int | None:
        """Test a copy; give the exit code, or None if it hung."""
        process = self._context.Process(target=_test, args=(copy, scratch, self._tests, int(self._seconds)))
        process.start()
        process.join(10 * self._seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            return None
        return process.exitcode


def _test(copy: Path, scratch: Path, tests: Sequence[str], seconds: int) -> None:
    """Run tests in a process of their own, which has the libraries already."""
    with (copy / "said").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_AS, (_MEGABYTES * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(copy / "project")
    sys.path.insert(0, str(copy / "project"))
    os.environ |= {"NUMBA_CACHE_DIR": str(scratch), "HYPOTHESIS_STORAGE_DIRECTORY": str(copy / "examples")}
    import pytest  # noqa: PLC0415 - it looks around when it is imported

    options = ["-x", "-q", "--hypothesis-seed=1", "-p", "no:cacheprovider", f"--basetemp={copy / 'files'}"]
    code = pytest.main([*options, *tests], plugins=[_Examples()])
    (copy / "seconds").write_text(f"{time.process_time()}")
    sys.exit(code)


class _Examples:
    """A plugin: those that fail are not made smaller, which takes longer than to find them; slow ones do not fail."""

    def pytest_sessionstart(self) -> None:
        from hypothesis import HealthCheck, Phase, settings  # noqa: PLC0415 - not before pytest has begun

        phases, slow = (Phase.explicit, Phase.generate), (HealthCheck.too_slow,)
        settings.register_profile("mutants", deadline=None, phases=phases, suppress_health_check=slow)
        settings.load_profile("mutants")


def markdown(results: Mapping[str, Any]) -> str:
    """Make the table.

    Parameters
    ----------
    results : mapping
        What is written as JSON.

    Returns
    -------
    str
        Machine and command, and a line for each group.
    """
    heads = ("group", "mutants", "drawn", "killed by a failing test", "stopped: took too long", "survived", "killed")
    lines = [*head_lines(results, "drills.mutation"), table_line(heads), table_line(["---"] * len(heads))]
    for name, found in results["drills.mutation"].items():
        ends = Counter(found["ends"].values())
        counts = (found["n_mutants"], ends.total(), ends["killed"], ends["timeout"], ends["survived"])
        lines.append(table_line([name, *map(str, counts), f"{_share(found):.0f} %"]))
    return "\n".join(lines) + "\n"


def _share(found: Mapping[str, Any]) -> float:
    """Give the part of the mutants that was killed, in percent."""
    ends = Counter(found["ends"].values())
    return 100 * (1 - ends["survived"] / max(1, ends.total()))


def _key(mutant: Mutant) -> str:
    return f"{mutant.module}:{mutant.line} {mutant.operator.removeprefix('core/')} {mutant.occurrence}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m drills.mutation", description=rest, usage=summary.split("``")[1])
    default = Path(tempfile.gettempdir()) / "bids-parcellate-mutation"
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--work", type=Path, default=default, help=f"where results are kept ({default})")
    parser.add_argument("--sample", type=int, default=100, help="mutants of each group (100)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (1)")
    parser.add_argument("--keep", action="store_true", help="do not test again what was killed the last time")
    parser.add_argument("--least", type=float, default=80.0, help="percent that must be killed (80)")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the table into this page, between its markers")
    return parser.parse_args(argv)


if __name__ == "__main__":
    # Inherited by all: one thread for linear algebra, no byte code that is taken for that of another mutant.
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ.setdefault("BIDS_PARCELLATE_DATA", str(ROOT.parent / "shared" / "data"))
    sys.exit(main())
