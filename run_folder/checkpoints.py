"""A run's checkpoints, at its best and at its last: whole or absent, whenever the process is killed."""

import dataclasses
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

from runtime.files import new_file
from runtime.tf1 import error_line, tf


@dataclasses.dataclass
class Progress:
    """How far a run is: whole epochs, then the steps of the next one, and what these gave so far."""

    epochs: int = 0
    steps: int = 0
    loss_sum: float = 0.0       # over the images of these steps, as correct is
    correct: int = 0
    seconds: float = 0.0        # that these steps took
    learning_rate: float = 0.0  # of the first of them

    @property
    def name(self):
        """The name of the checkpoint: last-2 after two epochs, last-2-17 after 17 steps more."""
        return f'last-{self.epochs}-{self.steps}' if self.steps else f'last-{self.epochs}'


class Checkpoints:
    """A run's checkpoints: `frozen`, the layers that no step changes; `last-<epoch>`, or last-<epoch>-<steps> within
    the next one, all other variables, to go on from, beside its Progress as .json; `best-<epoch>`, the trained layers
    as they were after the best epoch.

    The text files `last` and `best` hold the name of one each. A new checkpoint is written whole, then these files are
    replaced, `last` after `best`, then what they named before is deleted: at any moment, `last` names a whole
    checkpoint, and the best one of the epochs up to it is there.

    Large layers and short epochs would have the disk write half a gigabyte a second, so within SECONDS_BETWEEN of the
    last time, an epoch is not written; the values of the best one wait in memory meanwhile. An epoch that takes longer
    than SECONDS_BETWEEN_STEPS is written on the way. Operations are made here, once: before the graph is finalized.
    """

    SECONDS_BETWEEN = 15
    SECONDS_BETWEEN_STEPS = 600

    def __init__(self, frozen, trained):
        frozen_names = {variable.name for variable in frozen}
        changing = [variable for variable in tf.global_variables() if variable.name not in frozen_names]
        self.best = {v.op.name: copy_of(v) for v in trained}
        self.save_best_op = tf.group([self.best[v.op.name].assign(v) for v in trained])
        self.load_best_op = tf.group([v.assign(self.best[v.op.name]) for v in trained])
        self.is_finite = tf.reduce_all([tf.reduce_all(tf.is_finite(v)) for v in changing if v.dtype.is_floating])
        self.savers = {'frozen': tf.train.Saver(frozen) if frozen else None,
                       'last': tf.train.Saver(changing, max_to_keep=0),
                       'best': tf.train.Saver(self.best, max_to_keep=0)}
        self.best_epoch, self.written_best, self.written = None, None, None

    def restore(self, session, run_dir, progress, best):
        """Give all variables the values of a run's checkpoints; those of the best epoch wait in memory again.

        best: its row of metrics, or None. Raises ValueError for a checkpoint that is missing or broken.
        """
        self.folder, self.progress = os.path.join(run_dir, 'checkpoints'), progress
        self.best_epoch = self.written_best = best and best['epoch']
        self.written = progress.name
        if self.savers['frozen']:
            self.read(session, 'frozen', 'frozen')
        if best:
            self.read(session, 'best', f'best-{self.best_epoch}')
        self.restore_last(session)

    def show_best(self, session):
        """Give the trained layers their values of the best epoch."""
        session.run(self.load_best_op)

    def restore_last(self, session):
        """Give the variables that change the values of `last`."""
        self.read(session, 'last', self.progress.name)

    def read(self, session, kind, name):
        try:
            self.savers[kind].restore(session, self.path(name))
        except (ValueError, tf.errors.OpError) as error:
            raise ValueError(f'{self.path(name)} is missing or broken: {error_line(error)}') from error

    def begin(self, session, run_dir, progress):
        """Write to this run folder from now on; first, at the start of the run, the variables that no step changes.

        Deletes what a killed process left there. progress: how far the run is, None at the start; the loop keeps
        self.progress up to date.
        """
        self.folder, self.written_at = os.path.join(run_dir, 'checkpoints'), time.monotonic()
        self.progress = progress or Progress()
        os.makedirs(self.folder, exist_ok=True)
        if progress:
            self.publish()
            return
        self.delete_all_but()
        if self.savers['frozen']:
            self.write(session, 'frozen', 'frozen')

    def after_epoch(self, session, is_best, is_final):
        """Keep the values after an epoch; writes them at the last epoch, or when SECONDS_BETWEEN have passed."""
        if is_best:
            session.run(self.save_best_op)
            self.best_epoch = self.progress.epochs
        if is_final or time.monotonic() - self.written_at > self.SECONDS_BETWEEN:
            self.save(session)

    def after_step(self, session):
        """Write the values after a step, when SECONDS_BETWEEN_STEPS have passed."""
        if time.monotonic() - self.written_at > self.SECONDS_BETWEEN_STEPS:
            self.save(session)

    def save(self, session):
        """Write the values of now, and of the best epoch; nothing, but FloatingPointError, if they are not finite."""
        progress = self.progress
        if progress.name == self.written:
            return
        if not session.run(self.is_finite):
            raise FloatingPointError(f'a weight is not finite after step {progress.steps} '
                                     f'of epoch {progress.epochs + 1}')
        with ThreadPoolExecutor(2) as pool:  # half of the time goes into checksums
            for saved in [pool.submit(self.write, session, 'last', progress.name),
                          pool.submit(self.write_best, session)]:
                saved.result()
        with new_file(self.path(f'{progress.name}.json'), replace=True) as file:
            json.dump(dataclasses.asdict(progress), file)
        self.publish()
        self.written, self.written_at = progress.name, time.monotonic()

    def save_best(self, session):
        """Write the values of the best epoch alone; what `last` needs to go on stays as it is."""
        self.write_best(session)
        self.point_best_at()

    def write_best(self, session):
        """Write the values of the best epoch, unless they are written."""
        if self.best_epoch != self.written_best:
            self.write(session, 'best', f'best-{self.best_epoch}')
            self.written_best = self.best_epoch

    def write(self, session, kind, name):
        """Write a checkpoint, without the graph: settings.json says how to build it. An error leaves nothing."""
        try:
            with session.graph.as_default():  # in whatever thread this is
                self.savers[kind].save(session, self.path(name), write_meta_graph=False, write_state=False)
        except Exception:
            self.remove(lambda file: file.startswith((f'{name}.', f'{name}_')))
            raise

    def publish(self):
        """Have the text files name the checkpoints of now and of the best epoch, then delete all others."""
        self.point_best_at()
        self.point_at(self.progress.name)
        self.delete_all_but('frozen', self.progress.name, *[f'best-{self.best_epoch}'] * bool(self.best_epoch))

    def point_best_at(self):
        if self.best_epoch:
            self.point_at(f'best-{self.best_epoch}')

    def point_at(self, name):
        """Have the text file `best` or `last` name a checkpoint."""
        with new_file(self.path(name.split('-')[0]), replace=True) as file:
            file.write(f'{name}\n')

    def delete_all_but(self, *names):
        """Delete all but these checkpoints and the files that name them: older ones, and what was half-written."""
        texts = [name.split('-')[0] for name in names if name != 'frozen']
        self.remove(lambda file: file not in texts and file.split('.')[0] not in names)

    def remove(self, is_removed):
        for file in os.listdir(self.folder):
            if is_removed(file):
                os.remove(self.path(file))

    def path(self, name):
        return os.path.join(self.folder, name)


