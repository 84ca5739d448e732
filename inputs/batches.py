"""Batches of pixels, decoded by threads straight into the arrays that the network is fed."""

import collections
import contextlib
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np

IMAGES_PER_TASK = 4  # a task per image would make threads wait for each other more than work
BATCHES_AHEAD = 2
BYTES_AHEAD = 20 << 20  # at least; 136 images of 227x227


def prefetch_batches(load: Callable, batches: Iterable[Sequence], shape: Sequence[int],
                     pool: Executor, batch_size: int) -> Iterator[tuple]:
    """Yield (pixels, errors) per batch, in order, decoded in the pool some batches early.

    load: function (item, out=array) that writes the pixels of an item to the array.
    batches: the items of each batch.
    shape: of the pixels of one item.
    batch_size: number of items of most batches, from which follows how many are early.

    pixels: uint8 [n, *shape]. errors: {row: ValueError} of the rows that could not be loaded, whose
    pixels are undefined. Other exceptions are raised here, at their batch's turn.
    """
    ahead = max(BATCHES_AHEAD, math.ceil(BYTES_AHEAD / (batch_size * math.prod(shape))))
    pending = collections.deque()
    try:
        for items in batches:
            pending.append(start_batch(load, items, shape, pool))
            if len(pending) > ahead:
                yield finish_batch(*pending.popleft())
        while pending:
            yield finish_batch(*pending.popleft())
    finally:
        for _, tasks in pending:
            for task in tasks:
                task.cancel()


def start_batch(load, items, shape, pool):
    """Return (pixels, tasks): the array of a batch, and the tasks in the pool that fill it."""
    pixels = np.empty((len(items), *shape), np.uint8)
    tasks = []
    for start in range(0, len(items), IMAGES_PER_TASK):
        rows = slice(start, start + IMAGES_PER_TASK)
        tasks.append(pool.submit(load_rows, load, items[rows], pixels[rows], start))
    return pixels, tasks


def load_rows(load, items, pixels, start):
    """Load items into the rows of an array; return {start + row: ValueError} of the others."""
    errors = {}
    for row, item in enumerate(items):
        try:
            load(item, out=pixels[row])
        except ValueError as error:
            errors[start + row] = error
    return errors


def finish_batch(pixels, tasks):
    """Wait for the tasks of a batch; return (pixels, {row: ValueError})."""
    errors = {}
    for task in tasks:
        errors.update(task.result())
    return pixels, errors


def load_batches(batches: Sequence[Sequence[str]], load: Callable, shape: Sequence[int],
                 errors: dict[int, str], num_threads: int | None = None,
                 progress: Callable = lambda results, count: results) -> Iterator[tuple]:
    """Yield (positions, pixels) of the images per batch that can be loaded; collect errors.

    batches: the paths of each batch. Positions count the paths of all batches.
    load: function (path, out=array), called in threads. Its ValueError is a broken image.
    shape: of the pixels of one image.
    errors: receives {position: message of the ValueError}, each at the turn of its batch.
    num_threads: threads that load; None: one per core.
    progress: wraps an iterable of `count` results and shows how far it is.

    positions: int64 [n]. pixels: uint8 [n, *shape]. A batch of broken images has n = 0.
    """
    count = sum(len(paths) for paths in batches)
    size = max((len(paths) for paths in batches), default=1)
    done, start = iter(progress(range(count), count)), 0
    with (ThreadPoolExecutor(num_threads or os.cpu_count()) as pool,
          contextlib.closing(prefetch_batches(load, batches, shape, pool, size)) as loaded):
        for pixels, broken in loaded:
            positions = np.arange(start, start + len(pixels))
            start += len(pixels)
            if broken:
                errors.update({int(positions[row]): str(error) for row, error in broken.items()})
                rows = list(broken)
                positions, pixels = np.delete(positions, rows), np.delete(pixels, rows, 0)
            yield positions, pixels
            collections.deque(itertools.islice(done, len(pixels) + len(broken)), maxlen=0)
    next(done, None)


def split(items: Sequence, size: int) -> list[Sequence]:
    """Return the items in batches of `size`, the last one shorter."""
    return [items[start:start + size] for start in range(0, len(items), size)]
