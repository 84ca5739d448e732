import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from alexnet import AlexNet
from convert_weights import main
from runtime.tf1 import tf
from tests.caffe_files import SHAPES, blob, caffemodel, drawn_images, drawn_layers, field, layer, varint
from tests.helpers import ROOT, shared
from weight_files import caffemodel as reader
from weight_files.reader import LAYER_SHAPES, read_weights

CAFFE_FC8 = os.path.join(ROOT, 'tests', 'reference', 'caffe_fc8.npy')


def write(tmp_path, content):
    (tmp_path / 'net.caffemodel').write_bytes(content)
    return str(tmp_path / 'net.caffemodel')


def small_layers(dtype=np.float32):
    """Layers in Caffe's order: outputs, inputs, height, width; fc6 as on 256 channels of 6x6."""
    random = np.random.RandomState(1)
    return {'conv1': [random.rand(4, 3, 2, 5).astype(dtype), random.rand(4).astype(dtype)],
            'fc6': [random.rand(20, 9216).astype(dtype), random.rand(20).astype(dtype)],
            'fc7': [random.rand(1, 20).astype(dtype), random.rand(1).astype(dtype)]}


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('old_shape', [False, True])
@pytest.mark.parametrize('v1', [False, True])
def test_both_formats_shapes_and_precisions(tmp_path, v1, old_shape, dtype):
    layers = small_layers(dtype)
    got = read_weights(write(tmp_path, caffemodel(layers, v1, old_shape)))
    assert list(got) == list(layers)
    for name, (weights, biases) in got.items():
        assert weights.dtype == biases.dtype == np.float32 and weights.flags.c_contiguous
        np.testing.assert_array_equal(biases, np.float32(layers[name][1]))
    # Position by position: Caffe's (o, i, h, w) is TensorFlow's (h, w, i, o); Caffe flattens channels first.
    assert [got[name][0].shape for name in ('conv1', 'fc6', 'fc7')] == [(2, 5, 3, 4), (9216, 20), (20, 1)]
    for h, w, i, o in np.ndindex(2, 5, 3, 4):
        assert got['conv1'][0][h, w, i, o] == np.float32(layers['conv1'][0][o, i, h, w])
    for h, w, c in np.ndindex(6, 6, 256):
        assert got['fc6'][0][(h * 6 + w) * 256 + c, 17] == np.float32(layers['fc6'][0][17, (c * 6 + h) * 6 + w])
    np.testing.assert_array_equal(got['fc7'][0][:, 0], np.float32(layers['fc7'][0][0]))


@pytest.mark.parametrize('name', ['alexnet_conv.caffemodel', 'alexnet_conv_v1.caffemodel'])
def test_files_of_caffe_itself(name):
    got = read_weights(shared('caffe_reference', name))
    expected = np.load(shared('weights', 'bvlc_alexnet_conv.npy'), allow_pickle=True, encoding='latin1').item()
    assert set(got) == set(expected)
    for layer_name, arrays in expected.items():
        for array, value in zip(got[layer_name], arrays):
            np.testing.assert_array_equal(array, value)


@pytest.fixture(scope='module')
def full_size(tmp_path_factory):
    """A folder with drawn.caffemodel, full size, which Caffe has run (tests/reference), and drawn.npy, made of it."""
    folder = tmp_path_factory.mktemp('full')
    source = folder / 'drawn.caffemodel'
    source.write_bytes(caffemodel(drawn_layers(), v1=True, old_shape=True))
    assert main([str(source), str(folder / 'drawn.npy')]) == 0
    yield folder
    for file in folder.iterdir():
        file.unlink()


