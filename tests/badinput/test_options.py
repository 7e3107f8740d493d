"""Options of every kind, out of their range or against each other: refused before anything is read or written."""

import pytest

from tests.badinput.sandbox import Sandbox, assert_helpful, snapshot

WRONG = {
    "--n-parcels": ["0", "-1", "1.5", "many", "", "50:10", "0:5", "5:10:0", "1e3", "nan", "1:10000000000"],
    "--method": ["WARD", "spectral", ""],
    "--mask-threshold": ["0", "1.1", "-0.5", "nan", "inf", "half"],
    "--target-res": ["0", "-3", "nan", "inf", "3mm", "1e-9", "1e300"],
    "--smoothing-fwhm": ["-1", "nan", "inf", "x", "1e300"],
    "--low-pass": ["0", "-0.1", "nan", "1e-12"],
    "--high-pass": ["0", "-0.1", "inf", "1e-12"],
    "--min-volumes": ["0", "-40", "1.5"],
    "--fd-threshold": ["0", "-0.5", "nan", "x"],
    "--std-dvars-threshold": ["0", "-1", "nan"],
    "--scrub": ["-1", "1.5", "x"],
    "--standardize": ["z", "True"],
    "--n-components": ["0", "-1", "x", "1000000000"],
    "--min-size": ["0", "-1"],
    "--min-coverage": ["-0.1", "1.1", "nan"],
    "--n-random": ["1", "0", "x"],
    "--n-bootstrap": ["0", "-1"],
    "--quality": ["best", ""],
    "--summary": ["mode"],
    "--connectivity": ["magic", ""],
    "--features": ["raw"],
    "--nprocs": ["0", "-1", "all"],
    "--omp-nthreads": ["0", "-2"],
    "--executor": ["cloud"],
    "--mem": ["0", "-1", "lots", "8X", "", "9" * 400],
    "--random-seed": ["-1", "4294967296", "1.5", "x"],
    "--atlas-name": ["../x", "..", "a/b", "", "a b", "<b>", "a_b", "ä"],
    "--participant-label": ["../..", "sub-", "*", "01/02", "<b>", "0 1"],
    "--session-label": ["..", "ses-", "?"],
    "--task-id": ["rest bold", "/"],
    "--dask-cluster": ["azure"],
    # What a variable that is not set, or a '~' that the shell does not see, gives.
    "--work-dir": ["", "~/work"],
    "--bids-database-dir": ["", "~/db"],
    "--bids-filter-file": [""],
    "--derivatives": ["", "name=", "name=~/data"],
    "--mask": ["", "~/mask.nii.gz"],
    "--confounds": [""],
    "--weights": [""],
    "--match-labels": [""],
    "--reference-atlas": ["", "~/atlas.nii.gz"],
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option in WRONG for value in WRONG[option]])
def test_values_that_are_not_allowed(box_of_options, option, value):
    box = box_of_options
    outcome = box.command(box.dataset, box.output, "group", f"{option}={value}")
    assert outcome.code == 64, outcome.text
    assert_helpful(outcome, None, ())
    names = {option.removeprefix("--"), option.removeprefix("--").replace("-", "_")}
    names |= {"--quality": {"level"}, "--mem": {"mem_mb"}}.get(option, set())
    assert any(name in outcome.err for name in names), outcome.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 64, "required"),
        (["{data}"], 64, "required"),
        (["{data}", "{out}"], 64, "required"),
        (["{data}", "{out}", "group", "surplus"], 64, "surplus"),
        (["{data}", "{out}", "group", "--colour", "red"], 64, "--colour"),
        (["{data}", "{out}", "group", "--n-parcels"], 64, "--n-parcels"),
        (["{data}", "{out}", "group", "--n-parc", "5"], 64, "--n-parc"),
        (["", "{out}", "group"], 64, "bids_dir: is empty"),
        (["{data}", "", "group"], 64, "output_dir: is empty"),
        (["{data}", "~/out", "group"], 64, "output_dir: '~'"),
        (["{data}", "{out}\udcff", "group"], 64, "not UTF-8"),
        (["{data}", "{out}", "group", "--authors", "M\udcfcller"], 64, "not UTF-8"),
        (["{data}", "{data}", "group"], 64, "output_dir must differ"),
        (["{data}", "{data}/../data", "group"], 64, "output_dir must differ"),
        (["{data}", "{out}", "group", "--low-pass", "0.01", "--high-pass", "0.1"], 64, "lower than"),
        (["{data}", "{out}", "group", "--executor", "dask"], 64, "dask"),
        (["{data}", "{out}", "group", "--dask-address", "tcp://h:1"], 64, "dask"),
        (["{data}", "{out}", "group", "--individual", "--method", "kmeans"], 64, "contiguous"),
        (["{data}", "{out}", "group", "--config-file", "/no/such.toml"], 66, "/no/such.toml"),
    ],
)
def test_arguments_that_make_no_sense(box_of_options, arguments, code, says):
    box = box_of_options
    outcome = box.command(*(argument.format(data=box.dataset, out=box.output) for argument in arguments))
    assert outcome.code == code, outcome.text
    assert "Traceback" not in outcome.text
    assert says in outcome.err


def test_an_unknown_level_of_analysis(box_of_options):
    outcome = box_of_options.command(box_of_options.dataset, box_of_options.output, "everything")
    assert outcome.code == 17
    assert "participant, group" in outcome.err


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A dataset that is never opened, and an output folder that is never made."""
    folder = tmp_path_factory.mktemp("options")
    (folder / "data").mkdir()
    return folder


@pytest.fixture
def box_of_options(folders, capsys):
    yield Sandbox(folders / "data", folders / "out", capsys)
    assert set(snapshot(folders)) == {"data"}
