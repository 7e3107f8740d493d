"""What two jobs must have in common: every byte of their outputs but what they say of themselves."""

import hashlib
from pathlib import Path

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
