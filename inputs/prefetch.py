"""Work that threads do ahead of its use."""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from inputs.images import load_image


def prefetch_images(paths, num_threads, ahead, load=load_image):
    """Yield load(path) of each path, or the ValueError it raised, computed in threads at most `ahead` paths early."""
    def attempt(path):
        try:
            return load(path)
        except ValueError as error:
            return error
    with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        yield from prefetch_map(attempt, paths, pool, ahead)


def prefetch_map(function, items, pool, ahead):
    """Yield function(item) for each item, in order, computed in the pool's threads at most `ahead` items early.

    What a function raises is raised here, at its item's turn.
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
