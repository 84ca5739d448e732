"""Pretrains conv1 to conv5 on drawn images alone and writes starter_weights/starter_weights.npy.

    python -m starter_weights.pretrain

Every image is drawn for its step and seen once, so that the logged accuracies are accuracies on
unseen images. Batch normalisation (Ioffe and Szegedy, 2015) is folded into the weights of the file.
"""

import csv
import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np

from alexnet import IMAGE_SIZE
from inputs.images import IMAGENET_MEAN
from inputs.prefetch import prefetch_map
from runtime.command import run_command
from runtime.files import new_file
from runtime.flags import CheckedSettings, flag, parse_settings
from runtime.tf1 import assign_values, open_session, tf
from starter_weights.network import PretrainingNetwork, folded_layers, scaled_to_norm, wave_filters
from starter_weights.pretext import drawing_loss, pair_loss, standardized, two_views
from starter_weights.procedural import NUM_NUMBERS, draw, make_bank
from weight_files.find import STARTER_WEIGHTS
from weight_files.npy import write_npy

WARM_UP = 100          # steps
STEPS_PER_ROW = 50     # of the log
STEPS_PER_SAVE = 1000
POOL5_NORM = 1000.0  # of Caffe's weights on photos, which initial values and rates of fc6 fit


@dataclasses.dataclass(frozen=True)
class Settings(CheckedSettings):
    """Pretrain the convolutions on drawn images."""

    steps: int = flag(9000, 'training steps', low=1)
    batch_size: int = flag(128, 'images per step', low=2)
    size: int = flag(
        131, 'height and width of the images in pixels; the layers fit every size', low=90)
    learning_rate: float = flag(
        0.04, 'the largest; falls to 0 as half a cosine wave', above=0)
    pretext: Literal['drawing', 'pairs'] = flag(
        'drawing', 'drawing: tell what was drawn; pairs: of two views of each image, find the '
        'other one among all')
    num_textures: int = flag(256, 'textures on the images', low=1)
    seed: int = flag(0, 'seed of images and initial values', low=0, high=2**31 - 1)
    precision: Literal['float32', 'bfloat16'] = flag(
        'bfloat16', 'of matrix products; float32: for CPUs without bfloat16')
    output: str = flag(STARTER_WEIGHTS, 'file to write', is_path=True)
    log: str = flag('starter_weights/pretrain_log.csv', 'file for the metrics of every 50 steps',
                    is_path=True)


class PretrainingGraph(NamedTuple):
    """The tensors and operations that the loop feeds and fetches."""

    inputs: tuple[tf.Tensor, ...]  # placeholders of images, classes and numbers, as draw has them
    network: PretrainingNetwork
    train_op: tf.Operation
    metrics: dict[str, tf.Tensor]  # scalars, by column of the log


def build(settings, class_counts):
    """Add the network, its loss and its training step to the graph; return a PretrainingGraph.

    class_counts: numbers of shapes, of textures as ground, and of textures as surface.
    """
    images = tf.placeholder(tf.uint8, [None, settings.size, settings.size, 3])
    classes = tf.placeholder(tf.int32, [None, len(class_counts)])
    numbers = tf.placeholder(tf.float32, [None, NUM_NUMBERS])
    is_drawing = settings.pretext == 'drawing'
    views = tf.cast(images, tf.float32) if is_drawing else two_views(images)
    network = PretrainingNetwork(views - IMAGENET_MEAN, training=True)
    features = standardized(tf.reduce_mean(network.outputs['pool5'], [1, 2]))
    if is_drawing:
        loss, metrics = drawing_loss(features, classes, numbers, class_counts)
    else:
        loss, metrics = pair_loss(features)
    train_op = minimize(loss, network, settings.learning_rate, settings.steps)
    return PretrainingGraph((images, classes, numbers), network, train_op,
                            {'loss': loss, **metrics})


