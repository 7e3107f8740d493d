"""What holds for the outputs of any two jobs, and of any job.

Two have every byte in common but what they say of themselves; the BIDS validator finds nothing in any.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import bidsschematools

# Times, commands, folders and machines are in these: the logs, the saved configuration, the provenance and the reports.
_OF_THE_JOB_ITSELF = ("*.log", "*.toml", "*.html", "provenance.json")


def digests(folder: Path, dataset: Path | None = None) -> dict[str, str]:
    """Digest each output of a job; its work folder is none.

    With the dataset, it does not matter where that lies, of which dataset_description.json speaks.
    """
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(_content(path, dataset)).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".work" not in path.parts and not any(map(path.match, _OF_THE_JOB_ITSELF))
    }


def _content(path: Path, dataset: Path | None) -> bytes:
    content = path.read_bytes()
    if dataset is not None and path.name == "dataset_description.json":
        assert dataset.as_uri().encode() in content
        content = content.replace(dataset.as_uri().encode(), b"")
    return content


def validator_issues(folder: Path) -> list[object]:
    """Every error and warning of the BIDS validator, by its own schema and by the newest one."""
    command = [Path(sys.executable).with_name("bids-validator-deno"), folder, "--format", "json"]
    newest = Path(bidsschematools.__file__).parent / "data" / "schema.json"
    reports = [
        json.loads(subprocess.run([*command, *schema], capture_output=True, check=False).stdout)
        for schema in ((), ("-s", newest.as_uri()))
    ]
    assert all(report["summary"]["totalFiles"] > 0 for report in reports)
    return [issue for report in reports for issue in report["issues"]["issues"]]
