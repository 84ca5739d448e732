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
from runtime.files import printable

IMAGENET_MEAN = np.array([104., 117., 124.], np.float32)  # BGR; what Caffe's AlexNet subtracts
READ_AT_ONCE = 1 << 26  # bytes of a file that are read before its header is checked
MUST_DECODE = ('GIF', 'BMP', 'TIFF')  # kinds whose header does not tell whether data are whole
# The files whose code decides what load_image returns.
PIXEL_FILES = tuple(os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
                    for name in ('images.py', 'decoders.py', 'image_headers.py'))


def load_image(path: str, scale_size: Sequence[int] = (227, 227), mean: np.ndarray = IMAGENET_MEAN,
               crop_size: Sequence[int] | None = None,
               corner: Sequence[int] | None = None) -> np.ndarray:
    """Return the pixels of an image file minus the mean, float32 [height, width, 3], BGR.

    mean: float32 [3], BGR, subtracted from each pixel.
    Others, and errors: as in load_pixels.
    """
    return load_pixels(path, scale_size, crop_size, corner) - mean


def load_pixels(path: str, scale_size: Sequence[int] = (227, 227),
                crop_size: Sequence[int] | None = None, corner: Sequence[int] | None = None,
                is_mirrored: bool = False, out: np.ndarray | None = None) -> np.ndarray:
    """Return the pixels of an image file, uint8 [height, width, 3].

    Channels are BGR. The content tells the kind, not the name: JPEG (also
    progressive, grayscale, CMYK), PNG, WebP, BMP, TIFF of 8 or 16 bits, the first frame of a GIF.
    The picture is turned upright as EXIF says, and what is transparent is composited on white.
    16 bits are divided by 257.

    scale_size: (width, height) that the whole picture is scaled to, by area if both sides shrink,
        else bilinearly.
    crop_size: (width, height) cut out of the scaled picture; None: all of it.
    corner: (top, left) of the crop, pixels; None: the crop is central.
    is_mirrored: return the mirror image.
    out: array that receives the pixels and is returned; None: a new one.

    Raises ValueError for a file that is missing, of another kind, cut off, or larger than
    image_headers.MAX_PIXELS.
    """
    image = decode_file(path, scale_size)
    width, height = crop_size or scale_size
    if out is None:
        out = np.empty((height, width, 3), np.uint8)
    shrinks = image.shape[1] >= scale_size[0] and image.shape[0] >= scale_size[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    # OpenCV lets other threads run while it scales, copies and mirrors; NumPy does not.
    if (width, height) == tuple(scale_size) and not is_mirrored:
        return cv2.resize(image, scale_size, dst=out, interpolation=method)
    image = crop(cv2.resize(image, scale_size, interpolation=method), (width, height), corner)
    return cv2.flip(image, 1, dst=out) if is_mirrored else cv2.copyTo(image, None, dst=out)


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


def crop(image, size, corner=None):
    """Return `size`, (width, height), of an image from `corner`, (top, left); None: the centre."""
    width, height = size
    if corner is None:
        corner = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    top, left = corner
    return image[top:top + height, left:left + width]


def decoder_fingerprint() -> str:
    """Return text that changes with the code of PIXEL_FILES and the decoders' versions."""
    versions = f'{cv2.__version__} {PIL.__version__}'
    digest = hashlib.blake2b(versions.encode(), digest_size=8)
    for name in PIXEL_FILES:
        with open(name, 'rb') as file:
            digest.update(file.read())
    return digest.hexdigest()
