import subprocess
import sys

import pytest

from bids_parcellate.cli import build_parser, config_from_options, main, option_flags
from bids_parcellate.config import Config
from bids_parcellate.version import __version__

POSITIONALS = ["/in", "/out", "group"]


def parse(*arguments):
    return config_from_options(build_parser().parse_args([*POSITIONALS, *arguments]))


def test_nothing_given_means_the_defaults():
    assert parse() == Config(bids_dir="/in", output_dir="/out", analysis_level="group")


def test_options_reach_their_section():
    config = parse(
        *("--participant-label", "01", "sub-02", "-t", "rest", "--n-parcels", "50", "100", "--no-detrend"),
        *("--mem", "8G", "--n-cpus", "3", "-d", "fmriprep=/deriv", "-w", "/work", "--stop-on-first-crash"),
    )
    assert config.selection.participant_label == ("01", "02")
    assert config.selection.task_id == ("rest",)
    assert config.selection.derivatives == ("fmriprep=/deriv",)
    assert config.parcellation.n_parcels == (50, 100)
    assert config.denoising.detrend is False
    assert (config.execution.mem_mb, config.execution.nprocs) == (8192, 3)
    assert config.execution.stop_on_first_crash is True


def test_every_option_of_the_model_can_be_given():
    options = build_parser().parse_args(POSITIONALS)
    help_text = build_parser().format_help()
    for model in Config.sections().values():
        for name, field in model.model_fields.items():
            assert not hasattr(options, name), "an option that is not given must not hide the file's"
            assert all(flag in help_text for flag in option_flags(name, field))


def test_underscores_work_as_hyphens(capsys):
    assert main([*POSITIONALS, "--fd_threshold=-1"]) == 64
    assert "denoising.fd_threshold" in capsys.readouterr().err
    assert main([*POSITIONALS, "--std_dvars_threshold", "a_b"]) == 64
    assert "'a_b'" in capsys.readouterr().err


def test_the_command_line_wins_over_the_file(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[denoising]\nlow_pass = 0.1\nconfounds = '36P'\n")
    config = parse("--config-file", str(file), "--low-pass", "0.08")
    assert (config.denoising.low_pass, config.denoising.confounds) == (0.08, "36P")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["/in", "/out"], 64, "required: {participant,group}"),
        (["/in", "/out", "session"], 17, "'session' is unknown; there are: participant, group"),
        ([*POSITIONALS, "--no-such-option"], 64, "--no-such-option"),
        ([*POSITIONALS, "--method", "magic"], 64, "invalid choice: 'magic'"),
        ([*POSITIONALS, "--n-parcels", "many"], 64, "'many'"),
        (["/same", "/same", "group"], 64, "output_dir must differ from bids_dir"),
        ([*POSITIONALS, "--config-file", "/no/such/file.toml"], 66, "/no/such/file.toml"),
        ([*POSITIONALS, "--confounds", "35P"], 64, "35P"),
        (["/no/such/folder", "/out", "group"], 16, "/no/such/folder"),
    ],
)
def test_mistakes_have_their_exit_code_and_no_traceback(arguments, code, message, capsys):
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert "ERROR: " in error
    assert message in error
    assert "Traceback" not in error


def test_version_and_help(capsys):
    for arguments, text in ((["--version"], __version__), (["--help"], "exit codes:")):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        assert text in capsys.readouterr().out


def test_python_m_gives_the_same_exit_code():
    command = [sys.executable, "-m", "bids_parcellate", "/in", "/out", "nothing"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 17
