"""Prefetching: threads compute items before they are used, within a bound."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor


def prefetch_map(function: Callable, items: Iterable, pool: Executor, ahead: int) -> Iterator:
    """Yield function(item) per item, in order, computed in the pool at most `ahead` items early.

    An exception of `function` is raised here, at its item's turn.
    """
    pending = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def load_images(paths: Sequence[str], load: Callable, errors: dict[int, str],
                num_threads: int | None = None, ahead: int = 64,
                progress: Callable = lambda results, count: results) -> Iterator[tuple]:
    """Yield (position in paths, load(path)) per path, in order; collect what cannot be loaded.

    load: called in threads. Its ValueError is a broken image, which is not yielded.
    errors: receives {position: message of the ValueError}, each at the turn of its path.
    num_threads: threads that load; None: one per core.
    ahead: number of paths that are loaded before they are used.
    progress: wraps an iterable of `count` results and shows how far it is.
    """
    with (ThreadPoolExecutor(num_threads or os.cpu_count()) as pool,
          contextlib.closing(prefetch_map(catch_value_error(load), paths, pool, ahead)) as results):
        for position, result in enumerate(progress(results, len(paths))):
            if isinstance(result, ValueError):
                errors[position] = str(result)
            else:
                yield position, result


def catch_value_error(function: Callable) -> Callable:
    """Return a function that returns what `function` does, or the ValueError that it raised."""
    def attempt(item):
        try:
            return function(item)
        except ValueError as error:
            return error
    return attempt
