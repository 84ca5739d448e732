import io
import os
import pickle

import numpy as np
import pytest

from tests.helpers import shared
from tests.npy_files import assert_same_layers, python2_file, small_layers
from weight_files.npy import write_npy
from weight_files.reader import read_weights


@pytest.mark.parametrize('dtype', ['<f4', '>f4', '<f2', '<f8'])
@pytest.mark.parametrize('layout', ['lists', 'tuples', 'dicts', 'bytes'])
def test_public_layouts(tmp_path, layout, dtype):
    layers = {name: [np.float16(array).astype(dtype) for array in pair]
              for name, pair in small_layers().items()}
    saved = {'lists': layers,
             'tuples': {name: tuple(pair) for name, pair in layers.items()},
             'dicts': {name: {'weights': w, 'biases': b} for name, (w, b) in layers.items()},
             'bytes': {name.encode(): {b'weights': w, b'biases': b}
                       for name, (w, b) in layers.items()}}
    np.save(tmp_path / 'w.npy', saved[layout], allow_pickle=True)
    assert_same_layers(read_weights(str(tmp_path / 'w.npy')), layers)


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_bare_pickles_of_every_binary_protocol(tmp_path, protocol):
    layers = small_layers()
    layers['conv1'][0] = np.asfortranarray(layers['conv1'][0])
    (tmp_path / 'w.npy').write_bytes(pickle.dumps(layers, protocol))
    assert_same_layers(read_weights(str(tmp_path / 'w.npy')), layers)


def test_file_of_python_2(tmp_path):
    python2_file(tmp_path / 'w.npy', small_layers())
    # NumPy's own reader is the independent one here.
    by_numpy = np.load(tmp_path / 'w.npy', allow_pickle=True, encoding='latin1').item()
    assert_same_layers(by_numpy, small_layers())
    assert_same_layers(read_weights(str(tmp_path / 'w.npy')), small_layers())


def test_real_caffe_weights():
    path = shared('weights', 'bvlc_alexnet_conv.npy')
    expected = np.load(path, allow_pickle=True, encoding='latin1').item()
    assert_same_layers(read_weights(path), expected)


def test_a_written_file_is_read_by_numpy_and_by_us(tmp_path):
    with open(tmp_path / 'w.npy', 'wb') as file:
        write_npy(file, small_layers())
    by_numpy = np.load(tmp_path / 'w.npy', allow_pickle=True, encoding='bytes').item()
    assert_same_layers(by_numpy, small_layers())
    assert_same_layers(read_weights(str(tmp_path / 'w.npy')), small_layers())
    # numpy._core is NumPy 2's; NumPy up to 1.26.0 does not have it.
    assert b'numpy._core' not in (tmp_path / 'w.npy').read_bytes()


def saved(value):
    """Return the content of a .npy file of NumPy's own."""
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


CODE_HEADER = (b"\x93NUMPY\x01\x00v\x00{'descr': __import__('os').mkdir('ran'), "
               b"'fortran_order': False, 'shape': ()}")


@pytest.mark.parametrize('content, message', [
    (saved(np.zeros(3)), 'one array, not a dictionary'),
    (saved({}), 'no layers with weights'),
    (saved(np.array([{}, None])), 'not one dictionary'),
    (b'\x80\x02].', 'no dictionary of layers'),
    (saved({}).replace(b'NUMPY\x01', b'NUMPY\x03'), r'\.npy version \(3, 0\) is not known'),
    (saved({'conv1': np.zeros(3)}), 'layer conv1 is not a pair'),
    (saved({'conv1': [np.zeros(3)]}), 'layer conv1 is not a pair'),
    (saved({'conv1': {'weights': np.zeros(3)}}), 'layer conv1 is not a pair'),
    (saved({'conv1': [np.array(['a']), np.zeros(1)]}), 'not floating point'),
    (CODE_HEADER.ljust(128) + b'\x80\x02}.', 'w.npy is not a weight file')])
def test_other_content_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'w.npy').write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_weights(str(tmp_path / 'w.npy'))
    assert os.listdir(tmp_path) == ['w.npy']
