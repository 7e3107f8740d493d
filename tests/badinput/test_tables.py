"""Tables of confounds, and files of strategies and filters, that are no such thing or do not fit."""

import json

import numpy as np
import pytest

from tests.badinput.sandbox import Case, Sandbox, assert_helpful, cases, put, snapshot

TAB = "\t"
ONLY = ("--participant-label", "02")


def table(change):
    """Change the text of the table of confounds."""
    return lambda box: put(box.confounds, change(box.confounds.read_text()))


def rows(change):
    return table(lambda text: "\n".join(change(text.splitlines())) + "\n")


def cell(value: str, *, row: int = 5, column: str = "trans_x"):
    """Set one cell."""

    def change(lines: list[str]) -> list[str]:
        cells = lines[row].split("\t")
        cells[lines[0].split("\t").index(column)] = value
        return [*lines[:row], "\t".join(cells), *lines[row + 1 :]]

    return rows(change)


def whole_column(value: str, column: str = "csf"):
    def change(lines: list[str]) -> list[str]:
        place = lines[0].split("\t").index(column)
        split = [line.split("\t") for line in lines[1:]]
        return [lines[0], *("\t".join([*cells[:place], value, *cells[place + 1 :]]) for cells in split)]

    return rows(change)


def renamed(old: str, new: str):
    return rows(lambda lines: [lines[0].replace(old, new, 1), *lines[1:]])


def remove(box: Sandbox):
    box.confounds.unlink()
    return box.bold


def binary(content: bytes):
    return lambda box: put(box.confounds, content)


def shaken(box: Sandbox):
    whole_column("9", "framewise_displacement")(box)
    return box.bold


def encoded(encoding: str):
    return lambda box: put(box.confounds, box.confounds.read_text().encode(encoding))


@cases(
    Case("missing", remove, ("table of confounds", "--confounds none")),
    Case("not fetched", binary(b"/annex/objects/x\n"), "datalad get"),
    Case("empty", binary(b""), "is empty"),
    Case("only line ends", binary(b"\n\n\n"), "empty"),
    Case("only a header", rows(lambda lines: lines[:1]), "no rows"),
    Case("no header", rows(lambda lines: lines[2:]), "no header"),
    Case("rows are missing", rows(lambda lines: lines[:-3]), ("77 rows", "80 volumes")),
    Case("rows too many", rows(lambda lines: [*lines, lines[-1]]), ("81 rows", "80 volumes")),
    Case("a row is cut", rows(lambda lines: [*lines[:-1], lines[-1][:30]]), "cells"),
    Case("commas", table(lambda text: text.replace("\t", ",")), "not tab-separated"),
    Case("semicolons", table(lambda text: text.replace("\t", ";")), "not tab-separated"),
    Case("spaces", table(lambda text: text.replace("\t", " ")), "not tab-separated"),
    Case("a word", cell("moved"), ("'moved'", "row 5")),
    Case("a decimal comma", cell("0,5"), "'0,5'"),
    Case("an underscore in a number", cell("1_0"), "'1_0'"),
    Case("infinite", cell("inf"), "'inf'"),
    Case("absurdly large", cell("1e300"), "'1e300'"),
    Case("n/a in the middle", cell("n/a"), "n/a"),
    Case("all n/a", whole_column("n/a"), "n/a"),
    Case("all empty", whole_column(""), "n/a"),
    Case("two columns of one name", renamed("csf", "trans_x"), "two columns"),
    Case("a column is missing", renamed("trans_x", "trans_X"), "trans_x"),
    Case("a quote that never ends", cell('"'), "tab-separated"),
    Case("UTF-16", encoded("utf-16"), "UTF-8"),
    Case("bytes", binary(bytes(range(256)) * 10), ()),
    Case("zeros", binary(bytes(4000)), ()),
    Case("an image", binary(b"\x1f\x8b\x08\0" * 300), "UTF-8"),
    Case("every volume moves", shaken, "0 of 80 volumes are left", ("--fd-threshold", "1")),
)
def test_a_table_that_cannot_be_used(box, case):
    box.refuses(case, *ONLY)


def sidecar(content: str | bytes):
    def spoil(box: Sandbox):
        return put(box.confounds.with_suffix(".json"), content)

    return spoil


def no_sidecar(box: Sandbox):
    box.confounds.with_suffix(".json").unlink(missing_ok=True)
    return box.confounds


UNKNOWN = json.dumps({f"a_comp_cor_{number:02}": {"Mask": "combined"} for number in range(90, 93)})
COMPCOR = ("--confounds", "compcor")


