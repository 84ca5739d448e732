import http.server
import os
import socket
import threading
import time

import numpy as np
import pytest

from weight_files import download, find


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


class Server(http.server.ThreadingHTTPServer):
    """Answers on loopback with the method of Handler that the first folder of the address names."""

    def __init__(self, content):
        super().__init__(('127.0.0.1', 0), Handler)
        self.content, self.requests = content, []
        self.stopped = threading.Event()  # ends what would never end

    def address(self, behaviour):
        return f'http://127.0.0.1:{self.server_port}/{behaviour}/w.npy'


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.headers.get('Range'))
        try:
            behaviour = getattr(self, self.path.split('/')[1])
            behaviour(self.server.content, len(self.server.requests) == 1)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def log_message(self, *arguments):
        pass

    def answer(self, status, announced, body, **headers):
        self.send_response(status)
        if announced is not None:
            self.send_header('Content-Length', announced)
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        self.wfile.write(body)

    def whole(self, content, first):
        self.answer(200, len(content), content)

    def unannounced(self, content, first):
        self.answer(200, None, content)

    def cut(self, content, first):
        if first:
            return self.answer(200, len(content), content[:250_000], ETag='"1"')
        assert self.headers['If-Range'] == '"1"'
        start = int(self.headers['Range'][len('bytes='):-1])
        self.answer(206, len(content) - start, content[start:], ETag='"1"',
                    Content_Range=f'bytes {start}-{len(content) - 1}/{len(content)}')

    def cut_and_changed(self, content, first):
        body, version = (b'x' * 250_000, '"1"') if first else (content, '"2"')
        self.answer(200, len(content), body, ETag=version)

    def cut_without_version(self, content, first):
        self.answer(200, len(content), b'x' * 250_000 if first else content)

    def cut_always(self, content, first):
        self.answer(200, len(content), content[:250_000], ETag='"1"')

    def cut_early(self, content, first):
        self.answer(200, len(content), content[:1000], ETag='"1"')

    def slow(self, content, first):
        self.answer(200, len(content), b'')
        for start in range(0, len(content), 40_000):
            time.sleep(0.1)
            self.wfile.write(content[start:start + 40_000])

    def drips(self, content, first):
        self.answer(200, len(content), content[:99_000])
        while not self.server.stopped.wait(0.1):
            self.wfile.write(b'x')

    def stalls(self, content, first):
        self.answer(200, len(content), content[:1000])
        self.server.stopped.wait()

    def silent(self, content, first):
        self.server.stopped.wait()

    def missing(self, content, first):
        self.answer(404, 9, b'not found')

    def page(self, content, first):
        self.answer(200, None, b'\n<!DOCTYPE html>\n<html><body>Log in first</body></html>')

    def too_large(self, content, first):
        self.answer(200, 1 << 40, content)

    def endless(self, content, first):
        self.answer(200, None, b'')
        while True:
            self.wfile.write(content)

    def other_shapes(self, content, first):
        self.answer(200, len(content), content.replace(b'conv1', b'conv9'))

    def not_finite(self, content, first):
        nans = b'\xff' * 400
        self.answer(200, len(content), content[:100_000] + nans + content[100_400:])


@pytest.fixture
def server(content):
    with Server(content) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.stopped.set()
        server.shutdown()


@pytest.mark.parametrize('behaviour, ranges', [
    ('whole', [None]), ('unannounced', [None]), ('slow', [None]), ('cut', [None, 'bytes=250000-']),
    ('cut_and_changed', [None, 'bytes=250000-']), ('cut_without_version', [None, None])])
def test_a_right_file_arrives(server, content, tmp_path, behaviour, ranges):
    (tmp_path / 'here').mkdir()
    find.download_weights(server.address(behaviour), str(tmp_path / 'here' / 'w.npy'))
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
    with pytest.raises((OSError, ValueError), match=message) as error:
        find.download_weights(server.address(behaviour), str(tmp_path / 'here' / 'w.npy'))
    assert '\n' not in str(error.value)
    assert os.listdir(tmp_path / 'here') == [] and len(server.requests) == tries


def test_a_server_that_is_not_there(content, tmp_path):
    with socket.socket() as taken:  # bound, but not listening: connections are refused
        taken.bind(('127.0.0.1', 0))
        with pytest.raises(OSError, match='refused'):
            address = f'http://127.0.0.1:{taken.getsockname()[1]}/w.npy'
            find.download_weights(address, str(tmp_path / 'w.npy'))
    assert os.listdir(tmp_path) == ['source.npy']


def test_auto_downloads_once_or_takes_the_starter_weights(
        server, content, tmp_path, monkeypatch, capsys):
    (tmp_path / 'here').mkdir()
    monkeypatch.setattr(find, 'BVLC_ALEXNET_URL', server.address('missing'))
    starter = str(tmp_path / 'here' / find.STARTER_WEIGHTS)
    assert find.find_weights('auto', str(tmp_path / 'here')) == starter
    reason = 'could not be downloaded: HTTP Error 404: Not Found'
    assert capsys.readouterr().err == f'{server.address("missing")} {reason}\n'
    monkeypatch.setattr(find, 'BVLC_ALEXNET_URL', server.address('whole'))
    for _ in range(2):
        path = find.find_weights('auto', str(tmp_path / 'here'))
        assert path == str(tmp_path / 'here' / 'bvlc_alexnet.npy')
    assert len(server.requests) == 2 and open(path, 'rb').read() == content


def test_a_folder_that_cannot_be_written_to_is_an_error(server, tmp_path):
    with pytest.raises(OSError):
        find.download_weights(server.address('whole'), str(tmp_path / 'nowhere' / 'w.npy'))
