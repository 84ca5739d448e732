"""Image files of every kind, in memory, and Pillow's reading of them as reference."""

import io
import struct

import cv2
import numpy as np
from PIL import Image, ImageOps

from inputs.images import load_image

NO_MEAN = np.zeros(3, np.float32)


def photo(width=227, height=227):
    """Return a smooth colourful picture; of the default size, load_image does not scale it."""
    random = np.random.RandomState(0)
    pixels = cv2.resize(random.uniform(0, 255, (5, 7, 3)).astype(np.float32), (width, height),
                        interpolation=cv2.INTER_LINEAR)
    return Image.fromarray(pixels.round().astype(np.uint8))


def with_alpha(image):
    """Return the picture with an alpha that grows from left to right, 0 to 255."""
    image = image.convert('LA' if image.mode == 'L' else 'RGBA')
    ramp = np.linspace(0, 255, image.width).round().astype(np.uint8)
    image.putalpha(Image.fromarray(np.tile(ramp, (image.height, 1))))
    return image


def encoded(image, kind, **options):
    """Return the bytes of a picture in one of Pillow's formats."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def by_pillow(content):
    """Return Pillow's pixels, upright and on white: float [height, width, 3], BGR."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert('RGBA')
    white = Image.new('RGBA', image.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, image).convert('RGB'), float)[:, :, ::-1]


def loaded(path, content):
    """Return the pixels that load_image gives, without mean, for a file with this content."""
    path.write_bytes(content)
    return load_image(str(path), mean=NO_MEAN)


def exif(orientation):
    """Return EXIF data with an orientation."""
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def ycck(image):
    """Return (CMYK JPEG, YCCK JPEG): the second as Photoshop marks its inverted CMYK."""
    content = encoded(image.convert('CMYK'), 'JPEG', quality=95)
    at = content.index(b'Adobe') + 11
    return content, content[:at] + b'\x02' + content[at + 1:]


PALETTE = photo().quantize(64)
OTHER_FRAME = {'save_all': True, 'append_images': [Image.new('RGB', (227, 227), 'red')]}
CASES = {
    'JPEG': encoded(photo(), 'JPEG', quality=95),
    'progressive JPEG': encoded(photo(), 'JPEG', quality=95, progressive=True),
    'gray JPEG': encoded(photo().convert('L'), 'JPEG', quality=95),
    'CMYK JPEG': ycck(photo())[0],
    'YCCK JPEG': ycck(photo())[1],
    'PNG': encoded(photo(), 'PNG'),
    'gray PNG': encoded(photo().convert('L'), 'PNG'),
    'gray and alpha PNG': encoded(with_alpha(photo().convert('L')), 'PNG'),
    'RGBA PNG': encoded(with_alpha(photo()), 'PNG'),
    'palette PNG': encoded(PALETTE, 'PNG'),
    'palette PNG with a clear colour': encoded(PALETTE, 'PNG', transparency=3),
    'palette PNG with alpha': encoded(PALETTE, 'PNG', transparency=bytes(range(0, 256, 4))),
    'RGB PNG with a clear colour': encoded(photo(), 'PNG', transparency=photo().getpixel((0, 0))),
    '1 bit PNG': encoded(photo().convert('1'), 'PNG'),
    'GIF': encoded(PALETTE, 'GIF'),
    'GIF with a clear colour': encoded(PALETTE, 'GIF', transparency=3),
    'animated GIF': encoded(PALETTE, 'GIF', **OTHER_FRAME),
    'animated PNG': encoded(photo(), 'PNG', **OTHER_FRAME),
    'animated WebP': encoded(photo(), 'WEBP', lossless=True, **OTHER_FRAME),
    'BMP': encoded(photo(), 'BMP'),
    'RGBA BMP': encoded(with_alpha(photo()), 'BMP'),
    'palette BMP': encoded(PALETTE, 'BMP'),
    'TIFF': encoded(photo(), 'TIFF'),
    'LZW TIFF': encoded(photo(), 'TIFF', compression='tiff_lzw'),
    'gray TIFF': encoded(photo().convert('L'), 'TIFF'),
    'palette TIFF': encoded(PALETTE, 'TIFF'),
    'CMYK TIFF': encoded(photo().convert('CMYK'), 'TIFF'),
    'RGBA TIFF': encoded(with_alpha(photo()), 'TIFF'),
    'WebP': encoded(photo(), 'WEBP', quality=95),
    'lossless WebP': encoded(photo(), 'WEBP', lossless=True),
    'RGBA WebP': encoded(with_alpha(photo()), 'WEBP', lossless=True),
}


def too_large(kind):
    """Return the start of a file with a header of 50000 x 50000 pixels; kind: not PNG."""
    side = struct.pack('<H', 50000)
    frame = b'\xff\xc0\0\x11\x08\xc3\x50\xc3\x50\3' + bytes(9)
    tags = struct.pack('<IHHHIHHHHII', 8, 2, 256, 3, 1, 50000, 0, 257, 4, 1, 50000)
    chunk = struct.pack('<I4s4sII', 22, b'WEBP', b'VP8X', 10, 0)
    return {'JPEG': b'\xff\xd8' + frame + b'\xff\xda\0\2\xff\xd9',
            'GIF': b'GIF89a' + side * 2 + bytes(9),
            'BMP': b'BM' + bytes(12) + struct.pack('<Iii', 40, 50000, -50000) + bytes(28),
            'TIFF': b'II*\0' + tags,
            'WebP': b'RIFF' + chunk + (49999).to_bytes(3, 'little') * 2}[kind]
