"""A server on loopback that answers downloads in right and wrong ways."""

import contextlib
import http.server
import threading
import time


class Server(http.server.ThreadingHTTPServer):
    """Answers on loopback with the method of Handler that the first folder of the address names."""

    def __init__(self, content):
        super().__init__(('127.0.0.1', 0), Handler)
        self.content, self.requests = content, []
        self.stopped = threading.Event()  # ends what would never end

    def address(self, behaviour, name='w.npy'):
        return f'http://127.0.0.1:{self.server_port}/{behaviour}/{name}'


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


@contextlib.contextmanager
def serving(content):
    """Serve for a block; yield the Server."""
    with Server(content) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.stopped.set()
        server.shutdown()