@cases(
    Case("missing", no_sidecar, "CompCor", COMPCOR),
    Case("of other columns", lambda box: (sidecar(UNKNOWN)(box), box.confounds)[1], "a_comp_cor_90", COMPCOR),
    Case("of no columns", lambda box: (sidecar("{}")(box), box.confounds)[1], "a_comp_cor_*", COMPCOR),
    Case("no JSON", sidecar("{"), "JSON", COMPCOR),
    Case("a list", sidecar("[]"), "not an object", COMPCOR),
    Case("nested too deep", sidecar("[" * 100_000), "JSON", COMPCOR),
    Case("not fetched", sidecar("/annex/objects/x\n"), "datalad get", COMPCOR),
)
def test_a_sidecar_that_does_not_fit(box, case):
    box.refuses(case, *ONLY)


def wide(box: Sandbox):
    """Write 10,000 columns."""
    lines = box.confounds.read_text().splitlines()
    values = np.random.default_rng(0).normal(size=(len(lines) - 1, 10_000)).round(3).astype(str)
    lines[0] += "".join(f"\twide{number}" for number in range(10_000))
    lines[1:] = [f"{line}\t{TAB.join(row)}" for line, row in zip(lines[1:], values, strict=True)]
    return put(box.confounds, "\n".join(lines) + "\n")


def test_more_columns_than_volumes(box):
    strategy = box.write("wide.toml", 'strategy = ["motion"]\ncolumns = ["^wide.*$"]')
    case = Case("wide", wide, ("degrees of freedom", "fewer confounds"), ("--confounds", str(strategy)))
    outcome = box.refuses(Case(case.name, lambda box: wide(box) and box.bold, case.says, case.options), *ONLY)
    assert len(outcome.err) < 5000, "10,000 names are not listed"


def doubled(lines: list[str]) -> list[str]:
    """Add every column again, under another name: rank-deficient."""
    names = TAB.join(f"{name}_too" for name in lines[0].split(TAB))
    return [f"{lines[0]}\t{names}", *(f"{line}\t{line}" for line in lines[1:])]


@pytest.mark.parametrize(
    ("change", "options"),
    [
        pytest.param(encoded("utf-8-sig"), (), id="byte order mark"),
        pytest.param(table(lambda text: text.replace("\n", "\r\n")), (), id="CRLF"),
        pytest.param(table(lambda text: text + "\n\n"), (), id="empty lines at the end"),
        pytest.param(cell("moved", column="global_signal"), (), id="a word in a column that nobody uses"),
        pytest.param(whole_column("3"), (), id="a constant column"),
        pytest.param(whole_column("0"), (), id="a column of zeros"),
        pytest.param(rows(doubled), ("{box.folder}/all.toml",), id="collinear columns"),
        pytest.param(wide, (), id="10,000 columns that nobody uses"),
    ],
)  # fmt: skip
def test_odd_but_sound_tables_are_read(box, change, options):
    box.write("all.toml", 'strategy = ["motion", "wm_csf"]\ncolumns = ["^(trans|rot)_._too$"]')
    change(box)
    inputs = snapshot(box.dataset)
    strategy = ("--confounds", options[0].format(box=box)) if options else ()
    outcome = box.run("--check", *strategy)
    assert outcome.code == 0, outcome.text
    assert "sub-02_ses-1_task-rest: 80 volumes" in outcome.out
    assert snapshot(box.dataset) == inputs


# Files that options name


def beside(name: str, content: str | bytes, option: str):
    """Write a file beside the dataset, which an option names."""
    return lambda box: box.write(name, content), (option, f"{{box.folder}}/{name}")


def file_cases(option: str, ending: str, contents: dict[str, tuple[str | bytes, str]], code: int = 64):
    return [
        Case(f"{option} {name}", *_swap(beside(f"named{ending}", content, option), says), code=code)
        for name, (content, says) in contents.items()
    ]


def _swap(made, says):
    spoil, options = made
    return spoil, says, options


DEEP = "[" * 100_000


