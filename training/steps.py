"""The loop: trains and validates epoch after epoch, from wherever the run is, and saves it whatever ends it."""

import shlex
import time

import numpy as np
from tqdm import tqdm

from run_folder.checkpoints import Progress
from run_folder.metrics import best_row
from runtime.command import Interrupted, defer_signals


class Training:
    """The loop over the epochs of a run, from checkpoints.progress on.

    sources: (tensor to feed, batches for it) of training and of validation. log: the RunLog, which has the rows of the
    epochs so far. distribution: the Distribution; all of its workers run this loop, and see the same numbers.
    """

    def __init__(self, settings, session, network, sources, log, checkpoints, distribution):
        self.settings, self.session, self.network, self.distribution = settings, session, network, distribution
        self.log, self.checkpoints = log, checkpoints
        self.source, self.val_source = sources

    def run(self):
        """Train until no epoch, or no patience, is left.

        The first Ctrl-C or SIGTERM lets the step end, saves, and raises Interrupted. Images that are gone raise
        ValueError, after saving. FloatingPointError as soon as the loss is not finite: what is saved is older, and
        finite.
        """
        if self.log.rows:
            self.recall_best()
        if has_ended(self.settings, self.log.rows):
            print('this run has ended already; it goes on with a larger num_epochs or patience')
        resume = f'--resume {shlex.quote(self.log.run_dir)}'
        with defer_signals() as self.caught:
            try:
                while not has_ended(self.settings, self.log.rows):
                    self.run_epoch()
            except FloatingPointError as error:
                self.checkpoints.save_best(self.session)
                rate = self.settings.learning_rate
                raise FloatingPointError(f'{error}, learning_rate {rate:g}: try a tenth; what is saved goes on with '
                                         f'{resume} --learning_rate {rate / 10:g}') from error
            except (Interrupted, ValueError):
                self.checkpoints.save(self.session)
                raise
        if len(self.log.rows) < self.settings.num_epochs:
            patience = self.settings.patience
            print(f'stopped: {patience} epoch{"s" * (patience > 1)} without a better one')

    def run_epoch(self):
        """Train for what is left of an epoch, validate, show and save."""
        (_, data), progress, settings = self.source, self.checkpoints.progress, self.settings
        self.start = time.monotonic() - progress.seconds
        if not progress.steps:
            progress.learning_rate = float(str(self.session.run(self.network.learning_rate)))  # 0.1, not 0.10000000149
        data.start_epoch(progress.epochs, progress.steps * settings.batch_size)
        run_pass(self.session, self.network, self.source, settings, progress, f'epoch {progress.epochs + 1}',
                 self.after_batch, self.log)
        train_seconds, validation = time.monotonic() - self.start, Progress()
        predictions = self.validate(validation)
        metrics = {'epoch': progress.epochs + 1, **means('train', progress, data),
                   **means('val', validation, self.val_source[1]), 'learning_rate': progress.learning_rate,
                   'images_per_second': data.data_size / train_seconds, 'seconds': time.monotonic() - self.start}
        rows = self.log.rows + [metrics]
        is_best, is_final = best_row(rows) is metrics, has_ended(settings, rows)
        self.log.write_epoch(len(rows) * progress.steps, metrics, predictions, is_best, is_final)
        self.checkpoints.progress = Progress(len(rows))
        self.checkpoints.after_epoch(self.session, is_best, is_final)

    def after_batch(self):
        """Save on the way, if it is time; raise Interrupted if a signal came."""
        progress = self.checkpoints.progress
        progress.seconds = time.monotonic() - self.start
        self.checkpoints.after_step(self.session)
        if self.caught:
            raise Interrupted(self.caught[0], f'stopped in epoch {progress.epochs + 1}; to go on: python finetune.py '
                                          f'--resume {shlex.quote(self.log.run_dir)}')

    def validate(self, progress, after_batch=None):
        """Run the validation list once, adding to `progress`; return its predictions, as run_pass does."""
        self.val_source[1].start_epoch(0)
        return self.distribution.gather_predictions(run_pass(self.session, self.network, self.val_source, self.settings, progress,
                                                'validation', after_batch or self.after_batch))

    def recall_best(self):
        """Compute again what the best epoch of a run that goes on predicts: the report shows it."""
        self.checkpoints.show_best(self.session)
        self.distribution.broadcast_variables(self.session)
        self.log.show_best(*self.validate(Progress(), after_batch=lambda: None))
        self.checkpoints.restore_last(self.session)
        self.distribution.broadcast_variables(self.session)


def means(part, progress, data):
    """Return {name in metrics.csv: mean over the images} of what a whole pass gave."""
    return {f'{part}_loss': progress.loss_sum / data.data_size, f'{part}_accuracy': progress.correct / data.data_size}


def has_ended(settings, rows):
    """Say whether a run with these rows of metrics has ended: no epoch is left, or no patience."""
    out_of_patience = settings.patience and rows and len(rows) - best_row(rows)['epoch'] >= settings.patience
    return bool(out_of_patience) or len(rows) >= settings.num_epochs


def run_pass(session, network, source, settings, progress, title, after_batch=lambda: None, log=None):
    """Run what is left of a pass over a source, (tensor to feed, batches for it); return the predictions for the
    images of this worker's share.

    `progress`, the Progress in this pass, is kept up to date, then after_batch is called. With a log it is training:
    each batch is followed by a training step, under dropout, and sometimes by histograms. The loss is the cross-entropy
    alone, without smoothing or class weights: training, validation and other runs compare. Predictions are arrays of
    the class and its probability, int32 [n] and float32 [n]; none in training. Raises FloatingPointError as soon as
    the loss is not finite.
    """
    (inputs, data), predictions = source, []
    batch_size = settings.batch_size if log else max(settings.batch_size, data.eval_batch_size)
    steps_before = progress.epochs * -(-data.data_size // batch_size)
    fetches = {'loss_sum': network.loss_sum, 'correct': network.correct,
               **({'train_op': network.train_op} if log else {'predictions': network.predictions})}
    done = min(progress.steps * batch_size, data.data_size)
    with tqdm(desc=title, total=data.data_size, initial=done, unit=' images', disable=None, leave=False) as bar:
        for values, labels in data.batches(batch_size):
            step = steps_before + progress.steps + 1
            batch_count = min(batch_size, data.data_size - progress.steps * batch_size)  # of which these are a share
            feed = network.feed(inputs, values, labels, batch_count, 1 - settings.dropout_rate if log else 1.0)
            show = log and log.wants_summaries(step)
            results = session.run({**fetches, 'summaries': network.summaries} if show else fetches, feed)
            if not np.isfinite(results['loss_sum']):
                raise FloatingPointError(f'the loss is {results["loss_sum"]} in step {progress.steps + 1} of {title}')
            if show:
                log.write_step(step, results['loss_sum'] / batch_count, results['summaries'])
            progress.loss_sum += float(results['loss_sum'])
            progress.correct += int(results['correct'])
            progress.steps += 1
            if not log:
                predictions.append([np.concatenate(parts)[:len(labels)] for parts in zip(*results['predictions'])])
            bar.update(batch_count)
            after_batch()
    return [np.concatenate(parts) for parts in zip(*predictions)]
