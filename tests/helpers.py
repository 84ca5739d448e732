"""What several test files need: small pictures, small lists, random weight files, and the optional shared folder."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from runtime import command

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONV_SHAPES = {'conv1': (11, 11, 3, 96), 'conv2': (5, 5, 48, 256), 'conv3': (3, 3, 256, 384),
               'conv4': (3, 3, 192, 384), 'conv5': (3, 3, 192, 256)}


def shared(*parts):
    """Return a path in ../shared, or skip the test where that is missing."""
    path = os.path.join(ROOT, '..', 'shared', *parts)
    if not os.path.exists(path):
        pytest.skip(f'needs {os.path.relpath(path, ROOT)}, which is not part of the project')
    return path


def random_conv_weights():
    """Return {conv layer: [weights, biases]} of AlexNet's shapes, float32, scaled as He et al. (2015)."""
    random = np.random.RandomState(0)
    return {layer: [np.float32(random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:3]))),
                    np.float32(random.standard_normal(shape[3]) * 0.1)] for layer, shape in CONV_SHAPES.items()}


def png_file(width, height):
    """Return a PNG file with right checksums, a header of this size and next to no data."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 6, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b''))


def write_list(path, lines):
    """Write a list file and return its path as text."""
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
    return str(path)


def write_dark_and_bright(folder, difference):
    """Write train.txt (10 pictures) and val.txt (5): of class 0, dark, and class 1, brighter; labels.txt names them."""
    random = np.random.RandomState(0)
    for n in range(15):
        picture = random.randint(0, 90, (60, 60, 3)).astype(np.uint8) + difference * (n % 2)
        cv2.imwrite(str(folder / f'{n}.png'), picture)
    write_list(folder / 'train.txt', [f'{n}.png {n % 2}' for n in range(10)])
    write_list(folder / 'val.txt', [f'{n}.png {("dark", "bright")[n % 2]}' for n in range(10, 15)])
    write_list(folder / 'labels.txt', ['dark', 'bright'])
    return folder


def read_checkpoint(folder, name):
    """Return {variable: value} of the checkpoint in `folder` that the file `name` names."""
    from runtime.tf1 import tf
    reader = tf.train.load_checkpoint(str(folder / (folder / name).read_text().strip()))
    return {variable: reader.get_tensor(variable) for variable in reader.get_variable_to_shape_map()}


def at_batch(number, action, monkeypatch):
    """Do something after the batch of this number, of training and validation, the first being 1."""
    from run_folder.checkpoints import Checkpoints
    count, after_step = [0], Checkpoints.after_step

    def counted(*arguments):
        count[0] += 1
        if count[0] == number:
            action()
        after_step(*arguments)
    monkeypatch.setattr(Checkpoints, 'after_step', counted)


def run_main(main, arguments, capsys):
    """Run a command in this process; return (exit status, standard output, standard error)."""
    statuses = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('runtime.command.exit_now', statuses.append)  # the real one would end the tests
        command.run_command(main, [str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return statuses[0], shown.out, shown.err
