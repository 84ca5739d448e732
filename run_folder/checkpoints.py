"""Checkpoints: the variables of a run after its last step and after its best epoch."""

import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from alexnet import AlexNet
from run_folder.checkpoint_files import CheckpointFolder, Progress, tensorflow_path
from runtime.tf1 import error_line, tf


class Checkpoints:
    """The checkpoints of a run.

    frozen: the layers that no step changes, written once.
    last-<epochs>, or last-<epochs>-<steps> within the next epoch: all other variables, to resume
        from, with the Progress beside it as .json.
    best-<epoch>: the trained layers after the best epoch.
    After an epoch, checkpoints are written if SECONDS_BETWEEN_EPOCHS have passed since the last
    time; until then, the values of the best epoch wait in memory. Within an epoch, `last` is
    written every SECONDS_BETWEEN_STEPS. Make the object before the graph is finalized.
    """

    # fc6 to fc8 with Adam's slots are 870 MB, which take 1.5 s: at most a twentieth of the time.
    SECONDS_BETWEEN_EPOCHS = 30
    SECONDS_BETWEEN_STEPS = 600

    def __init__(self, frozen: list[tf.Variable], trained: list[tf.Variable]):
        frozen_names = {variable.name for variable in frozen}
        changing = [v for v in tf.global_variables() if v.name not in frozen_names]
        floats = [v for v in changing if v.dtype.is_floating]
        self.is_finite = tf.reduce_all([tf.reduce_all(tf.is_finite(v)) for v in floats])
        self.best = BestValues(trained)
        self.frozen_saver = tf.train.Saver(frozen) if frozen else None
        self.last_saver = tf.train.Saver(changing, max_to_keep=0)
        self.best_saver = tf.train.Saver(self.best.copies, max_to_keep=0)
        self.best_epoch = self.written_best = self.written = None

    def restore(self, session: tf.Session, run_dir: str, progress: Progress,
                best_row: dict | None):
        """Restore all variables of a run, and the copies of their values of the best epoch.

        best_row: the metrics of the best epoch, or None.
        Raises ValueError for a checkpoint that is missing or broken.
        """
        self.files = CheckpointFolder(run_dir)
        self.best_epoch = self.written_best = best_row and best_row['epoch']
        self.written = progress.name
        if self.frozen_saver:
            self.read(session, self.frozen_saver, 'frozen')
        if best_row:
            self.read(session, self.best_saver, f'best-{self.best_epoch}')
        self.restore_last(session, progress)

    def load_best(self, session: tf.Session):
        """Assign the trained layers their values of the best epoch."""
        session.run(self.best.load_op)

    def restore_last(self, session: tf.Session, progress: Progress):
        """Restore the variables that training changes from `last`."""
        self.read(session, self.last_saver, progress.name)

    def read(self, session, saver, name):
        """Restore a saver's variables; raise ValueError if the checkpoint is missing or broken."""
        path = self.files.path(name)
        try:
            with tensorflow_path(path) as readable:
                saver.restore(session, readable)
        except (ValueError, OSError, tf.errors.OpError) as error:
            raise ValueError(f'{path} is missing or broken: {error_line(error)}') from error

    def begin(self, session: tf.Session, run_dir: str, progress: Progress):
        """Write to this run folder from now on, and delete unfinished files of a killed process.

        Writes the frozen layers of a new run.
        """
        self.files, self.written_at = CheckpointFolder(run_dir), time.monotonic()
        self.files.make()
        if self.written:
            self.files.publish(progress.name, self.best_epoch)
            return
        self.files.delete_all_but([])
        if self.frozen_saver:
            self.write(session, self.frozen_saver, 'frozen')

    def after_epoch(self, session: tf.Session, progress: Progress, is_best: bool, is_final: bool):
        """Copy the values if the epoch is the best; write checkpoints if it is final or time to."""
        if is_best:
            session.run(self.best.save_op)
            self.best_epoch = progress.epochs
        if is_final or time.monotonic() - self.written_at > self.SECONDS_BETWEEN_EPOCHS:
            self.save(session, progress)

    def after_step(self, session: tf.Session, progress: Progress):
        """Write checkpoints after a step, if it is time to."""
        if time.monotonic() - self.written_at > self.SECONDS_BETWEEN_STEPS:
            self.save(session, progress)

    def save(self, session: tf.Session, progress: Progress):
        """Write the current values and the values of the best epoch.

        Raises FloatingPointError, and writes nothing, if a current value is not finite.
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

    def save_best(self, session: tf.Session):
        """Write the values of the best epoch alone; `last` stays as it is."""
        self.write_best(session)
        if self.best_epoch:
            self.files.point_best_at(self.best_epoch)

    def write_best(self, session):
        """Write the values of the best epoch, unless they are written already."""
        if self.best_epoch != self.written_best:
            self.write(session, self.best_saver, f'best-{self.best_epoch}')
            self.written_best = self.best_epoch

    def write(self, session, saver, name):
        """Write a checkpoint without the graph, which settings.json describes.

        After an error, no file of the checkpoint is left.
        """
        try:
            # The default graph differs per thread.
            with session.graph.as_default(), tensorflow_path(self.files.path(name)) as path:
                saver.save(session, path, write_meta_graph=False, write_state=False)
        except Exception:
            self.files.delete_checkpoint(name)
            raise


class BestValues:
    """Copies of variables in memory, which hold their values of the best epoch.

    copies: {name of variable: its copy}.
    save_op, load_op: operations that copy the variables, and that copy the values back.
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
    """The Checkpoints of a worker that writes none."""

    def do_nothing(self, *arguments, **options):
        """Do nothing."""

    restore = restore_last = load_best = begin = do_nothing
    after_epoch = after_step = save = save_best = do_nothing


def make_checkpoints(model: AlexNet, trained_layers: Collection[str],
                     is_writer: bool) -> Checkpoints | NoCheckpoints:
    """Return the Checkpoints of a network, or NoCheckpoints for a worker that writes none."""
    if not is_writer:
        return NoCheckpoints()
    frozen, trained = [], []
    for layer, variables in model.variables.items():
        group = trained if layer in trained_layers else frozen
        group.extend(variables)
    return Checkpoints(frozen, trained)
