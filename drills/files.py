"""Inputs that vanish or change in the middle of a job, and damage in the work folder."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drills.results import Outcome
from drills.studies import How, Running, Settings, Study, differences, reductions, stopped_when

_BOLD, _MASK, _CONFOUNDS = "*_desc-preproc_bold.nii*", "*_desc-brain_mask.nii.gz", "*_desc-confounds_timeseries.tsv"


@dataclass(frozen=True)
class _Change:
    """What happens to a file of the last run, and when."""

    what: str
    pattern: str
    do: Callable[[Path, Path], None]  # it takes the file, and one of the same kind of another run
    when: str  # "first reduction", "clustered", or "while it is read"
    is_said: bool = True


def _remove(path: Path, _: Path) -> None:
    path.unlink()


def _truncate(path: Path, _: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _replace(path: Path, other: Path) -> None:
    temporary = path.with_name("replacement")
    shutil.copyfile(other, temporary)
    temporary.replace(path)


def _overwrite(path: Path, other: Path) -> None:
    with path.open("r+b") as file:
        file.write(other.read_bytes())
        file.truncate()


_CHANGES = (
    _Change("an image that is not yet read vanishes", _BOLD, _remove, "first reduction"),
    _Change("a confounds table that is not yet read vanishes", _CONFOUNDS, _remove, "first reduction"),
    _Change("a mask that is not yet read vanishes", _MASK, _remove, "first reduction"),
    _Change("an image that is not yet read is truncated", _BOLD, _truncate, "first reduction"),
    _Change("a confounds table that is not yet read is truncated", _CONFOUNDS, _truncate, "first reduction"),
    # All of the run then comes from the new image, as if it had been there from the start.
    _Change("an image that is not yet read is replaced", _BOLD, _replace, "first reduction", is_said=False),
    _Change("an image is overwritten while it is read", _BOLD, _overwrite, "while it is read"),
    _Change("an image is truncated while it is read", _BOLD, _truncate, "while it is read"),
    _Change("an image vanishes before signals are extracted", _BOLD, _remove, "clustered"),
    _Change("a confounds table changes before signals are extracted", _CONFOUNDS, _overwrite, "clustered"),
)


def vanishing(settings: Settings) -> list[Outcome]:
    """Let inputs vanish, change or be cut off in the middle of a job, which is stopped for that moment.

    Parameters
    ----------
    settings : Settings
        How it is run.

    Returns
    -------
    list of Outcome
        It is said which file or run it was, and with the file restored a restart gives the same bytes.
    """
    study = Study.make(settings.work / "vanishing", n_subjects=3, n_volumes=240)
    _decompress(study)
    expected = study.reference()
    changes = (_CHANGES[0], _CHANGES[-1]) if settings.quick else _CHANGES
    outcomes = []
    for change in changes:
        outcome = Outcome(change.what)
        _try_change(study, change, expected, outcome)
        outcomes.append(outcome)
    return outcomes


def _decompress(study: Study) -> None:
    """Take the images out of gzip, whose checksum would tell that two are mixed."""
    import gzip  # noqa: PLC0415

    for path in study.dataset.rglob("*_desc-preproc_bold.nii.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()


def _try_change(study: Study, change: _Change, expected: dict[str, str], outcome: Outcome) -> None:
    *_, other, path = sorted(study.dataset.rglob(change.pattern))
    content, status = path.read_bytes(), path.stat()
    output = study.fresh("changed")
    job = study.start(output)
    with stopped_when(job, _moment(job, output, path, change.when)) as reached:
        if reached:
            change.do(path, other)
    ended = job.end()
    problems = [] if reached else ["the job ended before the moment came"]
    run = path.name.split("_space-")[0].split("_desc-")[0]
    if change.is_said:
        problems += [] if run in ended.said and "WARNING" in ended.said else [f"it is not said: {ended.last_words}"]
    problems += ["there is a trace in what it says"] if "Traceback" in ended.said else []
    outcome.notes.append(f"exit code {ended.code}")
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    problems += [*study.run(output).problems(), *differences(study.outputs(output), expected)]
    outcome.add(change.when, problems)


def _moment(job: Running, output: Path, path: Path, when: str) -> Callable[[], object]:
    if when == "first reduction":
        return lambda: reductions(output / ".work")
    if when == "clustered":
        return lambda: list((output / ".work" / "group").glob("*/*.npz"))
    return lambda: _is_reading(job.pid, path)


def _is_reading(pid: int, path: Path) -> bool:
    """Tell whether a process is in the middle of a file."""
    size = path.stat().st_size
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if Path(os.readlink(link)) == path:  # noqa: PTH115 -- Path.readlink resolves nothing else either
                position = int(Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().split()[1])
                return size // 4 < position < size * 3 // 4
        except OSError:
            continue  # it was closed just now
    return False


def _empty(content: bytes) -> bytes:
    return content[:0]


def _cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def _zero(content: bytes) -> bytes:
    return bytes(len(content))


def _flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :]


_DAMAGES = {"emptied": _empty, "cut off": _cut, "zeroed": _zero, "changed in one byte": _flip}


def truncated(settings: Settings) -> list[Outcome]:
    """Damage every file of the work folder in turn, and start the job again.

    Parameters
    ----------
    settings : Settings
        How it is run.

    Returns
    -------
    list of Outcome
        For each kind of damage: the restart gives the same bytes.
    """
    study = Study.make(settings.work / "truncated")
    expected, work = study.reference(), study.folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    output = study.fresh("done")
    how = How(("--work-dir", str(work)))
    study.run(output, how)
    kept = study.fresh("work-kept")
    shutil.copytree(work, kept)
    names = [path.relative_to(work) for path in sorted(work.rglob("*")) if path.is_file()]
    outcomes = []
    for kind, damage in _DAMAGES.items():
        outcome = Outcome(f"a file of the work folder is {kind}")
        for name in names[:: len(names) // 2] if settings.quick else names:
            _write_back(work, kept)
            (work / name).write_bytes(damage((kept / name).read_bytes()))
            # With the outputs gone, all that the damaged file holds is needed.
            ended = study.run(output := study.fresh("done"), how)
            outcome.add(str(name), [*ended.problems(), *differences(study.outputs(output), expected)])
        outcomes.append(outcome)
        if settings.quick:
            break
    return outcomes


def _write_back(work: Path, kept: Path) -> None:
    shutil.rmtree(work)
    shutil.copytree(kept, work)
