"""Bytes of an image file to pixels, by the library that knows its kind best: OpenCV or Pillow."""

import io
import logging
import warnings
from collections.abc import Sequence

import cv2
import numpy as np
import PIL
from PIL import BmpImagePlugin, GifImagePlugin, Image, PngImagePlugin, TiffImagePlugin
from PIL.WebPImagePlugin import WebPImageFile

from inputs.image_headers import MAX_PIXELS, PNG_SIGNATURE, Header, png_chunks, tiff_tags

PILLOW_READERS = {
    'PNG': PngImagePlugin.PngImageFile, 'WebP': WebPImageFile, 'GIF': GifImagePlugin.GifImageFile,
    'BMP': BmpImagePlugin.BmpImageFile, 'TIFF': TiffImagePlugin.TiffImageFile}
PNG_GRAY, PNG_RGB, PNG_PALETTE, PNG_RGBA = 0, 2, 3, 6  # colour types (PNG specification, 11.2.1)
PNG_COLOURS = {PNG_RGB: 'RGB;16L', PNG_RGBA: 'RGBA;16L'}  # raw modes whose high bytes are low ones
WHITE_IS_ZERO, RGB, CMYK, CIELAB = 0, 2, 5, 8  # PhotometricInterpretation (TIFF 6.0, section 8)
UNSPECIFIED, ASSOCIATED, STRAIGHT = 0, 1, 2  # ExtraSamples: no alpha, premultiplied, or not

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
    kept = [b'IHDR', b'PLTE', b'IDAT', b'IEND']
    depth, colour_type = chunks[0][16:18]
    transparency = next((chunk for chunk in chunks if chunk[4:8] == b'tRNS'), None)
    if transparency and colour_type == PNG_PALETTE and len(transparency) <= 12 + 256:
        kept.append(b'tRNS')
    pixels_only = PNG_SIGNATURE + b''.join(chunk for chunk in chunks if chunk[4:8] in kept)
    pixels = decode_by_pillow(pixels_only, 'PNG')
    if depth == 16 and colour_type in PNG_COLOURS:  # Pillow keeps the high bytes only
        low_bytes = decode_by_pillow(pixels_only, 'PNG', PNG_COLOURS[colour_type])
        pixels = pixels * np.uint16(256) + low_bytes
    if transparency and colour_type in (PNG_GRAY, PNG_RGB):
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

    OpenCV decodes the usual layouts: it keeps all 16 bits, and is silent about damage, where
    Pillow's libtiff prints lines that name no file. But it garbles planes of 16 bits, drops the
    alpha of gray, and knows neither five bands nor all of CMYK and L*a*b*.
    """
    tags = tiff_tags(io.BytesIO(content))
    bands = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION)
    extra = tags.get(TiffImagePlugin.EXTRASAMPLES)
    has_planes = bands > 1 and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
    if bands == 2 and extra != UNSPECIFIED or bands > 4 or photometric in (CMYK, CIELAB):
        pixels = decode_by_pillow(content, 'TIFF')
    else:
        pixels = decode_by_opencv(content, 'TIFF', cv2.IMREAD_UNCHANGED)
        if has_planes and pixels.dtype == np.uint16:
            pixels = decode_by_pillow(content, 'TIFF')
        elif bands == 4:
            pixels = resolve_fourth_band(pixels, photometric, extra)
    if pixels.dtype == np.uint16 and photometric == WHITE_IS_ZERO:  # neither library does it
        pixels = 65535 - pixels
    return pixels


def resolve_fourth_band(pixels, photometric, extra):
    """Return TIFF pixels of four bands on white if the last is alpha, else without it.

    extra: the number of ExtraSamples; None: not given, which Pillow, too, takes for straight alpha.
    """
    if photometric != RGB or extra == UNSPECIFIED:
        return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[:, :, :3])
    # OpenCV's libtiff has multiplied straight alpha of 8 bits.
    is_multiplied = extra == ASSOCIATED or extra == STRAIGHT and pixels.dtype == np.uint8
    return composite_on_white(pixels, is_multiplied)


def decode_by_pillow(content, kind, rawmode=None):
    """Return the pixels of an image file: gray [height, width], or [height, width, BGR or BGRA].

    rawmode: Pillow's name for the layout of a PNG file's samples; None: as its header says.

    They are uint8 or, of 16 bits of gray, uint16. Raises ValueError if Pillow cannot decode the
    file, or for more pixels than MAX_PIXELS.
    """
    try:
        with PILLOW_READERS[kind](io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError('more pixels than the header says')
            check_strips(image, len(content))
            if rawmode:
                image.tile = [image.tile[0]._replace(args=rawmode)]
            return to_array(image)
    except Exception as error:  # on broken files, Pillow raises most of the kinds that there are
        raise ValueError(f'Pillow {PIL.__version__} cannot decode this {kind} file') from error


def check_strips(image, size):
    """Raise ValueError if a part of a TIFF image lies beyond its file of `size` bytes."""
    tags = getattr(image, 'tag_v2', {})
    for starts, lengths in ((TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.STRIPBYTECOUNTS),
                            (TiffImagePlugin.TILEOFFSETS, TiffImagePlugin.TILEBYTECOUNTS)):
        ends = map(sum, zip(tags.get(starts, ()), tags.get(lengths, ()), strict=False))
        if max(ends, default=0) > size:
            raise ValueError('the file is cut off')


def to_array(image):
    """Decode a Pillow image to an array as decode_by_pillow has it."""
    has_planes = getattr(image, 'tag_v2', {}).get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
    image.load()
    if image.mode in ('I', 'F') or has_planes and image.mode in ('LA', 'La'):
        raise ValueError('32 bits per sample, or alpha that Pillow takes for a colour')
    if image.mode.startswith('I;16'):
        return np.array(image, np.uint16)
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
