"""Gets a large file over an unsteady connection: goes on after a cut, and never waits without end."""

import http.client
import time
import urllib.request

from tqdm import tqdm

TIMEOUT = 5  # seconds without an response
MIN_BYTES_PER_SECOND = 10_000  # bytes a second, the least ...
SPEED_PERIOD = 30     # ... on average over so many seconds
RETRY_SIZE = 1 << 20  # bytes that a connection must have brought for another one to be worth while


def download(address, file, size_limit):
    """Fill an open, empty file with what an http address holds, under a progress bar.

    After a cut the rest is asked for, or all of it if the server can't send a part or has another file by now. Raises
    OSError if there is no answer, or if the connection breaks off before RETRY_SIZE or gets slower than MIN_BYTES_PER_SECOND;
    ValueError for more than `size_limit` bytes.
    """
    version = None
    while True:
        start = file.tell()
        headers = {'Range': f'bytes={start}-', 'If-Range': version} if start and version else {}
        try:
            with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT) as response:
                if not response.headers.get('Content-Range', '').startswith(f'bytes {start}-'):
                    file.seek(0)
                    file.truncate()
                version = response.headers.get('ETag') or response.headers.get('Last-Modified')
                return write_response(response, file, size_limit)
        except (OSError, http.client.HTTPException) as error:
            if file.tell() < start + RETRY_SIZE:
                raise OSError(str(error) or type(error).__name__) from error


def write_response(response, file, size_limit):
    """Append an open response to an open file; raises OSError if less arrives than announced, or too slowly."""
    start, announced = file.tell(), response.headers.get('Content-Length')
    size = start + int(announced) if announced else None
    period_end, period_start = time.monotonic() + SPEED_PERIOD, start
    with tqdm(desc='downloading weights', total=size, initial=start, unit='B', unit_scale=True, disable=None) as bar:
        while chunk := response.read1(1 << 20):
            file.write(chunk)
            bar.update(len(chunk))
            if max(file.tell(), size or 0) > size_limit:
                raise ValueError(f'it is larger than {size_limit} bytes')
            if time.monotonic() > period_end:
                if file.tell() - period_start < MIN_BYTES_PER_SECOND * SPEED_PERIOD:
                    raise OSError(f'it brings less than {MIN_BYTES_PER_SECOND} bytes a second')
                period_end, period_start = time.monotonic() + SPEED_PERIOD, file.tell()
    if size is not None and file.tell() < size:
        raise OSError(f'it ended after {file.tell()} of {size} bytes')
