import os
import socket

import numpy as np
import pytest

from tests.download_server import serving
from weight_files import download, find
from weight_files.find import PublicFile


@pytest.fixture
def content(tmp_path, monkeypatch):
    """A weight file's bytes, 400 kB, with small limits of time and size for quick tests."""
    monkeypatch.setattr(find, 'LAYER_SHAPES', {'conv1': (5, 5, 10, 200), 'fc8': (100, 500)})
    monkeypatch.setattr(download, 'TIMEOUT', 1)
    monkeypatch.setattr(download, 'SPEED_PERIOD', 0.5)
    monkeypatch.setattr(download, 'RETRY_SIZE', 100_000)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    random = np.random.RandomState(0)
    layers = {layer: [np.float32(random.rand(*shape)), np.float32(random.rand(shape[-1]))]
              for layer, shape in find.LAYER_SHAPES.items()}
    np.save(tmp_path / 'source.npy', layers, allow_pickle=True)
    return (tmp_path / 'source.npy').read_bytes()


@pytest.fixture
def server(content):
    with serving(content) as server:
        yield server


@pytest.mark.parametrize('behaviour, ranges', [
    ('whole', [None]), ('unannounced', [None]), ('slow', [None]), ('cut', [None, 'bytes=250000-']),
    ('cut_and_changed', [None, 'bytes=250000-']), ('cut_without_version', [None, None])])
def test_a_right_file_arrives(server, content, tmp_path, behaviour, ranges):
    (tmp_path / 'here').mkdir()
    public = PublicFile(server.address(behaviour), None)
    find.download_weights(public, str(tmp_path / 'here' / 'w.npy'))
    assert (tmp_path / 'here' / 'w.npy').read_bytes() == content
    assert os.listdir(tmp_path / 'here') == ['w.npy']
    # Others may read it, as any new file.
    assert os.stat(tmp_path / 'here' / 'w.npy').st_mode & 0o777 == 0o644
    assert server.requests == ranges  # after a cut, only the rest is requested


@pytest.mark.parametrize('behaviour, message, tries', [
    ('cut_always', 'it ended after 250000 of', 2), ('cut_early', 'it ended after 1000 of', 1),
    ('drips', 'less than 10000 bytes per second', 1), ('stalls', 'timed out', 1),
    ('silent', 'timed out', 1),
    ('missing', '404', 1), ('page', 'what arrived is not a weight file: it is a web page', 1),
    ('too_large', 'larger than', 1), ('endless', 'larger than', 1),
    ('other_shapes', 'what arrived does not fit: conv1 is missing. It has conv9 fc8 .AlexNet has',
     1),
    ('not_finite', 'what arrived: layer conv1 holds values that are not finite', 1)])
def test_errors_are_reported_and_leave_no_file(
        server, tmp_path, monkeypatch, behaviour, message, tries):
    monkeypatch.setattr(find, 'FILE_LIMIT', 1 << 20)
    (tmp_path / 'here').mkdir()
    public = PublicFile(server.address(behaviour), None)
    with pytest.raises((OSError, ValueError), match=message) as error:
        find.download_weights(public, str(tmp_path / 'here' / 'w.npy'))
    assert '\n' not in str(error.value)
    assert os.listdir(tmp_path / 'here') == [] and len(server.requests) == tries


def test_a_server_that_is_not_there(content, tmp_path):
    with socket.socket() as taken:  # bound, but not listening: connections are refused
        taken.bind(('127.0.0.1', 0))
        address = f'http://127.0.0.1:{taken.getsockname()[1]}/w.npy'
        with pytest.raises(OSError, match='refused'):
            find.download_weights(PublicFile(address, None), str(tmp_path / 'w.npy'))
    assert os.listdir(tmp_path) == ['source.npy']


def test_a_folder_that_cannot_be_written_to_is_an_error(server, tmp_path):
    with pytest.raises(OSError):
        public = PublicFile(server.address('whole'), None)
        find.download_weights(public, str(tmp_path / 'nowhere' / 'w.npy'))
