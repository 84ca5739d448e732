import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from inputs.prefetch import load_images, prefetch_map


def load_digit(path):
    """Return the number that a "path" is; raises ValueError as load_image does."""
    if not path.isdigit():
        raise ValueError(f'{path}: broken')
    return int(path)


def test_prefetch_map_keeps_order_and_its_bound():
    started, most, lock = [0], [0], threading.Lock()

    def square(item):
        with lock:
            started[0] += 1
        return item * item
    with ThreadPoolExecutor(4) as pool:
        for done, value in enumerate(prefetch_map(square, range(200), pool, ahead=10)):
            assert value == done * done
            most[0] = max(most[0], started[0] - done)
    assert most[0] <= 11


def test_prefetch_map_raises_an_error_at_its_turn():
    with ThreadPoolExecutor(2) as pool:
        results = prefetch_map(load_digit, ['0', '1', 'x', '3'], pool, ahead=9)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ValueError, match='x: broken'):
            next(results)


def test_load_images_yields_positions_and_collects_errors():
    errors = {}
    loaded = list(load_images(['7', 'x', '8', 'y', '9'], load_digit, errors, num_threads=2))
    assert loaded == [(0, 7), (2, 8), (4, 9)]
    assert list(errors.items()) == [(1, 'x: broken'), (3, 'y: broken')]


def test_load_images_reports_an_error_at_its_turn():
    """Not before, though threads have met it: then errors stand between the right results."""
    errors = {}
    loaded = load_images(['0', '1', 'x', '3'], load_digit, errors, ahead=9)
    assert next(loaded) == (0, 0)
    time.sleep(0.05)
    assert next(loaded) == (1, 1) and not errors
    assert next(loaded) == (3, 3) and list(errors) == [2]


def test_load_images_loads_at_most_ahead_early():
    count, lock = [0], threading.Lock()

    def load(path):
        with lock:
            count[0] += 1
    early = [count[0] - position for position, _ in load_images(range(200), load, {}, 4, ahead=10)]
    assert max(early) <= 11


def test_load_images_loads_no_more_once_it_is_closed():
    count = [0]

    def load(path):
        count[0] += 1
        time.sleep(0.01)
    loaded = load_images(range(500), load, {}, num_threads=1, ahead=400)
    next(loaded)
    loaded.close()
    assert count[0] < 100


def test_load_images_raises_other_errors():
    def load(path):
        raise MemoryError
    with pytest.raises(MemoryError):
        list(load_images(['0'], load, {}))


def test_load_images_shows_broken_images_as_progress_too():
    seen = []

    def progress(results, count):
        for result in results:
            seen.append((type(result), count))
            yield result
    list(load_images(['0', 'x'], load_digit, {}, progress=progress))
    assert seen == [(int, 2), (ValueError, 2)]
