"""The Boutiques descriptor: valid, and true to the parser, as Boutiques' own tool sees them."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bids_parcellate.boutiques import make_descriptor
from bids_parcellate.cli import build_parser, config_from_options

BOSH = Path(sys.executable).with_name("bosh")


@pytest.fixture(scope="module")
def descriptor(tmp_path_factory):
    path = tmp_path_factory.mktemp("boutiques") / "descriptor.json"
    command = [sys.executable, "-m", "bids_parcellate.boutiques"]
    path.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    return path


def bosh(*arguments):
    done = subprocess.run([BOSH, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_descriptor_is_valid(descriptor):
    assert bosh("validate", descriptor).strip() == "OK"


def test_every_option_is_described():
    described = {each["id"].removeprefix("no_") for each in make_descriptor()["inputs"]}
    left_out = {"help", "version", "verbose", "executor", "dask_address", "dask_cluster"}
    left_out |= {"check", "boilerplate_only", "reports_only", "check_outputs"}
    assert described | left_out == {action.dest for action in build_parser()._actions}


def test_a_simulated_command_is_understood(descriptor, tmp_path):
    invocation = tmp_path / "invocation.json"
    options = {
        "bids_dir": str(tmp_path),
        "output_dir": "out",
        "analysis_level": "group",
        "participant_label": ["01", "02"],
        "n_parcels": [100, 200],
        "fd_threshold": 0.4,
        "no_detrend": True,
        "method": "ward",
        "stop_on_first_crash": True,
    }
    invocation.write_text(json.dumps(options))
    printed = bosh("exec", "simulate", descriptor, "-i", invocation)
    (line,) = (line for line in printed.splitlines() if line.startswith("bids-parcellate "))
    config = config_from_options(build_parser().parse_args(shlex.split(line)[1:]))
    assert config.bids_dir == tmp_path
    assert config.analysis_level == "group"
    assert config.selection.participant_label == ("01", "02")
    assert config.parcellation.n_parcels == (100, 200)
    assert config.denoising.fd_threshold == 0.4
    assert not config.denoising.detrend
    assert config.execution.stop_on_first_crash


def test_a_random_command_is_made(descriptor):
    assert "bids-parcellate " in bosh("exec", "simulate", descriptor)
