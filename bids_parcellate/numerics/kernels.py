"""Functions that numba compiles: kept on disk where that can be done, compiled anew in each process where not."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from numba import njit
from numba.core.caching import FunctionCache

logger = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(**options: Any) -> Callable[[Function], Function]:
    """Make a decorator that compiles a function for arrays and plain numbers, and lets go of Python's lock.

    What it compiles is kept where numba keeps it (``NUMBA_CACHE_DIR``, beside the module, or in the user's folder for
    caches), so that only the first process waits for it. Where none of these can be written to, as in a read-only
    installation without a home folder, or the disk is full, every process compiles for itself.

    Parameters
    ----------
    **options : object
        Options of `numba.njit`, such as ``error_model`` and ``fastmath``.

    Returns
    -------
    callable
        Takes a function and gives its compiled form, a dispatcher of numba.
    """

    def compile_lazily(function: Function) -> Function:
        dispatcher: Any = njit(nogil=True, **options)(function)
        try:
            dispatcher._cache = _Cache(function)  # type: ignore[no-untyped-call]  # noqa: SLF001 - as numba does it
        except RuntimeError as error:
            _explain(error)
        compiled: Function = dispatcher
        return compiled

    return compile_lazily


class _Cache(FunctionCache):
    """A cache that a full disk, or a file that may not be read, leaves without effect."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except OSError as error:
            _explain(error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except OSError as error:
            _explain(error)


def _explain(error: Exception) -> None:
    logger.debug("A compiled function cannot be kept: %s", error)
    _advise()


@cache
def _advise() -> None:
    """Say once, not for each function, what would be faster."""
    logger.info(
        "Compiled functions cannot be kept: each process compiles its own, which takes seconds. "
        "Let NUMBA_CACHE_DIR name a folder that can be written to."
    )
