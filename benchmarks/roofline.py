"""Measures a training step against the limit of the machine.

`python -m benchmarks.roofline CONV_WEIGHTS [ROUNDS]` prints the rate of a large matrix product, the
rate at which an update reads and writes memory, and for batches of several sizes the share of the
limit that a step on stored features reaches: fc6 to fc8, Adam, 17 classes. The limit is the time
of the step's matrix products at the first rate, plus the time of the bytes that Adam's update needs
at least at the second rate: 4 values read and 3 written per weight.
"""

import statistics
import sys

import numpy as np

from benchmarks.pipeline import seconds_of
from benchmarks.speed import FC_LAYERS, TRAIN_FLOPS, product_rate
from finetune import Settings
from inputs.lists import Datasets, ImageList
from runtime.tf1 import open_session, tf
from training.devices import Devices
from training.graph import build_training_graph, initialize_variables
from training.setup import make_setup

NUM_CLASSES = 17  # of TRAIN_FLOPS
BATCH_SIZES = 64, 128, 256
WEIGHTS = 9216 * 4096 + 4096 * 4096 + 4096 * NUM_CLASSES
ADAM_BYTES = 4 * 7 * WEIGHTS


def median_seconds(function, calls=9):
    """Return the median seconds of several calls, after one that is not counted."""
    function()
    return statistics.median(seconds_of(function) for _ in range(calls))


def memory_rate():
    """Return the bytes/s that a large addition in place reads and writes."""
    with tf.Graph().as_default(), open_session('float32') as session:
        values, other = (tf.get_variable(name, [9216, 4096], initializer=tf.ones_initializer())
                         for name in 'ab')
        update = tf.assign_add(values, other).op
        session.run(tf.global_variables_initializer())
        return 3 * 4 * 9216 * 4096 / median_seconds(lambda: session.run(update))


def make_step(conv_weights, batch_size):
    """Return a function that trains a step on drawn features."""
    labels = np.arange(batch_size) % NUM_CLASSES
    images = ImageList('', [''] * batch_size, labels, labels)
    datasets = Datasets(images, images, [''] * NUM_CLASSES)
    setup = make_setup(Settings(train_layers=FC_LAYERS), datasets, conv_weights)
    devices = Devices()
    with tf.Graph().as_default():
        graph = build_training_graph(setup, devices)
        session = devices.open_session()
        initialize_variables(session, graph.model, setup, devices)
    features = np.random.default_rng(0).random((batch_size, 6, 6, 256), np.float32)
    one_hot = np.eye(NUM_CLASSES, dtype=np.float32)[labels]
    feed = graph.feed('pool5', features, one_hot, batch_size, keep_prob=0.5)
    return lambda: session.run([graph.loss_sum, graph.correct, graph.train_op], feed)


def main(conv_weights, rounds='3'):
    """Print the rates and the share of the limit per size of a batch, medians of the rounds."""
    steps = {size: make_step(conv_weights, size) for size in BATCH_SIZES}
    rates, seconds = [], {size: [] for size in steps}
    for _ in range(int(rounds)):
        rates.append((product_rate(), memory_rate()))
        for size, step in steps.items():
            seconds[size].append(median_seconds(step))
    product, memory = (statistics.median(column) for column in zip(*rates, strict=True))
    print(f'products: {product / 1e9:.0f} GFLOP/s, memory: {memory / 1e9:.0f} GB/s')
    for size, times in seconds.items():
        step, limit = statistics.median(times), size * TRAIN_FLOPS / product + ADAM_BYTES / memory
        print(f'batches of {size}: {1e3 * step:.0f} ms, {size / step:.0f} images/s; limit '
              f'{1e3 * limit:.0f} ms, share {limit / step:.2f}')


if __name__ == '__main__':
    main(*sys.argv[1:])
