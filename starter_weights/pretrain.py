"""Pretrains conv1 to conv5 on drawn pictures alone, and writes them as a weight file: starter_weights/starter_weights.npy.

    python -m starter_weights.pretrain

Every picture is drawn for its step and seen once, so that the accuracies of the log are those on unseen pictures. The
network normalises by batch (Ioffe and Szegedy, 2015) while it learns; in the file this is part of the weights.
"""

import csv
import dataclasses
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from alexnet import IMAGE_SIZE
from inputs.images import IMAGENET_MEAN
from inputs.prefetch import prefetch_map
from runtime.command import run_command
from runtime.files import new_file
from runtime.flags import CheckedSettings, flag, parse_settings
from runtime.tf1 import assign_values, open_session, tf
from starter_weights.network import EPSILON, PretrainingNetwork, folded_layers, scaled_to_norm, wave_filters
from starter_weights.procedural import NUM_NUMBERS, draw, make_bank
from weight_files.npy import write_npy

WARM_UP = 100         # steps
STEPS_PER_ROW = 50      # of the log
STEPS_BETWEEN = 1000  # that the files are written
POOL5_NORM = 1000.0  # of Caffe's weights on photos, which the first values and learning rate of fc6 fit


@dataclasses.dataclass(frozen=True)
class Settings(CheckedSettings):
    """Pretrain the convolutions on drawn pictures."""

    steps: int = flag(9000, 'training steps, 1 or more')
    batch_size: int = flag(128, 'pictures a step, 2 or more')
    size: int = flag(131, 'height and width of the pictures in pixels, 90 or more; layers fit every size')
    learning_rate: float = flag(0.04, 'the largest, above 0; falls to 0 as half a cosine wave')
    pretext: Literal['drawing', 'pairs'] = flag(
        'drawing', "drawing: tell what was drawn; pairs: of two views of each picture, find the other one among all")
    num_textures: int = flag(256, 'textures that the pictures are made of, 1 or more')
    seed: int = flag(0, 'number that all pictures and first values follow from')
    precision: Literal['float32', 'bfloat16'] = flag('bfloat16', 'of products; float32: for CPUs without it')
    output: str = flag(os.path.join(ROOT, 'starter_weights', 'starter_weights.npy'), 'file to write')
    log: str = flag(os.path.join(ROOT, 'starter_weights', 'pretrain_log.csv'), 'file for the figures of every 50 steps')


def build(settings, class_counts):
    """Return the placeholders, the network, the training step and the figures of the log, {name: scalar}.

    class_counts: of shapes, of textures as ground, and of textures as surface.
    """
    pictures = tf.placeholder(tf.uint8, [None, settings.size, settings.size, 3])
    classes = tf.placeholder(tf.int32, [None, len(class_counts)])
    numbers = tf.placeholder(tf.float32, [None, NUM_NUMBERS])
    is_drawing = settings.pretext == 'drawing'
    views = tf.cast(pictures, tf.float32) if is_drawing else two_views(pictures)
    network = PretrainingNetwork(views - IMAGENET_MEAN, training=True)
    features = standardized(tf.reduce_mean(network.outputs['pool5'], [1, 2]))
    loss, figures = tell_drawing(features, classes, numbers, class_counts) if is_drawing else find_pairs(features)
    step = tf.train.get_or_create_global_step()
    rate = tf.train.cosine_decay(settings.learning_rate, step, settings.steps)
    rate *= tf.minimum(1.0, tf.cast(step + 1, tf.float32) / WARM_UP)
    decay = 1e-4 * sum(tf.nn.l2_loss(weights) for weights, _ in network.variables.values())
    with tf.control_dependencies(network.updates):
        train_op = tf.train.MomentumOptimizer(rate, 0.9, use_nesterov=True).minimize(loss + decay, step)
    return (pictures, classes, numbers), network, train_op, {'loss': loss, **figures}


