"""Confounds: parity with nilearn on real files, and clear errors where nilearn has none."""

import csv
import inspect
import io
import json
import math
import re
import shutil
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.interfaces.fmriprep import load_confounds as nilearn_load_confounds
from nilearn.interfaces.fmriprep import load_confounds_strategy as nilearn_load_confounds_strategy
from pydantic import ValidationError

from bids_parcellate import config
from bids_parcellate.errors import DataError, MissingInputError, UsageError
from bids_parcellate.io.confounds import OUTLIER_REASONS, Confounds, load_confounds, short_segments
from bids_parcellate.io.strategies import PRESETS, ConfoundStrategy, load_strategy
from bids_parcellate.io.tables import read_table

REAL_TABLES = {
    "v1.4-no-json": "nilearn-test/no_nonsteady_desc-confounds_regressors.tsv",
    "v1.4": "nilearn-test/test_desc-confounds_regressors.tsv",
    "v20.2-sub-01": "fmriprep-20.2.1_ds003495/sub-01_ses-post_task-emomatching_acq-seq_desc-confounds_timeseries.tsv",
    "v20.2-sub-02": "fmriprep-20.2.1_ds003495/sub-02_ses-post_task-emomatching_acq-seq_desc-confounds_timeseries.tsv",
    "v21": "nilearn-test/test-v21_desc-confounds_timeseries.tsv",
    "v23.1-sub-063": "fmriprep-23.1.2_ds005639/"
    "sub-wlsubj063_ses-nyu3t01_task-prf_acq-PA_run-08_desc-confounds_timeseries.tsv",
    "v23.1-sub-141": "fmriprep-23.1.2_ds005639/"
    "sub-wlsubj141_ses-nyu3t01_task-prf_acq-PA_run-08_desc-confounds_timeseries.tsv",
    "v24.1": "fmriprep-24.1.1_ds005625/sub-042_task-restingstate_desc-confounds_timeseries.tsv",
}
AROMA_TABLE = "fmripost-aroma_ds005625/sub-042_task-restingstate_desc-aroma_timeseries.tsv"
NILEARN_PRESETS = ("simple", "scrubbing", "compcor", "ica_aroma")
MODELS = ("basic", "power2", "derivatives", "full")
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")

COMPCOR = ("anat_combined", "anat_separated", "temporal", "temporal_anat_combined", "temporal_anat_separated")
CENSORING = (  # scrub, fd_threshold, std_dvars_threshold
    (5, 0.5, 1.5), (0, 0.2, 3.0), (1, 0.2, 3.0), (5, 0.2, 3.0), (12, 0.2, 3.0), (5, 0.12, 1.1), (5, 0.01, 0.5),
)  # fmt: skip
VARIANTS: list[dict[str, object]] = [
    *({"strategy": ("motion",), "motion": model} for model in MODELS),
    *({"strategy": ("wm_csf",), "wm_csf": model} for model in MODELS),
    *({"strategy": ("global_signal",), "global_signal": model} for model in MODELS),
    {"strategy": ("high_pass",)},
    *(
        {"strategy": ("high_pass", "compcor"), "compcor": variant, "n_compcor": n}
        for variant in COMPCOR
        for n in ("all", 5)
    ),
    {"strategy": ("ica_aroma",), "ica_aroma": "basic"},
    {"strategy": ("wm_csf", "ica_aroma", "motion"), "ica_aroma": "basic", "motion": "basic"},
    {"strategy": ("ica_aroma",), "ica_aroma": "full"},
    *(
        {"strategy": ("motion", "scrub"), "scrub": scrub, "fd_threshold": fd, "std_dvars_threshold": dvars}
        for scrub, fd, dvars in CENSORING
    ),
    {"strategy": ("scrub",)},
    {"strategy": ("global_signal", "scrub", "wm_csf", "motion", "high_pass"), "demean": False},
    {"strategy": ("motion", "wm_csf"), "demean": False},
]


def variant_id(variant: dict[str, object]) -> str:
    return "-".join(str(value) if key != "strategy" else "+".join(value) for key, value in variant.items())