def minimize(loss, network, learning_rate, num_steps):
    """Return the training step: momentum with weight decay, and updates of the moving averages."""
    step = tf.train.get_or_create_global_step()
    rate = tf.train.cosine_decay(learning_rate, step, num_steps)
    rate *= tf.minimum(1.0, tf.cast(step + 1, tf.float32) / WARM_UP)
    decay = 1e-4 * sum(tf.nn.l2_loss(weights) for weights, _ in network.variables.values())
    with tf.control_dependencies(network.updates):
        optimizer = tf.train.MomentumOptimizer(rate, 0.9, use_nesterov=True)
        return optimizer.minimize(loss + decay, step)


def draw_batch(bank, settings, step):
    """Return images, classes and numbers of a step, arrays of batch_size rows, always the same.

    Plain shapes come first, and more and more textures in the first half of the steps: trained on
    textures alone, the network hardly learns shapes.
    """
    random = np.random.default_rng([settings.seed, step])
    difficulty = 0.3 + 0.7 * min(1, 2 * step / settings.steps)
    rows = [draw(bank, random, settings.size, difficulty) for _ in range(settings.batch_size)]
    return [np.stack(column) for column in zip(*rows, strict=True)]


def train(settings, session, graph, bank, save):
    """Run all steps of a PretrainingGraph; call `save(rows)` every 1000 steps and at the end.

    rows: of the log, dicts of step, seconds and the means of the metrics over 50 steps.
    """
    rows, values, start = [], [], time.monotonic()
    fetches = graph.metrics, graph.train_op
    with ThreadPoolExecutor(2) as pool:
        batches = prefetch_map(lambda step: draw_batch(bank, settings, step),
                               range(settings.steps), pool, ahead=4)
        for step, batch in enumerate(batches, 1):
            metrics, _ = session.run(fetches, dict(zip(graph.inputs, batch, strict=True)))
            values.append(list(metrics.values()))
            is_last = step == settings.steps
            if step % STEPS_PER_ROW == 0 or is_last:
                rows.append(log_row(step, time.monotonic() - start, graph.metrics, values))
                values.clear()
            if step % STEPS_PER_SAVE == 0 or is_last:
                save(rows)


def log_row(step, seconds, names, values):
    """Return and print a row of the log; values: the metrics of each step since the last row."""
    means = np.mean(values, 0, np.float64).round(4).tolist()
    row = {'step': step, 'seconds': round(seconds), **dict(zip(names, means, strict=True))}
    print(' '.join(f'{name} {value}' for name, value in row.items()), flush=True)
    return row


def pretrain(settings):
    """Pretrain by the settings; `output` and `log` are whole files at any moment."""
    bank = make_bank(settings.num_textures)
    large = dataclasses.replace(settings, size=IMAGE_SIZE, batch_size=32)
    with tf.Graph().as_default() as tf_graph:
        tf.set_random_seed(settings.seed)
        graph = build(settings, [len(bank.shapes), len(bank.textures), len(bank.textures)])
        initialize = tf.global_variables_initializer()
        tf_graph.finalize()
        with open_session(settings.precision) as session:
            session.run(initialize)
            assign_values(session, graph.network.variables['conv1'][:1], [wave_filters()])

            def save(rows):
                images = draw_batch(bank, large, settings.steps)[0]
                layers = folded_layers(session, graph.network)
                write_files(settings, scaled_to_norm(layers, images, POOL5_NORM), rows)
            train(settings, session, graph, bank, save)


def write_files(settings, layers, rows):
    """Write the weight file, in half precision, and the log."""
    halves = {layer: [array.astype(np.float16) for array in arrays]
              for layer, arrays in layers.items()}
    with new_file(settings.output, 'wb', replace=True) as file:
        write_npy(file, halves)
    with new_file(settings.log, replace=True, newline='') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def main(arguments):
    """Run the command line; return the exit status."""
    pretrain(parse_settings(Settings, arguments))
    return 0


if __name__ == '__main__':
    run_command(main)
