import os
import subprocess
import sys

import numpy as np
import pytest

from convert_weights import Settings, main, weights_table
from runtime.flags import parse_settings
from tests.caffe_files import blob, caffemodel, layer
from tests.helpers import ROOT, random_conv_weights
from tests.npy_files import assert_same_layers, small_caffe_layers, small_layers
from weight_files.architecture import read_architecture
from weight_files.reader import read_file, read_types, read_weights


def test_the_output_may_be_left_out():
    assert parse_settings(Settings, ['a']) == Settings('a', None, False)
    assert parse_settings(Settings, ['--force', 'a', 'b.npy']) == Settings('a', 'b.npy', True)


def test_table_of_layers_ranges_and_what_fits(tmp_path):
    layers = {'conv1': random_conv_weights()['conv1'],
              'conv2': [np.float16([[-1.5, 2]]), np.float64([1, np.inf])],
              'fc8': [np.zeros((4096, 3)), np.ones(3)],  # any number of classes fits
              'fc8_\x1b[31m': [np.zeros((2, 1)), np.zeros(0)]}
    np.save(tmp_path / 'w.npy', layers, allow_pickle=True)
    lines = weights_table(read_file(str(tmp_path / 'w.npy')), [])
    cells = [[cell.strip() for cell in line.split('  ') if cell.strip()] for line in lines]
    assert cells[0] == ['layer', 'shapes', 'type', 'values', 'AlexNet']
    assert cells[1][:3] == ['conv1', '(11, 11, 3, 96) (96,)', 'float32'] and cells[1][4] == 'fits'
    assert cells[2] == ['conv2', '(1, 2) (2,)', 'float16 float64', '-1.5 to 2, not finite',
                        'conv2/weights is (1, 2) and should be (5, 5, 48, 256); '
                        'conv2/biases is (2,) and should be (256,)']
    assert cells[3] == ['fc8', '(4096, 3) (3,)', 'float64', '0 to 0, 1 to 1', 'fits']
    assert cells[4] == ['fc8_\\x1b[31m', '(2, 1) (0,)', 'float64', '0 to 0, none',
                        'has no such layer']
    assert lines[5:] == ["AlexNet's layers that it lacks: conv3 conv4 conv5 fc6 fc7"]
    assert {line.index('  (') for line in lines[1:5]} == {12}  # columns stand below each other


@pytest.mark.parametrize('ends, expected', [
    (('LRN', 'Pooling'), 'alexnet (norm before pool)'),
    (('Pooling', 'LRN'), 'caffenet (pool before norm)'),
    (('Pooling',), 'neither alexnet nor caffenet: pool after conv1'),
    ((), 'the file does not say; auto takes it for alexnet')])
def test_the_architecture_is_shown_and_kept(tmp_path, monkeypatch, capsys, ends, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'net').write_bytes(caffemodel(small_caffe_layers(), ends=ends))
    assert main(['net', 'net.npy']) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f'architecture: {expected}', 'wrote net.npy']
    kept = expected.split(' (')[0] if '(' in expected else None
    assert read_architecture('net.npy') == kept
    assert main(['net.npy', 'again.npy']) == 0  # a converted file can be converted again
    assert read_architecture('again.npy') == kept


# Layers as other networks of Caffe's model zoo have them: name, type, shape in Caffe's order.
@pytest.mark.parametrize('name, kind, shape, reason', [
    ('conv2', 'Convolution', (256, 96, 5, 5), 'conv2/weights is (5, 5, 96, 256) and should be '
     '(5, 5, 48, 256); it has one group in place of two'),
    ('fc6', 'Convolution', (4096, 256, 6, 6), 'fc6/weights is (6, 6, 256, 4096) and should be '
     '(9216, 4096); it is a convolution, as in fully convolutional networks'),
    ('fc8_flickr', 'InnerProduct', (20, 4096), 'has no such layer; it looks like fc8 for 20 '
     'classes: train fc8 from scratch'),
    ('conv3_new', 'Convolution', (384, 256, 3, 3), 'has no such layer; it has the shape of conv3'),
    ('conv1/bn', 'BatchNorm', (96,), 'has no such layer; AlexNet has no BatchNorm layers'),
    ('conv1_1', 'Convolution', (64, 3, 3, 3), 'has no such layer')])
def test_why_layers_of_other_networks_do_not_fit(tmp_path, name, kind, shape, reason):
    arrays = [np.zeros(shape, 'f4'), np.zeros(shape[0], 'f4')]
    (tmp_path / 'net').write_bytes(layer(name, kind, [blob(array) for array in arrays]))
    path = str(tmp_path / 'net')
    assert weights_table(read_file(path), read_types(path))[1].endswith(f'  {reason}')


def run(*arguments):
    """Run the command; return (exit status, standard output, standard error)."""
    command = [sys.executable, 'convert_weights.py', *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_command_shows_and_converts(tmp_path):
    source, target = tmp_path / 'in.caffemodel', tmp_path / 'out.npy'
    source.write_bytes(caffemodel(small_caffe_layers()))
    status, table, errors = run(source)
    assert (status, errors) == (0, '') and 'conv1  (2, 3, 4, 5) (5,)' in table
    assert os.listdir(tmp_path) == ['in.caffemodel']
    assert run(source, target) == (0, f'{table}wrote {target}\n', '')
    by_numpy = np.load(target, allow_pickle=True, encoding='bytes').item()
    assert_same_layers(by_numpy, small_layers())
    refusal = f'error: {target} exists already: --force replaces it\n'
    assert run(source, target)[0::2] == (2, refusal)
    assert run(target, target, '--force')[0] == 0
    assert_same_layers(read_weights(str(target)), small_layers())
    assert sorted(os.listdir(tmp_path)) == ['in.caffemodel', 'out.npy']


NOT_FINITE = caffemodel({'fc8': [np.float32([[np.nan]]), np.float32([1])]})


@pytest.mark.parametrize('content', [b'', b'rubbish', NOT_FINITE],
                         ids=['empty', 'rubbish', 'not finite'])
@pytest.mark.parametrize('arguments', [
    'in out.npy', 'in out.npy --force', 'in out.caffemodel', 'none out.npy', '', '--x'])
def test_command_leaves_nothing_after_an_error(tmp_path, monkeypatch, arguments, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'in').write_bytes(content)
    with pytest.raises((ValueError, OSError)):
        main(arguments.split())
    assert os.listdir(tmp_path) == ['in']
