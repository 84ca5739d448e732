"""Standard output and standard error: closed, lost, and other than files."""

import contextlib
import os
import sys
from collections.abc import Iterator


def open_standard_streams():
    """Let what is closed of the standard streams lead to nowhere: descriptors 0 to 2, sys.stdout.

    Otherwise a file that is opened later would get the number of a closed descriptor, and
    TensorFlow's messages would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # os.open takes the lowest number that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, 'closed', False):
            setattr(sys, name, open(os.devnull, 'w', encoding='utf-8', errors='backslashreplace'))


class Terminal:
    """A terminal that may be lost, as when its window is closed: writing to it is no error then."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text: str):
        """Write text, if the terminal still exists."""
        with contextlib.suppress(OSError):
            self.stream.write(text)

    def flush(self):
        """Flush the stream, if the terminal still exists."""
        with contextlib.suppress(OSError):
            self.stream.flush()


@contextlib.contextmanager
def usable_streams() -> Iterator[None]:
    """Open the standard streams for a block, in which no letter and no lost terminal is an error.

    In a notebook, the streams are objects that may lack everything but `write`.
    """
    open_standard_streams()
    before = sys.stdout, sys.stderr
    if hasattr(sys.stdout, 'reconfigure'):  # for screens that lack a letter of a name
        sys.stdout.reconfigure(errors='backslashreplace')
    sys.stdout, sys.stderr = (
        Terminal(stream) if getattr(stream, 'isatty', bool)() else stream for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def flush(stream):
    """Flush a stream, if it can be flushed."""
    if hasattr(stream, 'flush'):
        stream.flush()
