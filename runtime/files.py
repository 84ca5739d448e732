"""Files that are whole or absent; names that are fit for the screen."""

import contextlib
import os


def printable(text, limit=1000):
    """Return text from a file fit for the screen: without control characters, of limited length."""
    return text[:limit] if text.isprintable() else ascii(text[:limit])[1:-1]


@contextlib.contextmanager
def new_file(path, mode='w', replace=False, **options):
    """Open a file that appears at `path` when the block ends, and nowhere if it ends with an error.

    Raises ValueError if something is there already, unless `replace`.
    """
    if os.path.lexists(path) and not replace:
        raise ValueError(f'{path} exists already: name another file, or delete it')
    part = f'{path}.part-{os.getpid()}'
    try:
        with open(part, mode, **options) as file:
            yield file
        os.replace(part, path)
    except OSError as error:
        if error.filename != part:
            raise
        raise OSError(error.errno, error.strerror, path) from error  # the name that its reader knows
    finally:
        with contextlib.suppress(OSError):
            os.remove(part)
