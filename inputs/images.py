"""Image file to pixels: the one function behind training, validation, prediction and caching."""

import hashlib
import os
import stat
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

os.environ.setdefault('OPENCV_LOG_LEVEL', 'OFF')  # read when cv2 is loaded; errors here say more

import cv2

from inputs.image_headers import Header, read_header
from runtime.files import printable

IMAGENET_MEAN = np.array([104., 117., 124.], np.float32)  # BGR; what Caffe's AlexNet subtracts
MUST_DECODE = ('GIF', 'BMP', 'TIFF')  # kinds whose header does not tell whether the file is whole
# The files whose code decides what load_image returns.
PIXEL_FILES = tuple(os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
                    for name in ('images.py', 'image_headers.py'))


def load_image(path: str, scale_size: Sequence[int] = (227, 227), mean: np.ndarray = IMAGENET_MEAN,
               crop_size: Sequence[int] | None = None,
               corner: Sequence[int] | None = None) -> np.ndarray:
    """Return the pixels of an image file as the network takes them, float32 [height, width, 3].

    Channels are BGR, 0..255 minus the mean. The content tells the kind, not the name: JPEG (also
    progressive, grayscale, CMYK), PNG, WebP, BMP, TIFF of 8 or 16 bits, the first frame of a GIF.
    The picture is turned upright as EXIF says and composited on white by its alpha (the one
    transparent value that a grayscale PNG may name is ignored). 16 bits are divided by 257.

    scale_size: (width, height) that the whole picture is scaled to, by area if both sides shrink,
        else bilinearly.
    mean: float32 [3], BGR, subtracted from each pixel.
    crop_size: (width, height) cut out of the scaled picture; None: all of it.
    corner: (top, left) of the crop, pixels; None: the crop is central.

    Raises ValueError for a file that is missing, of another kind, cut off, or larger than
    image_headers.MAX_PIXELS.
    """
    try:
        with open_file(path) as file:
            header = read_header(file)
            file.seek(0)
            image = decode(np.frombuffer(file.read(), np.uint8), header, scale_size)
    except (OSError, ValueError) as error:
        raise ValueError(describe(path, error)) from error
    shrinks = image.shape[1] >= scale_size[0] and image.shape[0] >= scale_size[1]
    image = cv2.resize(image, scale_size,
                       interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return crop(image, crop_size or scale_size, corner) - mean


def check_image(path: str) -> None:
    """Raise ValueError as load_image does, but decode only the kinds in MUST_DECODE."""
    try:
        with open_file(path) as file:
            kind = read_header(file).kind
    except (OSError, ValueError) as error:
        raise ValueError(describe(path, error)) from error
    if kind in MUST_DECODE:
        load_image(path)


def open_file(path: str) -> BinaryIO:
    """Open a regular file for reading bytes; raise ValueError for a pipe, which could block."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError('not a file')
    return open(path, 'rb')


def describe(path: str, error: Exception) -> str:
    """Return one line that names a file and why it cannot be read."""
    is_odd = isinstance(error, FileNotFoundError) and not is_utf_8(path)
    hint = ' (its name is not UTF-8: is the list?)' if is_odd else ''
    return f'{printable(path)}: {getattr(error, "strerror", None) or error}{hint}'


def is_utf_8(path):
    """Return whether a path that was read with surrogateescape was UTF-8 text."""
    return not any('\ud800' <= letter <= '\udfff' for letter in path)


def decode(content: np.ndarray, header: Header, scale_size: Sequence[int]) -> np.ndarray:
    """Decode the bytes of an image file, uint8 [n], to uint8 [height, width, 3], BGR, upright.

    Raises ValueError if OpenCV cannot.
    """
    is_jpeg = header.kind == 'JPEG'
    flag = jpeg_flag(header, scale_size) if is_jpeg else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(content, flag)
    except cv2.error:
        image = None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f'OpenCV {cv2.__version__} cannot decode this {header.kind} file')
    if is_jpeg:
        return image  # OpenCV has applied the orientation
    premultiplied = header.kind == 'TIFF' and image.dtype == np.uint8  # libtiff has done it
    return apply_orientation(composite_on_white(image, premultiplied), header.orientation)


def jpeg_flag(header, scale_size):
    """Return OpenCV's flag for decoding a JPEG in colour, at 1/2, 1/4 or 1/8 if it is large.

    A reduced scale spares the decoder most of its work. At least twice scale_size is kept on both
    sides, so that scaling the rest by area gives nearly the same: the mean difference is at most
    1 of 255 on average, and at most 3 on any photo tried.
    """
    sides = sorted((header.width, header.height))
    wanted = sorted(scale_size)
    factor = min(sides[0] // (2 * wanted[0]), sides[1] // (2 * wanted[1]))
    if factor >= 8:
        return cv2.IMREAD_REDUCED_COLOR_8
    if factor >= 4:
        return cv2.IMREAD_REDUCED_COLOR_4
    return cv2.IMREAD_REDUCED_COLOR_2 if factor >= 2 else cv2.IMREAD_COLOR


def composite_on_white(image, premultiplied=False):
    """Return uint8 BGR of gray, BGR or BGRA pixels, uint8 or uint16, with alpha laid on white.

    premultiplied: the colours are multiplied by alpha already.
    """
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[2] == 3:
        return image
    alpha = cv2.cvtColor(image[:, :, 3], cv2.COLOR_GRAY2BGR)
    colour = image[:, :, :3]
    if not premultiplied:
        colour = cv2.multiply(colour, alpha, scale=1 / 255)
    return cv2.add(colour, 255 - alpha)


def apply_orientation(image, orientation):
    """Return the image turned upright from an EXIF orientation, 1 to 8 (EXIF 2.3, 4.6.4)."""
    if orientation > 4:
        image = cv2.transpose(image)
    # OpenCV's flip codes: 1 swaps left and right, 0 top and bottom, -1 both.
    flip_code = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if flip_code is None else cv2.flip(image, flip_code)


def crop(image, size, corner=None):
    """Return `size`, (width, height), of an image from `corner`, (top, left); None: the centre."""
    width, height = size
    if corner is None:
        corner = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    top, left = corner
    return image[top:top + height, left:left + width]


def decoder_fingerprint() -> str:
    """Return text that changes with the code of PIXEL_FILES and with the version of OpenCV."""
    digest = hashlib.blake2b(cv2.__version__.encode(), digest_size=8)
    for name in PIXEL_FILES:
        with open(name, 'rb') as file:
            digest.update(file.read())
    return digest.hexdigest()
