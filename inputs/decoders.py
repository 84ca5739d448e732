"""Bytes of an image file to pixels: OpenCV decodes JPEG, for its speed; Pillow the other kinds."""

import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence

import numpy as np

os.environ.setdefault('OPENCV_LOG_LEVEL', 'OFF')  # read when cv2 is loaded; errors here say more

import cv2
import PIL
from PIL import BmpImagePlugin, GifImagePlugin, Image, PngImagePlugin, TiffImagePlugin
from PIL.WebPImagePlugin import WebPImageFile

from inputs.image_headers import MAX_PIXELS, PNG_SIGNATURE, Header, png_chunks, tiff_tags

PILLOW_READERS = {
    'PNG': PngImagePlugin.PngImageFile, 'WebP': WebPImageFile, 'GIF': GifImagePlugin.GifImageFile,
    'BMP': BmpImagePlugin.BmpImageFile, 'TIFF': TiffImagePlugin.TiffImageFile}
PNG_PALETTE, PNG_CLEAR_COLOURS = 3, (0, 2)  # colour types; with one transparent colour: gray, RGB

# Pillow has no settings per file. Its own limit of pixels lies below MAX_PIXELS; its reader of
# uncompressed TIFF, unlike libtiff, garbles separate planes of 16 bits; its warnings name no file.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
TiffImagePlugin.READ_LIBTIFF = True
warnings.filterwarnings('ignore', module=r'PIL\.')
logging.getLogger('PIL').setLevel(logging.CRITICAL)


def decode(content: bytes, header: Header, scale_size: Sequence[int]) -> np.ndarray:
    """Decode the bytes of an image file to uint8 [height, width, 3], BGR, upright, on white.

    scale_size: (width, height) that is needed; larger JPEGs may be decoded at a reduced scale.

    Raises ValueError if the decoder cannot.
    """
    if header.kind == 'JPEG':  # OpenCV applies the orientation
        return decode_by_opencv(content, header.kind, jpeg_flag(header, scale_size))
    if header.kind == 'PNG':
        pixels = decode_png(content)
    elif header.kind == 'TIFF':
        pixels = decode_tiff(content)
    else:
        pixels = decode_by_pillow(content, header.kind)
    return apply_orientation(composite_on_white(pixels), header.orientation)


def decode_by_opencv(content, kind, flag):
    """Return the pixels that OpenCV decodes, uint8 or uint16; raise ValueError if it cannot."""
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error:
        image = None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f'OpenCV {cv2.__version__} cannot decode this {kind} file')
    return image


def jpeg_flag(header: Header, scale_size: Sequence[int]) -> int:
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


def decode_png(content):
    """Return the pixels of a PNG file as decode_by_pillow has them.

    Pillow gets only the chunks that make pixels: others may be broken, or expand to any size. The
    transparent colour of a gray or RGB file is applied here, in full depth, as white.
    """
    chunks = list(png_chunks(io.BytesIO(content), len(content)))
    kept = (b'IHDR', b'PLTE', b'IDAT', b'IEND')
    depth, colour_type = chunks[0][16:18]
    transparency = next((chunk for chunk in chunks if chunk[4:8] == b'tRNS'), None)
    if transparency and colour_type == PNG_PALETTE and len(transparency) <= 12 + 256:
        kept += (b'tRNS',)
    pixels = decode_by_pillow(PNG_SIGNATURE + b''.join(
        chunk for chunk in chunks if chunk[4:8] in kept), 'PNG')
    if transparency and colour_type in PNG_CLEAR_COLOURS:
        whiten(pixels, transparency[8:-4], depth)
    return pixels