@pytest.fixture(scope="session")
def real_runs(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with one real table, its sidecar, and images with names that nilearn accepts."""
    runs = {}
    for name, relative in REAL_TABLES.items():
        source = shared_data / "confounds" / relative
        folder = tmp_path_factory.mktemp(name)
        suffix = source.stem.rpartition("_")[2]
        for file in (source, source.with_suffix(".json")):
            if file.exists():
                shutil.copyfile(file, folder / f"sub-01_task-x_desc-confounds_{suffix}{file.suffix}")
        for desc in ("preproc", "smoothAROMAnonaggr"):
            (folder / f"sub-01_task-x_space-MNI152NLin6Asym_desc-{desc}_bold.nii.gz").touch()
        runs[name] = folder
    return runs


def run_nilearn(folder: Path, function, *args, aroma_image: bool, **settings):
    """Call nilearn; its errors (bare KeyErrors among them) come back as None."""
    desc = "smoothAROMAnonaggr" if aroma_image else "preproc"
    image = folder / f"sub-01_task-x_space-MNI152NLin6Asym_desc-{desc}_bold.nii.gz"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(str(image), *args, **settings)
        except (KeyError, ValueError):
            return None


def run_ours(folder: Path, strategy: ConfoundStrategy) -> Confounds:
    (tsv,) = folder.glob("*.tsv")
    sidecar = tsv.with_suffix(".json")
    return load_confounds(tsv, strategy, sidecar=sidecar if sidecar.exists() else None)


def has_cosines(folder: Path) -> bool:
    (tsv,) = folder.glob("*.tsv")
    return "cosine" in tsv.read_text().partition("\n")[0]


def assert_same(ours: Confounds, expected: tuple[pd.DataFrame, np.ndarray | None]) -> None:
    frame, sample_mask = expected
    assert ours.names == tuple(frame.columns)
    assert ours.values.dtype == np.float64
    assert ours.values.shape == (ours.n_volumes, len(ours.names))
    if sample_mask is None:
        assert ours.sample_mask is None
    else:
        assert ours.sample_mask.dtype == np.int64
        np.testing.assert_array_equal(ours.sample_mask, sample_mask)
    if ours.names and (sample_mask is None or sample_mask.size):  # without columns, nilearn's frame has no rows
        np.testing.assert_allclose(ours.values, frame.to_numpy(), rtol=1e-9, atol=1e-12)


def assert_parity(folder: Path, strategy: ConfoundStrategy, expected) -> None:
    if expected is not None and not ("high_pass" in strategy.strategy and not has_cosines(folder)):
        assert_same(run_ours(folder, strategy), expected)
    else:
        with pytest.raises(DataError, match=r"sub-01_task-x_desc-confounds_\w+\.tsv.*(lacks columns|no JSON)"):
            run_ours(folder, strategy)


class TestParityWithNilearn:
    @pytest.mark.parametrize("run", REAL_TABLES)
    @pytest.mark.parametrize("preset", NILEARN_PRESETS)
    def test_presets(self, real_runs, run, preset):
        expected = run_nilearn(
            real_runs[run], nilearn_load_confounds_strategy, preset, aroma_image=PRESETS[preset].needs_aroma_image
        )
        assert_parity(real_runs[run], PRESETS[preset], expected)

    @pytest.mark.parametrize("run", REAL_TABLES)
    @pytest.mark.parametrize("variant", VARIANTS, ids=variant_id)
    def test_components_and_models(self, real_runs, run, variant):
        strategy = ConfoundStrategy(**variant)
        expected = run_nilearn(
            real_runs[run], nilearn_load_confounds, aroma_image=strategy.needs_aroma_image, **variant
        )
        assert_parity(real_runs[run], strategy, expected)

    def test_most_real_cases_are_compared(self, real_runs):
        """Guard against a parity test in which everything fails on both sides."""
        working = sum(
            run_nilearn(folder, nilearn_load_confounds_strategy, preset, aroma_image=preset == "ica_aroma") is not None
            for folder in real_runs.values()
            for preset in NILEARN_PRESETS
        )
        assert working == 31  # all but compcor on the table that has no sidecar

    @pytest.mark.parametrize("run", REAL_TABLES)
    def test_no_strategy_keeps_the_sample_mask(self, real_runs, run):
        _, sample_mask = run_nilearn(real_runs[run], nilearn_load_confounds, aroma_image=False, strategy=())
        ours = run_ours(real_runs[run], PRESETS["none"])
        assert ours.names == ()
        assert ours.values.shape == (ours.n_volumes, 0)
        np.testing.assert_array_equal(ours.sample_mask, sample_mask)

    def test_defaults_are_those_of_nilearn(self):
        parameters = inspect.signature(nilearn_load_confounds).parameters
        for name, field in ConfoundStrategy.model_fields.items():
            if name not in {"strategy", "columns"}:
                assert field.default == parameters[name].default, name


def xcpd_columns(name: str, header: list[str]) -> set[str]:
    """Spell out XCP-D's configuration files (nuisance/<name>.yml), on a header."""
    suffixes = ("", "_derivative1", "_power2", "_derivative1_power2")
    patterns = {
        "24P": [],
        "27P": ["csf", "white_matter", "global_signal"],
        "36P": [f"{signal}{suffix}" for signal in ("csf", "white_matter", "global_signal") for suffix in suffixes],
        "acompcor": [r"w_comp_cor_0[0-4]", r"c_comp_cor_0[0-4]", r"cosine\d+"],
        "acompcor_gsr": [r"w_comp_cor_0[0-4]", r"c_comp_cor_0[0-4]", r"cosine\d+", "global_signal"],
        "aroma": ["csf", "white_matter", "aroma_orth_motion_.*"],
        "aroma_gsr": ["csf", "white_matter", "global_signal", "aroma_orth_motion_.*"],
    }[name]
    if name.endswith("P"):
        patterns += [f"{parameter}{suffix}" for parameter in MOTION for suffix in suffixes]
    if name.startswith("acompcor"):
        patterns += [f"{parameter}{suffix}" for parameter in MOTION for suffix in suffixes[:2]]
    return {column for column in header if any(re.fullmatch(pattern, column) for pattern in patterns)}


class TestXcpdSets:
    @pytest.mark.parametrize("run", ["v21", "v23.1-sub-063", "v23.1-sub-141", "v24.1"])
    @pytest.mark.parametrize("preset", ["24P", "27P", "36P", "acompcor", "acompcor_gsr"])
    def test_columns(self, real_runs, run, preset):
        (tsv,) = real_runs[run].glob("*.tsv")
        expected = xcpd_columns(preset, list(read_table(tsv)))
        assert set(run_ours(real_runs[run], PRESETS[preset]).names) == expected
        if preset.endswith("P"):
            assert len(expected) == int(preset.removesuffix("P"))

    def test_acompcor_takes_five_components_of_each_mask_of_old_versions(self, real_runs):
        names = run_ours(real_runs["v20.2-sub-01"], PRESETS["acompcor"]).names
        metadata = json.loads(next(real_runs["v20.2-sub-01"].glob("*.json")).read_text())
        masks = [metadata[name]["Mask"] for name in names if "comp_cor" in name]
        assert sorted(masks) == ["CSF"] * 5 + ["WM"] * 5

    @pytest.mark.parametrize("preset", ["aroma", "aroma_gsr"])
    def test_aroma_joins_the_real_fmripost_aroma_series(self, shared_data, preset):
        tsv = shared_data / "confounds" / REAL_TABLES["v24.1"]
        table = shared_data / "confounds" / AROMA_TABLE
        confounds = load_confounds(tsv, PRESETS[preset], extra_tables=[table])
        header = [*pd.read_csv(tsv, sep="\t"), *pd.read_csv(table, sep="\t")]
        assert set(confounds.names) == xcpd_columns(preset, header)
        assert sum("aroma_orth_motion" in name for name in confounds.names) == 6
        expected = pd.read_csv(table, sep="\t")["aroma_orth_motion_07"]
        ours = confounds.values[:, confounds.names.index("aroma_orth_motion_07")]
        np.testing.assert_allclose(ours, expected - expected.mean(), atol=1e-12)

    def test_basic_aroma_does_not_take_the_orthogonalised_series_too(self, shared_data):
        strategy = ConfoundStrategy(strategy=("ica_aroma",), ica_aroma="basic")
        confounds = load_confounds(
            shared_data / "confounds" / REAL_TABLES["v24.1"],
            strategy,
            extra_tables=[shared_data / "confounds" / AROMA_TABLE],
        )
        assert [name.rpartition("_")[0] for name in confounds.names] == ["aroma_motion"] * 6


class TestStrategy:
    def test_presets_are_those_of_the_command_line(self):
        assert tuple(PRESETS) == config.CONFOUND_PRESETS

    def test_the_documentation_has_every_preset_and_key(self):
        page = (Path(__file__).parents[1] / "docs" / "confounds.md").read_text(encoding="utf-8")
        for name in (*PRESETS, *ConfoundStrategy.model_fields):
            assert re.search(rf"^\| `{name}` ", page, re.MULTILINE), name

    def test_what_presets_need(self):
        assert [name for name, preset in PRESETS.items() if preset.needs_aroma_image] == ["ica_aroma"]
        assert [name for name, preset in PRESETS.items() if preset.needs_aroma_columns] == ["aroma", "aroma_gsr"]
        assert [name for name, preset in PRESETS.items() if not preset.needs_confounds_file] == ["none"]
        assert not ConfoundStrategy(strategy=("ica_aroma",)).needs_confounds_file

    def test_unknown_preset_lists_presets(self):
        with pytest.raises(UsageError, match="no confound strategy '36p'") as error:
            load_strategy("36p")
        assert all(name in str(error.value) for name in PRESETS)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("own.toml", 'strategy = ["scrub"]\nstd_dvars_threshold = inf\nscrub = 0\ncolumns = ["csf"]\n'),
            ("own.json", '{"strategy": ["scrub"], "std_dvars_threshold": "inf", "scrub": 0, "columns": ["csf"]}'),
        ],
    )
    def test_own_file(self, tmp_path, name, content):
        (tmp_path / name).write_text(content)
        assert load_strategy(tmp_path / name) == ConfoundStrategy(
            strategy=("scrub",), std_dvars_threshold=math.inf, scrub=0, columns=("csf",)
        )

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.toml", "strategy = [", "no valid TOML"),
            ("a.json", "[" * 100_000, "no valid JSON"),
            ("a.json", "[]", "a.json: Input should be"),
            ("a.toml", "motion = 'full'", "a.toml: strategy: Field required"),
            ("a.toml", "strategy = ['motion', 'scrubb']", "a.toml: strategy: 1: .*'scrub'"),
            ("a.toml", "strategy = []\nmotions = 'full'", "a.toml: motions: Extra"),
            ("a.toml", "strategy = ['motion']\nmotion = '24P'", "a.toml: motion: .*'basic', 'power2'"),
            ("a.toml", "strategy = ['compcor']", "a.toml: strategy: .*'compcor' needs 'high_pass'"),
            ("a.toml", "strategy = ['motion']\nwm_csf = 'full'", "wm_csf = 'full' has no effect: 'wm_csf' is not"),
            ("a.toml", "strategy = ['scrub']\nscrub = true", "a.toml: scrub: .*not true or false"),
            ("a.toml", "strategy = ['scrub']\nscrub = -1", "a.toml: scrub: .*greater than or equal to 0"),
            ("a.toml", "strategy = ['scrub']\nfd_threshold = nan", "a.toml: fd_threshold: .*greater than 0"),
            ("a.toml", "strategy = ['high_pass', 'compcor']\nn_compcor = 0", "a.toml: n_compcor: "),
            ("a.toml", "strategy = []\ncolumns = ['^a($']", "a.toml: columns: .*no regular expression"),
        ],
    )
    def test_errors_in_a_file_name_file_and_key(self, tmp_path, name, content, message):
        (tmp_path / name).write_text(content)
        with pytest.raises(UsageError, match=message) as error:
            load_strategy(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)

    def test_the_least_that_is_allowed(self, tmp_path):
        (tmp_path / "a.toml").write_text("strategy = ['high_pass', 'compcor', 'scrub']\nn_compcor = 1\nscrub = 0\n")
        strategy = load_strategy(tmp_path / "a.toml")
        assert (strategy.n_compcor, strategy.scrub) == (1, 0)

    def test_a_preset_cannot_be_changed(self):
        with pytest.raises(ValidationError, match="frozen"):
            PRESETS["simple"].motion = "basic"

    def test_missing_file(self, tmp_path):
        with pytest.raises(MissingInputError, match=r"own\.toml"):
            load_strategy(tmp_path / "own.toml")

    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ({}, PRESETS["simple"]),
            ({"fd_threshold": 0.3}, {"fd_threshold": 0.3, "std_dvars_threshold": math.inf, "scrub": 0}),
            ({"scrub": 0}, {"fd_threshold": 0.5, "std_dvars_threshold": 1.5, "scrub": 0}),
            (
                {"std_dvars_threshold": 2.0, "scrub": 4},
                {"fd_threshold": math.inf, "std_dvars_threshold": 2.0, "scrub": 4},
            ),
        ],
    )
    def test_overrides_turn_censoring_on(self, override, expected):
        if isinstance(expected, dict):
            expected = ConfoundStrategy(strategy=("high_pass", "motion", "wm_csf", "scrub"), **expected)
        assert load_strategy("simple", **override) == expected

    def test_override_keeps_what_a_preset_says(self):
        strategy = load_strategy("scrubbing", fd_threshold=0.2)
        assert strategy == PRESETS["scrubbing"].model_copy(update={"fd_threshold": 0.2})

    def test_bad_override(self):
        with pytest.raises(UsageError, match="confound strategy 24P: fd_threshold"):
            load_strategy("24P", fd_threshold=-1.0)

    @pytest.mark.parametrize("name", PRESETS)
    def test_round_trip_through_json(self, name):
        strategy = load_strategy(name, std_dvars_threshold=math.inf)
        assert ConfoundStrategy.model_validate_json(strategy.model_dump_json()) == strategy

    def test_descriptions_differ_and_are_one_line(self):
        texts = [preset.describe() for preset in PRESETS.values()]
        assert len(set(texts)) == len(PRESETS)
        assert all(text.isprintable() for text in texts)

    def test_description(self):
        assert PRESETS["none"].describe() == "no confound regression; censoring of non-steady-state volumes"
        assert load_strategy("acompcor_gsr", fd_threshold=0.3).describe() == (
            "regression of six head motion parameters with temporal derivatives, cosine drift terms, "
            "the first 5 components of aCompCor of white matter and of CSF, global signal; "
            "censoring of non-steady-state volumes, volumes with framewise displacement above 0.3 mm"
        )
        assert (
            PRESETS["scrubbing"]
            .describe()
            .endswith(
                "censoring of non-steady-state volumes, volumes with framewise displacement above 0.5 mm, "
                "volumes with standardised DVARS above 1.5, segments shorter than 5 volumes"
            )
        )
        assert PRESETS["ica_aroma"].describe().startswith("images denoised by ICA-AROMA (non-aggressive); regression")
        assert "ICA-AROMA motion components orthogonal to the other components;" in PRESETS["aroma"].describe()
        basic = ConfoundStrategy(strategy=("ica_aroma",), ica_aroma="basic")
        assert basic.describe().startswith("regression of ICA-AROMA motion components; censoring")


