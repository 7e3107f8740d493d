"""What the drill of mutants leaves alone, how it counts, and that a mutant is told from the code as it is."""

from multiprocessing import forkserver

import pytest

from drills import mutation
from drills.mutation import Bench, Mutant, mutants_of

SOURCE = '''
LIMIT: int | None = 3
@cache(maxsize=5)
def check(*, number: int | str = 4) -> int | None:
    """Refuse 5 - 4."""
    if number > LIMIT:
        raise ValueError(f"{number - 1} is above")
    logger.info("%s", number - 1)
    return number - 1
'''


def test_annotations_and_messages_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / "module.py").write_text(SOURCE)
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    mutants = list(mutants_of("module.py"))
    assert {mutant.line for mutant in mutants} == {2, 4, 6, 9}
    (difference,) = (mutant for mutant in mutants if "BinaryOperator" in mutant.operator)
    assert difference.change() == "-    return number - 1\n+    return number + 1"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one function, with a test that looks at one of its two branches."""
    root = tmp_path / "project"
    for folder in ("bids_parcellate", "tests"):
        (root / folder).mkdir(parents=True)
    (root / "bids_parcellate" / "__init__.py").touch()
    (root / "bids_parcellate" / "module.py").write_text("def double(x):\n    return 2 * x if x > 1 else x + x\n")
    (root / "tests" / "test_module.py").write_text(
        "from bids_parcellate.module import double\ndef test_double():\n    assert double(3) == 6\n"
    )
    monkeypatch.setattr(mutation, "ROOT", root)
    monkeypatch.setattr(mutation, "_LIBRARIES", [])
    # The process that an earlier test's workers were forked from has imported the real project.
    forkserver._forkserver._stop()
    yield root
    forkserver._forkserver._stop()


def test_mutants_end_as_their_tests_do(project, tmp_path, monkeypatch):
    code = {
        "wrong": "def double(x):\n    return 3 * x\n",
        "hangs": "def double(x):\n    while True: pass\n",
        "the same": "def double(x):\n    return x + x\n",
    }
    monkeypatch.setattr(Mutant, "code", lambda mutant: code[mutant.operator])
    with Bench(tmp_path, ["tests/test_module.py"]) as bench:
        bench._seconds = 4.0  # of processor time
        ends = [bench.test(Mutant("bids_parcellate/module.py", name, 0, 1)) for name in code]
    assert ends == ["killed", "timeout", "survived"]
    assert not list(tmp_path.glob("bench-*"))
