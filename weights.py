"""Where pretrained numbers come from: .npy weight files, read without running them; the default one is downloaded."""

import http.client
import mmap
import os
import struct
import sys
import tempfile
import tokenize
import urllib.request

import numpy as np
from tqdm import tqdm

from safe_pickle import PickledArray, read_pickle

PUBLIC_ADDRESS = 'http://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy'
DOWNLOAD_TIMEOUT = 5  # seconds without an answer
DOWNLOAD_LIMIT = 1 << 30  # bytes; the public file has 244 MB

# What numpy.lib.format, pickletools and the reader of their operations raise where content is not what it should be.
BROKEN_CONTENT = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, SyntaxError,
                  RecursionError, struct.error, tokenize.TokenError)


def read_weights(path):
    """Return {layer: (weights, biases)}, float32 arrays, from a .npy file in one of the two public layouts.

    The layouts are {layer: [weights, biases]} and {layer: {'weights': weights, 'biases': biases}}, saved with
    numpy.save by Python 2 or 3. Convolution weights are (height, width, input channels / groups, output channels),
    fully connected ones (inputs, outputs), biases (outputs,). Values of 16, 32 or 64 bits. Raises ValueError for
    any other content, also before code in the file's pickle could run; OSError for a file that can't be opened.
    """
    try:
        with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            skip_npy_header(content)
            layers = array_value(read_pickle(content))
    except BROKEN_CONTENT as error:
        raise ValueError(f'{path} is not a weight file: {error}') from error
    if not isinstance(layers, dict) or not layers:
        raise ValueError(f'{path} is not a weight file: it holds no dictionary of layers')
    return {layer: read_layer(path, layer, blobs) for layer, blobs in layers.items()}


def skip_npy_header(content):
    """Move `content` to the pickle inside a .npy file (numpy.lib.format); a pickle without header is left alone."""
    if content[:1] == b'\x80':
        return
    version = np.lib.format.read_magic(content)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f'.npy version {version} is not known')
    dtype = readers[version](content)[2]
    if not dtype.hasobject:
        raise ValueError('it holds one array, not a dictionary of layers')


def array_value(value):
    """Return the array, or the object that an array without dimensions wraps; other values as they are."""
    return value.value if isinstance(value, PickledArray) else value


def read_layer(path, layer, blobs):
    """Return (weights, biases) of one layer as float32; `blobs` is a pair or a dict of two arrays."""
    pair = (blobs.get('weights'), blobs.get('biases')) if isinstance(blobs, dict) else blobs
    pair = [array_value(blob) for blob in pair] if isinstance(pair, (list, tuple)) else []
    if len(pair) != 2 or not all(isinstance(array, np.ndarray) for array in pair):
        raise ValueError(f'{path}: layer {layer} is not a pair of arrays, weights and biases')
    if not all(np.isfinite(array).all() for array in pair):
        raise ValueError(f'{path}: layer {layer} holds values that are not finite')
    return tuple(array.astype(np.float32, copy=False) for array in pair)


def find_weights(weights_path, folder):
    """Return the path of the weight file that the setting `weights_path` means, or None to start from scratch.

    'none' means from scratch. 'auto' means bvlc_alexnet.npy in `folder`; where it is missing it is downloaded, and
    where that fails too, None is returned after a line on standard error that says why. Any other text is a path;
    raises ValueError if no file is there.
    """
    if weights_path == 'none':
        return None
    if weights_path != 'auto':
        if not os.path.isfile(weights_path):
            raise ValueError(f'weights_path {weights_path}: no such file')
        return weights_path
    path = os.path.join(folder, 'bvlc_alexnet.npy')
    if not os.path.isfile(path):
        try:
            download_weights(PUBLIC_ADDRESS, path)
        except (OSError, ValueError, http.client.HTTPException) as error:
            print(f'{PUBLIC_ADDRESS} could not be downloaded: {error}', file=sys.stderr)
            return None
    return path


def download_weights(address, path):
    """Download a weight file to `path`, which appears only once its content has been read and found right.

    Raises OSError if the connection fails or stops, ValueError if what arrives is no weight file or too large.
    """
    request = urllib.request.urlopen(address, timeout=DOWNLOAD_TIMEOUT)
    folder = os.path.dirname(path) or '.'
    with request, tempfile.NamedTemporaryFile(dir=folder, prefix='.download-', delete=False) as file:
        try:
            copy_with_progress(request, file)
            file.flush()
            read_weights(file.name)
            os.chmod(file.name, 0o644)  # temporary files are the owner's alone
            os.replace(file.name, path)
        finally:
            if os.path.exists(file.name):
                os.remove(file.name)


def copy_with_progress(request, file):
    """Copy an open address to an open file under a progress bar; raises OSError if less arrives than announced."""
    size = int(request.headers.get('Content-Length') or 0)
    with tqdm(desc='downloading weights', total=size or None, unit='B', unit_scale=True, disable=None) as bar:
        while chunk := request.read(1 << 20):
            file.write(chunk)
            bar.update(len(chunk))
            if bar.n > DOWNLOAD_LIMIT or file.tell() > DOWNLOAD_LIMIT:
                raise ValueError(f'it is larger than {DOWNLOAD_LIMIT} bytes')
    if file.tell() < size:
        raise OSError(f'it ended after {file.tell()} of {size} bytes')
