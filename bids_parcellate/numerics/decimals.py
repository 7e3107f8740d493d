"""Numbers as text, compiled: seven digits, as ``%.7g`` writes them."""

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.numerics.kernels import kernel

_MOST_CHARACTERS = 14  # of a number as the kernel writes it, such as -0.0001234567, and a tab

_N_DIGITS = 7
_SMALLEST, _LARGEST = 1e-4, 1e6  # what is written without an exponent
_POWERS = 10.0 ** np.arange(11)

# A digit that is this close to being rounded to the other side is left to Python, which knows all digits of a number.
_TIE = 1e-6

_TAB, _POINT, _MINUS, _ZERO = (ord(character) for character in "\t.-0")


def text_of_rows(values: NDArray[np.floating]) -> list[str]:
    """Write numbers.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
        Any numbers; NaN is written as ``n/a``.

    Returns
    -------
    list of str
        For each row its numbers as ``%.7g`` writes them, with tabs between.
    """
    rows = np.ascontiguousarray(values, dtype=np.float64)
    text = np.empty(rows.shape[1] * _MOST_CHARACTERS, dtype=np.uint8)
    lines = []
    for row in rows:
        end = _write_row(row, text)
        lines.append(text[:end].tobytes().decode() if end >= 0 else plain_text_of_row(row))
    return lines


def plain_text_of_row(row: NDArray[np.float64]) -> str:
    """Write the numbers of one row without compiled code.

    Parameters
    ----------
    row : ndarray of shape (n_columns,)
        Any numbers.

    Returns
    -------
    str
        As a line of `text_of_rows`.
    """
    line = "\t".join(["%.7g"] * len(row))
    return (line % tuple(row.tolist())).replace("nan", "n/a")


@kernel()
def _write_row(row: NDArray[np.float64], text: NDArray[np.uint8]) -> int:
    """Write a row and say where it ends; -1 if it holds a number that this function cannot write."""
    end = 0
    for i in range(len(row)):
        if i > 0:
            text[end] = _TAB
            end += 1
        value = row[i]
        size = abs(value)
        if not _SMALLEST <= size < _LARGEST:
            return -1
        before = _digits_before_point(size)
        scaled = size * _POWERS[_N_DIGITS - before]
        digits = int(scaled)
        rest = scaled - digits
        if abs(rest - 0.5) < _TIE:
            return -1
        digits += rest > 0.5
        if digits == 10**_N_DIGITS:
            digits, before = 10 ** (_N_DIGITS - 1), before + 1
        if value < 0:
            text[end] = _MINUS
            end += 1
        end = _write_digits(digits, before, text, end)
    return end


@kernel()
def _digits_before_point(size: float) -> int:
    """Count them: 3 for 123.4, 0 for 0.1234, and -2 for 0.001234."""
    n = 6
    while n > -3 and size < (_POWERS[n - 1] if n > 0 else 1 / _POWERS[1 - n]):
        n -= 1
    return n


@kernel()
def _write_digits(digits: int, before: int, text: NDArray[np.uint8], end: int) -> int:
    """Write seven digits, ``before`` of them before the point, without zeros at the end."""
    n_digits = _N_DIGITS
    while n_digits > max(before, 1) and digits % 10 == 0:
        digits //= 10
        n_digits -= 1
    if before <= 0:
        for k in range(2 - before):
            text[end + k] = _POINT if k == 1 else _ZERO
        end += 2 - before
    length = n_digits + (0 < before < n_digits)
    for k in range(length - 1, -1, -1):
        if k == before and before > 0:
            text[end + k] = _POINT
            continue
        text[end + k] = _ZERO + digits % 10
        digits //= 10
    return end + length
