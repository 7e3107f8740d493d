"""Jobs in odd surroundings: clocks, locales, threads, hash seeds, the order of folders."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from drills.results import Outcome
from drills.studies import PLAIN, How, Settings, Study, differences
from tests.outputs import digests

_FAR_AWAY = {"1970": 1, "2100": 4_102_444_800}  # s since 1970


def clock_and_locale(settings: Settings) -> list[Outcome]:
    """Run jobs with other time zones, locales and clocks, and on a study whose folder is not spelt in ASCII.

    Parameters
    ----------
    settings : Settings
        How it is run.

    Returns
    -------
    list of Outcome
        The bytes are the same. A locale that the system cannot make, and ``faketime`` where it is not there, are noted.
    """
    study = Study.make(settings.work / "clock-locale")
    expected = study.reference()
    locales = Outcome("time zones and locales")
    for name, environment in _environments(study, locales, quick=settings.quick):
        _compare(study, name, How(environment=environment), expected, locales)
    clocks = Outcome("clocks and times of files")
    if shutil.which("faketime") is None:
        clocks.notes.append("faketime is not there: the clock was not set")
    else:
        for date in ("2001-01-01 00:00:00",) if settings.quick else ("1985-06-01 12:00:00", "2099-12-31 23:59:58"):
            _compare(study, date, How(before=("faketime", date)), expected, clocks)
    for year, seconds in () if settings.quick else _FAR_AWAY.items():
        for path in study.dataset.rglob("*"):
            os.utime(path, (seconds, seconds))
        _compare(study, f"files of {year}", PLAIN, expected, clocks)
    return [locales, clocks, *([] if settings.quick else [_spell_folder(settings)])]


_WITHOUT_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def _spell_folder(settings: Settings) -> Outcome:
    """Run jobs in a folder whose name the locale cannot spell: with UTF-8, as Python does by default, and without."""
    study = Study.make(settings.work / "clock-é ü")
    outcome = Outcome("a folder that is not spelt in ASCII")
    _compare(study, "LC_ALL=C", How(environment={"LC_ALL": "C", "PYTHONUTF8": ""}), study.reference(), outcome)
    refused = study.run(study.fresh("refused"), How(environment=_WITHOUT_UTF8))
    outcome.add("LC_ALL=C without UTF-8", refused.problems(64, "UTF-8"))
    return outcome


def _compare(study: Study, fault: str, how: How, expected: Mapping[str, str], outcome: Outcome) -> None:
    """Run a job, and compare its outputs with those that are expected."""
    output = study.fresh("compared")
    outcome.add(fault, [*study.run(output, how).problems(), *differences(study.outputs(output), expected)])


def _environments(study: Study, outcome: Outcome, *, quick: bool) -> Iterable[tuple[str, Mapping[str, str]]]:
    yield "LC_ALL=C without UTF-8", _WITHOUT_UTF8
    if quick:
        return
    yield "LC_ALL=C", {"LC_ALL": "C", "PYTHONUTF8": ""}
    yield "TZ=Pacific/Kiritimati", {"TZ": "Pacific/Kiritimati"}
    yield "TZ=America/St_Johns", {"TZ": "America/St_Johns"}
    yield "no TZ, no LANG, no HOME", {"TZ": "", "LANG": "", "LC_ALL": "", "HOME": ""}
    folder = study.folder / "locales"
    folder.mkdir(exist_ok=True)
    for name, charset in (("tr_TR", "UTF-8"), ("de_DE", "UTF-8"), ("de_DE", "ISO-8859-1")):
        if _make_locale(folder, name, charset):
            locale = {"LC_ALL": f"{name}.{charset}", "LOCPATH": str(folder), "PYTHONUTF8": ""}
            yield f"LC_ALL={name}.{charset}", locale
        else:
            outcome.notes.append(f"{name}.{charset} could not be made here")


def _make_locale(folder: Path, name: str, charset: str) -> bool:
    command = ["localedef", "-c", "-i", name, "-f", charset, str(folder / f"{name}.{charset}")]
    if shutil.which(command[0]) is None:
        return False
    subprocess.run(command, capture_output=True, check=False)
    return (folder / f"{name}.{charset}").exists()


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def determinism(settings: Settings) -> list[Outcome]:
    """Run jobs with other numbers of threads and processes, other hash seeds, and folders in another order.

    Parameters
    ----------
    settings : Settings
        How it is run.

    Returns
    -------
    list of Outcome
        The bytes are the same.
    """
    study = Study.make(settings.work / "determinism", n_subjects=4)
    expected = study.reference()
    outcome = Outcome("threads, processes and hash seeds")
    for n_threads, n_processes, seed in ((2, 2, 7),) if settings.quick else _COMBINATIONS:
        environment = dict.fromkeys(_THREADS, str(n_threads)) | {"PYTHONHASHSEED": str(seed)}
        fault = f"{n_threads} threads, {n_processes} processes, hash seed {seed}"
        how = How(("--omp-nthreads", str(n_threads)), n_processes=n_processes, environment=environment)
        _compare(study, fault, how, expected, outcome)
    order = Outcome("files made in another order, on a disk that lists them so")
    for is_reversed in (True,) if settings.quick else (False, True):
        _reorder(study, is_reversed=is_reversed, outcome=order)
    return [outcome, order]


_COMBINATIONS = [(n_threads, n_processes, seed) for n_threads in (1, 2) for n_processes in (1, 2) for seed in (0, 7)]


def _reorder(study: Study, *, is_reversed: bool, outcome: Outcome) -> None:
    """Run a job on a copy in shared memory, where a folder is listed in the order in which its files were made."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        copy = Study(Path(folder) / "data", study.folder)
        copy.dataset.mkdir()
        for path in sorted(study.dataset.rglob("*"), reverse=is_reversed):
            if path.is_file():
                target = copy.dataset / path.relative_to(study.dataset)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
        output = copy.fresh("reordered")
        ended = copy.run(output)
        expected = digests(study.folder / "reference-group", study.dataset)
        fault = "in reversed order" if is_reversed else "in order"
        outcome.add(fault, [*ended.problems(), *differences(digests(output, copy.dataset), expected)])
