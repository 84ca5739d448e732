"""A .caffemodel of full size, converted and run as Caffe ran it."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from alexnet import AlexNet
from convert_weights import main
from runtime.tf1 import open_session, tf
from tests.caffe_files import caffemodel, drawn_images, drawn_layers
from tests.helpers import ROOT
from weight_files.architecture import resolve_architecture
from weight_files.reader import LAYER_SHAPES

pytestmark = pytest.mark.slow

REFERENCE = os.path.join(ROOT, 'tests', 'reference')


@pytest.fixture(scope='module')
def full_size(tmp_path_factory):
    """A folder of drawn.caffemodel, which Caffe has run (tests/reference), and its drawn.npy."""
    folder = tmp_path_factory.mktemp('full')
    source = folder / 'drawn.caffemodel'
    source.write_bytes(caffemodel(drawn_layers(), v1=True, old_shape=True))
    assert main([str(source), str(folder / 'drawn.npy')]) == 0
    yield folder
    for file in folder.iterdir():
        file.unlink()


@pytest.fixture
def caffenet(tmp_path):
    """A .caffemodel with the weights of `full_size` and the layers of CaffeNet."""
    path = tmp_path / 'caffenet.caffemodel'
    path.write_bytes(caffemodel(drawn_layers(), ends=('Pooling', 'LRN')))
    yield str(path)
    path.unlink()


def assert_fc8_is(reference, path, architecture):
    """Assert that fc8 is within 1e-4 of the largest value of fc8 that Caffe computed."""
    expected = np.load(os.path.join(REFERENCE, reference))
    with tf.Graph().as_default(), open_session() as session:
        x = tf.placeholder(tf.float32, [None, 227, 227, 3])
        model = AlexNet(x, 1.0, 1000, [], path, architecture=architecture)
        model.load_initial_weights(session)
        fc8 = session.run(model.fc8, {x: drawn_images().transpose(0, 2, 3, 1)})
    assert np.abs(fc8 - expected).max() <= 1e-4 * np.abs(expected).max()


def test_fc8_is_that_of_caffe(full_size):
    assert_fc8_is('caffe_fc8.npy', str(full_size / 'drawn.npy'), 'alexnet')


def test_fc8_of_caffenet_is_that_of_caffe(caffenet):
    assert_fc8_is('caffenet_fc8.npy', caffenet, resolve_architecture('auto', caffenet))


def test_the_written_file_is_of_the_public_layout(full_size):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        # As the well-known scripts read it.
        layers = np.load(full_size / 'drawn.npy', allow_pickle=True, encoding='bytes').item()
    assert {name: [array.shape for array in arrays] for name, arrays in layers.items()} == {
        name: [shape, shape[-1:]] for name, shape in LAYER_SHAPES.items()}
    assert all(type(arrays) is list for arrays in layers.values())
    assert all(array.dtype == np.float32 for arrays in layers.values() for array in arrays)
    # As NumPy 1 names it, and as Python 3.0 can read it.
    with open(full_size / 'drawn.npy', 'rb') as file:
        assert b'\x80\x03cnumpy.core.multiarray\n_reconstruct\n' in file.read(1000)
    assert sorted(os.listdir(full_size)) == ['drawn.caffemodel', 'drawn.npy']


LOAD = '''
import os, sys
from alexnet import AlexNet
from runtime.tf1 import tf
*paths, folder = sys.argv[1:]
def peak_memory():  # not getrusage: its peak is also that of the process that started this one
    lines = open('/proc/self/status')
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM'))
tf.disable_eager_execution()
model = AlexNet(tf.placeholder(tf.float32, [None, 227, 227, 3]), 1.0, 1000, [], None)
with tf.Session() as session:
    for model.weights_path in paths:
        open('/proc/self/clear_refs', 'w').write('5')  # the peak is now the memory in use
        before, size = peak_memory(), os.path.getsize(model.weights_path)
        model.load_initial_weights(session)
        assert 0.9 * size < peak_memory() - before < 3 * size, (peak_memory() - before) / size
    tf.summary.FileWriter(os.path.join(folder, 'events'), session.graph).close()
    tf.train.export_meta_graph(os.path.join(folder, 'model.meta'))
sizes = [os.path.getsize(os.path.join(root, name))
         for root, _, names in os.walk(folder) for name in names]
assert len(sizes) == 2 and max(sizes) < 1 << 20, sizes
'''


@pytest.mark.cpu
@pytest.mark.skipif(not os.path.exists('/proc/self/clear_refs'), reason='needs Linux: memory')
def test_loading_takes_less_than_three_files_of_memory(full_size, tmp_path):
    """The graph, in event and .meta files, stays small too."""
    command = [sys.executable, '-c', LOAD, *map(str, full_size.iterdir()), str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=60)
