"""Disks that are full: small ones are mounted, which needs root."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drills.results import Outcome
from drills.studies import How, Settings, Study, broken_files, differences, reductions, stopped_when

_PAGE = 4096
_PLENTY = 64 * 2**20  # bytes
_SAYS_FULL = "No space left on device"


def full_disk(settings: Settings) -> list[Outcome]:
    """Give outputs, work folder or both too small a disk; enlarge it, and start again.

    Parameters
    ----------
    settings : Settings
        How it is run.

    Returns
    -------
    list of Outcome
        The job ends with the error of its own and says so, what was there stays, and a restart gives the same bytes.

    Raises
    ------
    PermissionError
        If disks may not be mounted.
    """
    if os.geteuid() != 0:
        raise PermissionError("disks can be mounted by root only")
    study = Study.make(settings.work / "full-disk")
    expected = study.reference()
    needed = _size_on_disk(study.folder / "reference-group")
    shares = (0.5,) if settings.quick else (0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97)
    outputs = Outcome("outputs on a disk that is too small")
    of_outputs = needed - _size_on_disk(study.folder / "reference-group" / ".work")
    for share in shares:
        _fill(study, int(share * of_outputs), expected, outputs, own_work_folder=True)
    both = Outcome("outputs and work folder on a disk that is too small")
    for share in () if settings.quick else shares:
        _fill(study, int(share * needed), expected, both, own_work_folder=False)
    predicted = Outcome("a work folder on a disk that is known to be too small")
    _predict(study, predicted)
    filled = Outcome("somebody else fills the disk of the work folder after the first reduction")
    _fill_meanwhile(study, expected, filled)
    return [outputs, *([] if settings.quick else [both]), predicted, filled]


@contextmanager
def _disk(folder: Path, n_bytes: int) -> Iterator[Path]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={max(n_bytes, _PAGE)}", "drill", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _resize(folder: Path, n_bytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={n_bytes}", str(folder)], check=True)


def _size_on_disk(folder: Path) -> int:
    return sum(-(-path.stat().st_size // _PAGE) * _PAGE for path in folder.rglob("*") if path.is_file())


def _fill(study: Study, n_bytes: int, expected: dict[str, str], outcome: Outcome, *, own_work_folder: bool) -> None:
    work = study.fresh("work")
    how = How(("--work-dir", str(work)) if own_work_folder else ())
    with _disk(study.folder / "disk", n_bytes) as disk:
        output = disk / "out"
        ended = study.run(output, how)
        problems = [*ended.problems(74), *broken_files(output)]
        before = study.outputs(output)
        problems += [*study.run(output, how).problems(74), *broken_files(output)]
        after = study.outputs(output)
        problems += [f"{name} was lost or changed" for name in before if after.get(name) != before[name]]
        _resize(disk, _PLENTY)
        problems += [*study.run(output, how).problems(), *differences(study.outputs(output), expected)]
    outcome.add(f"of {n_bytes / 1e6:.2f} MB", problems)


def _predict(study: Study, outcome: Outcome) -> None:
    with _disk(study.folder / "disk", 2**20) as disk:
        ended = study.run(study.fresh("predicted"), How(("--work-dir", str(disk / "work"))))
        problems = ended.problems(74, "MB")
        problems += ["the work was begun"] if reductions(disk / "work") or "Reducing runs" in ended.said else []
    outcome.add("of 1 MB", problems)


def _fill_meanwhile(study: Study, expected: dict[str, str], outcome: Outcome) -> None:
    output = study.fresh("filled")
    with _disk(study.folder / "disk", _PLENTY) as disk:
        how = How(("--work-dir", str(disk / "work")))
        job = study.start(output, how)
        with stopped_when(job, lambda: reductions(disk / "work")) as reached:
            _write_until_full(disk / "of-somebody-else")
        problems = [] if reached else ["the job ended before the disk was full"]
        problems += [*job.end().problems(74, _SAYS_FULL), *broken_files(disk / "work")]
        _resize(disk, 2 * _PLENTY)
        ended = study.run(output, how)
        problems += [*ended.problems(), *differences(study.outputs(output), expected)]
    outcome.add("by the rest of 64 MiB", problems)


def _write_until_full(path: Path) -> None:
    try:
        with path.open("wb", buffering=0) as file:
            while file.write(bytes(_PAGE)):
                pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
