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

from pydantic import BaseModel

from bids_parcellate.config import Config
from bids_parcellate.dataset import Run, Selection
from bids_parcellate.execution.monitoring import Step, Steps
from bids_parcellate.io.strategies import ConfoundStrategy
from bids_parcellate.io.writing import write_json
from bids_parcellate.outputs.software import describe_machine, find_container, image_version, package_versions

_CHUNK = 2**16


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
    """

    config: Config
    strategy: ConfoundStrategy
    command_line: Sequence[str]
    selection: Selection
    steps: Steps = field(default_factory=Steps)
    digests: dict[Run, str] = field(default_factory=dict)

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
            "Configuration": _plain(self.config),
            "ConfoundStrategy": _plain(self.strategy),
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


def _plain(model: BaseModel) -> Any:
    """Make what JSON can hold of a model; infinity, which it cannot, is spelled out."""
    return json.loads(json.dumps(model.model_dump(mode="json")), parse_constant=str)
