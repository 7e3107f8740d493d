"""Where messages go: the terminal, and a file beside the outputs; those of worker processes, too."""

import logging
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

PACKAGE = "bids_parcellate"

logger = logging.getLogger(__name__)


class _Console(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes messages above the bar, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        bar = Progress.shown
        if bar is not None:
            self.stream.write("\r\033[K")
        super().emit(record)
        if bar is not None:
            bar.draw()


@contextmanager
def console() -> Iterator[logging.Handler]:
    """Send messages to standard error while the block runs.

    Yields
    ------
    logging.Handler
        Its level says how much is shown; ``INFO`` at first.
    """
    handler = _Console(sys.stderr)
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


class _Keeper(logging.Handler):
    """Keeps messages, in a form that travels between processes: arguments and traces are part of the text.

    As the QueueHandler of `logging.handlers`, whose import takes 15 ms of every start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        kept = copy(record)
        kept.msg, kept.args, kept.exc_info, kept.exc_text, kept.stack_info = self.format(record), None, None, None, None
        self.records.append(kept)


@contextmanager
def kept_messages() -> Iterator[Sequence[logging.LogRecord]]:
    """Keep the messages of the block, if nothing else does: in a worker process, for the one that gave it the work.

    Yields
    ------
    sequence of LogRecord
        Grows while the block runs; empty where messages go to a console or file anyway.
    """
    package = logging.getLogger(PACKAGE)
    keeper = _Keeper()
    if package.handlers:
        yield keeper.records
        return
    propagate, package.propagate = package.propagate, False
    try:
        with _attached(package, keeper):
            yield keeper.records
    finally:
        package.propagate = propagate


def repeat_messages(records: Sequence[logging.LogRecord]) -> None:
    """Send messages that another process has kept to the console and file of this one.

    Parameters
    ----------
    records : sequence of LogRecord
        From `kept_messages`.
    """
    for record in records:
        logging.getLogger(record.name).handle(record)


class Progress:
    """Say how far a row of tasks is: a bar on a terminal, elsewhere a line for each tenth of it.

    Every task has a line in the log file.

    Parameters
    ----------
    title : str
        What is being done.
    total : int
        Number of tasks.
    """

    shown: ClassVar["Progress | None"] = None

    _WIDTH = 30

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._label = ""
        self._on_terminal = sys.stderr.isatty()
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        if self._on_terminal:
            Progress.shown = self
            self.draw()
        return self

    def advance(self, label: str) -> None:
        """Count one task as done.

        Parameters
        ----------
        label : str
            The task, such as a run's name.
        """
        self._done += 1
        self._label = label
        passes_a_tenth = 10 * self._done // self._total > 10 * (self._done - 1) // self._total
        level = logging.INFO if passes_a_tenth and not self._on_terminal else logging.DEBUG
        logger.log(level, "%s: %d of %d, %s%s", self._title, self._done, self._total, label, self._remaining())
        if self._on_terminal:
            self.draw()

    def draw(self) -> None:
        """Draw the bar anew in the line of the terminal where the cursor is."""
        filled = self._WIDTH * self._done // max(self._total, 1)
        bar = "#" * filled + "." * (self._WIDTH - filled)
        line = f"{self._title} [{bar}] {self._done}/{self._total} {self._label}{self._remaining()}"
        fitting = line.rstrip()[: shutil.get_terminal_size().columns - 1]  # a line that wraps cannot be drawn over
        sys.stderr.write(f"\r\033[K{fitting}")
        sys.stderr.flush()

    def _remaining(self) -> str:
        """Estimate the time that is left from that which the tasks so far took."""
        if not 0 < self._done < self._total:
            return ""
        seconds = (time.monotonic() - self._start) / self._done * (self._total - self._done)
        return f", about {duration(seconds)} left"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on_terminal:
            Progress.shown = None
            sys.stderr.write("\n")


def duration(seconds: float) -> str:
    """Say how long something takes, as one would.

    Parameters
    ----------
    seconds : float
        How long.

    Returns
    -------
    str
        In seconds, minutes, or hours and minutes.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
