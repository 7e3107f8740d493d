"""Where messages go: the terminal, and a file beside the outputs."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

PACKAGE = "bids_parcellate"


@contextmanager
def console() -> Iterator[logging.Handler]:
    """Send messages to standard error while the block runs.

    Yields
    ------
    logging.Handler
        Its level says how much is shown; ``INFO`` at first.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    with _attached(logging.getLogger(PACKAGE), handler):
        yield handler


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Also write every message, with its time, to a file while the block runs.

    Parameters
    ----------
    path : Path
        The file; its folder exists.
    """
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setLevel(logging.DEBUG)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    try:
        with _attached(logging.getLogger(PACKAGE), handler):
            yield
    finally:
        handler.close()


@contextmanager
def _attached(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class Progress:
    """Say how far a row of tasks is: a bar on a terminal, plain lines elsewhere.

    Parameters
    ----------
    title : str
        What is being done.
    total : int
        Number of tasks.
    """

    _WIDTH = 30

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._on_terminal = sys.stderr.isatty()

    def __enter__(self) -> Self:
        if self._on_terminal:
            self._draw("")
        return self

    def advance(self, label: str) -> None:
        """Count one task as done.

        Parameters
        ----------
        label : str
            The task, such as a run's name.
        """
        self._done += 1
        if self._on_terminal:
            self._draw(label)
        else:
            sys.stderr.write(f"{self._title}: {self._done}/{self._total} {label}\n")

    def _draw(self, label: str) -> None:
        filled = self._WIDTH * self._done // max(self._total, 1)
        bar = "#" * filled + "." * (self._WIDTH - filled)
        sys.stderr.write(f"\r\033[K{self._title} [{bar}] {self._done}/{self._total} {label}")
        sys.stderr.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on_terminal:
            sys.stderr.write("\n")
