"""Layouts that libraries read differently; the right pixels are computed here by NumPy."""

import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from inputs.image_headers import MAX_PIXELS
from tests.helpers import ROOT
from tests.image_files import CASES, by_pillow, encoded, loaded, photo
from tests.raw_images import bmp, png, png_chunk, tiff

RED, GREEN, BLUE, ALPHA = 0xff0000, 0xff00, 0xff, 0xff000000
COLOUR = np.asarray(photo())              # uint8 RGB
BAND = np.asarray(photo().convert('L'))[::-1, :, None]
STRAIGHT = COLOUR * (BAND / 255) + 255 - BAND   # COLOUR on white under alpha BAND
PREMULTIPLIED = np.uint8(COLOUR * (BAND / 255))


def check(path, content, rgb, atol=1):
    """Compare what load_image gives for a file with RGB or gray pixels, 0..255."""
    expected = np.broadcast_to(rgb, COLOUR.shape)[:, :, ::-1]
    np.testing.assert_allclose(loaded(path / 'a', content), expected, atol=atol)


@pytest.mark.parametrize('fourth', [0, 7, 255])
@pytest.mark.parametrize('masks, header_size', [
    ((), 40), ((), 124), ((RED, GREEN, BLUE), 40), ((RED, GREEN, BLUE, 0), 56),
    ((RED, GREEN, BLUE, 0), 108)])
def test_bmp_whose_fourth_byte_is_unused(tmp_path, masks, header_size, fourth):
    """Microsoft: of BI_RGB the high byte is not used; of BI_BITFIELDS, only what masks name."""
    pixels = np.dstack([COLOUR[:, :, ::-1], np.full_like(BAND, fourth)])
    check(tmp_path, bmp(pixels, masks, header_size), COLOUR, atol=0)


@pytest.mark.parametrize('header_size', [56, 108, 124])
def test_bmp_with_an_alpha_mask_is_laid_on_white(tmp_path, header_size):
    pixels = np.dstack([COLOUR[:, :, ::-1], BAND])
    check(tmp_path, bmp(pixels, (RED, GREEN, BLUE, ALPHA), header_size), STRAIGHT)


@pytest.mark.parametrize('planes', [False, True])
@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('bands, changed, rgb', [
    ([COLOUR], {}, COLOUR),
    ([COLOUR, BAND], {'t338': 0}, COLOUR),              # near infrared, say
    ([COLOUR, BAND], {'t338': 1, 'premultiplied': True}, STRAIGHT),
    ([COLOUR, BAND], {'t338': 2}, STRAIGHT),
    ([BAND], {'t262': 0}, 255 - BAND), ([BAND], {}, BAND),
    ([BAND, BAND[::-1]], {'t338': 0}, BAND)])
