"""Fine-tune AlexNet on your own images: edit the settings below, then run `python finetune.py`."""

import contextlib
import dataclasses
import os
import sys
import time
from typing import Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from alexnet import IMAGE_SIZE, LAYERS, AlexNet, open_session
from bottlenecks import NoRoom, feature_output, network_key, store_batches
from console import parse_settings, quiet_startup, run_command, setting
from datagenerator import ImageDataGenerator, check_images
from images import IMAGENET_MEAN
from lists import read_data
from reports import RunLog, epoch_line, histogram_summaries, layer_table
from runs import Checkpoints, check_run_dir, make_run_folder
from weights import find_weights

with quiet_startup():
    import tensorflow.compat.v1 as tf


@dataclasses.dataclass(frozen=True)
class Settings:
    """Fine-tune AlexNet on your own images. Each flag changes one setting for this run."""

    # What to learn
    train_file: str = setting('train.txt', 'list of training images, a line each: path, blank, label')
    val_file: str = setting('val.txt', 'list of validation images')
    labels_file: str | None = setting(None, 'class names, one a line; None: labels.txt beside train_file, if there')
    num_classes: int | None = setting(None, 'number of classes, 2 or more; None: from labels_file or the lists')

    # The network
    weights_path: str = setting('auto', 'a .npy file; auto: bvlc_alexnet.npy, downloaded if need be; none: no file')
    train_layers: tuple[str, ...] = setting(('fc7', 'fc8'), f'layers that are trained, of {" ".join(LAYERS)}')
    skip_layers: tuple[str, ...] | None = setting(None, 'trained layers that start from scratch; None: train_layers')

    # How it learns
    learning_rate: float = setting(0.001, 'step size, above 0')
    momentum: float = setting(0.9, 'share of the last step that is repeated, 0 to below 1')
    num_epochs: int = setting(10, 'passes over the training images, 1 or more')
    batch_size: int = setting(128, 'images a step, 1 or more')
    dropout_rate: float = setting(0.5, 'share of fc6 and fc7 outputs dropped in training, 0 to below 1')
    seed: int = setting(0, 'number that order, initial values and dropout follow from, 0 or more')
    horizontal_flip: bool = setting(False, 'mirror training images, half of them in each pass')

    # Speed
    cache_features: Literal['auto', 'on', 'off'] = setting('auto', 'store what frozen layers compute: on, off, or auto')
    cache_dir: str = setting('cache', 'folder for what is stored; can be deleted at any time')
    precision: Literal['float32', 'bfloat16'] = setting('float32', 'of products; bfloat16: for CPUs with AVX512-BF16 or AMX')
    num_threads: int | None = setting(None, 'threads that decode and that compute; None: one a core')

    # What is written
    run_dir: str | None = setting(None, 'folder for all that a run writes; None: a new runs/<date>-<time>')
    display_step: int = setting(20, 'steps between histograms in TensorBoard, 1 or more')


NO_WEIGHTS = ('WARNING: no pretrained weights: every layer starts from random values, and results on real photos will be '
              'far below those with the ImageNet weights. See "Weights" in README.md')


class Network(NamedTuple):
    """The tensors and operations that the loop feeds and fetches."""

    model: AlexNet
    inputs: tf.Tensor      # what batches are fed at: the images, or the first trained layer's input
    labels: tf.Tensor      # float32 [n, num_classes], one-hot
    keep_prob: tf.Tensor   # scalar, 1 unless fed
    loss_sum: tf.Tensor    # scalar, cross-entropy summed over the batch, nats
    correct: tf.Tensor     # scalar int, images of the batch whose largest logit is their label's
    train_op: tf.Operation
    summaries: tf.Tensor   # serialized histograms


def finetune(settings):
    """Do everything that the settings ask for; return (best validation accuracy, its epoch, the run folder).

    Raises ValueError for settings or files that do not work, FloatingPointError for a loss that is not finite.
    """
    check_settings(settings)
    check_run_dir(settings.run_dir)
    data = read_data(settings.train_file, settings.val_file, settings.labels_file, settings.num_classes)
    weights_path = find_weights(settings.weights_path, os.path.dirname(os.path.abspath(__file__)))
    trained, skipped = choose_layers(settings, weights_path)
    warning = NO_WEIGHTS if weights_path is None and settings.weights_path == 'auto' else None
    if warning:
        print(warning, file=sys.stderr)
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(settings.seed)
        network = build_network(settings, len(data.class_names), trained, skipped, weights_path)
        variables = network.model.variables
        frozen = [variable for layer in LAYERS if layer not in trained for variable in variables[layer]]
        checkpoints = Checkpoints(frozen, [variable for layer in trained for variable in variables[layer]])
        graph.finalize()
        with open_session(settings.precision, settings.num_threads) as session:
            initialize(session, graph, network.model)
            print('\n'.join(layer_table(network.model, trained, set(LAYERS) - set(skipped))))
            network, batches = prepare_batches(settings, session, network, data, trained)
            run_dir = make_run_folder(settings.run_dir, effective_settings(
                settings, data, weights_path, trained, skipped), data.class_names)
            checkpoints.begin(session, run_dir)
            best_accuracy, best_epoch = train(settings, session, network, batches, run_dir, checkpoints)
    if warning:
        print(warning, file=sys.stderr)
    return best_accuracy, best_epoch, run_dir


