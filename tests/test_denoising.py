"""Two kinds of denoising never share a name in one folder."""

import pytest

from bids_parcellate.config import DenoisingConfig
from bids_parcellate.io.naming import bids_name
from bids_parcellate.io.strategies import load_strategy
from bids_parcellate.outputs.denoising import denoising_label, describe_denoising


def label(**options):
    config = DenoisingConfig(**options)
    strategy = load_strategy(
        config.confounds,
        fd_threshold=config.fd_threshold,
        std_dvars_threshold=config.std_dvars_threshold,
        scrub=config.scrub,
    )
    assert describe_denoising(config, strategy)
    assert bids_name({"desc": denoising_label(config, strategy)}, "timeseries", ".tsv")
    return denoising_label(config, strategy)


def test_a_preset_is_called_by_its_name():
    assert label() == "simple"
    assert label(confounds="acompcor_gsr") == "acompcorgsr"
    assert label(confounds="scrubbing", fd_threshold=0.5) == "scrubbing", "the preset's own threshold"
    assert label(min_volumes=10) == "simple", "what is left out is not done otherwise"


OTHERS = [
    {"confounds": "scrubbing"},
    {"fd_threshold": 0.5},
    {"fd_threshold": 0.2},
    {"confounds": "scrubbing", "fd_threshold": 0.2},
    {"confounds": "scrubbing", "std_dvars_threshold": "inf"},
    {"confounds": "scrubbing", "scrub": 0},
    {"smoothing_fwhm": 0},
    {"smoothing_fwhm": 6},
    {"smoothing_fwhm": 6.5},
    {"low_pass": 0.1},
    {"high_pass": 0.1},
    {"high_pass": 0.0001},
    {"low_pass": 0.1, "high_pass": 0.01},
    {"detrend": False},
    {"standardize": "psc"},
    {"standardize": "none"},
]


def test_every_option_shows_in_the_name():
    labels = [label(**options) for options in [{}, *OTHERS]]
    assert len(set(labels)) == len(labels)


def test_the_name_says_what_differs():
    assert label(smoothing_fwhm=6, low_pass=0.08) == "simpleLp0p08Fwhm6"
    assert label(confounds="scrubbing", fd_threshold=0.2) == "scrubbingFd0p2Dvars1p5Scrub5"


@pytest.mark.parametrize("content", ['{"strategy": ["motion"]}', '{"strategy": ["motion"], "motion": "basic"}'])
def test_strategy_files_of_one_name_differ_by_their_content(tmp_path, content):
    names = set()
    for folder, text in (("a", '{"strategy": ["wm_csf"]}'), ("b", content), ("c", content)):
        path = tmp_path / folder / "my_strategy.json"
        path.parent.mkdir()
        path.write_text(text)
        names.add(label(confounds=str(path)))
    assert len(names) == 2
    assert all(name.startswith("mystrategy") for name in names)
