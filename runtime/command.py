"""The edge of every command: exit statuses, signals, progress bars."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from tqdm import tqdm


def progress_bar(title: str) -> Callable[[Iterable, int], Iterable]:
    """Return a function (iterable, length) that iterates under a bar with this title.

    The bar is shown only where standard error is a terminal.
    """
    return lambda images, count: tqdm(
        images, title, count, unit=' images', disable=None, leave=False)


class Interrupted(KeyboardInterrupt):
    """A signal ended the command; the text says how to resume. number: of the signal."""

    def __init__(self, number: int, text: str):
        super().__init__(text)
        self.number = number


@contextlib.contextmanager
def defer_signals() -> Iterator[list[int]]:
    """Catch the first Ctrl-C or SIGTERM of a block; the second ends the process at once.

    Yields a list, to which the number of the first signal is appended: the block looks into it
    whenever it can stop.
    """
    caught, numbers = [], (signal.SIGINT, signal.SIGTERM)

    def catch(number, frame):
        caught.append(number)
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)  # ends the process without waiting for a step
    if threading.current_thread() is not threading.main_thread():  # signals do not arrive here
        numbers = ()
    before = {number: signal.signal(number, catch) for number in numbers}
    try:
        yield caught
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def run_command(main: Callable[[list[str]], int],
                arguments: list[str] | None = None) -> NoReturn:
    """Run `main(arguments)`, print an error as one line, and exit with its status.

    arguments: None for the words of the command line.
    Statuses: the value that `main` returns; 2 for a ValueError or OSError; 130 after Ctrl-C, 143
    after SIGTERM; 141, without a line, if the reader of the output has ended, as `| head` does.
    """
    def terminate(number, frame):
        raise Interrupted(number, 'terminated')
    before = signal.signal(signal.SIGTERM, terminate)
    sys.stdout.reconfigure(errors='backslashreplace')  # for screens that lack a letter of a name
    try:
        status = main(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        status = 141
    except (ValueError, OSError) as error:
        print(f'error: {error_text(error)}', file=sys.stderr)
        status = 2
    except KeyboardInterrupt as stop:
        print(str(stop) or 'interrupted', file=sys.stderr)
        status = 128 + getattr(stop, 'number', signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    exit_now(status)


def error_text(error: Exception) -> str:
    """Return the text of an error; an OSError begins with the name of its file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror}'
    return str(error)


def exit_now(status: int) -> NoReturn:
    """End the process without unloading TensorFlow, which would take another second."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # its reader has ended
            stream.flush()
    os._exit(status)