def write_table(path: Path, columns: dict[str, list[object]]) -> Path:
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def small_table(tmp_path: Path) -> Path:
    """Motion and framewise displacement only, as in datasets that were not made by fMRIPrep."""
    rng = np.random.default_rng(0)
    columns: dict[str, list[object]] = {name: rng.normal(size=8).tolist() for name in MOTION}
    columns["framewise_displacement"] = ["n/a", 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1]
    return write_table(tmp_path / "sub-01_desc-confounds_timeseries.tsv", columns)


BASIC_MOTION = ConfoundStrategy(strategy=("motion",), motion="basic")


class TestMissingColumns:
    def test_derivatives(self, small_table):
        with pytest.raises(DataError) as error:
            load_confounds(small_table, PRESETS["24P"], fmriprep_version="1.1.8")
        text = str(error.value)
        assert str(small_table) in text
        assert "fMRIPrep 1.1.8" in text
        assert "trans_x_derivative1, trans_x_power2" in text
        assert "rot_x," not in text
        assert 'motion = "basic"' in text
        assert "presets that this file has the columns of: none" in text

    def test_plain_signals(self, small_table):
        with pytest.raises(DataError, match=r"(?s)\(motion, global_signal\): .*leave 'global_signal' out") as error:
            load_confounds(small_table, ConfoundStrategy(strategy=("motion", "global_signal"), motion="power2"))
        assert "'motion = \"basic\"'" in error.value.hint

    def test_named_presets_do_work(self, real_runs, tmp_path):
        """The presets that the message names load without an error, and the others do not."""
        (tsv,) = real_runs["v24.1"].glob("*.tsv")
        frame = pd.read_csv(tsv, sep="\t", dtype=str, keep_default_na=False)
        path = tmp_path / "sub-01_desc-confounds_timeseries.tsv"
        frame.loc[:, ~frame.columns.str.startswith("cosine")].to_csv(path, sep="\t", index=False)
        with pytest.raises(DataError, match=r"\(high_pass\): cosine\*") as error:
            load_confounds(path, PRESETS["simple"])
        named = error.value.hint.rpartition(": ")[2].split(", ")
        assert named == ["none", "24P", "27P", "36P"]
        for name in named:
            load_confounds(path, PRESETS[name])

    def test_long_lists_are_cut(self, tmp_path):
        path = write_table(tmp_path / "a.tsv", {"other": [1, 2]})
        with pytest.raises(DataError, match="and 12 more"):
            load_confounds(path, PRESETS["36P"])

    def test_aroma(self, small_table):
        strategy = ConfoundStrategy(strategy=("ica_aroma",), ica_aroma="basic")
        with pytest.raises(DataError, match=r"aroma_motion_\*\n.*fMRIPost-AROMA"):
            load_confounds(small_table, strategy)

    def test_aroma_of_old_fmriprep_is_no_orthogonalised_aroma(self, real_runs):
        with pytest.raises(DataError, match=r"aroma_orth_motion_\*"):
            run_ours(real_runs["v1.4"], PRESETS["aroma"])

    def test_std_dvars(self, small_table):
        strategy = load_strategy("none", std_dvars_threshold=1.5)
        with pytest.raises(DataError, match=r"\(scrub\): std_dvars\n.*inf"):
            load_confounds(small_table, strategy)

    def test_framewise_displacement_alone(self, small_table):
        strategy = ConfoundStrategy(strategy=("scrub",), std_dvars_threshold=math.inf, scrub=2)
        confounds = load_confounds(small_table, strategy)
        np.testing.assert_array_equal(confounds.sample_mask, range(6))
        assert np.flatnonzero(confounds.outliers["framewise_displacement"]).tolist() == [6]
        assert np.flatnonzero(confounds.outliers["short_segment"]).tolist() == [7]
        assert not confounds.outliers["std_dvars"].any()
        assert confounds.std_dvars is None
        assert np.isnan(confounds.framewise_displacement[0])

    def test_header_of_the_first_versions(self, tmp_path):
        path = write_table(tmp_path / "a.tsv", {"FramewiseDisplacement": ["n/a", 0.1], "RotX": [0, 0]})
        with pytest.raises(DataError, match=r"fMRIPrep 1\.0 or 1\.1"):
            load_confounds(path, PRESETS["simple"])

    def test_compcor_needs_the_sidecar(self, real_runs):
        (tsv,) = real_runs["v24.1"].glob("*.tsv")
        with pytest.raises(DataError, match="has no JSON file"):
            load_confounds(tsv, PRESETS["compcor"])
        with pytest.raises(MissingInputError, match=r"nowhere\.json"):
            load_confounds(tsv, PRESETS["compcor"], sidecar=tsv.with_name("nowhere.json"))

    @pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\xff", "[]"])
    def test_broken_sidecar(self, real_runs, tmp_path, content):
        (tsv,) = real_runs["v24.1"].glob("*.tsv")
        sidecar = tmp_path / "broken.json"
        sidecar.write_bytes(content.encode("latin-1"))
        with pytest.raises(DataError, match=r"broken\.json"):
            load_confounds(tsv, PRESETS["compcor"], sidecar=sidecar)

    @pytest.mark.parametrize("content", ['{"a_comp_cor_00": 3}', '{"a_comp_cor_00": {"Method": "aCompCor"}}', "{}"])
    def test_sidecar_without_masks(self, real_runs, tmp_path, content):
        (tsv,) = real_runs["v24.1"].glob("*.tsv")
        sidecar = tmp_path / "empty.json"
        sidecar.write_text(content)
        with pytest.raises(DataError, match=r"\(compcor\): a_comp_cor_\*"):
            load_confounds(tsv, PRESETS["compcor"], sidecar=sidecar)


