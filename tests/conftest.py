"""What several test files need: small pictures, small lists, random weight files, and the optional shared folder."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest

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


@pytest.fixture(scope='session')
def conv_weights_file(tmp_path_factory):
    """A weight file with random conv layers and nothing else."""
    path = str(tmp_path_factory.mktemp('weights') / 'conv.npy')
    np.save(path, random_conv_weights(), allow_pickle=True)
    return path


def png_file(width, height):
    """Return a PNG file with right checksums, a header of this size and next to no data."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 6, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b''))


@pytest.fixture(scope='session')
def picture_folder(tmp_path_factory):
    """A folder of 12 pictures, 00.png to 11.png, of constant colour: picture n is BGR (20 n, 10, 200)."""
    folder = tmp_path_factory.mktemp('pictures')
    for n in range(12):
        cv2.imwrite(str(folder / f'{n:02d}.png'), np.full((40, 50, 3), (20 * n, 10, 200), np.uint8))
    return folder


def write_list(path, lines):
    """Write a list file and return its path as text."""
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
    return str(path)


@pytest.fixture(scope='session')
def picture_list(picture_folder):
    """A list of the 12 pictures; the label of picture n is n % 3."""
    return write_list(picture_folder / 'list.txt', [f'{n:02d}.png {n % 3}' for n in range(12)])
