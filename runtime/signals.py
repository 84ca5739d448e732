"""Signals that end a command: Ctrl-C, SIGTERM, and SIGHUP, which the loss of a terminal sends."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

SIGHUP = getattr(signal, 'SIGHUP', None)  # Windows has none
LAST_WORDS = {signal.SIGTERM: 'terminated', SIGHUP: 'terminal closed'}


class Interrupted(KeyboardInterrupt):
    """A signal ended the command; the text says how to resume. number: of the signal."""

    def __init__(self, number: int, text: str):
        super().__init__(text)
        self.number = number


@contextlib.contextmanager
def handle_signals(handler: Callable, numbers: Sequence) -> Iterator[list]:
    """Handle signals in a block; yields the numbers of those that are handled.

    A signal that is ignored stays ignored, as by nohup. Signals arrive in the main thread alone.
    """
    is_main = threading.current_thread() is threading.main_thread()
    left_alone = (signal.SIG_IGN, None)  # None: a handler that is not Python's
    handled = [number for number in numbers
               if number and is_main and signal.getsignal(number) not in left_alone]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield handled
    finally:
        for number in handled:
            signal.signal(number, before[number])


def interrupt_on_signals():
    """Return a context manager in whose block SIGTERM and SIGHUP raise Interrupted."""
    def interrupt(number, frame):
        if number == SIGHUP:
            signal.signal(SIGHUP, signal.SIG_IGN)  # a closed terminal sends several
        raise Interrupted(number, LAST_WORDS[number])
    return handle_signals(interrupt, (signal.SIGTERM, SIGHUP))


@contextlib.contextmanager
def defer_signals() -> Iterator[list[int]]:
    """Catch the first Ctrl-C, SIGTERM or SIGHUP of a block.

    A second Ctrl-C or SIGTERM ends the process at once; a second SIGHUP is ignored, because a
    closed terminal sends several. Yields a list, to which the number of the first signal is
    appended: the block looks into it whenever it can stop.
    """
    caught = []

    def catch(number, frame):
        caught.append(number)
        for each in handled:  # the default ends the process without waiting for a step
            signal.signal(each, signal.SIG_IGN if each == SIGHUP else signal.SIG_DFL)
    try:
        with handle_signals(catch, (signal.SIGINT, signal.SIGTERM, SIGHUP)) as handled:
            yield caught
    finally:
        if caught and SIGHUP and is_interrupt(signal.getsignal(SIGHUP)):
            signal.signal(SIGHUP, signal.SIG_IGN)  # until the command ends: it writes a report


def is_interrupt(handler):
    """Return whether a signal handler is the one of interrupt_on_signals."""
    return getattr(handler, '__module__', None) == __name__
