"""A study and the outputs of an earlier job, in which one thing is made wrong at a time."""

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Header

from bids_parcellate.cli import main

HEADER_SIZE = 348
LARGE = 10**9  # bytes; of larger files only size and time are compared
OUTSIDE_PROMISE = ("logs", ".work")  # a job that fails may leave its log and what is worth keeping


@dataclass(frozen=True)
class Case:
    """One thing that is wrong, and what must be said of it.

    Parameters
    ----------
    name : str
        In a few words.
    spoil : callable
        Makes it wrong, and may give the path that must be named.
    says : iterable of str
        Texts of the message.
    options : tuple of str
        Further options of the job.
    code : int
        The exit code.
    """

    name: str
    spoil: Callable[["Sandbox"], Path | None]
    says: str | Iterable[str] = ()
    options: tuple[str, ...] = ()
    code: int = 18


def cases(*given: Case) -> pytest.MarkDecorator:
    """Run a test for each case."""
    return pytest.mark.parametrize("case", given, ids=lambda case: case.name)


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass
class Sandbox:
    """What one test works on.

    Parameters
    ----------
    dataset : Path
        Two participants of a simulated study; participant 02 has one run.
    output : Path
        What an earlier job made of it.
    capture : pytest.CaptureFixture
        Where messages go.
    """

    dataset: Path
    output: Path
    capture: pytest.CaptureFixture[str]

    @property
    def folder(self) -> Path:
        return self.dataset.parent

    @property
    def func(self) -> Path:
        return self.dataset / "sub-02" / "ses-1" / "func"

    def file(self, ending: str) -> Path:
        """Find a file of participant 02's only run."""
        (path,) = self.func.glob(f"*{ending}")
        return path

    @property
    def bold(self) -> Path:
        return self.file("preproc_bold.nii.gz")

    @property
    def sidecar(self) -> Path:
        return self.file("preproc_bold.json")

    @property
    def mask(self) -> Path:
        return self.file("brain_mask.nii.gz")

    @property
    def confounds(self) -> Path:
        return self.file("confounds_timeseries.tsv")

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file beside the dataset."""
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def run(self, *options: object, level: str = "group") -> Outcome:
        """Run a job in this process."""
        arguments = [self.dataset, self.output, level, "--nprocs", "1", "--n-parcels", "6", *options]
        return self.command(*arguments)

    def command(self, *arguments: object) -> Outcome:
        self.capture.readouterr()
        code = main(list(map(str, arguments)))
        captured = self.capture.readouterr()
        return Outcome(code, captured.out, captured.err)

    def refuses(self, case: Case, *options: object) -> Outcome:
        """Run a job on what a case spoils: it must say what is wrong and how to go on, and change nothing."""
        named = case.spoil(self)
        inputs, outputs = snapshot(self.dataset), snapshot(self.output, without=OUTSIDE_PROMISE)
        outcome = self.run(*options, *(option.format(box=self) for option in case.options))
        assert outcome.code == case.code, outcome.text
        assert_helpful(outcome, named, case.says)
        assert snapshot(self.dataset) == inputs
        assert snapshot(self.output, without=OUTSIDE_PROMISE) == outputs
        return outcome


def assert_helpful(outcome: Outcome, named: Path | None, says: str | Iterable[str]) -> None:
    """Make sure that a message names the file and the way out, and is no crash."""
    assert "Traceback" not in outcome.text
    assert "mistake in bids-parcellate" not in outcome.text
    assert "-> " in outcome.err + outcome.out, f"no way out: {outcome.text}"
    if named is not None:
        assert named.name in outcome.text, f"{named.name} is not in: {outcome.text}"
    for text in (says,) if isinstance(says, str) else says:
        assert text in outcome.text, f"{text!r} is not in: {outcome.text}"


def snapshot(folder: Path, *, without: Iterable[str] = ()) -> dict[str, tuple[object, ...]]:
    """Describe a tree so that any change in it shows: content, kind, permissions, time of change."""
    found: dict[str, tuple[object, ...]] = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(parent) != folder or name not in without]
        for name in (*folders, *files):
            path = Path(parent, name)
            status = path.lstat()
            found[str(path.relative_to(folder))] = (status.st_mode, *_content(path))
    return found


def _content(path: Path) -> tuple[object, ...]:
    if path.is_symlink():
        return (str(path.readlink()),)
    if not path.is_file() or not os.access(path, os.R_OK):
        return ()
    status = path.stat()
    content = path.read_bytes() if status.st_size < LARGE else b""
    return status.st_mtime_ns, status.st_size, hashlib.sha256(content).hexdigest()


# What is made wrong


def put(path: Path, content: str | bytes) -> Path:
    """Replace a file's content."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def edit_json(path: Path, **values: object) -> Path:
    return put(path, json.dumps(json.loads(path.read_text()) | values))


def raw_image(path: Path) -> tuple[Nifti1Header, bytes]:
    """Split an image into its header and all that follows it."""
    content = gzip.decompress(path.read_bytes())
    return Nifti1Header(content[:HEADER_SIZE], check=False), content[HEADER_SIZE:]


def put_image(path: Path, header: Nifti1Header, rest: bytes) -> Path:
    return put(path, gzip.compress(header.binaryblock + rest, 1, mtime=0))


def edit_header(path: Path, **fields: Any) -> Path:
    """Set fields of a header; a dict as a value sets some of a field's elements."""
    header, rest = raw_image(path)
    for name, value in fields.items():
        if isinstance(value, dict):
            for index, element in value.items():
                header[name][index] = element
        else:
            header[name] = value
    return put_image(path, header, rest)


def edit_voxels(path: Path, change: Callable[[np.ndarray], np.ndarray], *, dtype: str = "<f4") -> Path:
    """Change an image's values, stored as they are, as another type."""
    header, rest = raw_image(path)
    shape = tuple(header["dim"][1 : 1 + int(header["dim"][0])])
    stored = np.frombuffer(rest[4:], header.get_data_dtype()).reshape(shape, order="F")
    slope = float(header["scl_slope"])
    values = np.asarray(change(stored * np.float32(slope if np.isfinite(slope) and slope else 1)), dtype)
    header["dim"] = [values.ndim, *values.shape, *[1] * (7 - values.ndim)]
    header.set_data_dtype(np.dtype(dtype).newbyteorder("="))
    header["scl_slope"], header["scl_inter"] = np.nan, np.nan
    return put_image(path, header, rest[:4] + values.tobytes(order="F"))
