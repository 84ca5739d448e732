"""Measures the ways of computing a layer between which alexnet.py chooses, side by side.

`python -m benchmarks.layers` prints milliseconds, forward and with all gradients, for batches of 64
(convolutions, normalisation) and 128 (fc6, fc7). The two ways take turns; medians of 15 pairs. With
TF_ENABLE_ONEDNN_OPTS=0 in the environment the grouped convolution fails.
"""

import time

import numpy as np

from alexnet import grouped_conv, local_response_norm, matrix_product
from runtime.tf1 import tf

PAIRS = 15


def conv_by_tensorflow(x, weights):
    """Return the convolution in 2 groups by TensorFlow's kernel for groups."""
    return tf.nn.conv2d(x, weights, 1, 'SAME')


def conv_per_group(x, weights):
    """Return the convolution in 2 groups as alexnet.py computes it."""
    return grouped_conv(x, weights, 1, 'SAME', 2)


def norm_by_tensorflow(x):
    """Return the local response normalisation by TensorFlow's kernel."""
    return tf.nn.local_response_normalization(x, depth_radius=2, bias=1, alpha=2e-5, beta=0.75)


# name: (TensorFlow's way, the way of alexnet.py, shapes of the arguments)
COMPARISONS = {
    'conv2: grouped kernel, one per group': (
        conv_by_tensorflow, conv_per_group, [(64, 27, 27, 96), (5, 5, 48, 256)]),
    'conv4: grouped kernel, one per group': (
        conv_by_tensorflow, conv_per_group, [(64, 13, 13, 384), (3, 3, 192, 384)]),
    'conv5: grouped kernel, one per group': (
        conv_by_tensorflow, conv_per_group, [(64, 13, 13, 384), (3, 3, 192, 256)]),
    'norm1: TensorFlow, blocks of 16': (
        norm_by_tensorflow, local_response_norm, [(64, 55, 55, 96)]),
    'norm2: TensorFlow, blocks of 16': (
        norm_by_tensorflow, local_response_norm, [(64, 27, 27, 256)]),
    'fc7: TensorFlow, matrix_product': (tf.matmul, matrix_product, [(128, 4096), (4096, 4096)]),
    'fc6: TensorFlow, matrix_product': (tf.matmul, matrix_product, [(128, 9216), (9216, 4096)]),
}


def milliseconds(session, operations):
    """Return how long a run of operations takes."""
    start = time.perf_counter()
    session.run(operations)
    return 1e3 * (time.perf_counter() - start)


def measure(theirs, ours, shapes):
    """Return (largest relative difference, ms of both forward, then of both with gradients)."""
    random = np.random.RandomState(0)
    with tf.Graph().as_default(), tf.Session() as session:
        variables = [tf.Variable(np.float32(random.uniform(-9, 9, shape))) for shape in shapes]
        values = [tf.identity(variable) for variable in variables]
        outputs = [tf.nn.relu(way(*values)) for way in (theirs, ours)]
        gradients = [tf.gradients(output, values) for output in outputs]
        session.run(tf.global_variables_initializer())
        one, two = session.run(outputs)
        contenders = [[output.op] for output in outputs]
        contenders += [[tensor.op for tensor in tensors] for tensors in gradients]
        times = [[milliseconds(session, contender) for contender in contenders]
                 for _ in range(PAIRS)]
    return np.abs(one - two).max() / np.abs(one).max(), np.median(times, 0).tolist()


def main():
    """Print a row per comparison."""
    print(f'{"":38}{"difference":>11}{"forward":>20}{"with gradients":>20}')
    for name, comparison in COMPARISONS.items():
        difference, times = measure(*comparison)
        print(f'{name:38}{difference:11.1e}' + ''.join(f'{value:10.1f}' for value in times))


if __name__ == '__main__':
    main()
