"""The run folder: a new one for each run, its settings, its class names and its checkpoints."""

import datetime
import glob
import json
import os
import platform

import cv2
import numpy as np

from console import quiet_startup

with quiet_startup():
    import tensorflow.compat.v1 as tf


def check_run_dir(run_dir):
    """Raise ValueError if `run_dir` holds anything: nothing of another run is ever overwritten."""
    if run_dir and os.path.exists(run_dir) and (not os.path.isdir(run_dir) or os.listdir(run_dir)):
        raise ValueError(f'run_dir {run_dir} exists already: name another one, or delete it')


def make_run_folder(run_dir=None):
    """Make the run folder, `run_dir` or a new runs/<date>-<time>, and return its path; raises as check_run_dir."""
    if run_dir is None:
        name = os.path.join('runs', datetime.datetime.now().strftime('%Y%m%d-%H%M%S'))
        taken = len(glob.glob(f'{name}*'))
        run_dir = f'{name}-{taken + 1}' if taken else name
    check_run_dir(run_dir)
    os.makedirs(os.path.join(run_dir, 'checkpoints'), exist_ok=True)
    return run_dir


def write_settings(run_dir, settings, class_names):
    """Write settings.json, the dict `settings` with the versions of what computes, and labels.txt."""
    versions = {'python': platform.python_version(), 'tensorflow': tf.__version__, 'numpy': np.__version__,
                'opencv': cv2.__version__}
    with open(os.path.join(run_dir, 'settings.json'), 'w', encoding='utf-8') as file:
        json.dump({**settings, 'versions': versions}, file, indent=2, ensure_ascii=False)
        file.write('\n')
    with open(os.path.join(run_dir, 'labels.txt'), 'w', encoding='utf-8') as file:
        file.writelines(f'{name}\n' for name in class_names)


class Checkpoints:
    """A run's checkpoints: `frozen`, written once, and `epoch-<n>` with all other variables, for the last and the best.

    The text files `last` and `best` hold the name of one each.
    Operations are made here, once: make the object before the graph is finalized.
    """

    def __init__(self, run_dir, frozen_variables):
        self.folder = os.path.join(run_dir, 'checkpoints')
        frozen = {variable.name for variable in frozen_variables}
        changing = [variable for variable in tf.global_variables() if variable.name not in frozen]
        self.frozen_saver = tf.train.Saver(list(frozen_variables)) if frozen else None
        self.saver = tf.train.Saver(changing, max_to_keep=0)

    def save_frozen(self, session):
        """Write the variables that no step changes."""
        if self.frozen_saver:
            self.write(self.frozen_saver, session, 'frozen')

    def save(self, session, epoch, best):
        """Write the other variables, name them the last ones (and the best ones), delete what neither name needs."""
        self.write(self.saver, session, f'epoch-{epoch}')
        for name in ('last', 'best') if best else ('last',):
            with open(self.path(f'{name}.new'), 'w') as file:
                file.write(f'epoch-{epoch}\n')
            os.replace(self.path(f'{name}.new'), self.path(name))
        kept = {self.read_name('last'), self.read_name('best')}
        for file in os.listdir(self.folder):
            if file.startswith('epoch-') and file.split('.')[0] not in kept:
                os.remove(self.path(file))

    def write(self, saver, session, name):
        """Write one checkpoint; the graph is not part of it, settings.json says how to build it."""
        saver.save(session, self.path(name), write_meta_graph=False, write_state=False)

    def read_name(self, name):
        """Return what the checkpoint named 'last' or 'best' is called: 'epoch-<n>'."""
        with open(self.path(name)) as file:
            return file.read().strip()

    def path(self, name):
        return os.path.join(self.folder, name)