def check_settings(settings):
    """Raise ValueError with every setting whose value is not legal; types are right already."""
    errors = [f'{name} {getattr(settings, name)} is not {legal}' for name, legal, right in (
        ('learning_rate', 'above 0', 0 < settings.learning_rate < float('inf')),
        ('momentum', '0 to below 1', 0 <= settings.momentum < 1),
        ('num_epochs', '1 or more', settings.num_epochs >= 1),
        ('batch_size', '1 or more', settings.batch_size >= 1),
        ('dropout_rate', '0 to below 1', 0 <= settings.dropout_rate < 1),
        ('seed', '0 to 2147483647', 0 <= settings.seed < 2**31),
        ('num_classes', '2 or more', settings.num_classes is None or settings.num_classes >= 2),
        ('num_threads', '1 or more', settings.num_threads is None or settings.num_threads >= 1),
        ('display_step', '1 or more', settings.display_step >= 1)) if not right]
    unknown = sorted(set(settings.train_layers + (settings.skip_layers or ())) - set(LAYERS))
    if unknown:
        errors.append(f'no layer is called {", ".join(unknown)}; the layers are {" ".join(LAYERS)}')
    if not set(settings.skip_layers or ()) <= set(settings.train_layers):
        errors.append('skip_layers names layers that train_layers does not: they would keep their random values')
    if errors:
        raise ValueError('; '.join(errors))


def choose_layers(settings, weights_path):
    """Return (layers that are trained, layers of these that start from scratch); all and all without a file."""
    if weights_path is None:
        return LAYERS, LAYERS
    trained = tuple(layer for layer in LAYERS if layer in settings.train_layers)
    return trained, trained if settings.skip_layers is None else settings.skip_layers


def build_network(settings, num_classes, trained, skipped, weights_path):
    """Add the network, its loss and its training step to the graph; only variables of `trained` get a gradient."""
    images = tf.placeholder(tf.float32, [None, IMAGE_SIZE, IMAGE_SIZE, 3], 'images')
    labels = tf.placeholder(tf.float32, [None, num_classes], 'labels')
    keep_prob = tf.placeholder_with_default(1.0, [], 'keep_prob')
    model = AlexNet(images, keep_prob, num_classes, skipped, weights_path)
    losses = tf.nn.softmax_cross_entropy_with_logits_v2(labels, model.fc8)
    correct = tf.equal(tf.argmax(model.fc8, 1), tf.argmax(labels, 1))
    variables = [variable for layer in trained for variable in model.variables[layer]]
    optimizer = tf.train.MomentumOptimizer(settings.learning_rate, settings.momentum)
    train_op = optimizer.minimize(tf.reduce_mean(losses), tf.train.get_or_create_global_step(), variables)
    return Network(model, images, labels, keep_prob, tf.reduce_sum(losses), tf.reduce_sum(tf.cast(correct, tf.int32)),
                   train_op, histogram_summaries(model, trained))


def initialize(session, graph, model):
    """Give every variable its first value: the weight file's, or for skipped layers and optimizer slots a fresh one."""
    loaded = {variable.name for layer in LAYERS if layer not in model.skip_layer
              for variable in model.variables[layer]}
    session.run([v.initializer for v in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES) if v.name not in loaded])
    if loaded:
        model.load_initial_weights(session)


def effective_settings(settings, data, weights_path, trained, skipped):
    """Return the settings as a dict, with the classes, weight file and layers that were chosen."""
    return {**dataclasses.asdict(settings), 'num_classes': len(data.class_names), 'weights_path': weights_path or 'none',
            'train_layers': trained, 'skip_layers': skipped, 'image_mean': IMAGENET_MEAN.tolist()}


