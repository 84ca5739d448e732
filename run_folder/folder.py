"""The run folder: of a new run, or of one that goes on; its lock, its settings and its class names."""

import contextlib
import datetime
import itertools
import json
import os
import platform

import cv2
import numpy as np
from filelock import FileLock, Timeout

from alexnet import IMAGE_SIZE
from runtime.files import new_file
from runtime.tf1 import tf

LOCK = '.lock'
FORMAT = 1  # of the run folder; a change that this file would misunderstand takes the next number
SMALL_FILE = 1 << 20  # bytes; the files that describe a run have a few thousand
LARGEST_SCALE = 1024  # pixels


class RunFolder:
    """The folder `path` of a run that is to go on or to begin; None: a new runs/<date>-<time>.

    settings: the dict of a run that goes on; None for a new one. must_exist: it has to go on. Use it as a context
    manager: until the block ends, or the process, no other one gets in. Raises ValueError where another is at work,
    where the folder can't be made, or where it holds anything that is not a run's: nothing else is ever overwritten.
    is_chief: False if another process writes it; then nothing is read or written here.
    """

    def __init__(self, path, must_exist=False, is_chief=True):
        if is_chief and must_exist and not is_run(path):
            raise ValueError(f'{path} is not the folder of a run: there is nothing to go on with')
        self.path, self.is_chief, self.settings, self.lock = path, is_chief, None, None

    def __enter__(self):
        if not self.is_chief:
            return self
        if self.path and is_run(self.path):
            self.acquire()
            self.settings = read_settings(os.path.join(self.path, 'settings.json'))
        elif self.path and os.path.exists(self.path):
            self.check_free()
        else:
            check_parent(self.path or 'runs')
        return self

    def __exit__(self, *error):
        if self.lock:
            self.lock.release()

    def acquire(self):
        """Keep other processes out; the system lets them in again when this one ends, however it ends."""
        lock = FileLock(os.path.join(self.path, LOCK))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f'run_dir {self.path} is in use by another run, which has not ended yet') from None
        self.lock = lock

    def check_free(self):
        """Raise ValueError unless the folder is empty, but for what a run leaves that is killed while it begins."""
        if not os.path.isdir(self.path) or any(name != LOCK and not name.startswith('settings.json.part-')
                                               for name in os.listdir(self.path)):
            raise ValueError(f'run_dir {self.path} exists already, and is not a run: name another one, or delete it')

    def write(self, settings, class_names):
        """Write settings.json, the dict `settings` with the versions of what computes, and labels.txt.

        Makes the folder of a new run; returns its path.
        """
        if not self.lock:
            self.path = self.path or make_new()
            os.makedirs(self.path, exist_ok=True)
            self.acquire()
            self.check_free()
        versions = {'python': platform.python_version(), 'tensorflow': tf.__version__, 'numpy': np.__version__,
                    'opencv': cv2.__version__}
        content = {'format': FORMAT, **settings, 'run_dir': self.path, 'versions': versions}
        self.write_text('settings.json', json.dumps(content, indent=2) + '\n')  # first: it makes the folder a run's
        self.write_text('labels.txt', ''.join(f'{name}\n' for name in class_names))
        return self.path

    def write_text(self, name, text):
        with new_file(os.path.join(self.path, name), replace=True, encoding='utf-8') as file:
            file.write(text)


def check_parent(run_dir):
    """Raise ValueError unless the folder could be made."""
    parent = os.path.abspath(run_dir)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK):
        raise ValueError(f'run_dir {run_dir}: {parent} is no folder that can be written to: name another one')


def is_run(path):
    """Say whether this is the folder of a run that has begun."""
    return os.path.isfile(os.path.join(path, 'settings.json'))


def make_new():
    """Make a new folder runs/<date>-<time>, with a number after it if that is there already, and return its path."""
    name = os.path.join('runs', datetime.datetime.now().strftime('%Y%m%d-%H%M%S'))
    for path in itertools.chain([name], (f'{name}-{number}' for number in itertools.count(2))):
        with contextlib.suppress(FileExistsError):
            os.makedirs(path)
            return path


def check_small_file(path):
    """Raise ValueError unless a regular file of at most SMALL_FILE bytes is there, OSError if nothing is."""
    if os.stat(path).st_size > SMALL_FILE or not os.path.isfile(path):
        raise ValueError(f'{os.path.basename(path)} is no file of at most {SMALL_FILE} bytes')


def read_settings(path):
    """Return the dict of a run's settings.json, with those values checked that are used again."""
    check_small_file(path)
    try:
        with open(path, encoding='utf-8') as file:
            settings = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'settings.json is not JSON: {error}') from error
    if not isinstance(settings, dict) or type(settings.get('format')) is not int or settings['format'] != FORMAT:
        found = settings.get('format') if isinstance(settings, dict) else None
        raise ValueError(f'settings.json has format {found!r:.99}, and this version reads {FORMAT} only: use the '
                         'version that made the run, or train again')
    settings.setdefault('scale_size', [IMAGE_SIZE, IMAGE_SIZE])
    legal = {
        'num_classes': lambda value: type(value) is int,
        'scale_size': lambda value: is_list_of(value, 2, int) and all(IMAGE_SIZE <= n <= LARGEST_SCALE for n in value),
        'image_mean': lambda value: is_list_of(value, 3, float) and all(0 <= mean <= 255 for mean in value),
        'precision': lambda value: value in ('float32', 'bfloat16')}
    for name, is_legal in legal.items():
        if not is_legal(settings.get(name)):
            raise ValueError(f'settings.json has {name} {settings.get(name)!r:.99}')
    return settings


def is_list_of(value, length, kind):
    return isinstance(value, list) and len(value) == length and all(type(item) is kind for item in value)
