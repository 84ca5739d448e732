"""Turns an image file into the numbers that the network sees; training, validation and caching all call it."""

import struct

import cv2
import numpy as np

from console import printable

IMAGENET_MEAN = np.array([104., 117., 124.], np.float32)  # blue, green, red; what Caffe's AlexNet subtracts
JPEG_HEADER_BYTES = 1 << 18  # where a JPEG's size is looked for: behind a camera's notes and preview


def load_image(path, scale_size=(227, 227), mean=IMAGENET_MEAN):
    """Return what the network sees of an image file: float32 [height, width, 3], BGR, 0..255 minus `mean`.

    The whole picture is scaled to scale_size = (width, height), by area if it shrinks, else linearly.
    Raises ValueError if the file can't be read as an image.
    """
    try:
        content = np.fromfile(path, np.uint8)
        image = cv2.imdecode(content, decoding_flag(content[:JPEG_HEADER_BYTES].tobytes(), scale_size))
    except (OSError, ValueError) as error:
        raise ValueError(f'{printable(path)}: {getattr(error, "strerror", error)}') from error
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f'{printable(path)} is not a picture that OpenCV can read')
    shrinks = image.shape[1] >= scale_size[0] and image.shape[0] >= scale_size[1]
    image = cv2.resize(image, scale_size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return image - mean


def decoding_flag(header, scale_size):
    """Return OpenCV's flag for colour, at 1/2, 1/4 or 1/8 scale for JPEGs much larger than scale_size.

    The decoder then skips most of its work. At least twice scale_size is kept on both sides, so that scaling the rest
    by area gives nearly the same: the difference is 1 of 255 or less on average, 3 or less on any photo tried.
    """
    sides = jpeg_size(header) or (0, 0)
    room = min(side // (2 * wanted) for side, wanted in zip(sorted(sides), sorted(scale_size)))
    for factor, flag in ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4),
                         (2, cv2.IMREAD_REDUCED_COLOR_2)):
        if room >= factor:
            return flag
    return cv2.IMREAD_COLOR


def jpeg_size(header):
    """Return (height, width) from the first bytes of a JPEG file, None for other content (ITU-T T.81, annex B)."""
    position = 2
    while header[:2] == b'\xff\xd8' and position + 9 <= len(header) and header[position] == 0xff:
        marker = header[position + 1]
        if 0xc0 <= marker <= 0xcf and marker not in (0xc4, 0xc8, 0xcc):  # a frame header
            return struct.unpack('>HH', header[position + 5:position + 9])
        position += 1 if marker == 0xff else 2 + int.from_bytes(header[position + 2:position + 4], 'big')
    return None
