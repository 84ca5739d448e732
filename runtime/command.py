"""The edge of every command: settings from flags, progress bars, an error in one line, TensorFlow without chatter."""

import contextlib
import os
import signal
import sys
import threading

from tqdm import tqdm


def progress_bar(title):
    """Return a function (iterable, length) that iterates under a bar with this title, if standard error is a screen."""
    return lambda images, count: tqdm(images, title, count, unit=' images', disable=None, leave=False)


class Interrupted(KeyboardInterrupt):
    """A signal, of this number, ended what the command did; the text says how to go on."""

    def __init__(self, number, text):
        super().__init__(text)
        self.number = number


@contextlib.contextmanager
def defer_signals():
    """Hold back the first Ctrl-C or SIGTERM; the second ends the process at once.

    Yields the list to which the first one's number is added: the block ends in its own time.
    """
    caught, numbers = [], (signal.SIGINT, signal.SIGTERM)

    def catch(number, frame):
        caught.append(number)
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)  # the system's way: it asks nobody, and waits for no step to end
    if threading.current_thread() is not threading.main_thread():  # where signals do not arrive
        numbers = ()
    before = {number: signal.signal(number, catch) for number in numbers}
    try:
        yield caught
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def run_command(main, arguments=None):
    """Run `main(arguments)` and exit: 0, or its own status, 2 after a line about the error, 130 after Ctrl-C, 143 after
    SIGTERM.

    141, without a line, if whoever read the output has ended, as `| head` does: what the shell says of SIGPIPE.
    """
    def terminate(number, frame):
        raise Interrupted(number, 'terminated')
    before = signal.signal(signal.SIGTERM, terminate)
    sys.stdout.reconfigure(errors='backslashreplace')  # for screens that lack a letter of a class name
    try:
        status = main(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        status = 141
    except (ValueError, OSError) as error:
        named = isinstance(error, OSError) and error.filename is not None
        print(f'error: {f"{error.filename}: {error.strerror}" if named else error}', file=sys.stderr)
        status = 2
    except KeyboardInterrupt as stop:
        print(str(stop) or 'interrupted', file=sys.stderr)
        status = 128 + getattr(stop, 'number', signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    exit_now(status)


def exit_now(status):
    """End the process at once: everything is written, and unloading TensorFlow would take another second."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(status)


