"""Rows of features in two append-only files, which a killed process leaves usable."""

import contextlib
import os
import shutil
import sys

import numpy as np

from inputs.checks import KEY_BYTES
from runtime.locks import FolderLock

ROWS_PER_COMMIT = 256  # rows that are flushed to the disk together
SPARE_BYTES = 1 << 30  # left free on the disk


class NotEnoughSpace(ValueError):
    """The disk has no space for the features."""


class FeatureStore:
    """A folder with `features`, float32 rows of `width` values, and `keys`, 16 bytes per row.

    Rows are written and flushed to the disk before their keys. A killed process leaves at most rows
    without a key, or parts of a row or key, and the next process cuts them off. Use it as a context
    manager: one process at a time has the folder open, others wait until it ends.
    """

    TIMEOUT = 600  # seconds; others wait for a process that stores a row within each

    def __init__(self, folder: str, width: int):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.width = folder, width
        self.lock = FolderLock(os.path.join(folder, 'lock'))

    def __enter__(self):
        with contextlib.ExitStack() as opened:
            self.wait()
            opened.callback(self.lock.release)
            self.features, self.keys = (
                opened.enter_context(open(os.path.join(self.folder, name), 'a+b'))
                for name in ('features', 'keys'))
            self.cut_off_partial_rows()
            self.opened = opened.pop_all()
        return self

    def cut_off_partial_rows(self):
        """Cut off rows without a key and parts of rows and keys, then read the keys."""
        row_bytes = 4 * self.width
        self.count = min(self.keys.tell() // KEY_BYTES, self.features.tell() // row_bytes)
        self.features.truncate(self.count * row_bytes)
        self.keys.truncate(self.count * KEY_BYTES)
        self.keys.seek(0)
        content = self.keys.read()
        self.rows = {content[row * KEY_BYTES:(row + 1) * KEY_BYTES]: row
                     for row in range(self.count)}
        self.pending = []

    def wait(self):
        """Wait for the process that has the folder open, as long as it stores rows.

        Raises ValueError if it stores none within TIMEOUT.
        """
        size, seconds = -1, 1
        while not self.lock.acquire(seconds):
            before, size = size, os.path.getsize(os.path.join(self.folder, 'features'))
            if size == before:
                raise ValueError(f'{self.folder} is in use by another process, which has stored '
                                 f'nothing for {seconds} s: end it, or set cache_dir to another '
                                 'folder')
            if seconds == 1:
                print(f'{self.folder} is in use by another process: waiting for it to end',
                      file=sys.stderr)
            seconds = self.TIMEOUT

    def __exit__(self, kind, error, trace):
        with self.opened:  # closes the files, then releases the lock, whatever happens
            if not (kind and issubclass(kind, OSError)):  # a full disk stays full
                self.commit()

    def append(self, keys: list[bytes], features: np.ndarray):
        """Append rows; features: float32 [n, ...], a key of KEY_BYTES for each."""
        self.features.write(features.reshape(len(keys), self.width))
        self.pending += keys
        if len(self.pending) >= ROWS_PER_COMMIT:
            self.commit()

    def commit(self):
        """Flush the appended rows to the disk, then their keys."""
        for file, content in ((self.features, b''), (self.keys, b''.join(self.pending))):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.rows.update({key: self.count + n for n, key in enumerate(self.pending)})
        self.count += len(self.pending)
        self.pending = []

    def check_space(self, count: int, fraction: float):
        """Raise NotEnoughSpace unless `count` more rows fit into a fraction of the free space."""
        if count and (shortage := space_shortage(self.folder, count, self.width, fraction)):
            raise NotEnoughSpace(shortage)

    def read(self) -> np.ndarray:
        """Return all rows, float32 [n, width], memory-mapped from the disk."""
        if not self.count:  # an empty file cannot be mapped
            return np.empty((0, self.width), np.float32)
        path = os.path.join(self.folder, 'features')
        return np.memmap(path, np.float32, 'r', shape=(self.count, self.width))


def space_shortage(folder, count, width, fraction):
    """Return why `count` rows of `width` values do not fit on the disk, None if they do.

    fraction: of the free space, without SPARE_BYTES, that may be used.
    """
    needed, free = count * (4 * width + KEY_BYTES), shutil.disk_usage(folder).free
    if needed <= (free - SPARE_BYTES) * fraction:
        return None
    return (f'{count:,} features need {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB '
            'are free: make space, set cache_dir to another disk, or cache_features to off')
