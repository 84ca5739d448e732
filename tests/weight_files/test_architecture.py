import numpy as np
import pytest

from tests.caffe_files import blob, caffemodel, layer
from tests.helpers import shared
from tests.npy_files import assert_same_layers, small_caffe_layers, small_layers
from weight_files.architecture import OTHER, read_architecture, resolve_architecture
from weight_files.find import STARTER_WEIGHTS
from weight_files.npy import write_npy
from weight_files.reader import read_types, read_weights

LRN, POOL = 'LRN', 'Pooling'


def write(tmp_path, content):
    """Write a weight file; return its path."""
    (tmp_path / 'net').write_bytes(content)
    return str(tmp_path / 'net')


def network(first, second, v1=False):
    """Return a .caffemodel whose conv1 and conv2 are followed by layers of these types."""
    kinds = [('conv1', 'Convolution'), *((f'{kind}1', kind) for kind in first),
             ('conv2', 'Convolution'), *((f'{kind}2', kind) for kind in second),
             ('conv3', 'Convolution'), ('pool5', POOL)]
    weights = [blob(np.ones((1, 1, 1, 1), 'f4'))]
    return b''.join(layer(name, kind, weights if kind == 'Convolution' else [], v1)
                    for name, kind in kinds)


@pytest.mark.parametrize('v1', [False, True])
@pytest.mark.parametrize('first, second, expected', [
    ([LRN, POOL], [LRN, POOL], 'alexnet'), ([POOL, LRN], [POOL, LRN], 'caffenet'),
    ([], [], None), ([POOL, LRN], [LRN, POOL], OTHER), ([POOL], [POOL], OTHER),
    ([LRN, POOL], [], OTHER), ([LRN, POOL, LRN], [LRN, POOL, LRN], OTHER)])
def test_order_of_a_caffemodel(tmp_path, first, second, expected, v1):
    assert read_architecture(write(tmp_path, network(first, second, v1))) == expected


def test_types_come_in_the_order_of_the_file(tmp_path):
    assert read_types(write(tmp_path, network([POOL, LRN], [LRN]))) == [
        ('conv1', 'Convolution'), ('Pooling1', POOL), ('LRN1', LRN), ('conv2', 'Convolution'),
        ('LRN2', LRN), ('conv3', 'Convolution'), ('pool5', POOL)]


def test_other_networks_say_nothing(tmp_path):
    content = network([POOL, LRN], [POOL, LRN]).replace(b'conv', b'ipea')
    assert read_architecture(write(tmp_path, content)) is None


def test_files_of_caffe_itself():
    path = shared('caffe_reference', 'alexnet_conv.caffemodel')
    assert read_architecture(path) == 'alexnet'
    types = [kind for _, kind in read_types(path)]
    assert types[:5] == ['Input', 'Convolution', 'ReLU', 'LRN', 'Pooling']
    # The legacy file holds the five convolutions alone.
    assert read_architecture(shared('caffe_reference', 'alexnet_conv_v1.caffemodel')) is None


@pytest.mark.parametrize('architecture', ['alexnet', 'caffenet', None])
def test_a_converted_file_says_it_behind_its_dictionary(tmp_path, architecture):
    path = tmp_path / 'net'
    with open(path, 'wb') as file:
        write_npy(file, small_layers(), architecture)
    assert read_architecture(str(path)) == architecture
    assert_same_layers(read_weights(str(path)), small_layers())
    # numpy.load as the well-known scripts call it; then the second array of the file.
    assert_same_layers(
        np.load(path, allow_pickle=True, encoding='bytes').item(), small_layers())
    with open(path, 'rb') as file:
        np.load(file, allow_pickle=True)
        rest = np.load(file).item().decode() if architecture else file.read()
    assert rest == (architecture or b'')


@pytest.mark.parametrize('setting, found, expected', [
    ('auto', 'alexnet', 'alexnet'), ('auto', 'caffenet', 'caffenet'), ('auto', None, 'alexnet'),
    ('alexnet', 'alexnet', 'alexnet'), ('caffenet', 'caffenet', 'caffenet'),
    ('alexnet', None, 'alexnet'), ('caffenet', None, 'caffenet')])
def test_setting_and_file_agree(tmp_path, setting, found, expected):
    with open(tmp_path / 'net', 'wb') as file:
        write_npy(file, small_layers(), found)
    assert resolve_architecture(setting, str(tmp_path / 'net')) == expected


@pytest.mark.parametrize('setting, ends, message', [
    ('alexnet', [POOL, LRN], 'net is caffenet by the order of its layers, and architecture is '
                             'alexnet: leave it at auto'),
    ('caffenet', [LRN, POOL], 'net is alexnet by .* and architecture is caffenet'),
    ('auto', [POOL], 'net is neither alexnet nor caffenet by the order of its layers'),
    ('alexnet', [POOL], 'net is neither alexnet nor caffenet')])
def test_contradictions_name_both(tmp_path, setting, ends, message):
    path = write(tmp_path, caffemodel(small_caffe_layers(), ends=ends))
    with pytest.raises(ValueError, match=message):
        resolve_architecture(setting, path)


def test_no_file_and_the_starter_weights():
    assert resolve_architecture('auto', None) == 'alexnet'
    assert resolve_architecture('caffenet', None) == 'caffenet'
    assert resolve_architecture('auto', STARTER_WEIGHTS) == 'alexnet'
    with pytest.raises(ValueError, match='starter_weights.npy is alexnet .* is caffenet'):
        resolve_architecture('caffenet', STARTER_WEIGHTS)


def test_files_that_are_no_weight_files(tmp_path):
    with pytest.raises(ValueError, match='net is not a weight file: it is a web page'):
        resolve_architecture('auto', write(tmp_path, b'<html>'))
