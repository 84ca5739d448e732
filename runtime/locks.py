"""Locks of folders, which the system releases when their process ends, however it ends."""

import errno
import os
import sys
import time

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

POLL_SECONDS = 0.05
BUSY = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}
# Network and cluster file systems without flock answer with one of these.
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


class FolderLock:
    """A lock on a file in a folder: one process at a time holds it.

    The lock is flock's: the file alone, such as the one of a copied folder, locks nothing. On a
    file system without flock, a warning names the folder, and nothing is locked.
    """

    def __init__(self, path: str):
        self.path, self.descriptor = path, None

    def acquire(self, timeout: float = 0) -> bool:
        """Lock; return whether no other process has held the lock for `timeout` seconds.

        Raises OSError, which names the file, if it cannot be opened or locked.
        """
        flags = os.O_RDWR | os.O_CREAT | getattr(os, 'O_NOFOLLOW', 0)
        descriptor, end = os.open(self.path, flags, 0o666), time.monotonic() + timeout
        try:
            while not self.lock(descriptor):
                if time.monotonic() > end:
                    return False
                time.sleep(POLL_SECONDS)
            self.descriptor, descriptor = descriptor, None
            return True
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def lock(self, descriptor):
        """Lock an open file if no other process does; return False if another one holds it."""
        try:
            if not fcntl:
                raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in BUSY:
                return False
            if error.errno not in NO_LOCKS:
                raise OSError(error.errno, error.strerror, self.path) from error
            print(f'warning: the file system of {os.path.dirname(self.path)} has no locks '
                  f'({error.strerror}): start nothing else that uses this folder', file=sys.stderr)
        return True

    def release(self):
        """Release the lock, if this process holds it."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
