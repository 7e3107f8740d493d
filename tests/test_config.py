import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_parcellate.config import METHODS, Config, build_config, read_toml
from bids_parcellate.errors import MissingInputError, UsageError
from bids_parcellate.numerics import cluster

REQUIRED = {"bids_dir": "/in", "output_dir": "/out", "analysis_level": "group"}

labels = st.text("abcXYZ019", min_size=1, max_size=8)
positive = st.floats(1e-3, 1e3)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)
configs = st.fixed_dictionaries(
    {
        "bids_dir": st.just("/in"),
        "output_dir": texts.map(lambda text: f"/out/{text}"),
        "analysis_level": st.sampled_from(["participant", "group"]),
        "selection": st.fixed_dictionaries(
            {},
            optional={
                "participant_label": st.lists(labels, max_size=3),
                "space": labels,
                "derivatives": st.lists(texts),
            },
        ),
        "denoising": st.fixed_dictionaries(
            {},
            optional={
                "fd_threshold": positive | st.just(float("inf")),
                "smoothing_fwhm": st.floats(0, 20),
                "low_pass": positive,
                "detrend": st.booleans(),
                "confounds": texts,
            },
        ),
        "parcellation": st.fixed_dictionaries(
            {},
            optional={
                "method": st.sampled_from(METHODS),
                "n_parcels": st.lists(st.integers(1, 10**6), min_size=1, max_size=4),
            },
        ),
        "execution": st.fixed_dictionaries(
            {}, optional={"mem_mb": st.integers(1, 10**7), "random_seed": st.integers(0, 9)}
        ),
    }
)


@given(configs)
@settings(deadline=None, max_examples=50)
def test_toml_and_back_is_the_identity(options):
    config = build_config(options)
    assert build_config(tomllib.loads(config.to_toml())) == config


def test_defaults_survive_the_toml_file(tmp_path):
    config = build_config(REQUIRED)
    file = tmp_path / "config.toml"
    file.write_text(config.to_toml())
    assert build_config({}, read_toml(file)) == config


def test_command_line_wins_over_the_file():
    file = {**REQUIRED, "denoising": {"fd_threshold": 0.2, "low_pass": 0.1}}
    config = build_config({"denoising": {"fd_threshold": 0.5}, "analysis_level": "participant"}, file)
    assert (config.denoising.fd_threshold, config.denoising.low_pass) == (0.5, 0.1)
    assert config.analysis_level == "participant"


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        build_config(REQUIRED).denoising.low_pass = 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"denoising": {"lowpass": 0.1}}, "denoising.lowpass is no option"),
        ({"spaces": "x"}, "spaces is no option"),
        ({"denoising": {"low_pass": "fast"}}, r"denoising.low_pass: .*'fast'"),
        ({"denoising": {"low_pass": 0.01, "high_pass": 0.1}}, r"high_pass \(0.1 Hz\) must be lower than low_pass"),
        ({"denoising": {"smoothing_fwhm": -1}}, "denoising.smoothing_fwhm"),
        ({"denoising": {"smoothing_fwhm": float("nan")}}, "denoising.smoothing_fwhm"),
        ({"masking": {"mask_threshold": 1.5}}, "mask_threshold: must be larger than 0 and at most 1"),
        ({"parcellation": {"n_parcels": []}}, "n_parcels: at least one number is needed"),
        ({"parcellation": {"n_parcels": [0]}}, "n_parcels"),
        ({"parcellation": {"atlas_name": "../x"}}, "no BIDS label"),
        ({"parcellation": {"method": "magic"}}, "method.*'ward'"),
        ({"selection": {"participant_label": ["../../etc"]}}, "no BIDS label"),
        ({"execution": {"mem_mb": "8 apples"}}, "no amount of memory"),
        ({"analysis_level": "session"}, "analysis_level"),
        ({"output_dir": "/in"}, "output_dir must differ from bids_dir"),
    ],
)
def test_what_is_not_allowed_is_named(options, message):
    with pytest.raises(UsageError, match=message):
        build_config({**REQUIRED, **options})


def test_all_problems_are_named_at_once():
    with pytest.raises(UsageError, match=r"denoising\.low_pass.*parcellation\.method"):
        build_config({**REQUIRED, "denoising": {"low_pass": -1}, "parcellation": {"method": "x"}})


def test_prefixes_are_taken_off():
    selection = {"participant_label": ["sub-01", "02", "01"], "session_label": "ses-a", "task_id": ["task-rest"]}
    config = build_config({**REQUIRED, "selection": selection})
    assert config.selection.participant_label == ("01", "02")
    assert config.selection.session_label == ("a",)
    assert config.selection.task_id == ("rest",)


@pytest.mark.parametrize(
    ("text", "megabytes"), [("8G", 8192), ("500", 500), ("1.5 GB", 1536), ("2048K", 2), ("1t", 2**20)]
)
def test_amounts_of_memory(text, megabytes):
    assert build_config({**REQUIRED, "execution": {"mem_mb": text}}).execution.mem_mb == megabytes


def test_numbers_of_parcels_are_sorted_and_unique():
    assert build_config({**REQUIRED, "parcellation": {"n_parcels": [200, 50, 200]}}).parcellation.n_parcels == (50, 200)


def test_methods_are_those_that_there_are():
    assert set(METHODS) == set(cluster.METHODS)


def test_no_option_has_the_name_of_another():
    names = [name for model in Config.sections().values() for name in model.model_fields]
    assert len(names) == len(set(names))


def test_every_option_is_documented():
    for model in Config.sections().values():
        assert model.__doc__
        for name, field in model.model_fields.items():
            assert field.description, name


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(MissingInputError, match=r"nowhere\.toml"):
        read_toml(tmp_path / "nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[selection\n")
    with pytest.raises(UsageError, match=r"broken\.toml is not valid TOML"):
        read_toml(broken)


def test_relative_paths_mean_the_same_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = build_config(
        {
            "bids_dir": "in",
            "output_dir": "out",
            "analysis_level": "group",
            "selection": {"derivatives": ["a=x=y/z", "w"]},
            "masking": {"mask": "mask.nii.gz"},
            "denoising": {"confounds": "own.toml"},
        }
    )
    assert config.bids_dir == tmp_path / "in"
    assert config.selection.derivatives == (f"a={tmp_path}/x=y/z", f"{tmp_path}/w")
    assert (config.masking.mask, config.denoising.confounds) == (f"{tmp_path}/mask.nii.gz", f"{tmp_path}/own.toml")
    assert build_config(REQUIRED).masking.mask == "group"


def test_work_folder_is_in_the_output_folder_unless_given():
    assert build_config(REQUIRED).work_dir == Path("/out/.work")
    assert build_config({**REQUIRED, "execution": {"work_dir": "/scratch"}}).work_dir == Path("/scratch")
