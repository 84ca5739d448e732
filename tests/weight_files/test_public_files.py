"""The settings auto and caffenet: published weight files, from servers on loopback."""

import hashlib
import os
import time

import numpy as np
import pytest

from tests.caffe_files import caffemodel
from tests.download_server import serving
from weight_files import download, find
from weight_files.find import PUBLIC_FILES, PublicFile, find_weights

LAYERS = {'conv1': (4, 3, 5, 5), 'fc8': (100, 1000)}  # shapes in Caffe's order


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a project; small limits of time make quick tests."""
    monkeypatch.setattr(download, 'TIMEOUT', 1)
    monkeypatch.setattr(download, 'RETRY_SIZE', 100_000)
    monkeypatch.setattr(find, 'LAYER_SHAPES', {'conv1': (5, 5, 3, 4), 'fc8': (1000, 100)})
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    (tmp_path / 'here').mkdir()
    return tmp_path / 'here'


@pytest.fixture(scope='module')
def content():
    """A .caffemodel of 400 kB."""
    random = np.random.RandomState(0)
    return caffemodel({layer: [np.float32(random.rand(*shape)), np.float32(random.rand(shape[0]))]
                       for layer, shape in LAYERS.items()})


@pytest.fixture
def server(content):
    with serving(content) as server:
        yield server


def publish(monkeypatch, server, content, first, second):
    """Let `auto` mean two files of the server, which answers in these ways; return their names."""
    sums = hashlib.sha1(content).hexdigest()
    files = [PublicFile(server.address(first, 'a.caffemodel'), sums),
             PublicFile(server.address(second, 'b.npy'), None)]
    monkeypatch.setitem(PUBLIC_FILES, 'auto', files)
    monkeypatch.setitem(PUBLIC_FILES, 'caffenet', files[:1])


def test_addresses_and_sums_are_as_published():
    # readme.md of Caffe's models/bvlc_alexnet and models/bvlc_reference_caffenet, 2014.
    alexnet, npy = PUBLIC_FILES['auto']
    assert alexnet == ('http://dl.caffe.berkeleyvision.org/bvlc_alexnet.caffemodel',
                       '9116a64c0fbe4459d18f4bb6b56d647b63920377')
    assert npy == ('http://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy', None)
    assert PUBLIC_FILES['caffenet'] == ((
        'http://dl.caffe.berkeleyvision.org/bvlc_reference_caffenet.caffemodel',
        '4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46'),)
    assert npy.name == 'bvlc_alexnet.npy'


@pytest.mark.parametrize('setting', ['auto', 'caffenet'])
@pytest.mark.parametrize('behaviour, ranges', [
    ('whole', [None]), ('cut', [None, 'bytes=250000-'])])
def test_the_file_with_the_right_sum_is_kept_under_its_name(
        folder, server, content, monkeypatch, capsys, setting, behaviour, ranges):
    publish(monkeypatch, server, content, behaviour, 'missing')
    for _ in range(2):  # the second time it is there
        path = find_weights(setting, str(folder))
        assert path == str(folder / 'a.caffemodel')
    assert (folder / 'a.caffemodel').read_bytes() == content
    assert os.listdir(folder) == ['a.caffemodel'] and server.requests == ranges
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('behaviour, reason', [
    ('not_finite', 'what arrived has the SHA-1 {found}, not {published} as published: it is '
                   'deleted'),
    ('missing', 'HTTP Error 404: Not Found'),
    ('cut_early', 'it ended after 1000 of {size} bytes'),
    ('silent', 'timed out')])
def test_the_second_file_is_taken_when_the_first_fails(
        folder, server, content, monkeypatch, capsys, behaviour, reason):
    publish(monkeypatch, server, content, behaviour, 'whole')
    assert find_weights('auto', str(folder)) == str(folder / 'b.npy')
    assert os.listdir(folder) == ['b.npy'] and (folder / 'b.npy').read_bytes() == content
    changed = content[:100_000] + b'\xff' * 400 + content[100_400:]  # as `not_finite` sends it
    reason = reason.format(found=hashlib.sha1(changed).hexdigest(), size=len(content),
                           published=hashlib.sha1(content).hexdigest())
    address = server.address(behaviour, 'a.caffemodel')
    assert capsys.readouterr().err.splitlines() == [
        f'{address} could not be downloaded: {reason}',
        'b.npy has the layers of AlexNet, but its origin cannot be checked: no checksum is '
        'published']


def test_the_second_file_is_not_downloaded_over_one_that_is_there(
        folder, server, content, monkeypatch):
    publish(monkeypatch, server, content, 'whole', 'whole')
    (folder / 'b.npy').write_bytes(b'kept')
    assert find_weights('auto', str(folder)) == str(folder / 'b.npy')
    assert os.listdir(folder) == ['b.npy'] and server.requests == []


@pytest.mark.parametrize('behaviour', ['missing', 'silent', 'page'])
def test_without_any_auto_means_the_starter_weights(
        folder, server, content, monkeypatch, capsys, behaviour):
    publish(monkeypatch, server, content, behaviour, behaviour)
    start = time.monotonic()
    assert find_weights('auto', str(folder)) == str(folder / find.STARTER_WEIGHTS)
    assert time.monotonic() - start < 5  # TIMEOUT, here 1 s, per address
    assert len(capsys.readouterr().err.splitlines()) == len(server.requests) == 2
    assert os.listdir(folder) == []


def test_nothing_stands_in_for_caffenet(folder, server, content, monkeypatch, capsys):
    publish(monkeypatch, server, content, 'missing', 'whole')
    with pytest.raises(ValueError, match=f'weights_path caffenet: copy a.caffemodel to {folder}'):
        find_weights('caffenet', str(folder))
    assert 'could not be downloaded: HTTP Error 404' in capsys.readouterr().err
    assert os.listdir(folder) == [] and len(server.requests) == 1


def test_a_file_with_a_wrong_sum_is_not_used_and_not_deleted(
        folder, server, content, monkeypatch):
    publish(monkeypatch, server, content, 'whole', 'whole')
    (folder / 'a.caffemodel').write_bytes(content[:-1])
    with pytest.raises(ValueError, match='a.caffemodel has the SHA-1 .* delete it, or name'):
        find_weights('auto', str(folder))
    assert os.listdir(folder) == ['a.caffemodel'] and server.requests == []
    assert find_weights(str(folder / 'a.caffemodel'), '') == str(folder / 'a.caffemodel')
