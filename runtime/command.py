"""The edge of every command: exit statuses, signals, progress bars."""

import contextlib
import os
import signal
import sys
import threading

from tqdm import tqdm


def progress_bar(title):
    """Return a function (iterable, length) that iterates under a bar with this title.

    The bar is shown if standard error is a screen.
    """
    return lambda images, count: tqdm(
        images, title, count, unit=' images', disable=None, leave=False)


class Interrupted(KeyboardInterrupt):
    """A signal ended the command; the text says how to resume. number: of the signal."""

    def __init__(self, number, text):
        super().__init__(text)
        self.number = number


@contextlib.contextmanager
def defer_signals():
    """Defer the first Ctrl-C or SIGTERM to a time that the block chooses; the second ends the process.

    Yields a list, to which the number of the first signal is appended.
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


def run_command(main, arguments=None):
    """Run `main(arguments)`, print an error as one line, and exit with its status.

    Statuses: what main returns; 2 for a ValueError or OSError; 130 after Ctrl-C, 143 after SIGTERM;
    141, without a line, if the reader of the output has ended, as `| head` does.
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


def error_text(error):
    """Return the text of an error; an OSError begins with the name of its file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror}'
    return str(error)


def exit_now(status):
    """End the process at once: all is written, and unloading TensorFlow would take another second."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # its reader has ended
            stream.flush()
    os._exit(status)