def test_fc8_is_that_of_caffe(full_size):
    """Within 1e-4 of the largest value; caffe_fc8.npy is what Caffe computed with the same file and images."""
    expected = np.load(CAFFE_FC8)
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 227, 227, 3])
        model = AlexNet(x, 1.0, 1000, [], str(full_size / 'drawn.npy'))
        model.load_initial_weights(session)
        fc8 = session.run(model.fc8, {x: drawn_images().transpose(0, 2, 3, 1)})
    assert np.abs(fc8 - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_written_file_is_of_the_public_layout(full_size):
    # As the well-known scripts read it.
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        layers = np.load(full_size / 'drawn.npy', allow_pickle=True, encoding='bytes').item()
    assert {name: [array.shape for array in arrays] for name, arrays in layers.items()} == {
        name: [shape, shape[-1:]] for name, shape in LAYER_SHAPES.items()}
    assert all(type(arrays) is list and array.dtype == np.float32 for arrays in layers.values() for array in arrays)
    with open(full_size / 'drawn.npy', 'rb') as file:  # as NumPy 1 names it, and as Python 3.0 can read it
        assert b'\x80\x03cnumpy.core.multiarray\n_reconstruct\n' in file.read(1000)
    assert sorted(os.listdir(full_size)) == ['drawn.caffemodel', 'drawn.npy']


LOAD = '''
import os, sys
from alexnet import AlexNet
from runtime.tf1 import tf
*paths, folder = sys.argv[1:]
def peak_memory():  # not getrusage: its peak is also that of the process that started this one
    return next(int(line.split()[1]) * 1024 for line in open('/proc/self/status') if line.startswith('VmHWM'))
tf.disable_eager_execution()
model = AlexNet(tf.placeholder(tf.float32, [None, 227, 227, 3]), 1.0, 1000, [], None)
with tf.Session() as session:
    for model.weights_path in paths:
        open('/proc/self/clear_refs', 'w').write('5')  # the peak is what is in use now
        before, size = peak_memory(), os.path.getsize(model.weights_path)
        model.load_initial_weights(session)
        assert 0.9 * size < peak_memory() - before < 3 * size, (peak_memory() - before) / size
    tf.summary.FileWriter(os.path.join(folder, 'events'), session.graph).close()
    tf.train.export_meta_graph(os.path.join(folder, 'model.meta'))
sizes = [os.path.getsize(os.path.join(root, name)) for root, _, names in os.walk(folder) for name in names]
assert len(sizes) == 2 and max(sizes) < 1 << 20, sizes
'''


@pytest.mark.skipif(not os.path.exists('/proc/self/clear_refs'), reason='measures the peak of memory as Linux shows it')
def test_loading_takes_memory_of_less_than_three_files_and_leaves_the_graph_small(full_size, tmp_path):
    command = [sys.executable, '-c', LOAD, *map(str, full_size.iterdir()), str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=60)


def test_numbers_in_pieces_and_unpacked_dimensions(tmp_path):
    # Both are legal: a packed field may be split, and a reader must take unpacked numbers for packed ones.
    array = np.float32([[1, 2, 3], [4, 5, 6]])
    shape = field(7, field(1, 2) + field(1, 3))
    pieces = field(5, array.tobytes()[:8]) + shape + field(5, array.tobytes()[8:])
    got = read_weights(write(tmp_path, layer('fc8', 'InnerProduct', [pieces, blob(np.zeros(2, np.float32))])))
    np.testing.assert_array_equal(got['fc8'][0], [[1, 4], [2, 5], [3, 6]])


def fc8(*fields):
    return layer('fc8', 'InnerProduct', [b''.join(fields)])


def shape_of(*dims):
    return field(7, field(1, b''.join(map(varint, dims))))


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('content, message', [
    (b'', 'it is empty'),
    (field(1, 'a net'), 'holds no layers'),
    (layer('relu1', 'ReLU', []), 'holds no layers'),
    (varint(9 << 3) + b'\xff' * (1 << 23), 'neither a .npy nor a .caffemodel'),  # a number of 59 million bits
    (b'\n\n <!DOCTYPE html><html>log in</html>', 'it is a web page'),
    (fc8(shape_of(2, 3), field(5, b'\0' * 20)), r'layer fc8 has an array of shape \(2, 3\) in 20 bytes'),
    (fc8(shape_of(2**40, 2**40), field(5, b'\0' * 24)), 'layer fc8 has an array of shape'),
    (fc8(shape_of(2**64 - 2, 2**64 - 3), field(5, b'\0' * 24)), r'shape \(-2, -3\) in 24 bytes'),
    (fc8(shape_of(*[1] * 33), field(5, b'\0' * 4)), 'layer fc8 has an array of shape'),
    (fc8(shape_of(2), b''.join(varint(5 << 3 | 5) + np.float32(n).tobytes() for n in (1, 2))), 'are not packed'),
    (layer('fc8', 'InnerProduct', [blob(np.ones(2, 'f4'))]) * 2, 'two layers called fc8'),
    (layer('fc8', 'InnerProduct', [blob(np.float32([1, np.nan]))]), 'fc8 holds values that are not finite'),
    (layer('fc8', 'InnerProduct', [blob(np.float64([1, 1e300]))]), 'fc8 holds values that are not finite'),
    (caffemodel({'fc8': [np.ones((2, 3), 'f4'), np.ones(2, 'f4')]})[:-1], 'neither a .npy nor a .caffemodel')])
def test_other_content_is_refused_in_a_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        read_weights(write(tmp_path, content))
    assert 'net.caffemodel' in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('content', [
    field(100, b'') * 200_000, field(2, b'') * 200_000, field(100, field(7, b'') * 200_000),
    field(100, field(7, field(5, b'') * 200_000)), fc8(shape_of(*[1] * 200_000)), field(9, 1) * 200_000])
def test_small_files_of_countless_fields_are_refused_before_they_fill_the_memory(content, tmp_path):
    with pytest.raises(ValueError, match='more than 100000 fields'):
        read_weights(write(tmp_path, content))


def test_names_that_are_not_utf8_are_still_names(tmp_path):
    content = layer('fc8', 'InnerProduct', [blob(np.ones(2, 'f4'))])
    assert list(read_weights(write(tmp_path, content.replace(b'fc8', b'f\xff8')))) == ['f\ufffd8']


def test_layers_of_other_types_are_kept_as_they_are(tmp_path):
    arrays = [np.float32(np.random.RandomState(2).rand(*shape)) for shape in [(3,), (2, 2, 2, 2), (1,)]]
    got = read_weights(write(tmp_path, layer('norm', 'BatchNorm', [blob(array) for array in arrays])))
    for array, expected in zip(got['norm'], arrays, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_field_numbers_are_those_of_caffe():
    # As caffe.proto of Caffe 1.0 has them; type numbers too.
    net = reader.make_net_class().DESCRIPTOR
    v1 = net.fields_by_name['layers'].message_type
    assert {name: field.number for name, field in v1.fields_by_name.items()} == {'name': 4, 'type': 5, 'blobs': 6}
    assert set(SHAPES) == set(LAYER_SHAPES)