class NoCheckpoints:
    """The checkpoints of a run on a worker that is not the chief: it has the Progress, the chief the rest."""

    def begin(self, session, run_dir, progress):
        self.progress = progress or Progress()

    def leave(self, *arguments):
        """Do nothing."""

    restore = restore_last = show_best = after_epoch = after_step = save = save_best = leave


def copy_of(variable):
    """Return a new variable for a variable's values.

    A resource variable would share the memory of what it is assigned until a step changes that, and the copy that the
    step makes first takes it thrice as long as this one's.
    """
    return tf.Variable(tf.zeros_like(variable), trainable=False, collections=[], name='best', use_resource=False)


def read_progress(run_dir):
    """Return the Progress at the checkpoint that `last` names, None if none is written; ValueError for a broken one."""
    folder = os.path.join(run_dir, 'checkpoints')
    if not os.path.exists(os.path.join(folder, 'last')):
        return None
    try:
        with open(os.path.join(folder, 'last'), encoding='utf-8') as file:
            name = file.read(100).strip()
        with open(os.path.join(folder, f'{name}.json'), encoding='utf-8') as file:
            progress = Progress(**json.load(file))
        if progress.name != name or [*map(type, vars(progress).values())] != [*map(type, vars(Progress()).values())]:
            raise ValueError(f'{name}.json is not its own')
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f'{run_dir} can not go on, its last checkpoint is broken: {error}') from error
    return progress
