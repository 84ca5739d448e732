"""Image headers: kind, size and completeness of an image file, read without decoding it."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MAX_PIXELS = 200_000_000  # the largest phone cameras; decoding takes up to 18 bytes per pixel
MAX_BYTES = 1 << 31       # size of a file; more than MAX_PIXELS take uncompressed
PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
JPEG_SEGMENTS = {*range(0x02, 0xd0), 0xd8, *range(0xdb, 0xff)}  # markers before a length
JPEG_GARBAGE = 1 << 16    # bytes skipped between two segments, as decoders do


class Header(NamedTuple):
    """The header of an image file."""

    kind: str             # 'JPEG', 'PNG', 'WebP', 'GIF', 'BMP' or 'TIFF'
    width: int            # pixels, before the orientation is applied
    height: int
    orientation: int = 1  # as in EXIF, 1 to 8 (1: upright); read from PNG and WebP only


def read_header(file: BinaryIO) -> Header:
    """Return the Header of a file that is open for reading bytes, reading no more than it needs.

    A JPEG, PNG, WebP or GIF file with a Header is complete: it has all segments, chunks or blocks
    up to the last one, in PNG with the right checksums. BMP and TIFF files can still be cut off.
    Raises ValueError for other content, for a file that is cut off, and beyond MAX_PIXELS.
    """
    size = file.seek(0, io.SEEK_END)
    if not size:
        raise ValueError('the file is empty')
    if size > MAX_BYTES:
        raise ValueError(f'the file is larger than {MAX_BYTES:,} bytes')
    file.seek(0)
    reader = find_reader(file.read(12))
    try:
        header = reader(file, size)
    except (struct.error, OverflowError) as error:
        raise ValueError('the file is cut off, or its header is broken') from error
    check_pixels(header)
    return header


def check_pixels(header):
    """Raise ValueError unless a picture has from 1 to MAX_PIXELS pixels."""
    if not 0 < header.width * header.height <= MAX_PIXELS:
        raise ValueError(f'{header.width} x {header.height} pixels; '
                         f'from 1 to {MAX_PIXELS:,} are read')


def find_reader(start):
    """Return the function that reads the header of a file with these first 12 bytes."""
    for signature, reader in READERS.items():
        if start.startswith(signature) and (reader is not read_webp or start[8:] == b'WEBP'):
            return reader
    raise ValueError('not a JPEG, PNG, WebP, GIF, BMP or TIFF picture')


def unpack(file, layout):
    """Return the next numbers of a file by a struct layout; raise struct.error at its end."""
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def read_jpeg(file, size):
    """Return the Header of a JPEG file (ITU-T T.81, annex B).

    Bytes after the end of the image are legal: many cameras add them.
    """
    file.seek(2)
    shape = None
    while True:
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xff or head[1] not in JPEG_SEGMENTS:
            file.seek(-len(head), io.SEEK_CUR)
            marker = next_jpeg_marker(file)
            if marker in (0xd9, 0xda):  # end of image, start of scan
                break
            if marker not in JPEG_SEGMENTS:
                continue
            head = bytes([0xff, marker]) + file.read(2)
        _, marker, length = struct.unpack('>BBH', head)
        following = file.tell() - 2 + length
        if 0xc0 <= marker <= 0xcf and marker not in (0xc4, 0xc8, 0xcc):  # a frame header
            shape = unpack(file, '>xHH')
        file.seek(following)
    if shape is None or marker == 0xd9:
        raise ValueError('a JPEG file without a picture')
    if not has_end_of_image(file, size):
        raise ValueError('the JPEG file is cut off: it has no end-of-image marker')
    return Header('JPEG', shape[1], shape[0])


def has_end_of_image(file, size):
    """Return whether an end-of-image marker follows in a JPEG file that is open at its scan."""
    scan = file.tell()
    file.seek(max(size - 2, scan))
    if file.read() == b'\xff\xd9':
        return True
    file.seek(scan)
    return b'\xff\xd9' in file.read(MAX_BYTES)  # in the data of a scan, a zero byte follows each ff


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
    """Return the Header of a PNG file (PNG specification, 3rd edition, 5.3 and 11.3)."""
    shape, orientation = None, 1
    for chunk in png_chunks(file, size):
        if zlib.crc32(memoryview(chunk)[4:-4]) != int.from_bytes(chunk[-4:], 'big'):
            raise ValueError('a broken PNG file: a checksum is wrong')
        if shape is None:
            shape = struct.unpack_from('>II', chunk, 8)
        elif chunk[4:8] == b'eXIf':
            orientation = exif_orientation(chunk[8:-4])
    return Header('PNG', *shape, orientation)


def png_chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield each chunk of a PNG file of `size` bytes: 4 bytes of length, 4 of kind, data, checksum.

    Raises ValueError where the file is cut off.
    """
    file.seek(8)
    kind = None
    while kind != b'IEND':
        start = file.read(8)
        length, kind = struct.unpack('>I4s', start)
        if file.tell() + length + 4 > size:
            raise ValueError('the PNG file is cut off')
        yield start + file.read(length + 4)


