"""Finds the weight file that the setting weights_path means, and downloads the public ones."""

import hashlib
import os
import sys
from typing import NamedTuple

from runtime.files import new_file
from weight_files.download import download
from weight_files.reader import FILE_LIMIT, LAYER_SHAPES, check_layers, read_weights


class PublicFile(NamedTuple):
    """A weight file that its publishers offer for download."""

    address: str
    sha1: str | None  # of the content, which the publishers give; None: they give none

    @property
    def name(self) -> str:
        """The name that the publishers gave the file."""
        return self.address.rsplit('/', 1)[1]


CAFFE_SITE = 'http://dl.caffe.berkeleyvision.org/'
# The files of a setting, the best first. The sums stand in readme.md of Caffe's models/bvlc_alexnet
# and models/bvlc_reference_caffenet.
PUBLIC_FILES = {
    'auto': (PublicFile(CAFFE_SITE + 'bvlc_alexnet.caffemodel',
                        '9116a64c0fbe4459d18f4bb6b56d647b63920377'),
             PublicFile('http://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy', None)),
    'caffenet': (PublicFile(CAFFE_SITE + 'bvlc_reference_caffenet.caffemodel',
                            '4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46'),)}
PUBLIC_ARCHITECTURES = {'auto': 'alexnet', 'caffenet': 'caffenet'}
# conv1 to conv5; `python -m starter_weights.pretrain` makes the file.
STARTER_WEIGHTS = os.path.join('starter_weights', 'starter_weights.npy')


def find_weights(weights_path: str, folder: str) -> str | None:
    """Return the path of the weight file that a setting means, or None for random values.

    weights_path: the setting. 'none' means random values. 'auto' and 'caffenet' mean PUBLIC_FILES:
        one that is in `folder`, or else the first one that can be downloaded to it; lines on
        standard error say why others cannot. Without any, 'auto' means the starter weights. Any
        other text is a path.
    folder: the folder of the project.

    Raises ValueError if there is no such file.
    """
    if weights_path == 'none':
        return None
    if weights_path in PUBLIC_FILES:
        return find_public_file(weights_path, folder) or stand_in(weights_path, folder)
    if not os.path.isfile(weights_path):
        problem = 'this is no file' if os.path.exists(weights_path) else 'no such file'
        raise ValueError(f'weights_path {weights_path}: {problem}')
    return weights_path


def find_public_file(setting, folder):
    """Return the path of one of a setting's PUBLIC_FILES, downloaded if none is there; or None."""
    paths = {os.path.join(folder, public.name): public for public in PUBLIC_FILES[setting]}
    for path, public in paths.items():
        if os.path.isfile(path):
            check_sum(path, public.sha1, 'delete it, or name another weights_path')
            return path
    for path, public in paths.items():
        try:
            download_weights(public, path)
            return path
        except (OSError, ValueError) as error:
            print(f'{public.address} could not be downloaded: {error}', file=sys.stderr)
    return None


def stand_in(setting, folder):
    """Return the path of the starter weights; raise ValueError if they are another network."""
    if setting == 'auto':
        return os.path.join(folder, STARTER_WEIGHTS)
    names = ' or '.join(public.name for public in PUBLIC_FILES[setting])
    raise ValueError(f'weights_path {setting}: copy {names} to {folder}')


def is_starter(path: str | None) -> bool:
    """Return whether a path names the starter weights, which stand in for ImageNet's.

    The name of the file decides, in whatever folder: a run folder can come from another copy of the
    project, or from an older one, which kept the file in sample/.
    """
    return path is not None and os.path.basename(path) == os.path.basename(STARTER_WEIGHTS)


def download_weights(public: PublicFile, path: str) -> None:
    """Download a weight file to `path`, where it appears once its content is known to be right.

    Its SHA-1 decides, or else its layers, shapes and values; a line on standard error then says
    that its origin cannot be checked. What is wrong is deleted.

    Raises OSError if the connection fails or breaks off, ValueError if the file is too large or
    does not hold what it should.
    """
    with new_file(path, 'wb', replace=True) as file:
        download(public.address, file, FILE_LIMIT)
        file.flush()
        try:
            if public.sha1:
                check_sum(file.name, public.sha1, 'it is deleted')
            else:
                check_layers(file.name, read_weights(file.name), LAYER_SHAPES)
        except ValueError as error:
            raise ValueError(str(error).replace(file.name, 'what arrived')) from error
    if not public.sha1:
        print(f'{public.name} has the layers of AlexNet, but its origin cannot be checked: no '
              'checksum is published', file=sys.stderr)


def check_sum(path, sha1, advice):
    """Raise ValueError, which ends with the advice, for another SHA-1; None fits all files."""
    if sha1 is None:
        return
    digest = hashlib.sha1(usedforsecurity=False)
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != sha1:
        raise ValueError(f'{path} has the SHA-1 {digest.hexdigest()}, not {sha1} as published: '
                         f'{advice}')
