"""Reads the .npy files in which weights are published, and writes them for every NumPy version."""

import mmap
import os
import pickle
import struct
import tokenize
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from runtime.files import printable
from weight_files.safe_pickle import PickledArray, read_pickle

# Errors of numpy.lib.format, pickletools and PickleReader for damaged content, besides ValueError.
DAMAGE_ERRORS = (LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, SyntaxError,
                 RecursionError, struct.error, tokenize.TokenError)


def read_npy(file: BinaryIO) -> dict[str, list[np.ndarray]]:
    """Return {layer: [weights, biases]} of an open .npy file, values as stored.

    Raises ValueError for any other content.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            skip_header(content)
            layers = array_value(read_pickle(content))
        except DAMAGE_ERRORS as error:
            raise ValueError('its content is damaged') from error
        if not isinstance(layers, dict):
            raise ValueError('it holds no dictionary of layers')
        layers = {layer: read_pair(layer, blobs) for layer, blobs in layers.items()}
        # A pickle can mention an array many times, and each mention would become a copy.
        if sum(array.nbytes for pair in layers.values() for array in pair) > 2 * len(content):
            raise ValueError('its layers share arrays')
    return layers


def skip_header(content):
    """Move `content` to the pickle inside a .npy file; a bare pickle has no header to skip.

    Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    if content[:1] == b'\x80':
        return
    version = np.lib.format.read_magic(content)
    readers = {(1, 0): np.lib.format.read_array_header_1_0,
               (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f'.npy version {version} is not known')
    dtype = readers[version](content)[2]
    if not dtype.hasobject:
        raise ValueError('it holds one array, not a dictionary of layers')


def array_value(value):
    """Return the array that a PickledArray holds, or the object in it; other values unchanged."""
    return value.value if isinstance(value, PickledArray) else value


def read_pair(layer, blobs):
    """Return [weights, biases] of one layer; `blobs` is a pair of arrays, or a dict of two."""
    if isinstance(blobs, dict):
        blobs = blobs.get('weights'), blobs.get('biases')
    pair = [array_value(blob) for blob in blobs] if isinstance(blobs, (list, tuple)) else []
    if len(pair) != 2 or not all(isinstance(array, np.ndarray) for array in pair):
        raise ValueError(f'layer {printable(layer)} is not a pair of arrays, weights and biases')
    return pair


def write_npy(file: BinaryIO, layers: dict, architecture: str | None = None) -> None:
    """Write {layer: [weights, biases]} to an open file as numpy.save of NumPy 1 does.

    NumPy 2 names a module in the pickle that NumPy up to 1.26.0 does not have.

    architecture: 'alexnet', 'caffenet', or None for no note. It is a second array behind the
        dictionary, where numpy.save would append one: numpy.load, which reads the first array
        alone, returns the dictionary that the well-known scripts iterate over. An additional key
        would be a layer to them, and a file of its own would be lost when this one is copied.
    """
    header = {'descr': '|O', 'fortran_order': False, 'shape': ()}
    np.lib.format.write_array_header_1_0(file, header)
    array = np.array({layer: list(arrays) for layer, arrays in layers.items()})
    content = pickle.dumps(array, protocol=3)
    new, old = b'cnumpy._core.multiarray\n', b'cnumpy.core.multiarray\n'
    file.write(content.replace(new, old, 1))
    if architecture is not None:
        file.write(saved_name(architecture))


def saved_name(name: str) -> bytes:
    """Return the content of a .npy file with one array of shape (), a text in ASCII."""
    text = name.encode('ascii')
    header = f"{{'descr': '|S{len(text)}', 'fortran_order': False, 'shape': (), }}"
    return b'\x93NUMPY\x01\x00v\x00' + header.ljust(117).encode('ascii') + b'\n' + text


def read_saved_name(path: str, names: Iterable[str]) -> str | None:
    """Return which of `names` write_npy has appended to a file, or None."""
    endings = {saved_name(name): name for name in names}
    with open(path, 'rb') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - max(map(len, endings))))
        end = file.read()
    return next((name for ending, name in endings.items() if end.endswith(ending)), None)
