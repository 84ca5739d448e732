import numpy as np
import pytest

from tests.caffe_files import SHAPES, blob, caffemodel, field, layer, varint
from tests.helpers import shared
from weight_files.caffemodel import make_net_class
from weight_files.reader import LAYER_SHAPES, read_file, read_types, read_weights


def write(tmp_path, content):
    """Write a .caffemodel file; return its path."""
    (tmp_path / 'net.caffemodel').write_bytes(content)
    return str(tmp_path / 'net.caffemodel')


def small_layers(dtype):
    """Return layers in Caffe's order: outputs, inputs, height, width; fc6 sees 256 x 6x6."""
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
    shapes = [got[name][0].shape for name in ('conv1', 'fc6', 'fc7')]
    assert shapes == [(2, 5, 3, 4), (9216, 20), (20, 1)]
    # Position by position: Caffe's (o, i, h, w) is TensorFlow's (h, w, i, o).
    conv1, fc6 = (np.float32(layers[name][0]) for name in ('conv1', 'fc6'))
    for h, w, i, o in np.ndindex(2, 5, 3, 4):
        assert got['conv1'][0][h, w, i, o] == conv1[o, i, h, w]
    for h, w, c in np.ndindex(6, 6, 256):  # Caffe flattens channels first
        assert got['fc6'][0][(h * 6 + w) * 256 + c, 17] == fc6[17, (c * 6 + h) * 6 + w]
    np.testing.assert_array_equal(got['fc7'][0][:, 0], np.float32(layers['fc7'][0][0]))


@pytest.mark.parametrize('name', ['alexnet_conv.caffemodel', 'alexnet_conv_v1.caffemodel'])
def test_files_of_caffe_itself(name):
    got = read_weights(shared('caffe_reference', name))
    path = shared('weights', 'bvlc_alexnet_conv.npy')
    expected = np.load(path, allow_pickle=True, encoding='latin1').item()
    assert set(got) == set(expected)
    for layer_name, arrays in expected.items():
        for array, value in zip(got[layer_name], arrays, strict=True):
            np.testing.assert_array_equal(array, value)


def test_numbers_in_pieces_and_unpacked_dimensions(tmp_path):
    # Both are legal: a packed field may be split, and a reader must take unpacked numbers for
    # packed ones.
    array = np.float32([[1, 2, 3], [4, 5, 6]])
    shape = field(7, field(1, 2) + field(1, 3))
    pieces = field(5, array.tobytes()[:8]) + shape + field(5, array.tobytes()[8:])
    content = layer('fc8', 'InnerProduct', [pieces, blob(np.zeros(2, np.float32))])
    got = read_weights(write(tmp_path, content))
    np.testing.assert_array_equal(got['fc8'][0], [[1, 4], [2, 5], [3, 6]])