class TestOwnColumns:
    def test_names_and_patterns(self, real_runs):
        strategy = ConfoundStrategy(strategy=("wm_csf",), columns=("csf", "rmsd", r"^edge_comp_0[0-2]$"))
        names = run_ours(real_runs["v24.1"], strategy).names
        assert names == ("csf", "edge_comp_00", "edge_comp_01", "edge_comp_02", "rmsd", "white_matter")

    @pytest.mark.parametrize("column", ["nothing", "^nothing_.*$"])
    def test_every_entry_must_be_there(self, real_runs, column):
        with pytest.raises(DataError, match=re.escape(f"(columns): {column}")):
            run_ours(real_runs["v24.1"], ConfoundStrategy(strategy=(), columns=("csf", column)))


class TestValues:
    def test_first_row_takes_the_second_value(self, tmp_path):
        path = write_table(tmp_path / "a.tsv", {"csf": ["n/a", 2, 4], "white_matter": [1, 1, 1]})
        confounds = load_confounds(path, ConfoundStrategy(strategy=("wm_csf",), demean=False))
        np.testing.assert_array_equal(confounds.values, [[2, 1], [2, 1], [4, 1]])

    @pytest.mark.parametrize(
        ("cells", "message"),
        [
            (["1", "n/a", "3"], r"'csf' has no value \(n/a\) in row 2"),
            (["n/a", "n/a", "n/a"], r"'csf' has no value \(n/a\) in row 2"),
            (["1", "2", ""], r"'csf' has no value \(n/a\) in row 3"),
            (["1", "two", "3"], "'csf' has 'two' in row 2, which is no usable number"),
            (["1", "2", "-inf"], "'csf' has '-inf' in row 3"),
            (["1", "2", "1e999"], "'csf' has '1e999' in row 3"),
            (["1", "2", "1_0"], "'csf' has '1_0' in row 3"),
            (["1", "2", "3" * 200], r"'csf' has '3+\.\.\.' in row 3"),
            (["n/a"], r"'csf' has no value \(n/a\) in its only row"),
        ],
    )
    def test_unusable_cells(self, tmp_path, cells, message):
        path = write_table(tmp_path / "a.tsv", {"csf": cells, "white_matter": cells})
        with pytest.raises(DataError, match=message) as error:
            load_confounds(path, ConfoundStrategy(strategy=("wm_csf",)))
        assert str(path) in str(error.value)

    def test_columns_that_are_not_used_do_no_harm(self, tmp_path):
        columns = {"csf": [1, 2], "white_matter": [2, 1], "remark": ["bad", "n/a"], "rmsd": ["n/a", "n/a"]}
        path = write_table(tmp_path / "a.tsv", columns)
        assert load_confounds(path, ConfoundStrategy(strategy=("wm_csf",))).n_volumes == 2

    def test_missing_displacement_is_refused_where_it_decides(self, tmp_path):
        columns = {"framewise_displacement": ["n/a", "n/a", 0.1], "std_dvars": ["n/a", 1, 1]}
        path = write_table(tmp_path / "a.tsv", columns)
        with pytest.raises(DataError, match="'framewise_displacement' has no value"):
            load_confounds(path, ConfoundStrategy(strategy=("scrub",)))
        assert np.isnan(load_confounds(path, PRESETS["none"]).framewise_displacement[:2]).all()

    def test_all_volumes_censored(self, tmp_path):
        columns = {"framewise_displacement": [1, 1], "std_dvars": [0, 0], "csf": [1, 2], "white_matter": [1, 3]}
        path = write_table(tmp_path / "a.tsv", columns)
        confounds = load_confounds(path, ConfoundStrategy(strategy=("scrub", "wm_csf")))
        assert confounds.sample_mask.tolist() == []
        np.testing.assert_array_equal(confounds.values, [[1, 1], [2, 3]])

    def test_reasons(self, tmp_path):
        fd = [0, 0, 0, 0, 0, 0, 0.9, 0, 0, 0]
        dvars = [0, 0, 0, 0, 0, 0, 9, 9, 0, 0]
        steady = [1, *[0] * 9]
        path = write_table(
            tmp_path / "a.tsv",
            {"framewise_displacement": fd, "std_dvars": dvars, "non_steady_state_outlier00": steady},
        )
        confounds = load_confounds(path, ConfoundStrategy(strategy=("scrub",), scrub=3))
        assert tuple(confounds.outliers) == OUTLIER_REASONS
        assert {reason: np.flatnonzero(where).tolist() for reason, where in confounds.outliers.items()} == {
            "non_steady_state": [0],
            "framewise_displacement": [6],
            "std_dvars": [6, 7],
            "short_segment": [8, 9],
        }
        assert confounds.sample_mask.tolist() == [1, 2, 3, 4, 5]

    def test_number_of_volumes(self, small_table, tmp_path):
        confounds = load_confounds(small_table, BASIC_MOTION)
        confounds.check_rows(8, tmp_path / "bold.nii.gz")
        for other in (7, 9):
            with pytest.raises(
                DataError, match=rf"timeseries\.tsv has 8 rows, but .*bold\.nii\.gz has {other} volumes"
            ):
                confounds.check_rows(other, tmp_path / "bold.nii.gz")

    def test_mean_displacement_is_that_of_the_kept_volumes_that_state_it(self, tmp_path):
        columns = {"framewise_displacement": ["n/a", 0.1, 0.9, 0.3], "csf": [1, 2, 3, 4]}
        path = write_table(tmp_path / "a.tsv", columns)
        strategy = ConfoundStrategy(strategy=("scrub",), std_dvars_threshold=math.inf, scrub=0)
        assert load_confounds(path, strategy).mean_framewise_displacement == pytest.approx(0.2)
        assert load_confounds(path, PRESETS["none"]).mean_framewise_displacement == pytest.approx(1.3 / 3)
        unstated = write_table(tmp_path / "b.tsv", {"framewise_displacement": ["n/a", "n/a"]})
        assert math.isnan(load_confounds(unstated, PRESETS["none"]).mean_framewise_displacement)

    def test_empty(self):
        confounds = Confounds.empty(5)
        assert (confounds.n_volumes, confounds.names, confounds.sample_mask) == (5, (), None)
        assert math.isnan(confounds.mean_framewise_displacement)
        assert confounds.values.shape == (5, 0)


