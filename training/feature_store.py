"""Rows of features in two files that only grow: what a killed process leaves half-done is noticed and cut off."""

import contextlib
import os
import shutil
import sys

import numpy as np
from filelock import FileLock, Timeout

from inputs.checks import KEY_BYTES

ROWS_PER_COMMIT = 256   # rows after which what is stored so far is made to last
SPARE_BYTES = 1 << 30  # left free on the disk


class NotEnoughSpace(ValueError):
    """The disk has no room for the features."""


class FeatureStore:
    """A folder with `features`, float32 rows of `width` values, and `keys`, 16 bytes for the image of each row.

    Both files only grow. Rows are written and flushed to the disk before their keys, so what a killed process leaves
    half-done is a row without a key, or a part of one, and the next process cuts it off. Use it as a context manager:
    one process at a time has the folder open, others wait until it ends.
    """

    PATIENCE = 600  # seconds in which a process that others wait for stores something, or hangs

    def __init__(self, folder, width):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.width = folder, width
        self.lock = FileLock(os.path.join(folder, 'lock'))

    def __enter__(self):
        with contextlib.ExitStack() as opened:
            self.wait()
            opened.callback(self.lock.release)
            self.features, self.keys = (opened.enter_context(open(os.path.join(self.folder, name), 'a+b'))
                                        for name in ('features', 'keys'))
            self.cut_off_half_rows()
            self.opened = opened.pop_all()
        return self

    def cut_off_half_rows(self):
        """Read the keys, after cutting off rows without a key, and parts of rows and keys."""
        self.count = min(self.keys.tell() // KEY_BYTES, self.features.tell() // (4 * self.width))
        self.features.truncate(self.count * 4 * self.width)
        self.keys.truncate(self.count * KEY_BYTES)
        self.keys.seek(0)
        content = self.keys.read()
        self.rows = {content[row * KEY_BYTES:(row + 1) * KEY_BYTES]: row for row in range(self.count)}
        self.pending = []

    def wait(self):
        """Wait for the process that has the folder open, as long as it stores rows; then raise ValueError."""
        size, seconds = -1, 1
        while True:
            try:
                self.lock.acquire(timeout=seconds)
                return
            except Timeout:
                before, size = size, os.path.getsize(os.path.join(self.folder, 'features'))
            if size == before:
                raise ValueError(f'{self.folder} is in use by another process, which has stored nothing for '
                                 f'{seconds} s: end it, or set cache_dir to another folder')
            if seconds == 1:
                print(f'{self.folder} is in use by another process: waiting for it to end', file=sys.stderr)
            seconds = self.PATIENCE

    def __exit__(self, kind, error, trace):
        with self.opened:  # files are closed, then the lock is released, whatever happens
            if not (kind and issubclass(kind, OSError)):  # a full disk stays full
                self.commit()

    def append(self, keys, features):
        """Store the rows of some images: as many keys, and float32 [n, width]."""
        self.features.write(features)
        self.pending += keys
        if len(self.pending) >= ROWS_PER_COMMIT:
            self.commit()

    def commit(self):
        """Make the appended rows last, then their keys."""
        for file, content in ((self.features, b''), (self.keys, b''.join(self.pending))):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.rows.update({key: self.count + n for n, key in enumerate(self.pending)})
        self.count += len(self.pending)
        self.pending = []

    def check_room(self, count, share):
        """Raise NotEnoughSpace if `count` more rows do not fit into this share of the free disk space."""
        if not count:
            return
        if lack := space_shortage(self.folder, count, self.width, share):
            raise NotEnoughSpace(lack)

    def read(self):
        """Return all rows, float32 [n, width], mapped from the disk, not read."""
        if not self.count:  # no file without content can be mapped
            return np.empty((0, self.width), np.float32)
        return np.memmap(os.path.join(self.folder, 'features'), np.float32, 'r', shape=(self.count, self.width))


def space_shortage(folder, count, width, share):
    """Return why `count` rows of `width` values don't fit into this share of the free disk space, or None.

    folder: where they are to be; it need not be there yet.
    """
    there = os.path.abspath(folder)
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    needed, free = count * (4 * width + KEY_BYTES), shutil.disk_usage(there).free
    if needed <= (free - SPARE_BYTES) * share:
        return None
    return (f'{count:,} features need {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free: make '
            'room, set cache_dir to another disk, or cache_features to off')
