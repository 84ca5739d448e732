"""The run folder: its lock, its settings and its class names, written and read."""

import contextlib
import datetime
import itertools
import json
import os
import platform
import re

import cv2
import numpy as np

from alexnet import IMAGE_SIZE
from run_folder.stored_paths import resolve_paths, working_dir
from runtime.files import new_file
from runtime.locks import FolderLock
from runtime.tf1 import tf
from weight_files.architecture import BLOCK_ENDS

LOCK = '.lock'
FORMAT = 1  # of the run folder; the next number is for a change that older versions would misread
SMALL_FILE = 1 << 20  # bytes; settings.json and labels.txt have a few thousand
LARGEST_SCALE = 1024  # pixels of a side


class RunFolder:
    """The folder of a run that starts or is resumed.

    path: None for a new runs/<date>-<time>.
    must_exist: True for a run to resume.
    is_writer: False on a worker that leaves the folder to the chief: it reads and writes nothing.
    settings: the dict of settings.json of a run that is resumed, None for a new run.
    Use it as a context manager, which locks the folder of a run until the block or the process
    ends. Raises ValueError if another process holds the lock, if the folder cannot be made, and if
    it exists but holds no run, so that other files are never overwritten.
    """

    def __init__(self, path: str | None, must_exist: bool = False, is_writer: bool = True):
        if is_writer and must_exist and not is_run(path):
            raise ValueError(f'{path} is not the folder of a run: there is nothing to resume')
        self.path, self.is_writer = path, is_writer
        self.settings = self.lock = None

    def __enter__(self):
        if not self.is_writer:
            return self
        if self.path and is_run(self.path):
            self.acquire()
            self.settings = read_run_settings(self.path)
        elif self.path and os.path.exists(self.path):
            self.check_free()
        else:
            check_parent(self.path or 'runs')
        return self

    def __exit__(self, *error):
        if self.lock:
            self.lock.release()

    def acquire(self):
        """Lock the folder; the system releases the lock when this process ends, however it ends."""
        lock = FolderLock(os.path.join(self.path, LOCK))
        if not lock.acquire():
            raise ValueError(f'run_dir {self.path} is in use by another run, which has not ended '
                             'yet')
        self.lock = lock
        delete_parts(self.path)

    def check_free(self):
        """Raise ValueError unless the folder is empty but for files of a run killed early."""
        is_free = os.path.isdir(self.path) and all(
            name == LOCK or name.startswith('settings.json.part-')
            for name in os.listdir(self.path))
        if not is_free:
            raise ValueError(f'run_dir {self.path} exists already, and is not a run: name another '
                             'one, or delete it')

    def write(self, settings: dict, class_names: list) -> str:
        """Write settings.json, with the versions of the libraries, and labels.txt; return the path.

        Makes and locks the folder of a new run.
        """
        if not self.lock:
            self.path = self.path or make_new()
            os.makedirs(self.path, exist_ok=True)
            self.acquire()
            self.check_free()
        versions = {'python': platform.python_version(), 'tensorflow': tf.__version__,
                    'numpy': np.__version__, 'opencv': cv2.__version__}
        content = {'format': FORMAT, **settings, 'run_dir': self.path,
                   'working_dir': working_dir(), 'versions': versions}
        # settings.json comes first: with it, the folder is a run.
        self.write_text('settings.json', json.dumps(content, indent=2) + '\n')
        self.write_text('labels.txt', ''.join(f'{name}\n' for name in class_names))
        return self.path

    def write_text(self, name, text):
        """Write a text file, whole or not at all."""
        with new_file(os.path.join(self.path, name), replace=True, encoding='utf-8') as file:
            file.write(text)


def delete_parts(path):
    """Delete the unfinished files of new_file that a killed process left in a folder."""
    for name in os.listdir(path):
        if re.search(r'\.part-\d+$', name):
            os.remove(os.path.join(path, name))


def check_parent(run_dir):
    """Raise ValueError unless the folder can be made."""
    parent = os.path.abspath(run_dir)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK):
        raise ValueError(f'run_dir {run_dir}: {parent} is no folder that can be written to: name '
                         'another one')


def is_run(path: str) -> bool:
    """Return whether this is the folder of a run that has started."""
    return os.path.isfile(os.path.join(path, 'settings.json'))


def make_new():
    """Make a new folder runs/<date>-<time>, or <date>-<time>-2 if it exists; return its path."""
    name = os.path.join('runs', datetime.datetime.now().strftime('%Y%m%d-%H%M%S'))
    numbered = (f'{name}-{number}' for number in itertools.count(2))
    for path in itertools.chain([name], numbered):
        with contextlib.suppress(FileExistsError):
            os.makedirs(path)
            return path


def check_small_file(path: str):
    """Raise ValueError for a folder or over SMALL_FILE bytes, OSError for a missing file."""
    if os.stat(path).st_size > SMALL_FILE or not os.path.isfile(path):
        raise ValueError(f'{os.path.basename(path)} is no file of at most {SMALL_FILE} bytes')


def read_settings(path: str) -> dict:
    """Return the dict of a run's settings.json; raise ValueError if it cannot be used."""
    check_small_file(path)
    try:
        with open(path, encoding='utf-8') as file:
            settings = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'settings.json is not JSON: {error}') from error
    found = settings.get('format') if isinstance(settings, dict) else None
    if type(found) is not int or found != FORMAT:
        raise ValueError(f'settings.json has format {found!r:.99}, and this version reads {FORMAT} '
                         'only: use the version that made the run, or train again')
    settings.setdefault('scale_size', [IMAGE_SIZE, IMAGE_SIZE])
    settings.setdefault('architecture', 'alexnet')  # the only one that older versions had
    check_values(settings)
    return settings


def read_run_settings(run_dir: str) -> dict:
    """Return the dict of a run's settings.json, with paths as they are from here.

    Raises ValueError if it cannot be used.
    """
    return resolve_paths(read_settings(os.path.join(run_dir, 'settings.json')), run_dir)


def check_values(settings):
    """Raise ValueError for an illegal value in settings.json, among the values that are used."""
    scale_size, mean = settings['scale_size'], settings.get('image_mean')
    legal = {
        'num_classes': type(settings.get('num_classes')) is int,
        'scale_size': is_list_of(scale_size, 2, int)
        and all(IMAGE_SIZE <= side <= LARGEST_SCALE for side in scale_size),
        'image_mean': is_list_of(mean, 3, float) and all(0 <= value <= 255 for value in mean),
        'weights_path': isinstance(settings.get('weights_path', ''), str),
        'architecture': settings['architecture'] in list(BLOCK_ENDS),
        'views': settings.get('views') in (None, 'whole', 'crops'),
        'horizontal_flip': type(settings.get('horizontal_flip')) is bool
        or not settings.get('views'),
        'precision': settings.get('precision') in ('float32', 'tensorfloat32', 'bfloat16')}
    for name, is_legal in legal.items():
        if not is_legal:
            raise ValueError(f'settings.json has {name} {settings.get(name)!r:.99}')


def is_list_of(value, length, kind):
    """Return whether a value is a list of this length with items of this type."""
    return (isinstance(value, list) and len(value) == length
            and all(type(item) is kind for item in value))
