"""The record of a job: all that its results depend on, and what it took, for machines to read."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bids_parcellate.config import Config, build_config
from bids_parcellate.dataset import Run, Selection
from bids_parcellate.errors import DataError, MissingInputError, UsageError
from bids_parcellate.execution.monitoring import Step, Steps
from bids_parcellate.io.strategies import ConfoundStrategy
from bids_parcellate.io.writing import write_json
from bids_parcellate.outputs.software import describe_machine, find_container, image_version, package_versions

_CHUNK = 2**16


@dataclass(frozen=True)
class FinishedJob:
    """What the report of a job must know, beyond what the job has written for others.

    Parameters
    ----------
    config : Config
        The configuration.
    command_line : sequence of str
        The command that was given.
    n_parcels : sequence of int
        Numbers of parcels of the parcellations whose signals it extracted.
    digests : Mapping of str to str
        Of each run that was reduced, by its name, where the work folder keeps the reduction.
    sources : frozenset of str
        BIDS URIs of the images of all runs that it found.
    """

    config: Config
    command_line: Sequence[str]
    n_parcels: Sequence[int]
    digests: Mapping[str, str]
    sources: frozenset[str]


@dataclass
class JobRecord:
    """What is known of a job while it runs.

    Parameters
    ----------
    config : Config
        The configuration.
    strategy : ConfoundStrategy
        The denoising that it leads to.
    command_line : sequence of str
        The command that was given.
    selection : Selection
        The runs.
    steps : Steps
        The steps so far.
    digests : dict of Run to str
        Of each reduced run, the digest of everything that its reduction depends on.
    n_parcels : list of int
        Numbers of parcels of the parcellations whose signals were extracted.
    """

    config: Config
    strategy: ConfoundStrategy
    command_line: Sequence[str]
    selection: Selection
    steps: Steps = field(default_factory=Steps)
    digests: dict[Run, str] = field(default_factory=dict)
    n_parcels: list[int] = field(default_factory=list)

    @property
    def finished(self) -> FinishedJob:
        """What the report of the job must know."""
        found = [run.uri(run.bold) for run in self.selection.runs] + [each.uri for each in self.selection.rejected]
        digests = {run.label: digest for run, digest in self.digests.items()}
        return FinishedJob(self.config, self.command_line, self.n_parcels, digests, frozenset(found))

    @contextmanager
    def kept(self, path: Path) -> Iterator[None]:
        """Write the record when the block ends, however it ends.

        Parameters
        ----------
        path : Path
            The JSON file.
        """
        started = datetime.now(UTC)
        outcome = "done"
        try:
            yield
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
            raise
        finally:
            write_json(path, {**self._times(started), "Outcome": outcome, **self._content()})

    @staticmethod
    def _times(started: datetime) -> dict[str, str]:
        return {
            "Started": started.isoformat(timespec="seconds"),
            "Ended": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _content(self) -> dict[str, Any]:
        container = find_container()
        return {
            "CommandLine": list(self.command_line),
            "WorkingDirectory": str(Path.cwd()),
            "RandomSeed": self.config.execution.random_seed,
            "Configuration": _plain(self.config.model_dump(mode="json")),
            "ConfoundStrategy": _plain(self.strategy.model_dump(mode="json")),
            "NumbersOfParcels": self.n_parcels,
            "Software": package_versions(),
            "Container": {
                "Type": container and container.kind,
                "Name": container and container.name,
                "Version": image_version(),
            },
            "Machine": describe_machine(),
            "Environment": _environment(),
            "Steps": [_describe_step(step) for step in self.steps],
            "Inputs": [self._describe_run(run) for run in self.selection.runs],
            "LeftOut": [{"Source": each.uri, "Reason": each.reason} for each in self.selection.rejected],
        }

    def _describe_run(self, run: Run) -> dict[str, Any]:
        return {
            "Run": run.label,
            "Source": run.uri(run.bold),
            "ReductionDigest": self.digests.get(run),
            "Files": [{"URI": run.uri(path), **_describe_file(path)} for path in run.files],
        }


def _describe_file(path: Path) -> dict[str, Any]:
    """Describe a file; one that vanished since is described as that."""
    try:
        size = path.stat().st_size
        return {"Bytes": size, "SHA256OfEnds": _digest_of_ends(path, size)}
    except OSError as error:
        return {"Bytes": None, "SHA256OfEnds": None, "Error": str(error)}


def _digest_of_ends(path: Path, size: int) -> str:
    """Digest the first and the last 64 KiB: a gzip file ends in a checksum of all of it, and reading all takes long."""
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_CHUNK))
        if size > _CHUNK:
            file.seek(max(size - _CHUNK, _CHUNK))
            digest.update(file.read())
    return digest.hexdigest()


_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_CPU_NAME", "TEMPLATEFLOW_HOME")


def _environment() -> dict[str, str]:
    """Give the environment variables that can change a result or its rounding."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}


