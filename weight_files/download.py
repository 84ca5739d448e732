"""Downloads a large file over an unsteady connection: resumes after a cut, and never hangs."""

import http.client
import time
import urllib.request
from typing import BinaryIO

from tqdm import tqdm

TIMEOUT = 5  # seconds without an answer
MIN_BYTES_PER_SECOND = 10_000  # on average over SPEED_PERIOD
SPEED_PERIOD = 30  # seconds
RETRY_SIZE = 1 << 20  # bytes that a connection must have brought before another one is tried


def download(address: str, file: BinaryIO, size_limit: int) -> None:
    """Fill an open, empty file with the content of an http address, under a progress bar.

    After a cut the rest is requested, or everything if the server cannot send a part or has another
    file by now.

    Raises OSError if there is no answer, or if the connection breaks off before RETRY_SIZE or gets
    slower than MIN_BYTES_PER_SECOND; ValueError for more than `size_limit` bytes.
    """
    version = None
    while True:
        start = file.tell()
        try:
            with open_response(address, start, version) as response:
                if not response.headers.get('Content-Range', '').startswith(f'bytes {start}-'):
                    file.seek(0)
                    file.truncate()
                version = response.headers.get('ETag') or response.headers.get('Last-Modified')
                write_response(response, file, size_limit)
                return
        except (OSError, http.client.HTTPException) as error:
            # Also where the whole file is sent again: else a server that never ends would be asked
            # for ever.
            if file.tell() < start + RETRY_SIZE:
                raise OSError(str(error) or type(error).__name__) from error


def open_response(address, start, version):
    """Return the open response of a server, from byte `start` on if the file has this version.

    version: ETag or Last-Modified of the earlier response; None requests the whole file.
    """
    headers = {}
    if start and version:
        headers = {'Range': f'bytes={start}-', 'If-Range': version}
    request = urllib.request.Request(address, headers=headers)
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def write_response(response, file, size_limit):
    """Append an open response to an open file.

    Raises OSError if less arrives than announced, or too slowly; ValueError for too much.
    """
    start, announced = file.tell(), response.headers.get('Content-Length')
    size = start + int(announced) if announced else None
    period_end, period_start = time.monotonic() + SPEED_PERIOD, start
    with tqdm(desc='downloading weights', total=size, initial=start, unit='B', unit_scale=True,
              disable=None) as bar:
        while chunk := response.read1(1 << 20):
            file.write(chunk)
            bar.update(len(chunk))
            if max(file.tell(), size or 0) > size_limit:
                raise ValueError(f'it is larger than {size_limit} bytes')
            if time.monotonic() > period_end:
                if file.tell() - period_start < MIN_BYTES_PER_SECOND * SPEED_PERIOD:
                    raise OSError(f'it brings less than {MIN_BYTES_PER_SECOND} bytes per second')
                period_end, period_start = time.monotonic() + SPEED_PERIOD, file.tell()
    if size is not None and file.tell() < size:
        raise OSError(f'it ended after {file.tell()} of {size} bytes')