def read_webp(file, size):
    """Return the Header of a WebP file (RFC 9649)."""
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
    """Return the Header of a GIF file (GIF89a specification, sections 18 to 27)."""
    file.seek(6)
    width, height, flags = unpack(file, '<HHB2x')
    header = Header('GIF', width, height)
    check_pixels(header)
    skip_colours(file, flags)
    while (kind := file.read(1)) != b';':
        if kind == b',':  # an image: place, flags, colours, code size of its data
            skip_colours(file, unpack(file, '<8xB')[0])
        elif kind != b'!':
            raise ValueError('the GIF file is cut off or broken')
        file.seek(1, io.SEEK_CUR)
        while (length := unpack(file, 'B')[0]):
            file.seek(length, io.SEEK_CUR)
    return header


def skip_colours(file, flags):
    """Go past the colour table of a GIF file, if the flags before it say that there is one."""
    if flags & 0x80:
        file.seek(3 << (flags & 7) + 1, io.SEEK_CUR)


def read_bmp(file, size):
    """Return the Header of a BMP file of OS/2 (header of 12 bytes) or of Windows.

    A negative height means that the rows begin at the top.
    """
    file.seek(10)
    start, length = unpack(file, '<II')
    width, height, bits, compression = (*unpack(file, '<HH2xH'), 0) if length == 12 else unpack(
        file, '<ii2xHI')
    header = Header('BMP', width, abs(height))
    check_pixels(header)
    row_size = (width * bits + 31) // 32 * 4
    if compression in (0, 3, 6) and start + row_size * header.height > size:  # not run lengths
        raise ValueError('the BMP file is cut off')
    return header


def read_tiff(file, size):
    """Return the Header of a TIFF file (TIFF 6.0, sections 2 and 8)."""
    file.seek(0)
    tags = tiff_tags(file)
    return Header('TIFF', tags.get(256, 0), tags.get(257, 0))


def tiff_tags(file: BinaryIO) -> dict[int, int]:
    """Return {tag: number} of the first directory of a TIFF file that is open at its start.

    Tags of other types, or of several numbers, are not returned.
    """
    order = '<' if file.read(4)[:2] == b'II' else '>'
    file.seek(unpack(file, f'{order}I')[0])
    count, = unpack(file, f'{order}H')
    entries = [unpack(file, f'{order}HHI4s') for _ in range(count)]
    layouts = {3: 'H2x', 4: 'I'}
    return {tag: struct.unpack(order + layouts[kind], value)[0]
            for tag, kind, length, value in entries if kind in layouts and length == 1}


def exif_orientation(content):
    """Return the orientation in EXIF data, 1 to 8; 1 if none is readable (EXIF 2.3, 4.6.4)."""
    try:
        orientation = tiff_tags(io.BytesIO(content.removeprefix(b'Exif\0\0'))).get(274)
    except struct.error:
        return 1
    return orientation if orientation in range(1, 9) else 1


READERS = {  # first bytes of a file: function that reads its header
    b'\xff\xd8\xff': read_jpeg, PNG_SIGNATURE: read_png, b'RIFF': read_webp,
    b'GIF87a': read_gif, b'GIF89a': read_gif, b'BM': read_bmp,
    b'II*\0': read_tiff, b'MM\0*': read_tiff}
