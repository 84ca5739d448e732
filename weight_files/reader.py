"""Where pretrained numbers come from: .npy and .caffemodel files, read without running them, or a download.

    python weights.py FILE                      shows the layers of a weight file
    python weights.py IN.caffemodel OUT.npy     converts it
"""

import os
import re

import numpy as np

from runtime.files import printable
from weight_files.caffemodel import read_caffemodel
from weight_files.npy import read_npy

# Shapes of AlexNet's weights in TensorFlow's order; biases have the last axis alone. 1000 are ImageNet's classes.
LAYER_SHAPES = {'conv1': (11, 11, 3, 96), 'conv2': (5, 5, 48, 256), 'conv3': (3, 3, 256, 384),
                'conv4': (3, 3, 192, 384), 'conv5': (3, 3, 192, 256),
                'fc6': (9216, 4096), 'fc7': (4096, 4096), 'fc8': (4096, 1000)}
FILE_LIMIT = 1 << 30  # bytes; AlexNet in double precision, with the gradients that Caffe can save, has 976 MB
SHOWN_LAYERS = 20
WEB_PAGE = re.compile(rb'\s*<(!doctype|html|head|body|\?xml)', re.IGNORECASE)


def read_weights(path):
    """Return {layer: (weights, biases)}, C-ordered float32 arrays, from a .npy or .caffemodel file.

    A .npy file, saved with numpy.save by Python 2 or 3, has one of the two public layouts, {layer: [weights, biases]}
    and {layer: {'weights': weights, 'biases': biases}}. Convolution weights are (height, width, input channels /
    groups, output channels), fully connected ones (inputs, outputs), biases (outputs,). Values have 16, 32 or 64 bits.
    Layers of a .caffemodel that AlexNet does not have may be other than pairs. Raises ValueError for any other content,
    without running what is in a pickle, and for values that are not finite; OSError for a file that can't be opened.
    """
    return to_float32(path, read_file(path)[0])


def to_float32(path, layers):
    """Return the layers of `read_file` as `read_weights` does; takes them out of `layers`, to need less memory."""
    result = {}
    for layer in list(layers):
        with np.errstate(over='ignore'):  # becomes infinite, and is found then
            result[layer] = tuple(array.astype(np.float32, order='C', copy=False) for array in layers.pop(layer))
        if not all(np.isfinite(array).all() for array in result[layer]):
            raise ValueError(f'{path}: layer {printable(layer)} holds values that are not finite')
    return result


def read_file(path):
    """Return ({layer: arrays, values as stored}, [type of each layer], empty for a .npy) of a weight file."""
    try:
        with open(path, 'rb') as file:
            start = file.read(1000)
            file.seek(0)
            if os.fstat(file.fileno()).st_size > FILE_LIMIT:
                raise ValueError(f'it has more than {FILE_LIMIT} bytes')
            if not start:
                raise ValueError('it is empty')
            if WEB_PAGE.match(start):
                raise ValueError('it is a web page')
            # The first byte of a .npy, or of a bare pickle, begins no .caffemodel.
            layers, types = (read_npy(file), []) if start[:1] in (b'\x93', b'\x80') else read_caffemodel(file)
    except ValueError as error:
        raise ValueError(f'{path} is not a weight file: {printable(str(error), 300)}') from error
    if not layers:
        raise ValueError(f'{path} is not a weight file: it holds no layers with weights')
    return layers, types


def check_layers(path, layers, shapes):
    """Raise ValueError with every difference between a file's arrays and `shapes`, {layer: shape of its weights}."""
    differences = [text for layer, shape in shapes.items()
                   for text in layer_differences(layer, layers.get(layer), shape)]
    if differences:
        unknown = unknown_layers(layers)
        raise ValueError(f'{path} does not fit: {"; ".join(differences)}. It has {format_names(sorted(layers))}'
                         f'{f" (AlexNet has no {format_names(unknown)})" if unknown else ""}. A layer that it lacks can be '
                         'trained from scratch: name it in train_layers, and in skip_layers if that is set')


def layer_differences(layer, arrays, shape):
    """Return what is wrong with a layer's arrays (None: it has none) if its weights should have this shape."""
    if arrays is None:
        return [f'{layer} is missing']
    if len(arrays) != 2:
        return [f'{layer} has {len(arrays)} arrays and should have weights and biases']
    return [f'{layer}/{name} is {array.shape} and should be {expected}' for name, array, expected in
            zip(('weights', 'biases'), arrays, (shape, shape[-1:])) if array.shape != expected]


def unknown_layers(layers):
    """Return the names of a file's layers that AlexNet does not have."""
    return [layer for layer in layers if layer not in LAYER_SHAPES]


def format_names(names):
    """Return names from a file as words of a message: the first ones, and how many more there are."""
    more = f' and {len(names) - SHOWN_LAYERS} more' if len(names) > SHOWN_LAYERS else ''
    return ' '.join(printable(name, 50) for name in list(names)[:SHOWN_LAYERS]) + more


