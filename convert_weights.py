"""Shows the layers of a weight file, or converts it.

    python convert_weights.py FILE                      shows the layers
    python convert_weights.py IN.caffemodel OUT.npy     converts it
"""

import dataclasses
import os

import numpy as np

from runtime.command import run_command
from runtime.files import new_file, printable
from runtime.flags import CheckedSettings, flag, parse_settings, positional
from runtime.tables import format_table
from weight_files.architecture import BLOCK_ENDS, OTHER, block_ends, read_architecture
from weight_files.npy import write_npy
from weight_files.reader import (
    LAYER_SHAPES,
    layer_differences,
    read_file,
    read_types,
    to_float32,
)


@dataclasses.dataclass(frozen=True)
class Settings(CheckedSettings):
    """Show the layers of a weight file, or convert it to .npy."""

    file: str = positional('a .npy or .caffemodel file', is_path=True)
    output: str | None = positional(
        'write the layers to this .npy file, as float32', default=None, is_path=True)
    force: bool = flag(False, 'replace the output file if it exists')


def weights_table(layers, types):
    """Return lines on a file: a row per layer with weights, and the layers that are missing.

    layers: {layer: arrays}. types: (name, Caffe's type) of each layer, empty for a .npy file.
    """
    types = dict(types)
    rows = [layer_row(layer, arrays, types.get(layer)) for layer, arrays in layers.items()]
    lines = format_table([('layer', 'shapes', 'type', 'values', 'AlexNet'), *rows])
    missing = [layer for layer in LAYER_SHAPES if layer not in layers]
    if missing:
        lines.append(f"AlexNet's layers that it lacks: {' '.join(missing)}")
    return lines


def layer_row(layer, arrays, kind):
    """Return the cells of a layer: name, shapes, types, ranges of values, and whether it fits."""
    if layer in LAYER_SHAPES:
        # fc8 may have any number of classes.
        shape = LAYER_SHAPES[layer] if layer != 'fc8' else (4096, *arrays[0].shape[-1:])
        differences = layer_differences(layer, arrays, shape)
        if differences:
            differences += misfit_reasons(arrays[0].shape, shape)
    else:
        differences = ['has no such layer', *unknown_reasons(arrays[0].shape, kind)]
    return (printable(layer, 50), ' '.join(str(array.shape) for array in arrays),
            ' '.join(sorted({array.dtype.name for array in arrays})),
            ', '.join(value_range(array) for array in arrays), '; '.join(differences) or 'fits')


def misfit_reasons(found, expected):
    """Return what kind of network has weights of the shape `found` in place of `expected`."""
    if len(expected) == 4 and found == (*expected[:2], 2 * expected[2], expected[3]):
        return ['it has one group in place of two']
    if len(expected) == 2 and len(found) == 4:
        return ['it is a convolution, as in fully convolutional networks']
    return []


def unknown_reasons(shape, kind):
    """Return what a layer is that AlexNet does not have; kind: Caffe's type, or None."""
    if kind not in (None, 'Convolution', 'InnerProduct', 'other'):
        return [f'AlexNet has no {printable(kind, 50)} layers']
    if shape[:1] == (4096,) and len(shape) == 2 and shape != LAYER_SHAPES['fc7']:
        return [f'it looks like fc8 for {shape[1]} classes: train fc8 from scratch']
    alike = [name for name, expected in LAYER_SHAPES.items() if expected == shape]
    return [f'it has the shape of {alike[0]}'] if alike else []


def architecture_line(architecture, types):
    """Return a line on what `read_architecture` found in a file."""
    if architecture is None:
        return 'architecture: the file does not say; auto takes it for alexnet'
    if architecture != OTHER:
        first, second = BLOCK_ENDS[architecture]
        return f'architecture: {architecture} ({first} before {second})'
    ends = (f'{" ".join(kinds) or "nothing"} after {layer}'
            for layer, kinds in block_ends(types).items())
    return f'architecture: {OTHER}: {", ".join(ends)}'


def value_range(array):
    """Return the smallest and the largest value as text."""
    if not array.size:
        return 'none'
    if not np.isfinite(array).all():
        return 'not finite'
    return f'{array.min():.3g} to {array.max():.3g}'


def check_output(settings):
    """Raise ValueError if the output file cannot be the one to write."""
    if not settings.output.endswith('.npy'):
        raise ValueError(f'{settings.output} does not end in .npy')
    if os.path.exists(settings.output) and not settings.force:
        raise ValueError(f'{settings.output} exists already: --force replaces it')


def main(arguments):
    """Run the command line; return the exit status."""
    settings = parse_settings(Settings, arguments)
    if settings.output:
        check_output(settings)
    layers, types = read_file(settings.file), read_types(settings.file)
    architecture = read_architecture(settings.file)
    print('\n'.join([*weights_table(layers, types), architecture_line(architecture, types)]))
    if settings.output:
        layers = to_float32(settings.file, layers)
        with new_file(settings.output, 'wb', replace=settings.force) as file:
            write_npy(file, layers, architecture if architecture in BLOCK_ENDS else None)
        print(f'wrote {settings.output}')
    return 0


if __name__ == '__main__':
    run_command(main)
