"""Cases of weight files."""

import os

import numpy as np

from benchmarks.public_cases.trial import refused
from tests.caffe_files import field, varint


def raw_data(trial):
    """.caffemodel of NVIDIA Caffe: raw_data."""
    weights = np.float16(np.random.default_rng(0).random((96, 3, 11, 11)))
    biases = np.float16(np.arange(96))
    blobs = [field(7, field(7, field(1, b''.join(map(varint, array.shape)))) + field(10, 2)
                   + field(12, array.tobytes())) for array in (weights, biases)]
    content = field(100, field(1, 'conv1') + field(2, 'Convolution') + b''.join(blobs))
    trial.write('nvidia.caffemodel', content)
    script = 'convert_weights.py' if os.path.exists(
        os.path.join(trial.project, 'convert_weights.py')) else 'weights.py'
    trial.run(script, 'nvidia.caffemodel', 'nvidia.npy')
    if not trial.exists('nvidia.npy'):
        return False
    got = np.load(trial.path('nvidia.npy'), allow_pickle=True).item()['conv1']
    return np.array_equal(got[0], np.float32(weights).transpose(2, 3, 1, 0))


def v0_format(trial):
    """The V0 format of 2013 is named."""
    inner = field(1, 'conv1') + field(2, 'conv')
    trial.write('v0.caffemodel', field(1, 'CaffeNet') + field(2, field(1, inner)))
    script = 'convert_weights.py' if os.path.exists(
        os.path.join(trial.project, 'convert_weights.py')) else 'weights.py'
    result = trial.run(script, 'v0.caffemodel')
    return refused(result, 'upgrade_net_proto')


CASES = {28: raw_data, 29: v0_format}
