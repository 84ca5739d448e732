"""Image file to pixels: the one function behind training, validation, prediction and caching."""

import hashlib
import io
import os
import stat
from collections.abc import Sequence
from typing import BinaryIO

import cv2
import numpy as np
import PIL

from inputs.decoders import decode
from inputs.image_headers import read_header
from inputs.views import View, central_view
from runtime.files import printable

IMAGENET_MEAN = np.array([104., 117., 124.], np.float32)  # BGR; what Caffe's AlexNet subtracts
READ_AT_ONCE = 1 << 26  # bytes of a file that are read before its header is checked
MUST_DECODE = ('GIF', 'BMP', 'TIFF')  # kinds whose header does not tell whether data are whole
# The files whose code decides what load_image returns.
PIXEL_FILES = tuple(os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
                    for name in ('images.py', 'decoders.py', 'image_headers.py'))


def load_image(path: str, scale_size: Sequence[int] = (227, 227), mean: np.ndarray = IMAGENET_MEAN,
               crop_size: Sequence[int] | None = None) -> np.ndarray:
    """Return the pixels of an image file minus the mean, float32 [height, width, 3], BGR.

    mean: float32 [3], BGR, subtracted from each pixel.
    Others, and errors: as in load_pixels.
    """
    return load_pixels(path, scale_size, crop_size) - mean


def load_pixels(path: str, scale_size: Sequence[int] = (227, 227),
                crop_size: Sequence[int] | None = None) -> np.ndarray:
    """Return the pixels of an image file, uint8 [height, width, 3].

    scale_size: (width, height) that the whole picture is scaled to.
    crop_size: (width, height) cut out of its centre; None: all of it.
    Others, and errors: as in load_views.
    """
    return load_views(path, [central_view(scale_size, crop_size or scale_size)])[0]


def load_views(path: str, views: Sequence[View], out: np.ndarray | None = None) -> np.ndarray:
    """Return views of an image file, all of one size, uint8 [views, height, width, 3].

    Channels are BGR. The content tells the kind, not the name: JPEG (also
    progressive, grayscale, CMYK), PNG, WebP, BMP, TIFF of 8 or 16 bits, the first frame of a GIF.
    The picture is turned upright as EXIF says, and what is transparent is composited on white.
    16 bits are divided by 257. It is scaled by area if both sides shrink, else bilinearly.

    views: of one size and one scale_size.
    out: array that receives the pixels and is returned; None: a new one.

    Raises ValueError for a file that is missing, of another kind, cut off, or larger than
    image_headers.MAX_PIXELS.
    """
    scale_size, (width, height) = views[0].scale_size, views[0].size
    if out is None:
        out = np.empty((len(views), height, width, 3), np.uint8)
    picture = decode_file(path, scale_size)
    shrinks = picture.shape[1] >= scale_size[0] and picture.shape[0] >= scale_size[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    # A whole picture is scaled straight into its row: copying it would make other threads wait.
    is_whole = views[0] == central_view(scale_size, scale_size)
    row = out[0] if is_whole else None
    scaled = cv2.resize(picture, scale_size, dst=row, interpolation=method)
    for number in range(int(is_whole), len(views)):
        cut_out(scaled, views[number], out[number])
    return out


def cut_out(scaled, view, out):
    """Write a View of a scaled picture to an array."""
    # Unlike NumPy, OpenCV lets other threads run while it copies and mirrors.
    (top, left), (width, height) = view.corner, view.size
    part = scaled[top:top + height, left:left + width]
    if view.is_mirrored:
        cv2.flip(part, 1, dst=out)
    else:
        cv2.copyTo(part, None, dst=out)


def decode_file(path, scale_size):
    """Return the whole picture of an image file, uint8 [height, width, 3], BGR, upright.

    scale_size: (width, height) that is needed, as decode takes it.
    """
    try:
        with open_file(path, buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > READ_AT_ONCE:  # the header decides whether it is worth the memory
                read_header(file)
                file.seek(0)
            content = file.read(size)
        return decode(content, read_header(io.BytesIO(content)), scale_size)
    except (OSError, ValueError) as error:
        raise ValueError(describe(path, error)) from error


def check_image(path: str) -> None:
    """Raise ValueError as load_image does, but decode only the kinds in MUST_DECODE."""
    try:
        with open_file(path) as file:
            kind = read_header(file).kind
    except (OSError, ValueError) as error:
        raise ValueError(describe(path, error)) from error
    if kind in MUST_DECODE:
        load_image(path)


def open_file(path: str, buffering: int = -1) -> BinaryIO:
    """Open a regular file for reading bytes; raise ValueError for a pipe, which could block."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError('not a file')
    return open(path, 'rb', buffering)


def describe(path: str, error: Exception) -> str:
    """Return one line that names a file and why it cannot be read."""
    is_odd = isinstance(error, FileNotFoundError) and not is_utf_8(path)
    hint = ' (its name is not UTF-8: is the list?)' if is_odd else ''
    return f'{printable(path)}: {getattr(error, "strerror", None) or error}{hint}'


def is_utf_8(path):
    """Return whether a path that was read with surrogateescape was UTF-8 text."""
    return not any('\ud800' <= letter <= '\udfff' for letter in path)


def decoder_fingerprint() -> str:
    """Return text that changes with the code of PIXEL_FILES and the decoders' versions."""
    versions = f'{cv2.__version__} {PIL.__version__}'
    digest = hashlib.blake2b(versions.encode(), digest_size=8)
    for name in PIXEL_FILES:
        with open(name, 'rb') as file:
            digest.update(file.read())
    return digest.hexdigest()
