"""Image files of rare layouts, put together byte by byte as their specifications say."""

import struct
import zlib

import numpy as np


def bmp(pixels, masks=(), header_size=40):
    """Return a BMP file of 32 bits per pixel (Microsoft, BITMAPINFOHEADER to BITMAPV5HEADER).

    pixels: uint8 [height, width, 4] in the order of the file. masks: bits of red, green, blue and,
    if there are 4, alpha in the file's numbers; without them the fourth byte is unused.
    """
    height, width = pixels.shape[:2]
    rows = pixels[::-1].tobytes()
    fields = struct.pack(f'<{len(masks)}I', *masks)
    header = struct.pack('<IiiHHIIiiII', header_size, width, height, 1, 32, 3 if masks else 0,
                         len(rows), 0, 0, 0, 0)
    header = (header + fields).ljust(header_size, b'\0')  # of 40 bytes, the masks follow it
    start = 14 + len(header)
    return b'BM' + struct.pack('<IHHI', start + len(rows), 0, 0, start) + header + rows


def png_chunk(kind, data):
    """Return a chunk of a PNG file (PNG specification, 5.3)."""
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(rows, width, depth, colour_type, *chunks):
    """Return a PNG file of unfiltered rows, bytes, with more chunks before its pixels."""
    header = struct.pack('>IIBBBBB', width, len(rows), depth, colour_type, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + b''.join([
        png_chunk(b'IHDR', header), *chunks,
        png_chunk(b'IDAT', zlib.compress(b''.join(b'\0' + row for row in rows))),
        png_chunk(b'IEND', b'')])


def tiff(pixels, order='<', planes=False, **changed):
    """Return an uncompressed TIFF file (TIFF 6.0, section 2) of uint8 or uint16 pixels.

    pixels: [height, width, bands]. order: of bytes, '<' or '>'. planes: each band by itself.
    changed: tag numbers and their values, as t338=0.
    """
    height, width, bands = pixels.shape
    data = pixels.transpose(2, 0, 1) if planes else pixels
    data = data.astype(data.dtype.newbyteorder(order)).tobytes()
    parts = bands if planes else 1
    size = len(data) // parts
    tags = {256: [width], 257: [height], 258: [8 * pixels.itemsize] * bands, 259: [1],
            262: [2 if bands > 2 else 1], 273: [8 + size * n for n in range(parts)],
            277: [bands], 278: [height], 279: [size] * parts, 284: [2 if planes else 1]}
    tags.update({int(name[1:]): list(np.ravel(value)) for name, value in changed.items()})
    entries = b''
    for tag, values in sorted(tags.items()):
        layout, kind = ('I', 4) if tag in (273, 279) else ('H', 3)
        value = struct.pack(f'{order}{len(values)}{layout}', *values)
        if len(value) > 4:
            data += value
            value = struct.pack(f'{order}I', 8 + len(data) - len(value))
        entries += struct.pack(f'{order}HHI', tag, kind, len(values)) + value.ljust(4, b'\0')
    start = {'<': b'II*\0', '>': b'MM\0*'}[order] + struct.pack(f'{order}I', 8 + len(data))
    return start + data + struct.pack(f'{order}H', len(tags)) + entries + bytes(4)