@cases(
    *file_cases(
        "--bids-filter-file",
        ".json",
        {
            "is no JSON": ("{", "no valid JSON"),
            "is no text": (b"\xff\xfe{", "no valid JSON"),
            "is a list": ("[]", "JSON object"),
            "is nested too deep": (DEEP, "no valid JSON"),
            "asks for what we do not have": ('{"eeg": {}}', "no query"),
            "holds a list": ('{"bold": []}', "JSON object"),
            "names no entity": ('{"bold": {"colour": "red"}}', "no BIDS entity"),
            "names an entity twice": ('{"bold": {"ses": "1", "session": "1"}}', "twice"),
            "has a number with a comma": ('{"bold": {"run": 1.5}}', "no label"),
            "has true": ('{"bold": {"run": true}}', "no label"),
            "has an object": ('{"bold": {"run": {}}}', "no label"),
            "has half a character": ('{"bold": {"task": "\\ud800"}}', "no label"),
            "has a label of 300 letters": (f'{{"bold": {{"task": "{"x" * 300}"}}}}', "no label"),
            "has a number that is too large": ('{"bold": {"run": 10000000000000000000000000}}', "no label"),
            "has an empty label": ('{"bold": {"task": ""}}', "no label"),
            "asks for another suffix": ('{"bold": {"suffix": "T1w"}}', "suffix"),
        },
    ),
    *file_cases("--bids-filter-file", ".json", {"leaves nothing": ('{"bold": {"task": "x\' OR 1=1"}}', "Loosen")}, 18),
    *file_cases(
        "--confounds",
        ".toml",
        {
            "is no TOML": ("strategy = [", "no valid TOML"),
            "is no text": (b"\xff\xff", "no valid TOML"),
            "is nested too deep": (f"strategy = {DEEP}", "no valid TOML"),
            "is empty": ("", "strategy"),
            "has an unknown component": ('strategy = ["magic"]', "strategy"),
            "has an unknown key": ('strategy = ["motion"]\ncolour = 1', "colour"),
            "has true for a number": ('strategy = ["scrub"]\nscrub = true', "not true or false"),
            "has a negative threshold": ('strategy = ["scrub"]\nfd_threshold = -1', "fd_threshold"),
            "has compcor without high_pass": ('strategy = ["compcor"]', "high_pass"),
            "has a pattern that is none": ('strategy = []\ncolumns = ["^((($"]', "columns"),
        },
    ),
    *file_cases("--confounds", ".json", {"is no JSON": ("{", "no valid JSON"), "is deep": (DEEP, "no valid JSON")}),
    *file_cases("--confounds", ".txt", {"has another ending": ("motion", ".toml or .json")}),
)
def test_a_file_that_an_option_names(box, case):
    box.refuses(case)


@cases(
    *file_cases(
        "--config-file",
        ".toml",
        {
            "has an unknown section": ("[colours]\nred = 1", "colours"),
            "has an unknown key": ("[masking]\ncolour = 1", "masking.colour"),
            "has a list for a section": ("masking = [1]", "masking"),
            "has a text for a number": ('[denoising]\nsmoothing_fwhm = "wide"', "smoothing_fwhm"),
            "has a date": ("[denoising]\nlow_pass = 2020-01-01", "low_pass"),
            "leaves the file system": ('[parcellation]\natlas_name = "../../etc"', "no BIDS label"),
            "has a zero byte in a path": ('[masking]\nmask = "a\\u0000b"', "zero bytes"),
        },
    ),
)
def test_a_configuration_file(box, case):
    refuse_configuration(box, case)


@cases(
    *file_cases(
        "--config-file",
        ".toml",
        {
            "is no TOML": ("method = ", "not valid TOML"),
            "is no text": (b"\xff\xff", "not valid TOML"),
            "is nested too deep": (f"a = {DEEP}", "not valid TOML"),
            "has true for a number": ("[execution]\nnprocs = true", "nprocs"),
            "has true for a fraction": ("[denoising]\nlow_pass = true", "low_pass"),
            "has true for a threshold": ("[denoising]\nfd_threshold = true", "fd_threshold"),
            "has true in a list": ("[parcellation]\nn_parcels = [true]", "n_parcels"),
            "has true for a size": ("[execution]\nmem_mb = true", "mem_mb"),
            "has one for true": ("[denoising]\ndetrend = 1", "detrend"),
            "has a word for true": ('[denoising]\ndetrend = "yes"', "detrend"),
            "has a zero byte in a folder": ('[execution]\nwork_dir = "a\\u0000b"', "work_dir"),
            "has a text that is too long to repeat": (f'[denoising]\nlow_pass = "{"x" * 10**6}"', "low_pass"),
        },
    )
)
def test_a_configuration_file_that_is_no_toml(box, case):
    refuse_configuration(box, case)


def test_a_configuration_file_with_a_byte_order_mark_is_read(box):
    path = box.write("named.toml", b"\xef\xbb\xbf[parcellation]\r\nmethod = 'rena'\r\n")
    assert box.run("--check", "--config-file", path).code == 0


def refuse_configuration(box: Sandbox, case: Case) -> None:
    inputs, outputs = snapshot(box.dataset), snapshot(box.output)
    case.spoil(box)
    options = [option.format(box=box) for option in case.options]
    outcome = box.command(box.dataset, box.output, "group", *options)
    assert outcome.code in (64, 66), outcome.text
    assert_helpful(outcome, None, case.says)
    assert len(outcome.err) < 2000
    assert snapshot(box.dataset) == inputs
    assert snapshot(box.output) == outputs
