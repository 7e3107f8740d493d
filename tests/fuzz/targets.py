"""Everything that reads what others wrote, as functions of bytes: only our own errors may come out.

The property tests and the coverage-guided fuzzer call the same functions.
"""

import io
import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from bids_parcellate.config import build_config, read_toml
from bids_parcellate.dataset.filters import parse_filters, read_filters
from bids_parcellate.dataset.roots import find_datasets
from bids_parcellate.dataset.sidecars import Sidecars, repetition_time
from bids_parcellate.errors import ParcellateError
from bids_parcellate.io.confounds import load_confounds
from bids_parcellate.io.headers import read_header
from bids_parcellate.io.images import iter_volumes, read_info
from bids_parcellate.io.naming import bids_name, parse_entities
from bids_parcellate.io.strategies import PRESETS, load_strategy
from bids_parcellate.io.tables import read_table

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))


def _file(name: str, content: bytes) -> Path:
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def header(content: bytes) -> None:
    """Read the header of an image in memory."""
    stream = io.BytesIO(content)

    def read(n_bytes: int) -> bytes:
        block = stream.read(n_bytes)
        if len(block) < n_bytes:
            raise ParcellateError("truncated")
        return block

    info = read_header(read, Path("fuzz.nii"))
    assert info.n_volumes >= 1
    assert min(info.grid.shape) >= 1
    assert info.volume_bytes > 0


def image(content: bytes) -> None:
    """Read an image from a file, to its end."""
    path = _file("image.nii.gz", content)
    info = read_info(path)
    for volume in iter_volumes(path):
        assert volume.shape == info.grid.shape


def table(content: bytes) -> None:
    """Read a table, and each column as numbers."""
    for column in read_table(_file("table.tsv", content)).values():
        with suppress(ParcellateError):
            assert len(column.to_numbers()) == len(column)


def confounds(content: bytes) -> None:
    """Take what strategies want out of a table."""
    path = _file("confounds.tsv", content)
    for name in ("simple", "scrubbing", "27P"):
        found = load_confounds(path, PRESETS[name])
        assert len(found.values) == found.n_volumes


def compcor(content: bytes) -> None:
    """Read the JSON file beside a table."""
    table = _file("compcor.tsv", b"cosine00\ta_comp_cor_00\n1\t2\n3\t4\n")
    load_confounds(table, PRESETS["compcor"], sidecar=_file("compcor.json", content))


def sidecar(content: bytes) -> None:
    """Read an image's sidecar and what it says of time."""
    path = _file("sidecars/sub-1_bold.json", content).with_suffix(".nii")
    assert (
        0 < repetition_time(Sidecars(path.parent).metadata(path, parse_entities(path.name)), None, path) < float("inf")
    )


def description(content: bytes) -> None:
    """Read a dataset's description and what made it."""
    for dataset in find_datasets(_file("dataset/dataset_description.json", content).parent):
        assert str(dataset)


def strategy_toml(content: bytes) -> None:
    """Read a confound strategy."""
    assert load_strategy(_file("strategy.toml", content)).describe()


def strategy_json(content: bytes) -> None:
    """Read a confound strategy."""
    assert load_strategy(_file("strategy.json", content)).describe()


def configuration(content: bytes) -> None:
    """Read a configuration, which must survive being written and read again."""
    given = {"bids_dir": "/in", "output_dir": "/out", "analysis_level": "group"}
    config = build_config(given, read_toml(_file("config.toml", content)))
    assert build_config({}, read_toml(_file("again.toml", config.to_toml().encode()))) == config


def filter_file(content: bytes) -> None:
    """Read a filter file; what is read is read alike a second time."""
    path = _file("filter.json", content)
    filters, _ = read_filters(path)
    again = {name: {key: list(labels) for key, labels in query.items()} for name, query in filters.items()}
    assert parse_filters(json.loads(json.dumps(again)))[0] == filters


def file_name(content: bytes) -> None:
    """Read the entities of a file's name; a name that can be spelled stays in its folder."""
    entities = parse_entities(content.decode("utf-8", "surrogateescape"))
    try:
        name = bids_name(entities, "bold", ".nii.gz")
    except ValueError:
        return
    assert "/" not in name
    assert parse_entities(name) == entities


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        header, image, table, confounds, compcor, sidecar, description,
        strategy_toml, strategy_json, configuration, filter_file, file_name,
    )
}  # fmt: skip


def run(name: str, content: bytes) -> None:
    """Call a target; our own errors are what it may raise."""
    with suppress(ParcellateError):
        TARGETS[name](content)
