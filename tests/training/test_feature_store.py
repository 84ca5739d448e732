import os
import resource
import shutil
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest

from inputs.checks import KEY_BYTES
from training.feature_store import FeatureStore, NotEnoughSpace


def row_of(key):
    """Return the row, float32 [1, 300], that these tests store under a key."""
    return np.random.RandomState(int.from_bytes(key[:4], 'little')).rand(1, 300).astype(np.float32)


def fill(folder, keys, pause=0.0):
    """Store the rows of `keys` that are missing, one at a time."""
    with FeatureStore(folder, 300) as features:
        for key in keys:
            if key not in features.rows:
                features.append([key], row_of(key))
                time.sleep(pause)


def in_child(function, *arguments):
    """Run a function that only writes files in a forked process; return the process's number."""
    child = os.fork()
    if child == 0:
        try:
            function(*arguments)
        finally:
            os._exit(0)
    return child


def assert_whole(folder, keys):
    """Assert that a store holds the rows of these keys, and no others."""
    with FeatureStore(folder, 300) as features:
        array = features.read()
        assert set(features.rows) == set(keys) and len(array) == len(keys)
        for key in keys:
            np.testing.assert_array_equal(array[features.rows[key]], row_of(key)[0])


@pytest.fixture
def keys():
    return [np.random.RandomState(n).bytes(KEY_BYTES) for n in range(2000)]


@pytest.mark.slow
def test_killed_at_ten_random_moments_and_run_again(tmp_path, keys, monkeypatch):
    monkeypatch.setattr('training.feature_store.ROWS_PER_COMMIT', 16)
    random = np.random.RandomState(0)
    for _ in range(10):
        child = in_child(fill, str(tmp_path), keys, 0.0005)
        time.sleep(random.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    fill(str(tmp_path), keys)
    assert_whole(str(tmp_path), keys)


def test_two_at_once_do_not_harm_each_other(tmp_path, keys):
    children = [in_child(fill, str(tmp_path), keys[start:start + 1200], 0.0001)
                for start in (0, 800)]
    for child in children:
        os.waitpid(child, 0)
    assert_whole(str(tmp_path), keys)


def test_a_full_disk_is_an_error_and_is_repaired(tmp_path, keys):
    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        # As a disk that is full after 250 rows of 1200 bytes.
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            fill(str(tmp_path), keys)
        except OSError:
            (tmp_path / 'raised').touch()
    os.waitpid(in_child(limited), 0)
    assert (tmp_path / 'raised').exists()
    fill(str(tmp_path), keys)
    assert_whole(str(tmp_path), keys)


def test_a_lack_of_space_is_an_error_beforehand(tmp_path, monkeypatch):
    with FeatureStore(str(tmp_path), 300) as features:
        with pytest.raises(NotEnoughSpace, match='cache_features'):
            features.check_space(10**12, fraction=1)
        features.check_space(1, fraction=1)
        monkeypatch.setattr(shutil, 'disk_usage', lambda folder: SimpleNamespace(free=0))
        features.check_space(0, fraction=1)  # a full cache needs no space


def test_a_process_that_hangs_is_not_waited_for_forever(tmp_path, monkeypatch):
    monkeypatch.setattr(FeatureStore, 'TIMEOUT', 0.2)
    with FeatureStore(str(tmp_path), 300):
        with (pytest.raises(ValueError, match='has stored nothing for 0.2 s: end it'),
              FeatureStore(str(tmp_path), 300)):
            pass


@pytest.mark.slow
def test_a_process_that_stores_is_waited_for(tmp_path, keys, monkeypatch):
    monkeypatch.setattr('training.feature_store.ROWS_PER_COMMIT', 1)
    monkeypatch.setattr(FeatureStore, 'TIMEOUT', 0.5)
    child = in_child(fill, str(tmp_path), keys[:30], 0.1)
    time.sleep(0.3)
    assert_whole(str(tmp_path), keys[:30])  # 3 s later: six times TIMEOUT
    os.waitpid(child, 0)
