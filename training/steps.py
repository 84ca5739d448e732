"""Training on one epoch and evaluation on the validation list, batch by batch."""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from run_folder.checkpoint_files import Progress
from run_folder.metrics import best_row
from runtime.tf1 import tf
from training.graph import TrainingGraph
from training.sources import BatchSource
from training.workers import Workers


class EvaluationResult(NamedTuple):
    """The metrics and predictions of one evaluation."""

    loss: float                # mean cross-entropy over the images, nats
    accuracy: float            # 0..1
    predictions: list          # int32 [n], predicted class per image, in the list's order;
    #                            float32 [n], the probability of that class
    seconds: float


def train_epoch(session: tf.Session, graph: TrainingGraph, source: BatchSource,
                progress: Progress, log, after_step: Callable[[], None], batch_size: int,
                dropout_rate: float):
    """Train on the remaining batches of an epoch.

    progress: of the run; each step is added to it.
    log: a RunLog or NoLog, which takes summaries of some steps.
    after_step: function that is called after each step.
    The loss is the cross-entropy alone, without label smoothing and class weights, so that runs
    compare. Raises FloatingPointError as soon as it is not finite.
    """
    batches = source.batches
    batches.start_epoch(progress.epochs, progress.steps * batch_size)
    if not progress.steps:
        # As text, a float32 is short: 0.1, not 0.10000000149.
        progress.learning_rate = float(str(session.run(graph.learning_rate)))
    start = time.monotonic() - progress.seconds
    steps_before = progress.epochs * math.ceil(batches.data_size / batch_size)
    fetches = {'loss_sum': graph.loss_sum, 'correct': graph.correct, 'train_op': graph.train_op}
    title = f'epoch {progress.epochs + 1}'
    for values, labels, count in with_counts(batches, batch_size, title):
        step = steps_before + progress.steps + 1
        feed = graph.feed(source.input_name, values, labels, count, keep_prob=1 - dropout_rate)
        due = log.summaries_due(step)
        results = session.run({**fetches, 'summaries': graph.summaries} if due else fetches, feed)
        check_loss(results['loss_sum'], progress.steps, title)
        if due:
            log.write_step(step, results['loss_sum'] / count, results['summaries'])
        progress.add_step(results['loss_sum'], results['correct'], time.monotonic() - start)
        after_step()


def evaluate(session: tf.Session, graph: TrainingGraph, source: BatchSource, workers: Workers,
             batch_size: int, after_batch: Callable[[], None] = lambda: None) -> EvaluationResult:
    """Evaluate on the validation list; each of several workers computes its shard of it.

    batch_size: rows per batch, or more if `source` allows it; each view of an image is a row.
    after_batch: function that is called after each batch.
    Raises FloatingPointError as soon as the loss is not finite.
    """
    start, batches = time.monotonic(), source.batches
    batches.start_epoch(0)
    loss_sum = correct = 0.0
    fetches = graph.loss_sum, graph.correct, graph.predictions
    predictions = []
    batch_size = max(1, max(batch_size, batches.eval_batch_size) // batches.rows_per_image)
    for number, batch in enumerate(with_counts(batches, batch_size, 'validation')):
        values, labels, count = batch
        feed = graph.feed(source.input_name, values, labels, count)
        batch_loss, batch_correct, replicas = session.run(fetches, feed)
        check_loss(batch_loss, number, 'validation')
        loss_sum, correct = loss_sum + float(batch_loss), correct + int(batch_correct)
        predictions.append([np.concatenate(parts)[:len(labels)]
                            for parts in zip(*replicas, strict=True)])
        after_batch()
    predictions = gather_predictions(
        workers, [np.concatenate(parts) for parts in zip(*predictions, strict=True)])
    return EvaluationResult(loss_sum / batches.data_size, correct / batches.data_size, predictions,
                            time.monotonic() - start)


def with_counts(batches, batch_size, title):
    """Yield (values, labels, count) per remaining batch of an epoch, under a progress bar.

    values, labels: the rows of this worker's shard. count: images of the whole batch.
    """
    size, done = batches.data_size, batches.pointer
    with tqdm(desc=title, total=size, initial=done, unit=' images', disable=None,
              leave=False) as bar:
        for values, labels in batches.batches(batch_size):
            count = min(batch_size, size - done)
            yield values, labels, count
            done += count
            bar.update(count)


def check_loss(loss_sum, steps, title):
    """Raise FloatingPointError if a batch's loss is not finite; steps: batches before it."""
    if not np.isfinite(loss_sum):
        raise FloatingPointError(f'the loss is {loss_sum} in step {steps + 1} of {title}')


def gather_predictions(workers, predictions):
    """Return the predictions for the whole list, in its order, on every worker.

    predictions: arrays [n] for this worker's shard of the list, in the shard's order.
    """
    if workers.size == 1:
        return predictions
    shards = workers.all_gather_object([part.tolist() for part in predictions])
    gathered = []
    for number, part in enumerate(predictions):
        whole = np.empty(sum(len(shard[number]) for shard in shards), part.dtype)
        for rank, shard in enumerate(shards):
            whole[rank::workers.size] = shard[number]
        gathered.append(whole)
    return gathered


def epoch_metrics(progress: Progress, validation: EvaluationResult, data_size: int) -> dict:
    """Return a finished epoch's row of metrics.csv; data_size: number of training images."""
    return {'epoch': progress.epochs + 1,
            'train_loss': progress.loss_sum / data_size,
            'train_accuracy': progress.correct / data_size,
            'val_loss': validation.loss, 'val_accuracy': validation.accuracy,
            'learning_rate': progress.learning_rate,
            'images_per_second': data_size / progress.seconds,
            'seconds': progress.seconds + validation.seconds}


def remaining_epochs(history: list[dict], num_epochs: int,
                     patience: int | None) -> Iterator[int]:
    """Yield the number of each remaining epoch, counted from 1, until the run has ended.

    history: the rows of metrics.csv, to which the loop appends one per epoch.
    """
    if has_ended(history, num_epochs, patience):
        print('this run has ended already; a larger num_epochs or patience resumes it')
        return
    while not has_ended(history, num_epochs, patience):
        yield len(history) + 1
    if len(history) < num_epochs:
        epochs = 'epoch' if patience == 1 else 'epochs'
        print(f'stopped: {patience} {epochs} without a better one')


def has_ended(history: list[dict], num_epochs: int, patience: int | None) -> bool:
    """Return whether all epochs are done, or `patience` of them without a better one."""
    epochs_since_best = len(history) - best_row(history)['epoch'] if history else 0
    return len(history) >= num_epochs or bool(patience and epochs_since_best >= patience)
