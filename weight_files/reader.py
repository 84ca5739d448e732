"""Reads AlexNet's weights from a .npy or .caffemodel file, without running what the file holds."""

import contextlib
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from runtime.files import printable
from weight_files.caffemodel import read_caffemodel, read_layer_types
from weight_files.npy import read_npy

# Shapes of AlexNet's weights in TensorFlow's order, with ImageNet's 1000 classes. Biases have the
# shape of the last axis.
LAYER_SHAPES = {'conv1': (11, 11, 3, 96), 'conv2': (5, 5, 48, 256), 'conv3': (3, 3, 256, 384),
                'conv4': (3, 3, 192, 384), 'conv5': (3, 3, 192, 256),
                'fc6': (9216, 4096), 'fc7': (4096, 4096), 'fc8': (4096, 1000)}
# AlexNet in double precision, with the gradients that Caffe can save, has 976 MB.
FILE_LIMIT = 1 << 30  # bytes
SHOWN_LAYERS = 20
WEB_PAGE = re.compile(rb'\s*<(!doctype|html|head|body|\?xml)', re.IGNORECASE)

Layers = dict[str, tuple[np.ndarray, ...]]


def read_weights(path: str) -> Layers:
    """Return {layer: (weights, biases)} of a weight file, C-ordered float32 arrays.

    A .npy file, saved with numpy.save by Python 2 or 3, has one of the two public layouts,
    {layer: [weights, biases]} and {layer: {'weights': weights, 'biases': biases}}. Its values have
    16, 32 or 64 bits. Layers of a .caffemodel that AlexNet does not have need not be pairs.

    Convolution weights are (height, width, input channels / groups, output channels), fully
    connected weights (inputs, outputs), biases (outputs,).

    Raises ValueError for any other content and for values that are not finite; OSError for a file
    that cannot be opened.
    """
    return to_float32(path, read_file(path))


def to_float32(path: str, layers: Layers) -> Layers:
    """Return the layers of `read_file` as C-ordered float32 arrays.

    Layers are taken out of `layers` one by one, so that memory holds each only once. Raises
    ValueError, naming `path` and the layer, for values that are not finite.
    """
    result = {}
    for layer in list(layers):
        arrays = layers.pop(layer)
        with np.errstate(over='ignore'):  # too large a value becomes infinite, and is found below
            result[layer] = tuple(array.astype(np.float32, order='C', copy=False)
                                  for array in arrays)
        if not all(np.isfinite(array).all() for array in result[layer]):
            raise ValueError(f'{path}: layer {printable(layer)} holds values that are not finite')
    return result


def read_file(path: str) -> Layers:
    """Return {layer: arrays as stored} of a weight file.

    Raises ValueError for any other content, OSError for a file that cannot be opened.
    """
    with open_weight_file(path) as (file, is_npy):
        layers = read_npy(file) if is_npy else read_caffemodel(file)
    if not layers:
        raise ValueError(f'{path} is not a weight file: it holds no layers with weights')
    return layers


def read_types(path: str) -> list[tuple[str, str]]:
    """Return (name, type) of each layer of a .caffemodel, in the file's order; [] of a .npy file.

    Raises ValueError for other content, OSError for a file that cannot be opened.
    """
    with open_weight_file(path) as (file, is_npy):
        if is_npy:
            return []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return read_layer_types(content)


@contextlib.contextmanager
def open_weight_file(path: str) -> Iterator[tuple[BinaryIO, bool]]:
    """Open a file for a block; yield (file, whether it is a .npy file and no .caffemodel).

    The reason of a ValueError in the block becomes part of a ValueError with the path.
    """
    try:
        with open(path, 'rb') as file:
            start = file.read(1000)
            file.seek(0)
            check_start(start, os.fstat(file.fileno()).st_size)
            # The first byte of a .npy file, or of a bare pickle, begins no .caffemodel.
            yield file, start[:1] in (b'\x93', b'\x80')
    except ValueError as error:
        reason = printable(str(error), 300)
        raise ValueError(f'{path} is not a weight file: {reason}') from error


def check_start(start, size):
    """Raise ValueError if a file of this size, in bytes, with these first bytes cannot be read."""
    if size > FILE_LIMIT:
        raise ValueError(f'it has more than {FILE_LIMIT} bytes')
    if not start:
        raise ValueError('it is empty')
    if WEB_PAGE.match(start):
        raise ValueError('it is a web page')


def check_layers(path: str, layers: Layers, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise ValueError with every difference between the layers of a file and `shapes`.

    shapes: {layer: shape of its weights}. Layers that `shapes` lacks are not compared.
    """
    differences = []
    for layer, shape in shapes.items():
        differences += layer_differences(layer, layers.get(layer), shape)
    if not differences:
        return
    text = f'{path} does not fit: {"; ".join(differences)}. It has {format_names(sorted(layers))}'
    if unknown := unknown_layers(layers):
        text += f' (AlexNet has no {format_names(unknown)})'
    raise ValueError(f'{text}. A layer that it lacks can be trained from scratch: name it in '
                     'train_layers, and in skip_layers if that is set')


def layer_differences(layer: str, arrays: Iterable[np.ndarray] | None,
                      shape: tuple[int, ...]) -> list[str]:
    """Return how a layer's arrays differ from a pair of weights of this shape, and biases.

    arrays: None if the file has no such layer.
    """
    if arrays is None:
        return [f'{layer} is missing']
    if len(arrays) != 2:
        return [f'{layer} has {len(arrays)} arrays and should have weights and biases']
    expected = {'weights': shape, 'biases': shape[-1:]}
    return [f'{layer}/{name} is {array.shape} and should be {expected[name]}'
            for name, array in zip(expected, arrays, strict=True) if array.shape != expected[name]]


def unknown_layers(layers: Layers) -> list[str]:
    """Return the names of a file's layers that AlexNet does not have."""
    return [layer for layer in layers if layer not in LAYER_SHAPES]


def format_names(names: Iterable[str]) -> str:
    """Return names from a file as words of a message: the first 20, and how many more."""
    names = list(names)
    words = [printable(name, 50) for name in names[:SHOWN_LAYERS]]
    more = f' and {len(names) - SHOWN_LAYERS} more' if len(names) > SHOWN_LAYERS else ''
    return ' '.join(words) + more
