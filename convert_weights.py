"""Shows the layers of a weight file, or converts it.

    python convert_weights.py FILE                      shows the layers
    python convert_weights.py IN.caffemodel OUT.npy     converts it
"""

import os

import numpy as np

from runtime.command import run_command
from runtime.files import new_file, printable
from runtime.flags import ArgumentParser
from weight_files.npy import write_npy
from weight_files.reader import LAYER_SHAPES, layer_differences, read_file, to_float32


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
        layers = to_float32(options.file, layers)
        with new_file(options.output, 'wb', replace=options.force) as file:
            write_npy(file, layers)
        print(f'wrote {options.output}')
    return 0


if __name__ == '__main__':
    run_command(main)