class TestTables:
    @pytest.mark.parametrize(
        "encode",
        [
            lambda text: b"\xef\xbb\xbf" + text.encode(),
            lambda text: text.replace("\n", "\r\n").encode(),
            lambda text: text.replace("\n", "\r").encode(),
            lambda text: text.replace("trans_x", '"trans_x"').encode(),
            lambda text: text.replace("trans_x", " trans_x ").encode(),
            lambda text: (text + "\n\n").encode(),
            lambda text: text.rstrip("\n").encode(),
            lambda text: text.replace("n/a", "NaN").encode(),
            lambda text: text.replace("n/a", "").encode(),
        ],
        ids=["BOM", "CRLF", "CR", "quotes", "spaces", "blank end", "no end", "NaN", "empty cell"],
    )
    def test_harmless_forms(self, small_table, encode):
        expected = load_confounds(small_table, BASIC_MOTION)
        small_table.write_bytes(encode(small_table.read_text()))
        confounds = load_confounds(small_table, BASIC_MOTION)
        assert confounds.names == expected.names
        np.testing.assert_array_equal(confounds.values, expected.values)
        np.testing.assert_array_equal(confounds.framewise_displacement, expected.framewise_displacement)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"\n\n", "is empty"),
            (b"a\tb\n", "no rows"),
            (b"a,b\n1,2\n", "not tab-separated: its first line is 'a,b'"),
            (b"a;b\n1;2\n", "not tab-separated"),
            (b"a b\n1 2\n", "not tab-separated"),
            (b"0.1\t0.2\n1\t2\n", "no header"),
            (b"a\tb\ta\n1\t2\t3\n", "two columns named 'a'"),
            (b"a\tb\n1\t2\n1\n", "row 2 has 1 cells, but the header has 2"),
            (b"a\tb\n1\t2\t3\n", "row 1 has 3 cells"),
            (b"a\tb\n\n1\t2\n", "row 1 has 0 cells"),
            (b'a\tb\n"1\t2\n', "no tab-separated table in UTF-8"),
            (b"a\tb\n\xff\xfe\t2\n", "no tab-separated table in UTF-8"),
            ("a\tb\n1\t2\n".encode("utf-16"), "no tab-separated table in UTF-8"),
        ],
    )
    def test_no_tables(self, tmp_path, content, message):
        path = tmp_path / "broken.tsv"
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as error:
            load_confounds(path, PRESETS["none"])
        assert str(path) in str(error.value)

    @pytest.mark.parametrize("name", ["nothing.tsv", "."])
    def test_no_file(self, tmp_path, name):
        with pytest.raises(MissingInputError, match="cannot be read"):
            load_confounds(tmp_path / name, PRESETS["none"])

    def test_melodic_mixing_has_no_header(self, shared_data):
        folder = shared_data / "confounds" / "fmripost-aroma_ds005625"
        with pytest.raises(DataError, match="no header"):
            read_table(folder / "sub-042_task-restingstate_res-2_desc-melodic_mixing.tsv")

    def test_extra_table_of_another_length(self, small_table, tmp_path):
        extra = write_table(tmp_path / "extra.tsv", {"aroma_motion_01": [1, 2]})
        with pytest.raises(DataError, match=r"timeseries\.tsv has 8 rows, but .*extra\.tsv has 2"):
            load_confounds(small_table, PRESETS["none"], extra_tables=[extra])

    def test_extra_table_with_the_same_column(self, small_table):
        with pytest.raises(DataError, match="column 'trans_x' is in both"):
            load_confounds(small_table, PRESETS["none"], extra_tables=[small_table])


