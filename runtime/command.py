"""The edge of every command: settings from flags, progress bars, an error in one line, TensorFlow without chatter."""

import argparse
import contextlib
import dataclasses
import difflib
import gc
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import typing

from tqdm import tqdm

# What TensorFlow's libraries write before their own log level applies; nothing here is an error of the run.
CHATTER = re.compile(rb'I0000 |WARNING: All log messages before absl|E0000 .*failed call to cuInit|'
                     rb".*Unable to register cu(FFT|DNN|BLAS) factory|"
                     rb".*Init node .* doesn't exist|W0000 .*Ignored (output_format|drop_control_dependency)")


def setting(default, help):
    """Return a dataclass field that carries its default and its help text."""
    return dataclasses.field(default=default, metadata={'help': help})


def argument(help):
    """Return a dataclass field without a default: an argument that is told by its place, not by a flag."""
    return dataclasses.field(metadata={'help': help})


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, but a wrong flag is a ValueError, so that it is reported like every other error."""

    def error(self, message):
        raise ValueError(f'{message} (--help lists the flags)')


def parse_settings(settings_class, arguments):
    """Return an instance of the dataclass `settings_class`, each field changed by the flag of its name.

    A field `name: T = setting(default, help)` becomes `--name`: T is str, int, float, bool (`--name`, `--no-name`),
    tuple[str, ...] (several words), Literal[...] (one of its words), or one of these `| None` (the word None).
    A field `name: T = argument(help)` is told by its place and must be there; T is str or tuple[str, ...].
    Raises ValueError for unknown flags and for values of the wrong type.
    """
    parser = ArgumentParser(description=settings_class.__doc__, allow_abbrev=False)
    for field in dataclasses.fields(settings_class):
        if field.default is dataclasses.MISSING:
            parser.add_argument(field.name, nargs=None if field.type is str else '+',
                                help=field.metadata['help'].replace('%', '%%'))
        else:
            parser.add_argument(f'--{field.name}', default=field.default, **argument_options(field))
    values, unknown = parser.parse_known_args(arguments)
    values = vars(values)
    if unknown:
        near = difflib.get_close_matches(unknown[0].split('=')[0], [f'--{name}' for name in values], 1)
        parser.error(f'unrecognized arguments: {" ".join(unknown)}{f"; did you mean {near[0]}?" if near else ""}')
    for field in dataclasses.fields(settings_class):
        value = values[field.name]
        value = tuple(value) if isinstance(value, list) else value
        is_none = value == ('None',) and type(None) in typing.get_args(field.type)
        values[field.name] = None if is_none else value
    return settings_class(**values)


def argument_options(field):
    """Return what argparse's `add_argument` needs to read the values of one dataclass field."""
    kinds = [kind for kind in typing.get_args(field.type) if kind is not type(None)]
    optional = type(None) in typing.get_args(field.type)
    kind = kinds[0] if optional else field.type
    shown = ' '.join(field.default) if isinstance(field.default, tuple) else field.default
    options = {'help': f'{field.metadata["help"]} [{shown}]'.replace('%', '%%')}
    if kind is bool:
        return {**options, 'action': argparse.BooleanOptionalAction}
    if typing.get_origin(kind) is typing.Literal:
        return {**options, 'choices': typing.get_args(kind)}
    if typing.get_origin(kind) is tuple:
        return {**options, 'nargs': '+', 'metavar': 'NAME'}

    def convert(text):
        return None if optional and text == 'None' else kind(text)
    convert.__name__ = kind.__name__  # argparse names it in "invalid float value: 'x'"
    return {**options, 'type': convert, 'metavar': kind.__name__.upper()}


def spelled(value):
    """Return the value of a setting as its flag spells it."""
    return ' '.join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def command_line(script, settings):
    """Return the shell command `python script ...` that parse_settings reads as these settings."""
    words = ['python', script]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        words += flag_words(field.name, value) if value != field.default else []
    return shlex.join(words)


def flag_words(name, value):
    """Return the words of a command line that parse_settings reads as this value of a setting."""
    if isinstance(value, bool):
        return [f'--{name}' if value else f'--no-{name}']
    return [f'--{name}', *(value if isinstance(value, (tuple, list)) else [spelled(value)])]


def printable(text, limit=1000):
    """Return text from a file fit for the screen: no control characters, not endless."""
    return ascii(text[:limit])[1:-1] if not text.isprintable() else text[:limit]


def progress_bar(title):
    """Return a function (iterable, length) that iterates under a bar with this title, if standard error is a screen."""
    return lambda images, count: tqdm(images, title, count, unit=' images', disable=None, leave=False)


@contextlib.contextmanager
def new_file(path, mode='w', replace=False, **options):
    """Open a file that is at `path` once the block has ended, and nowhere if it ends with an error.

    Raises ValueError if anything is there already, unless `replace`.
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
        raise OSError(error.errno, error.strerror, path) from error  # the name that is known to whoever reads it
    finally:
        with contextlib.suppress(OSError):
            os.remove(part)


class Stopped(KeyboardInterrupt):
    """A signal, of this number, ended what the command did; the text says how to go on."""

    def __init__(self, number, text):
        super().__init__(text)
        self.number = number


@contextlib.contextmanager
def hold_signals():
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
        raise Stopped(number, 'terminated')
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
    leave(status)


def leave(status):
    """End the process at once: everything is written, and unloading TensorFlow would take another second."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(status)


@contextlib.contextmanager
def quiet_startup():
    """Hold back standard error while TensorFlow is imported or makes its first session, then print all but chatter.

    TF_CPP_MIN_LOG_LEVEL alone does not do it: the lines come before the log level is in force. Errors still show, but
    for the last words of a process that is aborted in the meantime.
    """
    # 2: errors. A worker that loses another one has a dozen of these to say, and then says it once.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3' if os.environ.get('TF_CONFIG') else '2')
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            kept = [line for line in held if not CHATTER.match(line)]
            if kept:
                os.write(2, b''.join(kept))


@contextlib.contextmanager
def quick_import():
    """Import TensorFlow quietly, and in half of its time: without Keras, which nothing here uses, and without looking
    for garbage among its hundreds of thousands of objects, neither now nor later.

    TensorFlow looks for an older Keras, which is not there, where this variable is set; `tf.keras` still works later.
    """
    before, collects = os.environ.get('TF_USE_LEGACY_KERAS'), gc.isenabled()
    os.environ['TF_USE_LEGACY_KERAS'] = '1'
    gc.disable()
    try:
        with quiet_startup():
            yield
    finally:
        gc.freeze()  # what is here now stays to the end
        if collects:
            gc.enable()
        del os.environ['TF_USE_LEGACY_KERAS']
        if before is not None:
            os.environ['TF_USE_LEGACY_KERAS'] = before
