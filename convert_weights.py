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
from weight_files.npy import write_npy
from weight_files.reader import LAYER_SHAPES, layer_differences, read_file, to_float32


@dataclasses.dataclass(frozen=True)
class Settings(CheckedSettings):
    """Show the layers of a weight file, or convert it to .npy."""

    file: str = positional('a .npy or .caffemodel file', is_path=True)
    output: str | None = positional(
        'write the layers to this .npy file, as float32', default=None, is_path=True)
    force: bool = flag(False, 'replace the output file if it exists')


def weights_table(layers, types):
    """Return lines on what `read_file` found: a row per layer, missing layers, CaffeNet's order."""
    rows = [layer_row(layer, arrays) for layer, arrays in layers.items()]
    lines = format_table([('layer', 'shapes', 'type', 'values', 'AlexNet'), *rows])
    missing = [layer for layer in LAYER_SHAPES if layer not in layers]
    if missing:
        lines.append(f"AlexNet's layers that it lacks: {' '.join(missing)}")
    if 'LRN' in types and 'Pooling' in types[:types.index('LRN')]:
        lines.append('It pools before it normalises, as CaffeNet; this network normalises first, '
                     'as bvlc_alexnet')
    return lines


def layer_row(layer, arrays):
    """Return the cells of a layer: name, shapes, types, ranges of values, and whether it fits."""
    differences = ['has no such layer']
    if layer in LAYER_SHAPES:
        # fc8 may have any number of classes.
        shape = LAYER_SHAPES[layer] if layer != 'fc8' else (4096, *arrays[0].shape[-1:])
        differences = layer_differences(layer, arrays, shape)
    return (printable(layer, 50), ' '.join(str(array.shape) for array in arrays),
            ' '.join(sorted({array.dtype.name for array in arrays})),
            ', '.join(value_range(array) for array in arrays), '; '.join(differences) or 'fits')


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
    layers, types = read_file(settings.file)
    print('\n'.join(weights_table(layers, types)))
    if settings.output:
        layers = to_float32(settings.file, layers)
        with new_file(settings.output, 'wb', replace=settings.force) as file:
            write_npy(file, layers)
        print(f'wrote {settings.output}')
    return 0


if __name__ == '__main__':
    run_command(main)
