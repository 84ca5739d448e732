"""Files that are whole or absent; names that are fit for the screen."""

import contextlib
import os
from collections.abc import Iterator
from typing import IO


def printable(text: str, limit: int = 1000) -> str:
    """Return text from a file fit for the screen: without control characters, of limited length."""
    return text[:limit] if text.isprintable() else ascii(text[:limit])[1:-1]


@contextlib.contextmanager
def new_file(path: str, mode: str = 'w', replace: bool = False, **options) -> Iterator[IO]:
    """Open a file that appears at `path` when the block ends, and nowhere if it ends with an error.

    options: of open().
    Raises ValueError if `path` exists already, unless `replace`.
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
        # The user knows `path`, not the name of the part.
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        with contextlib.suppress(OSError):
            os.remove(part)
