"""Batches of pixels that threads load ahead."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from inputs.batches import (
    BATCHES_AHEAD,
    BYTES_AHEAD,
    IMAGES_PER_TASK,
    load_batches,
    prefetch_batches,
    split,
)

SHAPE = (2, 2, 3)


def load_digit(item, out):
    """Fill an array with the number that an item is; raises ValueError as load_views does."""
    if not item.isdigit():
        raise ValueError(f'{item}: broken')
    out[:] = int(item)


def values(pixels):
    """Return the number that each row of a batch is filled with."""
    assert pixels.dtype == np.uint8 and (pixels == pixels[:, :1, :1, :1]).all()
    return pixels[:, 0, 0, 0].tolist()


def test_batches_keep_order_whatever_thread_is_first():
    def load(item, out):
        time.sleep(0.002 * (item % 3))
        out[:] = item
    with ThreadPoolExecutor(5) as pool:
        batches = split(range(30), 7)
        got = [values(pixels) for pixels, _ in prefetch_batches(load, batches, SHAPE, pool, 7)]
    assert got == [list(batch) for batch in batches]


def test_errors_come_with_their_batch_and_row():
    with ThreadPoolExecutor(2) as pool:
        batches = [list('01'), list('2x3y45'), []]
        got = list(prefetch_batches(load_digit, batches, SHAPE, pool, 2))
    assert [sorted(errors) for _, errors in got] == [[], [1, 3], []]
    assert str(got[1][1][3]) == 'y: broken' and len(got[2][0]) == 0


@pytest.mark.parametrize('batch_size', [1, 4, 100])
def test_so_many_are_loaded_early_and_no_more(batch_size):
    """The bound is of batches, or of bytes where batches are small."""
    shape = (BYTES_AHEAD // 10, 1, 1)
    started, lock = [0], threading.Lock()

    def load(item, out):
        with lock:
            started[0] += 1
    early = []
    with ThreadPoolExecutor(4) as pool:
        batches = split(range(4 * batch_size + 40), batch_size)
        for number, _ in enumerate(prefetch_batches(load, batches, shape, pool, batch_size), 1):
            early.append(started[0] - number * batch_size)
    assert max(early) <= max(BATCHES_AHEAD * batch_size, 10 + batch_size)


def test_nothing_is_loaded_once_the_batches_are_closed():
    loaded = []

    def load(item, out):
        loaded.append(item)
        time.sleep(0.01)
    with ThreadPoolExecutor(1) as pool:
        batches = prefetch_batches(load, split(range(300), 100), SHAPE, pool, 100)
        next(batches)
        batches.close()
    assert len(loaded) < 100 + 4 * IMAGES_PER_TASK


def test_other_errors_are_raised():
    def load(item, out):
        raise MemoryError
    with pytest.raises(MemoryError):
        list(load_batches([['0']], load, SHAPE, {}))


def test_load_batches_yields_positions_and_collects_errors():
    errors, progress = {}, []

    def count(results, total):
        for result in results:
            yield result
            progress.append(total)
    batches = load_batches([list('7x8'), list('y'), list('9')], load_digit, SHAPE, errors, 2, count)
    positions, pixels = next(batches)
    assert positions.tolist() == [0, 2] and values(pixels) == [7, 8]
    assert errors == {1: 'x: broken'}
    rest = [(positions.tolist(), values(pixels)) for positions, pixels in batches]
    assert rest == [([], []), ([4], [9])]
    assert errors == {1: 'x: broken', 3: 'y: broken'} and progress == [5] * 5
