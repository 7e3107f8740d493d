"""What starting costs: what is imported, which folders are listed and which files are opened, not how long it takes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import trees

HEAVY = {
    *("bids", "h5py", "isal", "jinja2", "joblib", "matplotlib", "nibabel", "numba", "numpy", "pandas", "scipy"),
    *("sklearn", "sqlalchemy", "templateflow"),
}


def lines_printed_by(code: str, *arguments: str) -> list[str]:
    """Run code in a process of its own; what it prints after a line '---'."""
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return result.stdout.rpartition("---\n")[2].splitlines()


@pytest.mark.parametrize(
    "statement",
    [
        "import bids_parcellate; assert bids_parcellate.__version__",
        "import bids_parcellate.config",
        "from bids_parcellate.cli import main; code = main(['/in', '/out', 'group', '--method', 'magic'])",
        "from bids_parcellate.cli import main; code = main(['/in', '/out', 'nothing'])",
        "from bids_parcellate.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from bids_parcellate.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass",
    ],
)
def test_starting_loads_no_scientific_library(statement: str) -> None:
    loaded = lines_printed_by(f"{statement}\nimport sys; print('---', *sys.modules, sep='\\n')")
    packages = {name.partition(".")[0] for name in loaded}
    assert "bids_parcellate" in packages
    assert not HEAVY & packages


def test_a_job_without_k_means_does_not_load_scikit_learn() -> None:
    """It would add a quarter to the memory of every worker."""
    loaded = lines_printed_by("import bids_parcellate.workflow, sys; print('---', *sys.modules, sep='\\n')")
    assert "numba" in loaded
    assert not {"sklearn", "matplotlib", "scipy.signal", "scipy.stats", "templateflow"} & set(loaded)


def test_workers_load_only_what_runs_need() -> None:
    """What each of them loads costs time and memory once more."""
    loaded = lines_printed_by("import bids_parcellate.runs.tasks, sys; print('---', *sys.modules, sep='\\n')")
    rooms = {name.removeprefix("bids_parcellate.").partition(".")[0] for name in loaded if "bids_parcellate." in name}
    assert "runs" in rooms
    assert not {"estimator", "group", "report", "workflow"} & rooms
    assert not {"asyncio", "joblib", "scipy.interpolate", "scipy.optimize", "sklearn"} & set(loaded)
    assert "bids_parcellate.numerics.cluster" not in loaded


WATCH = """
import sys
from pathlib import Path
from bids_parcellate.config import SelectionConfig
from bids_parcellate.dataset import select_runs

root, *participants = sys.argv[1:]
events = []

def note(event, arguments):
    if event in ("open", "os.scandir", "os.listdir") and str(arguments[0]).startswith(root):
        mode = arguments[1] if event == "open" and arguments[1] else "r"
        events.append(f"{event} {mode} {Path(arguments[0]).relative_to(root).as_posix()}")

sys.addaudithook(note)
selection = select_runs(Path(root), SelectionConfig(participant_label=participants))
assert len(selection.runs) == 2 and not selection.rejected
print("---", *events, sep="\\n")
"""


def test_only_what_is_needed_is_listed_and_read(tmp_path: Path) -> None:
    trees.write_fmriprep(
        tmp_path, subjects=("01", "02"), sessions=("a",), tasks=("rest", "nback"), surfaces=True, version="24.1.1"
    )
    events = {tuple(line.split(" ", 2)) for line in lines_printed_by(WATCH, str(tmp_path), "01")}
    assert {mode for _, mode, _ in events} <= {"r", "rb"}
    folders = {name for event, _, name in events if event != "open"}
    assert folders == {".", "sub-01", "sub-01/ses-a", "sub-01/ses-a/func"}
    files = {name for event, _, name in events if event == "open"}
    func = "sub-01/ses-a/func/sub-01_ses-a_task-"
    endings = [
        *(f"_space-{trees.MNI}_desc-{ending}" for ending in ("preproc_bold.nii.gz", "preproc_bold.json")),
        f"_space-{trees.MNI}_desc-brain_mask.nii.gz",
        *(f"_desc-confounds_timeseries.{extension}" for extension in ("tsv", "json")),
    ]
    wanted = {f"{func}{task}{ending}" for task in ("rest", "nback") for ending in endings}
    assert files == wanted | {"dataset_description.json"}
