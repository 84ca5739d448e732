"""Measures conv2, conv4 and conv5, with biases and ReLU, as one grouped convolution and as one a group.

`python benchmarks/grouped_convolutions.py` prints milliseconds for a batch of 64, forward and with all gradients. The
two contenders take turns; medians of 15 pairs. With TF_ENABLE_ONEDNN_OPTS=0 in the environment the first one fails.
"""

import os
import statistics
import sys
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from alexnet import tf  # noqa: E402

BATCH = 64
PAIRS = 15
LAYERS = {'conv2': (27, 96, 5, 256), 'conv4': (13, 384, 3, 384), 'conv5': (13, 384, 3, 256)}


def grouped(x, weights):
    return tf.nn.conv2d(x, weights, 1, 'SAME')


def one_a_group(x, weights):
    pairs = zip(tf.split(x, 2, 3), tf.split(weights, 2, 3))
    return tf.concat([tf.nn.conv2d(part, kernel, 1, 'SAME') for part, kernel in pairs], 3)


def seconds(session, operations):
    start = time.perf_counter()
    session.run(operations)
    return time.perf_counter() - start


def measure(size, channels, kernel, filters):
    """Return (largest relative difference, [ms forward of both, then ms with gradients of both]) of one layer."""
    random = np.random.RandomState(0)
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.Variable(random.rand(BATCH, size, size, channels).astype(np.float32))
        weights = tf.Variable(random.randn(kernel, kernel, channels // 2, filters).astype(np.float32))
        biases = tf.Variable(random.rand(filters).astype(np.float32))
        outputs = [tf.nn.relu(tf.nn.bias_add(way(x, weights), biases)) for way in (grouped, one_a_group)]
        gradients = [tf.gradients(output, [x, weights, biases]) for output in outputs]
        session.run(tf.global_variables_initializer())
        one, other = session.run(outputs)
        contenders = [[output.op] for output in outputs] + [[g.op for g in tensors] for tensors in gradients]
        times = [[1e3 * seconds(session, contender) for contender in contenders] for _ in range(PAIRS)]
    return np.abs(one - other).max() / np.abs(one).max(), [statistics.median(column) for column in zip(*times)]


def main():
    print(f'{"":7}{"difference":>12}{"grouped":>12}{"one a group":>12}{"grouped":>12}{"one a group":>12}')
    print(f'{"layer":7}{"":>12}{"forward":>12}{"forward":>12}{"gradients":>12}{"gradients":>12}')
    for layer, shape in LAYERS.items():
        difference, times = measure(*shape)
        print(f'{layer:7}{difference:12.1e}' + ''.join(f'{time:12.1f}' for time in times))


if __name__ == '__main__':
    main()
