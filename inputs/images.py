"""Turns an image file into the numbers that the network sees; training, validation and caching all call it."""

import hashlib
import os
import stat

import numpy as np

os.environ.setdefault('OPENCV_LOG_LEVEL', 'OFF')  # read when cv2 is loaded; our errors say what is wrong with a file

import cv2

from inputs import image_headers
from runtime.files import printable

IMAGENET_MEAN = np.array([104., 117., 124.], np.float32)  # blue, green, red; what Caffe's AlexNet subtracts
MUST_DECODE = ('GIF', 'BMP', 'TIFF')  # kinds whose header does not tell whether the file is whole


def load_image(path, scale_size=(227, 227), mean=IMAGENET_MEAN):
    """Return what the network sees of an image file: float32 [height, width, 3], BGR, 0..255 minus `mean`.

    By content, whatever the name: JPEG (also progressive, grayscale, CMYK), PNG, WebP, BMP, TIFF of 8 or 16 bits, the
    first frame of a GIF. Turned upright as EXIF says, laid on white by alpha (but for a single transparent gray), 16
    bits divided by 257. The whole picture is scaled to scale_size = (width, height), by area if it shrinks, else
    linearly. Raises ValueError for a file that is missing, no such picture, cut off, or beyond image_headers.MAX_PIXELS.
    """
    try:
        with open_file(path) as file:
            header = image_headers.read_header(file)
            file.seek(0)
            image = decode(np.frombuffer(file.read(), np.uint8), header, scale_size)
    except (OSError, ValueError) as error:
        raise ValueError(describe(path, error)) from error
    shrinks = image.shape[1] >= scale_size[0] and image.shape[0] >= scale_size[1]
    image = cv2.resize(image, scale_size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return image - mean


def check_image(path):
    """Look whether a file is a whole picture, without decoding where its structure tells; raises as load_image."""
    try:
        with open_file(path) as file:
            kind = image_headers.read_header(file).kind
    except (OSError, ValueError) as error:
        raise ValueError(describe(path, error)) from error
    if kind in MUST_DECODE:
        load_image(path)


def open_file(path):
    """Open a file for reading bytes; ValueError for what is no file: opening a pipe would wait for ever."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError('not a file')
    return open(path, 'rb')


def describe(path, error):
    """Return one line that names a file and what an OSError or ValueError says of it."""
    from_odd_list = isinstance(error, FileNotFoundError) and not is_utf_8(path)
    hint = ' (its name is not UTF-8: is the list?)' if from_odd_list else ''
    return f'{printable(path)}: {getattr(error, "strerror", None) or error}{hint}'


def is_utf_8(path):
    """Say whether a path read with surrogateescape was UTF-8 text."""
    return not any('\ud800' <= letter <= '\udfff' for letter in path)


def decode(content, header, scale_size):
    """Return the picture in the bytes `content`, uint8 [height, width, 3], BGR; ValueError if OpenCV can't."""
    is_jpeg = header.kind == 'JPEG'
    try:
        image = cv2.imdecode(content, jpeg_flag(header, scale_size) if is_jpeg else cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f'OpenCV {cv2.__version__} can not decode this {header.kind} file')
    if is_jpeg:
        return image
    # libtiff hands out colours that are premultiplied by alpha already.
    return apply_orientation(lay_on_white(image, header.kind == 'TIFF' and image.dtype == np.uint8), header.orientation)


def jpeg_flag(header, scale_size):
    """Return OpenCV's flag for colour, at 1/2, 1/4 or 1/8 scale for JPEGs much larger than scale_size.

    The decoder then skips most of its work. At least twice scale_size is kept on both sides, so that scaling the rest
    by area gives nearly the same: the difference is 1 of 255 or less on average, 3 or less on any photo tried.
    """
    sides = sorted((header.width, header.height))
    room = min(side // (2 * wanted) for side, wanted in zip(sides, sorted(scale_size)))
    for factor, flag in ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4),
                         (2, cv2.IMREAD_REDUCED_COLOR_2)):
        if room >= factor:
            return flag
    return cv2.IMREAD_COLOR


def lay_on_white(image, premultiplied=False):
    """Return uint8 BGR of gray, BGR or BGRA pixels of 8 or 16 bits; `premultiplied`: colours are, by alpha."""
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[2] == 3:
        return image
    alpha = cv2.cvtColor(image[:, :, 3], cv2.COLOR_GRAY2BGR)
    colour = image[:, :, :3] if premultiplied else cv2.multiply(image[:, :, :3], alpha, scale=1 / 255)
    return cv2.add(colour, 255 - alpha)


def apply_orientation(image, orientation):
    """Return the image turned upright from an EXIF orientation (EXIF 2.3, table 4.6.4: 1 to 8)."""
    if orientation > 4:
        image = cv2.transpose(image)
    mirror = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)  # 1: left and right, 0: top and bottom, -1: both
    return image if mirror is None else cv2.flip(image, mirror)


def decoder_fingerprint():
    """Return text that differs whenever what load_image returns could: for other code, or another OpenCV."""
    digest = hashlib.blake2b(cv2.__version__.encode(), digest_size=8)
    for file in (__file__, image_headers.__file__):
        with open(file, 'rb') as code:
            digest.update(code.read())
    return digest.hexdigest()
