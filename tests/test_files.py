import errno
import fcntl
import os
import resource
import shutil
import signal
import stat

import pytest

from bids_parcellate.errors import OutputError, WriteError
from bids_parcellate.io.files import make_folder, require_space, write_atomically


def test_content_and_folders_are_made(tmp_path):
    path = write_atomically(tmp_path / "a" / "b" / "file.bin", b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert [each.name for each in path.parent.iterdir()] == ["file.bin"]


def test_an_earlier_file_is_replaced(tmp_path):
    path = tmp_path / "file"
    for content in (b"one", b"two"):
        write_atomically(path, content)
    assert path.read_bytes() == b"two"


def test_files_are_as_readable_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        path = write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_folder_in_the_place_of_the_file_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(OutputError, match="file cannot be written"):
        write_atomically(tmp_path / "file", b"")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"Not a directory|File exists"):
        make_folder(tmp_path / "file" / "below")


def test_a_full_disk_is_said_and_the_earlier_file_stays(tmp_path):
    path = write_atomically(tmp_path / "file", b"earlier")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(WriteError, match="file failed: File too large"):
            write_atomically(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"earlier"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_job_left_is_removed_but_not_what_another_writes(tmp_path):
    leftover, alive = (tmp_path / f".bids-parcellate-{name}.tmp" for name in ("leftover", "alive"))
    leftover.write_text("half")
    with alive.open("xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_atomically(tmp_path / "file", b"")
    assert sorted(each.name for each in tmp_path.iterdir()) == [alive.name, "file"]


def test_a_file_that_is_taken_for_a_leftover_is_written_again(tmp_path, monkeypatch):
    """Another job removes it between its creation and its lock, the first three times."""
    taken, flock = [], fcntl.flock

    def take_and_lock(file, how):
        if len(taken) < 3:
            taken.append(file.name)
            os.unlink(file.name)  # noqa: PTH108
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", take_and_lock)
    assert write_atomically(tmp_path / "file", b"whole").read_bytes() == b"whole"
    assert len(taken) == 3
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_disks_without_locks_are_written_to(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".bids-parcellate-unknown.tmp").touch()
    assert write_atomically(tmp_path / "file", b"whole").read_bytes() == b"whole"
    assert len(list(tmp_path.iterdir())) == 2


def test_space_that_is_missing_is_said_and_what_is_held_counts(tmp_path):
    available = shutil.disk_usage(tmp_path).free // 2**20
    require_space(tmp_path, available // 2)
    with pytest.raises(WriteError, match=rf"needs up to {2 * available} MB in {tmp_path}; its disk has \d+ MB"):
        require_space(tmp_path, 2 * available)
    with (tmp_path / "held.npz").open("wb") as file:
        file.truncate(2 * available * 2**20)  # a hole
    require_space(tmp_path, 2 * available)