@settings(max_examples=200, deadline=None)
@given(outliers=st.lists(st.booleans(), min_size=1, max_size=40), min_length=st.integers(0, 12))
def test_short_segments_by_brute_force(outliers: list[bool], min_length: int):
    short = short_segments(np.array(outliers), min_length)
    for volume, outlier in enumerate(outliers):
        before = next((n for n in range(volume + 1) if volume - n < 0 or outliers[volume - n]), volume + 1)
        after = next((n for n in range(len(outliers) - volume) if outliers[volume + n]), len(outliers) - volume)
        expected = not outlier and any(outliers) and before + after - 1 < min_length
        assert short[volume] == expected


@settings(max_examples=50, deadline=None)
@given(
    fd=st.lists(st.sampled_from([0.1, 0.5, 0.6]), min_size=2, max_size=25),
    steady=st.integers(0, 3),
    scrub=st.integers(0, 8),
)
def test_sample_mask_is_that_of_nilearn(tmp_path_factory, fd: list[float], steady: int, scrub: int):
    folder = tmp_path_factory.mktemp("scrub")
    columns: dict[str, list[object]] = {"framewise_displacement": ["n/a", *fd[1:]], "std_dvars": [1.0] * len(fd)}
    for volume in range(min(steady, len(fd))):
        columns[f"non_steady_state_outlier{volume:02d}"] = np.eye(len(fd), dtype=int)[volume].tolist()
    columns |= {name: list(range(len(fd))) for name in MOTION}
    tsv = write_table(folder / "sub-01_task-x_desc-confounds_timeseries.tsv", columns)
    (folder / "sub-01_task-x_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz").touch()
    variant = {"strategy": ("motion", "scrub"), "motion": "basic", "scrub": scrub}
    expected = run_nilearn(folder, nilearn_load_confounds, aroma_image=False, **variant)
    assert_same(load_confounds(tsv, ConfoundStrategy(**variant)), expected)


