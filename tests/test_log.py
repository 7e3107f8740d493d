import io
import logging
import sys

from bids_parcellate.log import Progress, console, log_file

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
    assert frames[-1] == "Reducing [####################..........] 2/3 sub-02\n"


def test_progress_is_plain_lines_elsewhere(capsys):
    with Progress("Reducing", 2) as progress:
        progress.advance("sub-01")
        progress.advance("sub-02")
    assert capsys.readouterr().err == "Reducing: 1/2 sub-01\nReducing: 2/2 sub-02\n"


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
