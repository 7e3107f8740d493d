"""The errors that this package raises, each with its exit code.

Exit codes follow the BIDS execution specification (16, 17, 18) and, from 64 on, ``sysexits.h``.
Every message names the value and the file; ``hint`` says the way out.
"""

from typing import ClassVar


class ParcellateError(Exception):
    """Base of all errors that a user can do something about.

    Parameters
    ----------
    message : str
        What is wrong: the value, what is allowed, the file.
    hint : str, optional
        What to do about it.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message


class DatasetError(ParcellateError):
    """The input is no BIDS derivatives dataset, or does not hold together."""

    exit_code = 16


class AnalysisLevelError(ParcellateError):
    """The analysis level is none of those offered."""

    exit_code = 17


class NothingSelectedError(ParcellateError):
    """The filters select no run, or none that can be used."""

    exit_code = 18


class UsageError(ParcellateError, ValueError):
    """An option or parameter has a value that is not allowed."""

    exit_code = 64


class DataError(ParcellateError, ValueError):
    """A file was found but its content cannot be used."""

    exit_code = 65


class MissingInputError(ParcellateError, FileNotFoundError, ValueError):
    """A file or folder that was named does not exist or cannot be read. nilearn raises a ValueError for images."""

    exit_code = 66

    # OSError formats its two arguments as "[Errno message] hint".
    __str__ = ParcellateError.__str__


class OutputError(ParcellateError):
    """An output file or folder cannot be created."""

    exit_code = 73


class InputOutputError(ParcellateError):
    """Reading or writing failed half-way: disk full, file vanished, network disk gone."""

    exit_code = 74


class WriteError(InputOutputError):
    """Writing failed half-way, most often because the disk is full. It ends the job: no run is to blame."""
