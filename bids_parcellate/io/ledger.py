"""Which outputs were written, and from what: what is done and unchanged is not done again."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from bids_parcellate.errors import OutputError
from bids_parcellate.io.files import write_atomically

logger = logging.getLogger(__name__)


class Ledger:
    """A folder with a note on each step that is done. Any number of jobs may write to it at once.

    Parameters
    ----------
    folder : Path
        It is made when the first step is noted.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / f"{digest}.json"

    def is_done(self, digest: str) -> bool:
        """Tell whether a step is done and its outputs are as it left them.

        Parameters
        ----------
        digest : str
            Of everything that the step depends on.

        Returns
        -------
        bool
            False, too, if an output was changed or removed since, or the note is damaged.

        Raises
        ------
        OutputError
            If the note may not be read, or something else is in its place.
        """
        path = self._path(digest)
        try:
            outputs = json.loads(path.read_bytes())
            return all(_state(Path(output)) == state for output, state in outputs.items())
        except FileNotFoundError:
            return False
        except OSError as error:
            message = f"The note {path} cannot be read: {error.strerror}."
            raise OutputError(message, "Remove it, or choose another --work-dir.") from error
        except (ValueError, AttributeError, RecursionError) as error:  # no JSON, or no object
            logger.warning("%s is damaged (%s); the step is done anew.", path, error)
            return False

    def note(self, digest: str, outputs: Iterable[Path]) -> Path:
        """Note that a step is done.

        Parameters
        ----------
        digest : str
            Of everything that the step depends on.
        outputs : iterable of Path
            What it wrote.

        Returns
        -------
        Path
            The note.
        """
        states = {str(output): _state(output) for output in outputs}
        return write_atomically(self._path(digest), json.dumps(states).encode())


def _state(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns]
