"""Where pretrained numbers come from: .npy and .caffemodel files, read without running them, or a download.

    python weights.py FILE                      shows the layers of a weight file
    python weights.py IN.caffemodel OUT.npy     converts it
"""

import os
import re
import sys

import numpy as np

from caffemodel import read_caffemodel
from console import ArgumentParser, new_file, printable, run_command
from download import download
from npyfile import read_npy, write_npy

# Shapes of AlexNet's weights in TensorFlow's order; biases have the last axis alone. 1000 are ImageNet's classes.
LAYER_SHAPES = {'conv1': (11, 11, 3, 96), 'conv2': (5, 5, 48, 256), 'conv3': (3, 3, 256, 384),
                'conv4': (3, 3, 192, 384), 'conv5': (3, 3, 192, 256),
                'fc6': (9216, 4096), 'fc7': (4096, 4096), 'fc8': (4096, 1000)}
PUBLIC_ADDRESS = 'http://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy'
STARTER_WEIGHTS = os.path.join('sample', 'starter_weights.npy')  # conv1 to conv5, made by sample/pretrain.py
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
    return single_precision(path, read_file(path)[0])


def single_precision(path, layers):
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
        raise ValueError(f'{path} does not fit: {"; ".join(differences)}. It has {listed(sorted(layers))}'
                         f'{f" (AlexNet has no {listed(unknown)})" if unknown else ""}. A layer that it lacks can be '
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


def listed(names):
    """Return names from a file as words of a message: the first ones, and how many more there are."""
    more = f' and {len(names) - SHOWN_LAYERS} more' if len(names) > SHOWN_LAYERS else ''
    return ' '.join(printable(name, 50) for name in list(names)[:SHOWN_LAYERS]) + more


def find_weights(weights_path, folder):
    """Return the path of the weight file that the setting `weights_path` means, or None to start from scratch.

    'none' means from scratch. 'auto' means bvlc_alexnet.npy in `folder`; where it is missing it is downloaded, and
    where that fails too, it means the starter weights in sample/, after a line on standard error that says why. Any
    other text is a path; raises ValueError if no file is there.
    """
    if weights_path == 'none':
        return None
    if weights_path != 'auto':
        if not os.path.isfile(weights_path):
            raise ValueError(f'weights_path {weights_path}: '
                             f'{"this is no file" if os.path.exists(weights_path) else "no such file"}')
        return weights_path
    path = os.path.join(folder, 'bvlc_alexnet.npy')
    if not os.path.isfile(path):
        try:
            download_weights(PUBLIC_ADDRESS, path)
        except (OSError, ValueError) as error:
            print(f'{PUBLIC_ADDRESS} could not be downloaded: {error}', file=sys.stderr)
            return os.path.join(folder, STARTER_WEIGHTS)
    return path


def is_starter(path):
    """Say whether a path, or None, is that of the starter weights, which stand in for ImageNet's.

    Those of whatever copy of the project: a run can go on in another one.
    """
    return path is not None and os.path.abspath(path).endswith(os.sep + STARTER_WEIGHTS)


def download_weights(address, path):
    """Download a weight file to `path`, which appears only once it has been read and found to be AlexNet's.

    Raises OSError if the connection fails or stops, ValueError if what arrives is no such file or too large.
    """
    with new_file(path, 'wb', replace=True) as file:
        download(address, file, FILE_LIMIT)
        file.flush()
        try:
            check_layers(file.name, read_weights(file.name), LAYER_SHAPES)
        except ValueError as error:
            raise ValueError(str(error).replace(file.name, 'what arrived')) from error


def weights_table(layers, types):
    """Return lines that say what `read_file` found in a weight file, and which of AlexNet's layers it fits."""
    rows = [('layer', 'shapes', 'type', 'values', 'AlexNet')]
    for layer, arrays in layers.items():
        shape = LAYER_SHAPES.get(layer, ())
        if layer == 'fc8':
            shape = shape[:1] + arrays[0].shape[-1:]
        differences = layer_differences(layer, arrays, shape) if shape else ['has no such layer']
        rows.append((printable(layer, 50), ' '.join(str(array.shape) for array in arrays),
                     ' '.join(sorted({array.dtype.name for array in arrays})), ', '.join(map(value_range, arrays)),
                     '; '.join(differences) or 'fits'))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    missing = [layer for layer in LAYER_SHAPES if layer not in layers]
    if missing:
        lines.append(f"AlexNet's layers that it lacks: {' '.join(missing)}")
    if 'LRN' in types and 'Pooling' in types[:types.index('LRN')]:
        lines.append('It pools before it normalises, as CaffeNet; this network normalises first, as bvlc_alexnet')
    return lines


def value_range(array):
    """Return the least and the largest value as text."""
    if not array.size or not np.isfinite(array).all():
        return 'not finite' if array.size else 'none'
    return f'{array.min():.3g} to {array.max():.3g}'


def main(arguments):
    """Run the command line; returns the exit status."""
    parser = ArgumentParser(description='Show the layers of a weight file, or convert it to .npy.', allow_abbrev=False)
    parser.add_argument('file', metavar='FILE', help='a .npy or .caffemodel file')
    parser.add_argument('output', metavar='OUT.npy', nargs='?', help='write the layers to this file, as float32')
    parser.add_argument('--force', action='store_true', help='replace OUT.npy if it exists')
    options = parser.parse_args(arguments)
    if options.output and not options.output.endswith('.npy'):
        raise ValueError(f'{options.output} does not end in .npy')
    if options.output and os.path.exists(options.output) and not options.force:
        raise ValueError(f'{options.output} exists already: --force replaces it')
    layers, types = read_file(options.file)
    print('\n'.join(weights_table(layers, types)))
    if options.output:
        layers = single_precision(options.file, layers)
        with new_file(options.output, 'wb', replace=options.force) as file:
            write_npy(file, layers)
        print(f'wrote {options.output}')
    return 0


if __name__ == '__main__':
    run_command(main)