def two_views(pictures):
    """Return two random parts of each picture in changed colours, float32 [2 n, size, size, 3]: all first, all second.

    A part has 0.6 to 1 of the picture's height and width, and is scaled to all of them; half of them are mirrored.
    """
    count, size = 2 * tf.shape(pictures)[0], int(pictures.shape[1])
    side = tf.random_uniform([count, 1], 0.6, 1)
    start = tf.random_uniform([count, 2]) * (1 - side)
    boxes, mirrored = tf.concat([start, start + side], 1), tf.tile(tf.random_uniform([count, 1]) < 0.5, [1, 4])
    boxes = tf.where(mirrored, tf.gather(boxes, [0, 3, 2, 1], axis=1), boxes)
    views = tf.image.crop_and_resize(pictures, boxes, crop_size=[size, size],
                                     box_indices=tf.tile(tf.range(count // 2), [2]))
    return views * tf.random_uniform([count, 1, 1, 3], 0.85, 1.15) * tf.random_uniform([count, 1, 1, 1], 0.7, 1.3)


def tell_drawing(features, classes, numbers, class_counts):
    """Return (loss of telling classes and numbers, a scalar, figures of the log, {name: scalar}).

    A class that is not there counts nothing; the sum over the others is divided by all pictures, since the mean over
    the few that have one would be the largest and least certain part of the gradient.
    """
    figures, loss = {}, 0.0
    for name, label, count in zip(('shape', 'ground', 'surface'), tf.unstack(classes, axis=1), class_counts):
        logits, there = dense(name, features, count), tf.cast(label >= 0, tf.float32)
        loss += tf.reduce_mean(there * tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.maximum(label, 0), logits=logits))
        right = tf.cast(tf.equal(tf.argmax(logits, 1, output_type=tf.int32), label), tf.float32)
        figures[f'{name}_accuracy'] = tf.reduce_sum(right) / tf.maximum(tf.reduce_sum(there), 1)
    figures['number_error'] = tf.reduce_mean(tf.squared_difference(dense('numbers', features, NUM_NUMBERS), numbers))
    return loss + 2 * figures['number_error'], figures


def find_pairs(features):
    """Return (loss of finding each picture's other view among all, after Chen et al. (2020), figures of the log)."""
    hidden = tf.nn.relu(standardized(dense('hidden', features, 512)))
    first, second = tf.split(tf.nn.l2_normalize(dense('views', hidden, 128), 1), 2)
    likeness = tf.matmul(first, second, transpose_b=True) / 0.15
    right = tf.range(tf.shape(first)[0])
    losses = [tf.nn.sparse_softmax_cross_entropy_with_logits(labels=right, logits=logits)
              for logits in (likeness, tf.transpose(likeness))]
    found = tf.equal(tf.argmax(likeness, 1, output_type=tf.int32), right)
    return tf.reduce_mean(sum(losses)), {'pair_accuracy': tf.reduce_mean(tf.cast(found, tf.float32))}


def standardized(x):
    """Return x, float32 [n, units], with the mean 0 and the variance 1 in each column."""
    mean, variance = tf.nn.moments(x, 0)
    return (x - mean) * tf.rsqrt(variance + EPSILON ** 2)


def dense(name, x, units):
    """Return x times weights plus biases, float32 [n, units]."""
    inputs = int(x.shape[1])
    weights = tf.get_variable(f'{name}/weights', [inputs, units], initializer=tf.random_normal_initializer(
        stddev=0.5 / np.sqrt(inputs)))
    return tf.matmul(x, weights) + tf.get_variable(f'{name}/biases', [units], initializer=tf.zeros_initializer())


def draw_batch(bank, settings, step):
    """Return pictures, classes and numbers of a step, arrays of batch_size rows; always the same ones.

    Plain shapes come first, and more and more textures in the first half of the steps: from textures alone, shapes are
    hardly learnt at all.
    """
    random = np.random.default_rng([settings.seed, step])
    difficulty = 0.3 + 0.7 * min(1, 2 * step / settings.steps)
    rows = [draw(bank, random, settings.size, difficulty) for _ in range(settings.batch_size)]
    return [np.stack(column) for column in zip(*rows)]


def train(settings, session, inputs, train_op, figures, bank, save):
    """Run all steps, and `save(rows)` now and then and at the end; rows of the log have the means over 50 steps."""
    rows, sums, start = [], [], time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        batches = prefetch_map(lambda step: draw_batch(bank, settings, step), range(settings.steps), pool, ahead=4)
        for step, batch in enumerate(batches, 1):
            sums.append(list(session.run((figures, train_op), dict(zip(inputs, batch)))[0].values()))
            if step % STEPS_PER_ROW == 0 or step == settings.steps:
                means = dict(zip(figures, np.mean(sums, 0, np.float64).round(4).tolist()))
                rows.append({'step': step, 'seconds': round(time.monotonic() - start), **means})
                print(' '.join(f'{name} {value}' for name, value in rows[-1].items()), flush=True)
                sums.clear()
            if step % STEPS_BETWEEN == 0 or step == settings.steps:
                save(rows)


def pretrain(settings):
    """Do it all, and write the files `output` and `log`; they are whole at any moment."""
    bank = make_bank(settings.num_textures)
    large = dataclasses.replace(settings, size=IMAGE_SIZE, batch_size=32)
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(settings.seed)
        inputs, network, train_op, figures = build(settings, [len(bank.shapes), *[len(bank.textures)] * 2])
        initialize = tf.global_variables_initializer()
        graph.finalize()
        with open_session(settings.precision) as session:
            session.run(initialize)
            assign_values(session, network.variables['conv1'][:1], [wave_filters()])

            def save(rows):
                pictures = draw_batch(bank, large, settings.steps)[0]
                write_files(settings, scaled_to_norm(folded_layers(session, network), pictures, POOL5_NORM), rows)
            train(settings, session, inputs, train_op, figures, bank, save)


def write_files(settings, layers, rows):
    """Write the weight file, in half precision, and the log."""
    with new_file(settings.output, 'wb', replace=True) as file:
        write_npy(file, {layer: [array.astype(np.float16) for array in arrays] for layer, arrays in layers.items()})
    with new_file(settings.log, replace=True, newline='') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def main(arguments):
    """Run the command line; returns the exit status."""
    settings = parse_settings(Settings, arguments)
    for name, least in (('steps', 1), ('batch_size', 2), ('size', 90), ('num_textures', 1)):
        if getattr(settings, name) < least:
            raise ValueError(f'{name} {getattr(settings, name)} is not {least} or more')
    pretrain(settings)
    return 0


if __name__ == '__main__':
    run_command(main)