CELL = st.one_of(
    st.floats(-10, 10).map(repr),
    st.sampled_from(["n/a", "", "nan", "inf", "1e999", '"', "'", "1,5", "-0", "\ufeff", "\x00", "1e100"]),
    st.floats().map(repr),
    st.text(max_size=5),
)
KNOWN_NAMES = [*MOTION, "framewise_displacement", "cosine00", "non_steady_state_outlier00"]
NAMES = st.one_of(
    st.permutations(KNOWN_NAMES),
    st.lists(st.one_of(st.sampled_from(KNOWN_NAMES), st.text(max_size=5)), max_size=9),
)


@st.composite
def table_text(draw: st.DrawFn) -> str:
    names = draw(NAMES)
    cells = draw(st.sampled_from([CELL, st.just("0.5"), st.floats(-1e100, 1e100).map(repr)]))
    rows = draw(st.lists(st.lists(cells, min_size=len(names), max_size=len(names)), max_size=4))
    text = draw(st.sampled_from(["\n", "\r\n", "\r"])).join("\t".join(row) for row in [names, *rows])
    return text + draw(st.sampled_from(["", "\n"]))


def load_or_refuse(path: Path, strategy: ConfoundStrategy) -> Confounds | None:
    try:
        return load_confounds(path, strategy)
    except DataError:
        return None


