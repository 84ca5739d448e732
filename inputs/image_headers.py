"""Reads from an image file's structure, without decoding it, what kind it is, how large, and whether it is whole."""

import io
import struct
import zlib
from typing import NamedTuple

MAX_PIXELS = 200_000_000  # the largest phone cameras; decoding takes up to 8 bytes a pixel
MAX_BYTES = 1 << 31       # of a file; more than MAX_PIXELS take uncompressed
JPEG_GARBAGE = 1 << 16    # bytes between two segments that are skipped, as decoders do


class Header(NamedTuple):
    """What a file says of its picture; `orientation` as in EXIF, 1 to 8 (1: upright), for PNG and WebP only."""

    kind: str
    width: int
    height: int
    orientation: int = 1


def read_header(file):
    """Return the Header of a file that is open for reading bytes.

    JPEG, PNG and WebP files are whole then: all segments or chunks up to the last are there, those of PNG with the
    right checksum. Of GIF, BMP and TIFF only decoding can tell. Raises ValueError for other content, for what is cut
    off, and beyond MAX_PIXELS; reads no more than it needs.
    """
    size = file.seek(0, io.SEEK_END)
    if not 0 < size <= MAX_BYTES:
        raise ValueError(f'the file is larger than {MAX_BYTES:,} bytes' if size else 'the file is empty')
    file.seek(0)
    start = file.read(12)
    reader = next((reader for signature, reader in READERS.items() if start.startswith(signature)), None)
    if reader is None or reader is read_webp and start[8:] != b'WEBP':
        raise ValueError('not a JPEG, PNG, WebP, GIF, BMP or TIFF picture')
    try:
        header = reader(file, size)
    except (struct.error, OverflowError) as error:
        raise ValueError('the file is cut off, or its header is broken') from error
    if not 0 < header.width * header.height <= MAX_PIXELS:
        raise ValueError(f'{header.width} x {header.height} pixels; from 1 to {MAX_PIXELS:,} are read')
    return header


def unpack(file, layout):
    """Return the numbers of a struct layout from the next bytes of a file; struct.error if it ends before."""
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def read_jpeg(file, size):
    """ITU-T T.81, annex B. Bytes after the end of the image are fine: many cameras add them."""
    file.seek(2)
    shape = None
    while (marker := next_jpeg_marker(file)) not in (0xd9, 0xda):  # end of image, start of scan
        if 0xd0 <= marker <= 0xd7 or marker == 0x01:  # stand alone
            continue
        length, = unpack(file, '>H')
        following = file.tell() - 2 + length
        if 0xc0 <= marker <= 0xcf and marker not in (0xc4, 0xc8, 0xcc):  # a frame header
            shape = unpack(file, '>xHH')
        file.seek(following)
    if shape is None or marker == 0xd9:
        raise ValueError('a JPEG file without a picture')
    scan = file.tell()
    file.seek(max(size - 2, scan))
    if file.read() != b'\xff\xd9':
        file.seek(scan)
        if b'\xff\xd9' not in file.read(MAX_BYTES):  # in the data of a scan, a zero byte follows each ff
            raise ValueError('the JPEG file is cut off: it has no end-of-image marker')
    return Header('JPEG', shape[1], shape[0])


def next_jpeg_marker(file):
    """Return the code of the next JPEG marker, 1 to 254."""
    before = None
    for _ in range(JPEG_GARBAGE):
        byte, = unpack(file, 'B')
        if before == 0xff and byte not in (0x00, 0xff):
            return byte
        before = byte
    raise ValueError('a broken JPEG file: no marker where one should be')


def read_png(file, size):
    """PNG specification, 3rd edition, sections 5.3 and 11.3."""
    file.seek(8)
    shape, orientation, kind = None, 1, None
    while kind != b'IEND':
        length, = unpack(file, '>I')
        if file.tell() + length + 8 > size:
            raise ValueError('the PNG file is cut off')
        chunk = file.read(length + 4)
        kind = chunk[:4]
        if zlib.crc32(chunk) != unpack(file, '>I')[0]:
            raise ValueError('a broken PNG file: a checksum is wrong')
        if shape is None:
            shape = struct.unpack_from('>II', chunk, 4)
        elif kind == b'eXIf':
            orientation = exif_orientation(chunk[4:])
    return Header('PNG', *shape, orientation)


def read_webp(file, size):
    """RFC 9649."""
    file.seek(4)
    end = 8 + unpack(file, '<I')[0]
    if end > size:
        raise ValueError('the WebP file is cut off')
    file.seek(12)
    shape, orientation = None, 1
    while file.tell() + 8 <= end:
        kind, length = unpack(file, '<4sI')
        following = file.tell() + length + length % 2
        if shape is None:
            shape = webp_shape(kind, file.read(10))
        elif kind == b'EXIF':
            orientation = exif_orientation(file.read(min(length, size)))
        file.seek(following)
    if shape is None:
        raise ValueError('a WebP file without a picture')
    return Header('WebP', *shape, orientation)


def webp_shape(kind, start):
    """Return (width, height) from the first 10 bytes of a WebP file's first chunk."""
    if kind == b'VP8X':
        return tuple(1 + int.from_bytes(start[at:at + 3], 'little') for at in (4, 7))
    if kind == b'VP8L':
        bits, = struct.unpack_from('<I', start, 1)
        return 1 + (bits & 0x3fff), 1 + (bits >> 14 & 0x3fff)
    return tuple(side & 0x3fff for side in struct.unpack_from('<HH', start, 6))


def read_gif(file, size):
    """GIF89a specification, section 18."""
    file.seek(6)
    return Header('GIF', *unpack(file, '<HH'))


def read_bmp(file, size):
    """The headers of OS/2 (12 bytes) and of Windows; a negative height means that rows begin at the top."""
    file.seek(14)
    length, = unpack(file, '<I')
    width, height = unpack(file, '<HH' if length == 12 else '<ii')
    return Header('BMP', width, abs(height))


def read_tiff(file, size):
    """TIFF 6.0, sections 2 and 8."""
    file.seek(0)
    tags = tiff_tags(file)
    return Header('TIFF', tags.get(256, 0), tags.get(257, 0))


def tiff_tags(file):
    """Return {tag: number} of the single numbers in the first directory of a TIFF file that is open at its start."""
    order = '<' if file.read(4)[:2] == b'II' else '>'
    file.seek(unpack(file, f'{order}I')[0])
    count, = unpack(file, f'{order}H')
    entries = [unpack(file, f'{order}HHI4s') for _ in range(count)]
    layouts = {3: 'H2x', 4: 'I'}
    return {tag: struct.unpack(order + layouts[kind], value)[0] for tag, kind, length, value in entries
            if kind in layouts and length == 1}


def exif_orientation(content):
    """Return the orientation, 1 to 8, in EXIF data; 1 where there is none, or they are broken (EXIF 2.3, 4.6.4)."""
    try:
        orientation = tiff_tags(io.BytesIO(content.removeprefix(b'Exif\0\0'))).get(274)
    except struct.error:
        return 1
    return orientation if orientation in range(1, 9) else 1


READERS = {b'\xff\xd8\xff': read_jpeg, b'\x89PNG\r\n\x1a\n': read_png, b'RIFF': read_webp, b'GIF87a': read_gif,
           b'GIF89a': read_gif, b'BM': read_bmp, b'II*\0': read_tiff, b'MM\0*': read_tiff}