def test_tiff_bands_are_what_its_tags_say(tmp_path, planes, order, dtype, bands, changed, rgb):
    """TIFF 6.0: ExtraSamples (338) 0 is no alpha; PhotometricInterpretation (262) 0: 0 is white."""
    changed = dict(changed)
    if changed.pop('premultiplied', False):
        bands = [PREMULTIPLIED, BAND]
    pixels = np.dstack(bands).astype(dtype) * dtype(np.iinfo(dtype).max // 255)
    content = tiff(pixels, order, planes, **changed)
    if planes and dtype == np.uint16 and changed.get('t338') == 0 and len(bands[0][0, 0]) == 3:
        need_pillow(13)
    check(tmp_path, content, rgb, atol=2)


def need_pillow(version):
    """Skip the test with an older Pillow, which refuses the layout."""
    if int(Image.__version__.split('.')[0]) < version:
        pytest.skip(f'needs Pillow {version}')


@pytest.mark.parametrize('extra', [1, 2])
def test_tiff_of_gray_and_alpha_is_laid_on_white(tmp_path, extra):
    alpha = BAND[::-1]
    on_black = BAND * (alpha / 255)
    if extra == 1:
        need_pillow(13)
    content = tiff(np.dstack([np.uint8(on_black) if extra == 1 else BAND, alpha]), t338=extra)
    check(tmp_path, content, on_black + 255 - alpha, atol=2)


def test_alpha_that_cannot_be_told_is_refused(tmp_path):
    """Planes of gray and alpha: Pillow puts the alpha elsewhere; and 16 bits, which it refuses."""
    pixels = np.dstack([BAND, BAND[::-1]])
    for content in (tiff(pixels, planes=True, t338=2), tiff(np.uint16(pixels) * 257, t338=2)):
        with pytest.raises(ValueError, match='cannot decode this TIFF file'):
            loaded(tmp_path / 'a', content)


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_a_frame_beyond_the_pixels_of_a_header_is_refused(tmp_path):
    """GIF: a screen of 10 x 10 with a frame of 15000 x 15000, which Pillow would enlarge it to."""
    frame = b',' + struct.pack('<HHHHB', 0, 0, 15000, 15000, 0) + b'\x02\x02\x44\x01\0;'
    content = b'GIF89a' + struct.pack('<HHBBB', 10, 10, 0, 0, 0) + frame
    with pytest.raises(ValueError, match='cannot decode this GIF file') as error:
        loaded(tmp_path / 'a', content)
    assert 'more pixels' in str(error.value.__cause__.__cause__)
    assert Image.MAX_IMAGE_PIXELS >= MAX_PIXELS  # of the largest that are read, nothing is refused


def test_tiff_of_l_a_b_and_of_16_bits_of_cmyk(tmp_path):
    """L*a*b* by Pillow from RGB, 8 bits; CMYK by NumPy: 255 minus ink, minus black."""
    lab = loaded(tmp_path / 'a', encoded(photo().convert('LAB'), 'TIFF'))
    assert np.abs(lab - COLOUR[:, :, ::-1]).mean() < 1
    inks = np.dstack([255 - COLOUR, np.zeros_like(BAND)]).astype(np.uint16) * 257
    check(tmp_path, tiff(inks, t262=5), COLOUR, atol=1)


@pytest.mark.parametrize('depth', [1, 2, 4, 8, 16])
def test_the_clear_colour_of_a_gray_png_is_white(tmp_path, depth):
    """PNG, 11.3.1.1: compared in full depth; of the 2 bytes of tRNS, the lowest bits count."""
    samples = np.random.RandomState(0).randint(0, 1 << depth, (227, 227))
    samples[0, :2] = samples[1, 1] & ~1, samples[1, 1] | 1  # neighbours; only one is clear
    bits = (samples[:, :, None] >> np.arange(depth)[::-1] & 1).astype(np.uint8)
    rows = [row.tobytes() for row in np.packbits(bits.reshape(227, -1), axis=1)]
    clear = int(samples[1, 1])
    content = png(rows, 227, depth, 0, png_chunk(b'tRNS', struct.pack('>H', clear | (
        0 if depth == 16 else 1 << depth))))
    gray = np.where(samples == clear, 255, samples * (255 / ((1 << depth) - 1)))
    check(tmp_path, content, gray[:, :, None])


def test_the_clear_colour_of_16_bits_is_exact(tmp_path):
    """Two colours that differ in the last of 16 bits only: one is clear."""
    pixels = np.full((227, 227, 3), 30000, '>u2')
    pixels[100:, :, 2] += 1
    clear = png_chunk(b'tRNS', pixels[0, 0].tobytes())
    content = png([row.tobytes() for row in pixels], 227, 16, 2, clear)
    rgb = np.full(COLOUR.shape, 255.)
    rgb[100:] = 30000 / 257
    check(tmp_path, content, rgb)


@pytest.mark.parametrize('chunk', [
    (b'iCCP', b'name\0\0broken' * 9), (b'iCCP', b'n\0\0' + zlib.compress(bytes(20_000_000))),
    (b'gAMA', b'\1'), (b'cHRM', bytes(3)), (b'sRGB', b'\x99'), (b'pHYs', b''), (b'tIME', bytes(7)),
    (b'zTXt', b'k\0\0' + zlib.compress(bytes(2_000_000))), (b'iTXt', b'\xff' * 9),
    (b'acTL', bytes(2)), (b'eXIf', b'II'), (b'tRNS', b'\1'), (b'bKGD', b''), (b'hIST', b'1')],
    ids=lambda chunk: chunk[0].decode())
def test_a_broken_chunk_beside_the_pixels_is_ignored(tmp_path, capfd, chunk):
    """The pixels are Pillow's, of the file without the chunk; nothing is printed by a library."""
    content = CASES['PNG']
    content = content[:33] + png_chunk(*chunk) + content[33:]
    np.testing.assert_array_equal(loaded(tmp_path / 'a', content), by_pillow(CASES['PNG']))
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('chunk', [
    (b'PLTE', bytes(4)), (b'PLTE', b''), (b'IDAT', b'no zlib stream'), (b'IHDR', b'')])
def test_a_broken_chunk_of_pixels_is_refused_in_silence(tmp_path, capfd, chunk):
    kept = CASES['palette PNG'][:33]
    content = kept + png_chunk(*chunk) + png_chunk(b'IDAT', b'xxx') + png_chunk(b'IEND', b'')
    with pytest.raises(ValueError, match='a: .*cannot decode this PNG file$'):
        loaded(tmp_path / 'a', content)
    assert capfd.readouterr() == ('', '')


def test_warnings_of_pillow_are_not_shown(tmp_path):
    """Of 100 million pixels; of TIFF with broken EXIF data, cut off, of 9 bands. In a process."""
    Image.new('L', (10000, 10001)).save(tmp_path / 'large.png')
    (tmp_path / 'exif.tif').write_bytes(tiff(COLOUR, t262=8, t34665=12345))
    (tmp_path / 'short.tif').write_bytes(tiff(COLOUR, t262=8, t273=60000))
    (tmp_path / 'bands.tif').write_bytes(tiff(np.dstack([COLOUR] * 3)))
    code = ('import sys\nfrom inputs.images import load_image\nfor path in sys.argv[1:]:\n'
            '    try: load_image(path)\n    except ValueError: print("refused")')
    names = [tmp_path / name for name in ('large.png', 'exif.tif', 'short.tif', 'bands.tif')]
    shown = subprocess.run([sys.executable, '-W', 'always', '-c', code, *names], cwd=ROOT,
                           capture_output=True, text=True)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, 'refused\n' * 2, '')


def test_many_threads_decode_as_one_does(tmp_path):
    layouts = {**CASES, 'planes': tiff(np.uint16(COLOUR) * 257, planes=True),
               'L*a*b*': encoded(photo().convert('LAB'), 'TIFF')}
    expected = {name: loaded(tmp_path / 'a', content) for name, content in layouts.items()}

    def differs(number):
        name = list(layouts)[number % len(layouts)]
        return np.any(loaded(tmp_path / str(number), layouts[name]) != expected[name])
    with ThreadPoolExecutor(8) as threads:
        assert not any(threads.map(differs, range(10 * len(layouts))))
