"""Finds the weight file that the setting weights_path means, and downloads the public one."""

import os
import sys

from runtime.files import new_file
from weight_files.download import download
from weight_files.reader import FILE_LIMIT, LAYER_SHAPES, check_layers, read_weights

BVLC_ALEXNET_URL = 'http://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy'
# conv1 to conv5; `python -m starter_weights.pretrain` makes the file.
STARTER_WEIGHTS = os.path.join('starter_weights', 'starter_weights.npy')


def find_weights(weights_path: str, folder: str) -> str | None:
    """Return the path of the weight file that a setting means, or None for random values.

    weights_path: the setting. 'none' means random values. 'auto' means bvlc_alexnet.npy in
        `folder`: if it is missing, it is downloaded; if the download fails, a line on standard
        error says why, and the starter weights are used. Any other text is a path.
    folder: the folder of the project.

    Raises ValueError if there is no file at the path.
    """
    if weights_path == 'none':
        return None
    if weights_path == 'auto':
        return find_public_weights(folder)
    if not os.path.isfile(weights_path):
        problem = 'this is no file' if os.path.exists(weights_path) else 'no such file'
        raise ValueError(f'weights_path {weights_path}: {problem}')
    return weights_path


def find_public_weights(folder):
    """Return the path of bvlc_alexnet.npy, downloaded if necessary, or else the starter weights."""
    path = os.path.join(folder, 'bvlc_alexnet.npy')
    if os.path.isfile(path):
        return path
    try:
        download_weights(BVLC_ALEXNET_URL, path)
    except (OSError, ValueError) as error:
        print(f'{BVLC_ALEXNET_URL} could not be downloaded: {error}', file=sys.stderr)
        return os.path.join(folder, STARTER_WEIGHTS)
    return path


def is_starter(path: str | None) -> bool:
    """Return whether a path names the starter weights, which stand in for ImageNet's.

    The name of the file decides, in whatever folder: a run folder can come from another copy of the
    project, or from an older one, which kept the file in sample/.
    """
    return path is not None and os.path.basename(path) == os.path.basename(STARTER_WEIGHTS)


def download_weights(address: str, path: str) -> None:
    """Download a weight file to `path`, where it appears once it is known to hold AlexNet.

    Raises OSError if the connection fails or breaks off, ValueError if the file is too large or
    does not hold AlexNet's weights.
    """
    with new_file(path, 'wb', replace=True) as file:
        download(address, file, FILE_LIMIT)
        file.flush()
        try:
            check_layers(file.name, read_weights(file.name), LAYER_SHAPES)
        except ValueError as error:
            raise ValueError(str(error).replace(file.name, 'what arrived')) from error
