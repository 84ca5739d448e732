"""Which weight file a setting means: a path, the public file, which is downloaded, or the starter weights."""

import os
import sys

from runtime.files import new_file
from weight_files.download import download
from weight_files.reader import FILE_LIMIT, LAYER_SHAPES, check_layers, read_weights

BVLC_ALEXNET_URL = 'http://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy'
STARTER_WEIGHTS = os.path.join('starter_weights', 'starter_weights.npy')  # conv1 to conv5, made by pretrain.py there


def find_weights(weights_path, folder):
    """Return the path of the weight file that the setting `weights_path` means, or None to start from scratch.

    'none' means from scratch. 'auto' means bvlc_alexnet.npy in `folder`; where it is missing it is downloaded, and
    where that fails too, it means the starter weights, after a line on standard error that says why. Any
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
            download_weights(BVLC_ALEXNET_URL, path)
        except (OSError, ValueError) as error:
            print(f'{BVLC_ALEXNET_URL} could not be downloaded: {error}', file=sys.stderr)
            return os.path.join(folder, STARTER_WEIGHTS)
    return path


def is_starter(path):
    """Say whether a path, or None, is that of the starter weights, which stand in for ImageNet's.

    They are known by name, in whatever folder: a run can be resumed by another copy of the project, or an older one's.
    """
    return path is not None and os.path.basename(path) == os.path.basename(STARTER_WEIGHTS)


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
