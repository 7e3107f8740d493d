import os
import resource
import signal
import stat

import pytest

from bids_parcellate.errors import OutputError, WriteError
from bids_parcellate.io.files import make_folder, write_atomically


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