def check_loads_or_refuses(path: Path, content: bytes) -> None:
    """Whatever the file holds: confounds that can be used, or our own error."""
    path.write_bytes(content)
    strategy = ConfoundStrategy(strategy=("scrub",), std_dvars_threshold=math.inf, columns=("^.*_x$",))
    loaded = [load_or_refuse(path, each) for each in (PRESETS["none"], BASIC_MOTION, strategy)]
    for confounds in filter(None, loaded):
        assert np.isfinite(confounds.values).all()
        assert confounds.values.shape == (confounds.n_volumes, len(confounds.names))
        assert all(len(where) == confounds.n_volumes for where in confounds.outliers.values())
        assert not any(later <= earlier for earlier, later in pairwise(confounds.names))


@settings(max_examples=100, deadline=None)
@given(text=table_text())
def test_any_table_loads_or_is_refused(tmp_path_factory, text: str):
    check_loads_or_refuses(tmp_path_factory.getbasetemp() / "hypothesis.tsv", text.encode("utf-8", "surrogatepass"))


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="ab 1.\t\n\r\x0b\u2028", max_size=60))
def test_cells_without_quotes_are_those_of_the_csv_module(tmp_path_factory, text: str):
    path = tmp_path_factory.getbasetemp() / "cells.tsv"
    path.write_bytes(f"first\tsecond\n{text}".encode())
    _, *rows = csv.reader(io.StringIO(f"first\tsecond\n{text}", newline=""), delimiter="\t")
    while rows and not rows[-1]:
        rows.pop()
    try:
        table = read_table(path)
    except DataError:
        assert not rows or any(len(row) != 2 for row in rows)
    else:
        assert list(zip(*(column.cells for column in table.values()), strict=True)) == [tuple(row) for row in rows]


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_load_or_are_refused(tmp_path_factory, content: bytes):
    check_loads_or_refuses(tmp_path_factory.getbasetemp() / "hypothesis.tsv", content)


@settings(max_examples=100, deadline=None)
@given(
    numbers=st.lists(st.one_of(st.integers(-(10**9), 10**9), st.floats(-1e12, 1e12)), min_size=1, max_size=8),
    name=st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1).filter(lambda name: name != "first"),
)
def test_numbers_come_back_exactly(tmp_path_factory, numbers: list[float], name: str):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter="\t").writerows([["first", name], *(["0", repr(number)] for number in numbers)])
    path = tmp_path_factory.getbasetemp() / "exact.tsv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    np.testing.assert_array_equal(read_table(path)[name].to_numbers(), numbers)
