import io
import logging
import pickle
import re
import sys

import pytest

from bids_parcellate.log import Progress, console, duration, kept_messages, log_file, repeat_messages

logger = logging.getLogger("bids_parcellate.test")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress("Reducing", 3) as progress:
        progress.advance("sub-01")
        progress.advance("sub-02")
    frames = sys.stderr.getvalue().split("\r\033[K")
    assert re.fullmatch(r"Reducing \[#{20}\.{10}\] 2/3 sub-02, about 0 s left\n", frames[-1])


def test_messages_stand_above_the_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with console(), Progress("Reducing", 2) as progress:
        progress.advance("sub-01")
        logger.warning("something")
    assert "\r\033[KWARNING: something\n\r\033[KReducing [" in sys.stderr.getvalue()


def test_progress_is_a_line_for_each_tenth_elsewhere(capsys):
    with console(), Progress("Reducing", 40) as progress:
        for number in range(40):
            progress.advance(f"run {number}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert re.fullmatch(r"INFO: Reducing: 4 of 40, run 3, about 0 s left", lines[0])
    assert lines[-1] == "INFO: Reducing: 40 of 40, run 39"


def test_the_log_file_has_every_task(tmp_path):
    with log_file(tmp_path / "log"), Progress("Reducing", 40) as progress:
        for number in range(40):
            progress.advance(f"run {number}")
    assert len((tmp_path / "log").read_text().splitlines()) == 40


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.2, "3 s"), (89, "89 s"), (90, "2 min"), (3000, "50 min"), (7500, "2 h 5 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_messages_of_a_process_without_console_are_kept_and_repeated(tmp_path, capfd):
    with kept_messages() as messages:
        try:
            (tmp_path / "absent").read_bytes()
        except OSError:
            logger.warning("sub-%s", "ü", exc_info=True)
    assert capfd.readouterr().err == ""
    with log_file(tmp_path / "log"):
        repeat_messages(pickle.loads(pickle.dumps(list(messages))))
        with kept_messages() as messages:
            logger.info("at once")
        assert messages == []
    text = (tmp_path / "log").read_text(encoding="utf-8")
    assert "WARNING bids_parcellate.test: sub-ü\nTraceback" in text
    assert "FileNotFoundError: " in text
    assert text.count("at once") == 1


def test_console_shows_steps_and_on_request_details(capsys):
    with console() as handler:
        logger.info("a step")
        logger.debug("hidden")
        handler.setLevel(logging.DEBUG)
        logger.debug("a detail")
    logger.error("afterwards")
    assert capsys.readouterr().err == "INFO: a step\nDEBUG: a detail\n"


def test_log_file_holds_everything(tmp_path):
    with log_file(tmp_path / "log"):
        logger.debug("a detail of sub-ü")
    assert "DEBUG bids_parcellate.test: a detail of sub-ü" in (tmp_path / "log").read_text(encoding="utf-8")
