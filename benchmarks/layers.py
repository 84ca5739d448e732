"""Measures the ways of computing a layer that alexnet.py chooses between, side by side.

`python benchmarks/layers.py` prints milliseconds, forward and with all gradients, for batches of 64 (convolutions,
normalisation) and 128 (fc7). The two contenders take turns; medians of 15 pairs. With TF_ENABLE_ONEDNN_OPTS=0 in the
environment the grouped convolution fails.
"""

import statistics
import time

import numpy as np

from alexnet import AlexNet, matrix_product
from runtime.tf1 import tf

PAIRS = 15


def grouped(x, weights):
    return tf.nn.conv2d(x, weights, 1, 'SAME')


def one_a_group(x, weights):
    pairs = zip(tf.split(x, 2, 3), tf.split(weights, 2, 3))
    return tf.concat([tf.nn.conv2d(part, kernel, 1, 'SAME') for part, kernel in pairs], 3)


def normalised_by_tensorflow(x):
    return tf.nn.local_response_normalization(x, depth_radius=2, bias=1, alpha=2e-5, beta=0.75)


def normalised_by_matrix(x):
    network = AlexNet.__new__(AlexNet)  # the layer alone, without a network around it
    network.outputs = {}
    return network.local_response_norm('norm', x)


# name: (the other way, the chosen way, shapes of what they are called with)
COMPARISONS = {
    'conv2: grouped kernel, one a group': (grouped, one_a_group, [(64, 27, 27, 96), (5, 5, 48, 256)]),
    'conv4: grouped kernel, one a group': (grouped, one_a_group, [(64, 13, 13, 384), (3, 3, 192, 384)]),
    'conv5: grouped kernel, one a group': (grouped, one_a_group, [(64, 13, 13, 384), (3, 3, 192, 256)]),
    'norm1: TensorFlow, band matrix': (normalised_by_tensorflow, normalised_by_matrix, [(64, 55, 55, 96)]),
    'norm2: TensorFlow, band matrix': (normalised_by_tensorflow, normalised_by_matrix, [(64, 27, 27, 256)]),
    'fc7: TensorFlow, matrix_product': (tf.matmul, matrix_product, [(128, 4096), (4096, 4096)]),
    'fc6: TensorFlow, matrix_product': (tf.matmul, matrix_product, [(128, 9216), (9216, 4096)]),
}


def seconds(session, operations):
    start = time.perf_counter()
    session.run(operations)
    return time.perf_counter() - start


def measure(other, chosen, shapes):
    """Return (largest relative difference, [ms forward of both, then ms with gradients of both])."""
    random = np.random.RandomState(0)
    with tf.Graph().as_default(), tf.Session() as session:
        variables = [tf.Variable(random.uniform(-9, 9, shape).astype(np.float32)) for shape in shapes]
        values = [tf.identity(variable) for variable in variables]
        outputs = [tf.nn.relu(way(*values)) for way in (other, chosen)]
        gradients = [tf.gradients(output, values) for output in outputs]
        session.run(tf.global_variables_initializer())
        one, two = session.run(outputs)
        contenders = [[output.op] for output in outputs] + [[g.op for g in tensors] for tensors in gradients]
        times = [[1e3 * seconds(session, contender) for contender in contenders] for _ in range(PAIRS)]
    return np.abs(one - two).max() / np.abs(one).max(), [statistics.median(column) for column in zip(*times)]


def main():
    print(f'{"":38}{"difference":>11}{"forward":>20}{"with gradients":>20}')
    for name, comparison in COMPARISONS.items():
        difference, times = measure(*comparison)
        print(f'{name:38}{difference:11.1e}' + ''.join(f'{value:10.1f}' for value in times))


if __name__ == '__main__':
    main()
