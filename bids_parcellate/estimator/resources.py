"""What estimators work with: a cache, threads, and messages."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import joblib
from threadpoolctl import threadpool_limits

from bids_parcellate.log import console
from bids_parcellate.runs.inputs import InputTypeError


def open_memory(memory: joblib.Memory | str | Path | None, memory_level: int) -> joblib.Memory:
    """Open the cache that a user asks for.

    Parameters
    ----------
    memory : joblib.Memory, path or None
        The cache or its folder; None for no cache.
    memory_level : int
        As nilearn's: the cache is used from 1 on. With 0 it is used, too, with a warning.

    Returns
    -------
    joblib.Memory
        One without a place keeps nothing.

    Raises
    ------
    InputTypeError
        If it is of another type.
    """
    if not isinstance(memory, joblib.Memory | str | Path | None):
        raise InputTypeError(f"memory is a {type(memory).__name__}; a joblib.Memory or a path is needed")
    if memory is None:
        return joblib.Memory(None)
    if memory_level < 1:
        warnings.warn(
            "memory_level is currently set to 0 but a Memory object has been provided. Setting memory_level to 1.",
            UserWarning,
            stacklevel=3,
        )
    return memory if isinstance(memory, joblib.Memory) else joblib.Memory(memory, verbose=0)


@contextmanager
def working(verbose: int) -> Iterator[None]:
    """Keep linear algebra in one thread for each job, and show messages if asked to.

    Parameters
    ----------
    verbose : int
        From 1 on, messages go to standard error.
    """
    with threadpool_limits(1), console() if verbose > 0 else nullcontext():
        yield
