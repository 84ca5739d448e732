"""The edge of every command: one-line errors, exit statuses, progress bars."""

import contextlib
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

from tqdm import tqdm

from runtime.signals import interrupt_on_signals
from runtime.streams import flush, usable_streams


def progress_bar(title: str) -> Callable[[Iterable, int], Iterable]:
    """Return a function (iterable, length) that iterates under a bar with this title.

    The bar is shown only where standard error is a terminal.
    """
    return lambda images, count: tqdm(
        images, title, count, unit=' images', disable=None, leave=False)


def run_command(main: Callable[[list[str]], int],
                arguments: list[str] | None = None) -> NoReturn:
    """Run `main(arguments)`, print an error as one line, and exit with its status.

    arguments: None for the words of the command line.
    Statuses: the value that `main` returns; 2 for a ValueError or OSError; 130 after Ctrl-C, 143
    after SIGTERM, 129 after SIGHUP; 141, without a line, if the reader of the output has ended, as
    `| head` does.
    """
    with usable_streams(), interrupt_on_signals():
        try:
            status = main(sys.argv[1:] if arguments is None else arguments)
            flush(sys.stdout)
        except BrokenPipeError:
            status = 141
        except (ValueError, OSError) as error:
            print_last(f'error: {error_text(error)}')
            status = 2
        except KeyboardInterrupt as stop:
            print_last(str(stop) or 'interrupted')
            status = 128 + getattr(stop, 'number', signal.SIGINT)
    exit_now(status)


def print_last(line):
    """Print a line on standard error, if it can still be written to."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)


def error_text(error: Exception) -> str:
    """Return the text of an error; an OSError begins with the name of its file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror}'
    return str(error)


def exit_now(status: int) -> NoReturn:
    """End the process without unloading TensorFlow, which would take another second.

    Where a notebook, debugger or interactive session has run the script, raise SystemExit instead:
    it outlives the command.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # its reader has ended
            flush(stream)
    if is_within_session(inspect.currentframe().f_back.f_back):
        raise SystemExit(status)
    os._exit(status)


def is_within_session(frame):
    """Return whether more than the interpreter itself has called the module of a frame."""
    own, caller = frame.f_globals, frame
    while caller and (caller.f_globals is own or caller.f_globals.get('__name__') == 'runpy'):
        caller = caller.f_back  # runpy: python -m MODULE
    is_script = own['__name__'] == '__main__' and not caller
    return not is_script or bool(sys.flags.inspect) or hasattr(sys, 'ps1')
