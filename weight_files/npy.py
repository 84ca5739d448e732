"""Reads the .npy files that weights are published in, and writes them so that every NumPy can load them."""

import mmap
import pickle
import struct
import tokenize

import numpy as np

from runtime.files import printable
from weight_files.safe_pickle import PickledArray, read_pickle

# What numpy.lib.format, pickletools and the reader of their operations raise, besides ValueError, for broken content.
BROKEN_CONTENT = (LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, SyntaxError, RecursionError,
                  struct.error, tokenize.TokenError)


def read_npy(file):
    """Return {layer: [weights, biases]} of an open .npy file, values as stored; raises ValueError for other content."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            skip_header(content)
            layers = array_value(read_pickle(content))
        except BROKEN_CONTENT as error:
            raise ValueError('its content is damaged') from error
        if not isinstance(layers, dict):
            raise ValueError('it holds no dictionary of layers')
        layers = {layer: read_pair(layer, blobs) for layer, blobs in layers.items()}
        # An array can be mentioned many times, and each mention becomes one of its own.
        if sum(array.nbytes for pair in layers.values() for array in pair) > 2 * len(content):
            raise ValueError('its layers share arrays')
    return layers


def skip_header(content):
    """Move `content` to the pickle inside a .npy file (numpy.lib.format); a pickle without header is left alone."""
    if content[:1] == b'\x80':
        return
    version = np.lib.format.read_magic(content)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f'.npy version {version} is not known')
    dtype = readers[version](content)[2]
    if not dtype.hasobject:
        raise ValueError('it holds one array, not a dictionary of layers')


def array_value(value):
    """Return the array, or the object that an array without dimensions wraps; other values as they are."""
    return value.value if isinstance(value, PickledArray) else value


def read_pair(layer, blobs):
    """Return [weights, biases] of one layer; `blobs` is a pair or a dict of two arrays."""
    pair = (blobs.get('weights'), blobs.get('biases')) if isinstance(blobs, dict) else blobs
    pair = [array_value(blob) for blob in pair] if isinstance(pair, (list, tuple)) else []
    if len(pair) != 2 or not all(isinstance(array, np.ndarray) for array in pair):
        raise ValueError(f'layer {printable(layer)} is not a pair of arrays, weights and biases')
    return pair


def write_npy(file, layers):
    """Write {layer: [weights, biases]} to an open file as numpy.save of NumPy 1 does.

    What NumPy 2 saves names a module that NumPy up to 1.26.0 does not have.
    """
    np.lib.format.write_array_header_1_0(file, {'descr': '|O', 'fortran_order': False, 'shape': ()})
    content = pickle.dumps(np.array({layer: list(arrays) for layer, arrays in layers.items()}), protocol=3)
    file.write(content.replace(b'cnumpy._core.multiarray\n', b'cnumpy.core.multiarray\n', 1))
