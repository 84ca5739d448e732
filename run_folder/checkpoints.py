"""Checkpoints: when the variables of a run are written, at its last step and at its best epoch."""

import time
from concurrent.futures import ThreadPoolExecutor

from run_folder.checkpoint_files import CheckpointFolder
from runtime.tf1 import error_line, tf


class Checkpoints:
    """The checkpoints of a run.

    frozen: the layers that no step changes, written once.
    last-<epoch>, or last-<epoch>-<steps> within the next one: all other variables, to resume from,
        with the Progress beside it as .json.
    best-<epoch>: the trained layers after the best epoch.
    An epoch is not written within SECONDS_BETWEEN_EPOCHS of the last time; the values of the best
    epoch wait in memory meanwhile. Within a long epoch, the state is written after
    SECONDS_BETWEEN_STEPS. Operations are made here, once, before the graph is finalized.
    """

    # Large layers and short epochs would write half a gigabyte per second.
    SECONDS_BETWEEN_EPOCHS = 15
    SECONDS_BETWEEN_STEPS = 600

    def __init__(self, frozen, trained):
        frozen_names = {variable.name for variable in frozen}
        changing = [v for v in tf.global_variables() if v.name not in frozen_names]
        floats = [v for v in changing if v.dtype.is_floating]
        self.is_finite = tf.reduce_all([tf.reduce_all(tf.is_finite(v)) for v in floats])
        self.best = BestValues(trained)
        self.frozen_saver = tf.train.Saver(frozen) if frozen else None
        self.last_saver = tf.train.Saver(changing, max_to_keep=0)
        self.best_saver = tf.train.Saver(self.best.copies, max_to_keep=0)
        self.best_epoch, self.written_best, self.written = None, None, None

    def restore(self, session, run_dir, progress, best_row):
        """Give all variables the values of a run's checkpoints; the best ones wait in memory again.

        best_row: the metrics of the best epoch, or None. Raises ValueError for a checkpoint that is
        missing or broken.
        """
        self.files = CheckpointFolder(run_dir)
        self.best_epoch = self.written_best = best_row and best_row['epoch']
        self.written = progress.name
        if self.frozen_saver:
            self.read(session, self.frozen_saver, 'frozen')
        if best_row:
            self.read(session, self.best_saver, f'best-{self.best_epoch}')
        self.restore_last(session, progress)

    def load_best(self, session):
        """Give the trained layers their values of the best epoch."""
        session.run(self.best.load_op)

    def restore_last(self, session, progress):
        """Give the variables that change the values of `last`."""
        self.read(session, self.last_saver, progress.name)

    def read(self, session, saver, name):
        """Restore the variables of a saver; raise ValueError if the checkpoint is missing or broken."""
        path = self.files.path(name)
        try:
            saver.restore(session, path)
        except (ValueError, tf.errors.OpError) as error:
            raise ValueError(f'{path} is missing or broken: {error_line(error)}') from error

    def begin(self, session, run_dir, progress):
        """Write to this run folder from now on, and delete what a killed process left there.

        progress: how far the run is. At its start, the frozen layers are written.
        """
        self.files, self.written_at = CheckpointFolder(run_dir), time.monotonic()
        self.files.make()
        if self.written:
            self.files.publish(progress.name, self.best_epoch)
            return
        self.files.delete_all_but([])
        if self.frozen_saver:
            self.write(session, self.frozen_saver, 'frozen')

    def after_epoch(self, session, progress, is_best, is_final):
        """Keep the values after an epoch, and write them if it is the last one or time to."""
        if is_best:
            session.run(self.best.save_op)
            self.best_epoch = progress.epochs
        if is_final or time.monotonic() - self.written_at > self.SECONDS_BETWEEN_EPOCHS:
            self.save(session, progress)

    def after_step(self, session, progress):
        """Write the values after a step, if it is time to."""
        if time.monotonic() - self.written_at > self.SECONDS_BETWEEN_STEPS:
            self.save(session, progress)

    def save(self, session, progress):
        """Write the values of now and of the best epoch.

        Raises FloatingPointError, and writes nothing, if they are not finite.
        """
        if progress.name == self.written:
            return
        if not session.run(self.is_finite):
            raise FloatingPointError(f'a weight is not finite after step {progress.steps} '
                                     f'of epoch {progress.epochs + 1}')
        with ThreadPoolExecutor(2) as pool:  # checksums take half of the time
            for saved in [pool.submit(self.write, session, self.last_saver, progress.name),
                          pool.submit(self.write_best, session)]:
                saved.result()
        self.files.write_progress(progress)
        self.files.publish(progress.name, self.best_epoch)
        self.written, self.written_at = progress.name, time.monotonic()

    def save_best(self, session):
        """Write the values of the best epoch alone; what `last` needs stays as it is."""
        self.write_best(session)
        if self.best_epoch:
            self.files.point_best_at(self.best_epoch)

    def write_best(self, session):
        """Write the values of the best epoch, unless they are written."""
        if self.best_epoch != self.written_best:
            self.write(session, self.best_saver, f'best-{self.best_epoch}')
            self.written_best = self.best_epoch

    def write(self, session, saver, name):
        """Write a checkpoint without the graph, which settings.json describes; an error leaves nothing."""
        try:
            with session.graph.as_default():  # in whatever thread this is
                saver.save(session, self.files.path(name), write_meta_graph=False, write_state=False)
        except Exception:
            self.files.delete_checkpoint(name)
            raise


class BestValues:
    """Copies of variables in memory, which hold their values of the best epoch.

    copies: {name of variable: its copy}. save_op copies the variables, load_op brings them back.
    """

    def __init__(self, variables):
        self.copies = {v.op.name: copy_of(v) for v in variables}
        self.save_op = tf.group([self.copies[v.op.name].assign(v) for v in variables])
        self.load_op = tf.group([v.assign(self.copies[v.op.name]) for v in variables])


def copy_of(variable):
    """Return a new variable of the same shape.

    A resource variable would share the buffer, and the next training step would have to copy it
    first, which takes three times as long as copying it here.
    """
    return tf.Variable(tf.zeros_like(variable), trainable=False, collections=[], name='best',
                       use_resource=False)


class NoCheckpoints:
    """The checkpoints of a worker that writes none."""

    def do_nothing(self, *arguments, **options):
        """Do nothing."""

    restore = restore_last = load_best = begin = do_nothing
    after_epoch = after_step = save = save_best = do_nothing


def make_checkpoints(model, trained_layers, is_writer):
    """Return the Checkpoints of a network, or NoCheckpoints for a worker that writes none."""
    if not is_writer:
        return NoCheckpoints()
    frozen, trained = [], []
    for layer, variables in model.variables.items():
        (trained if layer in trained_layers else frozen).extend(variables)
    return Checkpoints(frozen, trained)