@pytest.mark.parametrize('raw_type, dtype', [(0, np.float64), (1, np.float32), (2, np.float16)])
def test_raw_data_of_nvidia_caffe(tmp_path, raw_type, dtype):
    layers = small_layers(dtype)
    content = b''.join(
        layer(name, 'Convolution' if arrays[0].ndim == 4 else 'InnerProduct',
              [blob(array, raw_type=raw_type) for array in arrays])
        for name, arrays in layers.items())
    path = write(tmp_path, content)
    assert {array.dtype for arrays in read_file(path).values() for array in arrays} == {
        np.dtype(dtype)}
    np.testing.assert_array_equal(
        read_weights(path)['conv1'][0], np.float32(layers['conv1'][0]).transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(
        read_weights(path)['fc7'][0], np.float32(layers['fc7'][0]).T)
    np.testing.assert_array_equal(read_weights(path)['fc7'][1], np.float32(layers['fc7'][1]))


# Layers of 2013: `layers` of V0LayerConnection, whose field 1 is the layer.
V0_LAYER = field(2, field(1, field(1, 'conv1') + field(2, 'conv')) + field(2, 'data'))


def fc8(*fields):
    """Return a layer fc8 with one blob of these fields."""
    return layer('fc8', 'InnerProduct', [b''.join(fields)])


def shape_of(*dims):
    """Return the field of a blob that holds its shape."""
    return field(7, field(1, b''.join(map(varint, dims))))


UNPACKED = b''.join(varint(5 << 3 | 5) + np.float32(n).tobytes() for n in (1, 2))


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('content, message', [
    (field(1, 'a net'), 'holds no layers'),
    (layer('relu1', 'ReLU', []), 'holds no layers'),
    (varint(9 << 3) + b'\xff' * (1 << 23), 'neither a .npy nor'),  # a number of 59 million bits
    (fc8(varint(9 << 3 | 3)), 'neither a .npy nor'),  # a group, long out of use
    (fc8(shape_of(2, 3), field(5, b'\0' * 20)),
     r'layer fc8 has an array of shape \(2, 3\) in 20 bytes'),
    (fc8(shape_of(2**40, 2**40), field(5, b'\0' * 24)), 'layer fc8 has an array of shape'),
    (fc8(shape_of(2**64 - 2, 2**64 - 3), field(5, b'\0' * 24)), r'shape \(-2, -3\) in 24 bytes'),
    (fc8(shape_of(*[1] * 33), field(5, b'\0' * 4)), 'layer fc8 has an array of shape'),
    (fc8(shape_of(2), UNPACKED), 'are not packed'),
    (layer('fc8', 'InnerProduct', [blob(np.ones(2, 'i4'), raw_type=3)]),
     'layer fc8 has raw_data_type 3, which is no floating point number'),
    (layer('fc8', 'InnerProduct', [blob(np.ones(3, 'f2'), raw_type=1)]),
     r'shape \(3,\) in 6 bytes'),
    (V0_LAYER, 'format of 2013: convert it with upgrade_net_proto_binary'),
    (layer('fc8', 'InnerProduct', [blob(np.ones(2, 'f4'))]) * 2, 'two layers called fc8'),
    (layer('fc8', 'InnerProduct', [blob(np.float32([1, np.nan]))]), 'fc8 holds values'),
    (layer('fc8', 'InnerProduct', [blob(np.float64([1, 1e300]))]), 'fc8 holds values'),
    (caffemodel({'fc8': [np.ones((2, 3), 'f4'), np.ones(2, 'f4')]})[:-1], 'neither a .npy nor')])
def test_other_content_is_refused_in_a_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        read_weights(write(tmp_path, content))
    assert 'net.caffemodel' in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('content', [
    field(100, b'') * 200_000, field(2, b'') * 200_000, field(100, field(7, b'') * 200_000),
    field(100, field(7, field(5, b'') * 200_000)), fc8(shape_of(*[1] * 200_000)),
    field(9, 1) * 200_000])
def test_small_files_of_countless_fields_are_refused(content, tmp_path):
    """They are refused before the library turns them into objects that fill the memory."""
    for read in (read_weights, read_types):
        with pytest.raises(ValueError, match='more than 100000 fields'):
            read(write(tmp_path, content))


def test_names_that_are_not_utf8_are_still_names(tmp_path):
    content = layer('fc8', 'InnerProduct', [blob(np.ones(2, 'f4'))])
    path = write(tmp_path, content.replace(b'fc8', b'f\xff8'))
    assert list(read_weights(path)) == ['f\ufffd8']
    assert read_types(path) == [('f\ufffd8', 'InnerProduct')]


def test_layers_of_other_types_are_kept_as_they_are(tmp_path):
    random = np.random.RandomState(2)
    arrays = [np.float32(random.rand(*shape)) for shape in [(3,), (2, 2, 2, 2), (1, 1, 1, 2)]]
    content = layer('norm', 'BatchNorm', [blob(array) for array in arrays])
    got = read_weights(write(tmp_path, content))
    for array, expected in zip(got['norm'], arrays, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_field_numbers_are_those_of_caffe():
    # As caffe.proto of Caffe 1.0 has them; type numbers too.
    net = make_net_class().DESCRIPTOR
    v1 = net.fields_by_name['layers'].message_type
    numbers = {name: declared.number for name, declared in v1.fields_by_name.items()}
    assert numbers == {'layer': 1, 'name': 4, 'type': 5, 'blobs': 6}
    assert set(SHAPES) == set(LAYER_SHAPES)
