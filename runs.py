"""The run folder: a new one for each run, its settings, its class names and its checkpoints."""

import contextlib
import datetime
import json
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from console import new_file, quiet_startup

with quiet_startup():
    import tensorflow.compat.v1 as tf

FORMAT = 1  # of the run folder; a change that finished_run would misunderstand takes the next number


def check_run_dir(run_dir):
    """Raise ValueError if `run_dir` can't be made or holds anything: nothing of another run is ever overwritten."""
    if run_dir and os.path.exists(run_dir) and (not os.path.isdir(run_dir) or os.listdir(run_dir)):
        raise ValueError(f'run_dir {run_dir} exists already: name another one, or delete it')
    parent = os.path.abspath(run_dir or 'runs')
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK):
        raise ValueError(f'run_dir {run_dir or "runs"}: {parent} is no folder that can be written to: name another one')


def make_run_folder(run_dir, settings, class_names):
    """Make the folder `run_dir`, or a new runs/<date>-<time> if that is None, and return its path.

    Writes settings.json, the dict `settings` with the versions of what computes, and labels.txt. Raises ValueError if
    the folder is another run's, also one that was made this moment.
    """
    name = run_dir or os.path.join('runs', datetime.datetime.now().strftime('%Y%m%d-%H%M%S'))
    for run_dir in [name] if run_dir else [name] + [f'{name}-{number}' for number in range(2, 100)]:
        with contextlib.suppress(FileExistsError):
            os.makedirs(os.path.join(run_dir, 'checkpoints'))
            break
    else:
        raise ValueError(f'run_dir {run_dir} exists already: name another one, or delete it')
    versions = {'python': platform.python_version(), 'tensorflow': tf.__version__, 'numpy': np.__version__,
                'opencv': cv2.__version__}
    with open(os.path.join(run_dir, 'settings.json'), 'w', encoding='utf-8') as file:
        json.dump({'format': FORMAT, **settings, 'run_dir': run_dir, 'versions': versions}, file, indent=2)
        file.write('\n')
    with open(os.path.join(run_dir, 'labels.txt'), 'w', encoding='utf-8') as file:
        file.writelines(f'{name}\n' for name in class_names)
    return run_dir


class Checkpoints:
    """A run's checkpoints: `frozen`, the layers that no step changes; `last-<epoch>`, all other variables, to go on
    from; `best-<epoch>`, the trained layers as they were after the best epoch.

    The text files `last` and `best` hold the name of one each. Large layers and short epochs would have the disk
    write half a gigabyte a second, so within SECONDS_BETWEEN of the last time, an epoch is not written; the values of
    the best one wait in memory meanwhile. Operations are made here, once: before the graph is finalized.
    """

    SECONDS_BETWEEN = 15

    def __init__(self, frozen, trained):
        frozen_names = {variable.name for variable in frozen}
        changing = [variable for variable in tf.global_variables() if variable.name not in frozen_names]
        best = {v.op.name: tf.Variable(tf.zeros_like(v), trainable=False, collections=[], name='best') for v in trained}
        self.keep_best = tf.group([best[v.op.name].assign(v) for v in trained])
        self.savers = {'frozen': tf.train.Saver(frozen) if frozen else None,
                       'last': tf.train.Saver(changing, max_to_keep=0), 'best': tf.train.Saver(best, max_to_keep=0)}
        self.best_epoch, self.written_best = None, None

    def begin(self, session, run_dir):
        """Write the variables that no step changes; all that follows is written to this run folder too."""
        self.folder, self.written_at = os.path.join(run_dir, 'checkpoints'), time.monotonic()
        if self.savers['frozen']:
            self.savers['frozen'].save(session, self.path('frozen'), write_meta_graph=False, write_state=False)

    def save(self, session, epoch, is_best, is_final):
        """Keep the values after an epoch; writes them at the last epoch, or when SECONDS_BETWEEN have passed."""
        if is_best:
            session.run(self.keep_best)
            self.best_epoch = epoch
        if is_final or time.monotonic() - self.written_at > self.SECONDS_BETWEEN:
            with ThreadPoolExecutor(2) as pool:  # half of the time goes into checksums
                for written in [pool.submit(self.write, session, 'last', epoch), pool.submit(self.save_best, session)]:
                    written.result()
            self.written_at = time.monotonic()

    def save_best(self, session):
        """Write the values of the best epoch, unless they are written."""
        if self.best_epoch != self.written_best:
            self.write(session, 'best', self.best_epoch)
            self.written_best = self.best_epoch

    def write(self, session, name, epoch):
        """Write a checkpoint, then the file that names it, then delete the one named before.

        The graph is not part of it: settings.json says how to build it.
        """
        with session.graph.as_default():  # in whatever thread this is
            self.savers[name].save(session, self.path(f'{name}-{epoch}'), write_meta_graph=False, write_state=False)
        with new_file(self.path(name), replace=True) as file:
            file.write(f'{name}-{epoch}\n')
        for file in os.listdir(self.folder):
            if file.startswith(f'{name}-') and not file.startswith(f'{name}-{epoch}.'):
                os.remove(self.path(file))

    def path(self, name):
        return os.path.join(self.folder, name)
