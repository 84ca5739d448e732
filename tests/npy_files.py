"""Weight files as pickles, written byte by byte where NumPy of today writes other ones."""

import struct

import numpy as np

# What pickletools shows in the public file for a new array: numpy.core's _reconstruct is called,
# then BUILD gets a state that begins with version 1.
NEW_ARRAY = (b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01')
FLOAT32 = (b'cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R'
           b'(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb')
OBJECTS = (b'cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R'
           b'(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb')
NOT_FORTRAN = b'\x89'


def small_layers():
    """Return {layer: [weights, biases]} of two small layers, float32."""
    random = np.random.RandomState(1)
    return {'conv1': [np.float32(random.rand(2, 3, 4, 5)), np.float32(random.rand(5))],
            'fc8': [np.float32(random.rand(6, 7)), np.float32(random.rand(7))]}


def small_caffe_layers():
    """Return the layers of `small_layers` in Caffe's order of axes."""
    layers = {name: [array.T.copy() for array in pair] for name, pair in small_layers().items()}
    layers['conv1'][0] = small_layers()['conv1'][0].transpose(3, 2, 0, 1).copy()
    return layers


def assert_same_layers(got, expected):
    """Assert that layers are float32 and equal to others, value by value."""
    assert sorted(got) == sorted(expected)
    for name, pair in expected.items():
        for array, value in zip(got[name], pair, strict=True):
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, value)


def pickled_array(shape, content):
    """Return operations that make a float32 array; shape, content: operations that make these."""
    return NEW_ARRAY + shape + FLOAT32 + NOT_FORTRAN + content + b'tb'


def python2_array(array):
    """Return operations of protocol 2 that make a float32 array, its content as BINSTRING."""
    shape = b'(' + b''.join(b'K' + bytes([n]) for n in array.shape) + b't'
    data = array.tobytes()
    return pickled_array(shape, b'T' + struct.pack('<i', len(data)) + data)


def python2_file(path, layers):
    """Write the file that numpy.save of Python 2.7 and NumPy 1.16 would, operation by operation."""
    body = b''.join(b'U' + bytes([len(name)]) + name.encode() + b']('
                    + python2_array(weights) + python2_array(biases) + b'e'
                    for name, (weights, biases) in layers.items())
    objects = NEW_ARRAY + b')' + OBJECTS + NOT_FORTRAN + b'](}(' + body + b'uetb.'
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b'\n'
    path.write_bytes(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header
                     + b'\x80\x02' + objects)