def _describe_step(step: Step) -> Mapping[str, Any]:
    return {
        "Name": step.name,
        **({} if step.usage is None else _camel(asdict(step.usage))),
        "Tasks": {label: _camel(asdict(usage)) for label, usage in step.tasks.items()},
    }


def _camel(fields: Mapping[str, float]) -> dict[str, float]:
    """Spell keys as BIDS does."""
    names = {"seconds": "Seconds", "cpu_seconds": "CPUSeconds", "peak_megabytes": "PeakMegabytes"}
    return {names[name]: value for name, value in fields.items()}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Make what JSON can hold of a model's values; infinity, which it cannot, is spelled out."""
    plain: dict[str, Any] = json.loads(json.dumps(values), parse_constant=str)
    return plain


def read_finished_job(config: Config) -> FinishedJob:
    """Read the record of the last job in an output folder that did what it should.

    Parameters
    ----------
    config : Config
        Folders, the analysis level, and which options the job had, as far as they are stated.

    Returns
    -------
    FinishedJob
        With all options of the job, but for the folders, which may have moved since.

    Raises
    ------
    MissingInputError
        If no job of this analysis level is done.
    UsageError
        If none of them had these options.
    DataError
        If a record cannot be read.
    """
    root, level = config.output_dir, config.analysis_level
    stated = _plain(config.model_dump(mode="json", exclude_unset=True, exclude=_MAY_DIFFER))
    n_done = 0
    for path in sorted(root.glob("logs/*/provenance.json"), reverse=True):
        record = _read_record(path)
        options = record["Configuration"]
        if record["Outcome"] == "done" and options["analysis_level"] == level:
            if _agrees(stated, options):
                return _finished(record, config)
            n_done += 1
    if n_done:
        raise UsageError(
            f"No job of the {level} level in {root} had the options that are given.",
            f"Leave them out to report on the last job, or see {root / 'logs'} for the options of each.",
        )
    raise MissingInputError(
        f"No job of the {level} level is on record as done in {root}: there is nothing to report on.",
        "Give the OUTPUT_DIR of a job that is done, or run the job first, without --reports-only.",
    )


# Where a job runs, and where its folders lie, changes no result.
_MAY_DIFFER = {"bids_dir", "output_dir", "execution"}


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {"Outcome", "Configuration", "CommandLine", "NumbersOfParcels", "Inputs", "LeftOut"} - set(record)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", _ANOTHER_VERSION) from error
    if missing:
        raise DataError(f"{path} lacks {', '.join(sorted(missing))}.", _ANOTHER_VERSION)
    return record


_ANOTHER_VERSION = "If another version of bids-parcellate wrote it, run the job again with this one."


def _agrees(stated: Mapping[str, Any], recorded: Mapping[str, Any]) -> bool:
    """Tell whether what is stated is what is on record."""
    return all(
        _agrees(value, recorded.get(key, {})) if isinstance(value, Mapping) else value == recorded.get(key)
        for key, value in stated.items()
    )


def _finished(record: Mapping[str, Any], config: Config) -> FinishedJob:
    options = dict(record["Configuration"])
    if config.execution.work_dir is not None:
        options["execution"] = options["execution"] | {"work_dir": str(config.execution.work_dir)}
    return FinishedJob(
        config=build_config({"bids_dir": str(config.bids_dir), "output_dir": str(config.output_dir)}, options),
        command_line=record["CommandLine"],
        n_parcels=record["NumbersOfParcels"],
        digests={each["Run"]: each["ReductionDigest"] for each in record["Inputs"] if each["ReductionDigest"]},
        sources=frozenset(each["Source"] for each in (*record["Inputs"], *record["LeftOut"])),
    )
