"""Work on pieces of arrays in threads, with results that do not depend on how many."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item], n_threads: int) -> Iterator[Result]:
    """Apply a function that lets go of Python's lock, as compiled code and linear algebra do.

    Parameters
    ----------
    function : callable
        It takes an item.
    items : iterable
        They are asked for one after another, few of them ahead.
    n_threads : int
        Number of threads.

    Yields
    ------
    object
        The results, in the order of the items.
    """
    if n_threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(n_threads) as threads:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(threads.submit(function, item))
            if len(pending) > 2 * n_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def call_ahead(functions: Iterable[Callable[[], Result]], n_threads: int) -> Iterator[Callable[[], Result]]:
    """Call functions that read files, each while the result of the one before is worked on.

    Parameters
    ----------
    functions : iterable of callable
        They take nothing.
    n_threads : int
        With 1, each is called when its result is asked for.

    Yields
    ------
    callable
        Gives the result of each function, in their order. At most two results are held, with one thread none.
    """
    if n_threads == 1:
        yield from functions
        return
    with ThreadPoolExecutor(1) as thread:
        pending: deque[Future[Result]] = deque()
        for function in functions:
            pending.append(thread.submit(function))
            if len(pending) > 1:
                yield pending.popleft().result
        while pending:
            yield pending.popleft().result