def prepare_batches(settings, session, network, data, trained):
    """Return (network, (training batches, validation batches)), once it is known that every listed image can be read.

    If the frozen layers' output is stored, the network returned is fed there. Raises ValueError naming list and line of
    every image that is missing or can't be read.
    """
    options = {'nb_classes': len(data.class_names), 'seed': settings.seed, 'num_threads': settings.num_threads}
    generators = (ImageDataGenerator(data.train, settings.horizontal_flip, True, **options),
                  ImageDataGenerator(data.val, **options))
    output = feature_output(trained)
    if settings.cache_features == 'off':
        reason = 'cache_features is off'
    elif not output:
        reason = f'{trained[0]} is trained, and only the input of fc6, fc7 or fc8 is stored'
    else:
        folder = os.path.join(settings.cache_dir, network_key(session, network.model, output, settings.precision))
        try:
            return network._replace(inputs=network.model.outputs[output]), store_batches(
                session, network.model, output, generators, folder, 1 if settings.cache_features == 'on' else 0.5,
                settings.num_threads, progress_bar(f'computing {output}'))
        except NoRoom as error:
            reason = str(error)
    if settings.cache_features == 'on':
        raise ValueError(f'cache_features is on, but {reason}')
    print(f'what the frozen layers compute is not stored: {reason}')
    check_images([data.train, data.val], settings.num_threads, progress_bar('checking images'))
    return network, generators


def progress_bar(title):
    """Return a function (iterable, length) that iterates under a bar with this title, if standard error is a screen."""
    return lambda images, count: tqdm(images, title, count, unit=' images', disable=None, leave=False)


def train(settings, session, network, batches, run_dir, checkpoints):
    """Train and validate for num_epochs, writing metrics and checkpoints; return (best accuracy, its epoch)."""
    train_data, val_data = batches
    best_accuracy, best_epoch, step = -1.0, 0, 0
    with RunLog(run_dir) as log, contextlib.ExitStack() as at_the_end:
        at_the_end.callback(checkpoints.save_best, session)  # also if a loss is not finite, or after Ctrl-C
        for epoch in range(1, settings.num_epochs + 1):
            start = time.monotonic()
            train_data.start_epoch(epoch - 1)
            train_loss, train_accuracy = run_pass(session, network, train_data, settings, step, f'epoch {epoch}', log)
            seconds = time.monotonic() - start
            step += -(-train_data.data_size // settings.batch_size)
            val_data.start_epoch(0)
            val_loss, val_accuracy = run_pass(session, network, val_data, settings, step, 'validation')
            metrics = {'epoch': epoch, 'train_loss': train_loss, 'train_accuracy': train_accuracy,
                       'val_loss': val_loss, 'val_accuracy': val_accuracy, 'learning_rate': settings.learning_rate,
                       'images_per_second': train_data.data_size / seconds, 'seconds': time.monotonic() - start}
            log.write_epoch(step, metrics)
            is_best = val_accuracy > best_accuracy
            if is_best:
                best_accuracy, best_epoch = val_accuracy, epoch
            checkpoints.save(session, epoch, is_best, epoch == settings.num_epochs)
            print(epoch_line(metrics, settings.num_epochs), flush=True)
    return best_accuracy, best_epoch


def run_pass(session, network, source, settings, step, title, log=None):
    """Run one pass over the batches of `source` and return (mean loss, accuracy) over all images.

    `step` training steps came before. With a log it is training: each batch is followed by a training step, under
    dropout, and every display_step by histograms. Raises FloatingPointError as soon as a loss is not finite.
    """
    loss_sum = correct = 0
    fetches = {'loss_sum': network.loss_sum, 'correct': network.correct}
    if log:
        fetches['train_op'] = network.train_op
    with tqdm(desc=title, total=source.data_size, unit=' images', disable=None, leave=False) as bar:
        for inputs, labels in source.batches(settings.batch_size if log else max(settings.batch_size, source.VALIDATION_BATCH)):
            feed = {network.inputs: inputs, network.labels: labels}
            if log:
                step += 1
                feed[network.keep_prob] = 1 - settings.dropout_rate
            show = log and step % settings.display_step == 0
            values = session.run({**fetches, 'summaries': network.summaries} if show else fetches, feed)
            if not np.isfinite(values['loss_sum']):
                raise FloatingPointError(f'the loss is {values["loss_sum"]} at step {step} ({title}), learning_rate '
                                         f'{settings.learning_rate}: try a learning_rate of a tenth')
            if show:
                log.write_step(step, values['loss_sum'] / len(labels), values['summaries'])
            loss_sum, correct = loss_sum + float(values['loss_sum']), correct + int(values['correct'])
            bar.update(len(labels))
    return loss_sum / source.data_size, correct / source.data_size


def main(arguments):
    """Run the command line; returns the exit status."""
    try:
        accuracy, epoch, run_dir = finetune(parse_settings(Settings, arguments))
    except FloatingPointError as error:
        print(f'error: {error}', file=sys.stderr)
        return 3
    except tf.errors.OpError as error:  # a full disk or memory, as TensorFlow says it
        raise OSError(error.message.splitlines()[0]) from error
    print(f'best val_accuracy {accuracy:.4f} (epoch {epoch}) in {run_dir}')
    return 0


if __name__ == '__main__':
    run_command(main)