def whiten(pixels, transparency, depth):
    """Make the pixels of a PNG file white that have its transparent colour (PNG, 11.3.1.1).

    pixels: as Pillow scales them to 8 or 16 bits. transparency: the data of its tRNS chunk, a
    number of 2 bytes per channel, in RGB, of which the lowest bits count. Others are ignored.
    """
    channels = np.atleast_3d(pixels)
    if len(transparency) != 2 * channels.shape[2]:
        return
    highest, white = (1 << depth) - 1, np.iinfo(pixels.dtype).max
    samples = np.frombuffer(transparency, '>u2')[::-1] & highest
    colour = (samples * (white // highest)).astype(pixels.dtype)
    pixels[(channels == colour).all(2)] = white


def decode_tiff(content):
    """Return the pixels of a TIFF file as decode_by_pillow has them.

    Pillow does not know all sample layouts. OpenCV reads some of the others, such as 16 bits of
    several bands that are no colours; but it does not tell what a fourth band is.
    """
    tags = tiff_tags(io.BytesIO(content))
    try:
        pixels = decode_by_pillow(content, 'TIFF')
    except ValueError as error:
        is_unknown = isinstance(error.__cause__, SyntaxError)  # else it is broken
        if not is_unknown or tags.get(TiffImagePlugin.EXTRASAMPLES, 0):
            raise
        pixels = decode_by_opencv(content, 'TIFF', cv2.IMREAD_UNCHANGED)
        pixels = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[:, :, :3])
    white_is_zero = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    if white_is_zero and pixels.dtype == np.uint16:  # neither library inverts 16 bits
        pixels = 65535 - pixels
    return pixels


def decode_by_pillow(content, kind):
    """Return the pixels of an image file: gray [height, width], or [height, width, BGR or BGRA].

    They are uint8 or, of 16 bits, uint16. Raises ValueError, with Pillow's error as cause, if
    Pillow cannot decode the file.
    """
    try:
        with open_by_pillow(content, kind) as image:
            swapped = swap_bytes(image)
            pixels = to_array(image)
        if swapped:  # Pillow keeps the high byte of each colour
            with open_by_pillow(content, kind) as image:
                image.tile = swapped
                pixels = pixels * np.uint16(256) + to_array(image)
        return pixels
    except Exception as error:  # on broken files, Pillow raises most of the kinds that there are
        raise ValueError(f'Pillow {PIL.__version__} cannot decode this {kind} file') from error


def open_by_pillow(content, kind):
    """Return a Pillow image that is not decoded yet; raise ValueError beyond MAX_PIXELS."""
    image = PILLOW_READERS[kind](io.BytesIO(content))
    if image.width * image.height > MAX_PIXELS:
        raise ValueError('more pixels than its header says')
    return image


def swap_bytes(image):
    """Return the image's tile with the other byte order, if it has colours of 16 bits; else None.

    Decoded like this, the low bytes are the ones that Pillow keeps.
    """
    if len(image.tile) != 1:
        return None
    [tile] = image.tile
    rawmode, *rest = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    layout, order = str(rawmode)[:-1], str(rawmode)[-1:]
    if layout not in ('RGB;16', 'RGBX;16', 'RGBA;16'):
        return None
    little = order == 'L' or order == 'N' and sys.byteorder == 'little'
    return [tile._replace(args=(layout + ('B' if little else 'L'), *rest))]


def to_array(image):
    """Decode a Pillow image to an array as decode_by_pillow has it."""
    planar = getattr(image, 'tag_v2', {}).get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
    image.load()
    if planar and image.mode in ('LA', 'La'):
        raise ValueError('Pillow takes the alpha of separate planes for a colour')
    if image.mode.startswith('I;16'):
        return np.array(image, np.uint16)
    if image.mode in ('I', 'F'):
        raise ValueError('32 bits')
    if image.mode == 'La':
        image = image.convert('LA')
    if image.has_transparency_data:
        return cv2.cvtColor(as_mode(image, 'RGBA'), cv2.COLOR_RGBA2BGRA)
    if image.mode in ('1', 'L'):
        return as_mode(image, 'L')
    return cv2.cvtColor(as_mode(image, 'RGB'), cv2.COLOR_RGB2BGR)


def as_mode(image, mode):
    """Return the pixels of a Pillow image in a mode, uint8."""
    return np.array(image if image.mode == mode else image.convert(mode))


def composite_on_white(image):
    """Return uint8 BGR of gray, BGR or BGRA pixels, uint8 or uint16, with alpha laid on white."""
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[2] == 3:
        return image
    alpha = cv2.cvtColor(image[:, :, 3], cv2.COLOR_GRAY2BGR)
    return cv2.add(cv2.multiply(image[:, :, :3], alpha, scale=1 / 255), 255 - alpha)


def apply_orientation(image, orientation):
    """Return the image turned upright from an EXIF orientation, 1 to 8 (EXIF 2.3, 4.6.4)."""
    if orientation > 4:
        image = cv2.transpose(image)
    # OpenCV's flip codes: 1 swaps left and right, 0 top and bottom, -1 both.
    flip_code = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if flip_code is None else cv2.flip(image, flip_code)
