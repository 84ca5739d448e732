"""Files that are whole or absent; names that are fit for the screen."""

import contextlib
import os
import unicodedata
from collections.abc import Iterator
from typing import IO

# Letters that reorder others on the screen (Unicode Standard Annex 9), and the byte order mark.
REORDERING = '\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff'


def is_harmless(letter: str) -> bool:
    """Return whether a letter is fit for the screen, also if it is invisible there.

    Persian, Hindi and emoji need joiners, others the blanks of their own. Control characters,
    line separators, surrogates and REORDERING are not fit.
    """
    return (letter.isprintable()
            or unicodedata.category(letter) not in ('Cc', 'Cs', 'Zl', 'Zp')
            and letter not in REORDERING)


def printable(text: str, limit: int = 1000) -> str:
    """Return text from a file fit for the screen: other letters escaped, of limited length."""
    text = text[:limit]
    if text.isprintable():
        return text
    return ''.join(letter if is_harmless(letter) else ascii(letter)[1:-1] for letter in text)


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
