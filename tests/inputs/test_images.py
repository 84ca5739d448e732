import io
import os
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from inputs.image_headers import MAX_PIXELS, Header, read_header
from inputs.images import check_image, jpeg_flag, load_image
from tests.helpers import png_file, shared

NO_MEAN = np.zeros(3, np.float32)


def photo(width=227, height=227):
    """Return a smooth colourful picture; of the default size, load_image does not scale it."""
    random = np.random.RandomState(0)
    pixels = cv2.resize(random.uniform(0, 255, (5, 7, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return Image.fromarray(pixels.round().astype(np.uint8))


def with_alpha(image):
    """Return the picture with an alpha that grows from left to right, 0 to 255."""
    image = image.convert('LA' if image.mode == 'L' else 'RGBA')
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, image.width).round().astype(np.uint8), (image.height, 1))))
    return image


def encoded(image, kind, **options):
    """Return the bytes of a picture in one of Pillow's formats."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def by_pillow(content):
    """Return what Pillow reads, turned upright and laid on white: float [height, width, 3], BGR."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert('RGBA')
    white = Image.new('RGBA', image.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, image).convert('RGB'), float)[:, :, ::-1]


def loaded(path, content):
    """Return what load_image makes of a file with this content, its name saying nothing, without mean."""
    path.write_bytes(content)
    return load_image(str(path), mean=NO_MEAN)


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def ycck(image):
    """Return a YCCK JPEG as Photoshop writes it: CMYK, inverted, under an Adobe marker that says so."""
    content = encoded(image.convert('CMYK'), 'JPEG', quality=95)
    at = content.index(b'Adobe') + 11
    return content, content[:at] + b'\x02' + content[at + 1:]


PALETTE = photo().quantize(64)
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
    'BMP': encoded(photo(), 'BMP'),
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


@pytest.mark.parametrize('case', CASES)
def test_each_kind_gives_the_pixels_that_pillow_reads(tmp_path, case):
    """Within 2 of 255 (CMYK JPEG and lossy WebP: 4; their decoders round colours in other places)."""
    np.testing.assert_allclose(loaded(tmp_path / 'noname', CASES[case]), by_pillow(CASES[case]),
                               atol=4 if 'CK JPEG' in case or 'CMYK' in case or case == 'WebP' else 2)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_applied(tmp_path, kind, orientation):
    """The same as Pillow's exif_transpose; PNG and WebP with alpha, which OpenCV alone would not turn."""
    image = photo() if kind in ('JPEG', 'TIFF') else with_alpha(photo())
    content = encoded(image, kind, exif=exif(orientation), **({'lossless': True} if kind == 'WEBP' else {}))
    np.testing.assert_allclose(loaded(tmp_path / 'a', content), by_pillow(content), atol=2)


@pytest.mark.parametrize('data', [b'', b'Exif\0\0II*\0', b'II*\0\xff\xff\xff\x7f', bytes(20),
                                  exif(3).tobytes().replace(b'\3\0\0\0', b'\x63\0\0\0')])
def test_broken_exif_data_mean_upright(tmp_path, data):
    content = encoded(photo(), 'PNG', exif=data or b'x')
    np.testing.assert_array_equal(loaded(tmp_path / 'a', content), by_pillow(CASES['PNG']))


def test_large_jpegs_are_turned_upright_too(tmp_path):
    content = encoded(photo(2000, 1500), 'JPEG', quality=95, exif=exif(6))
    expected = cv2.resize(by_pillow(content).astype(np.uint8), (227, 227), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(loaded(tmp_path / 'a', content), expected, atol=3)


@pytest.mark.parametrize('kind', ['.png', '.tif'])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_16_bits_are_scaled(tmp_path, kind, channels):
    """By 257, against NumPy; a ramp through all values, which clipping would turn white. Alpha is composited."""
    pixels = np.random.RandomState(0).randint(0, 65536, (227, 227, channels)).astype(np.uint16)
    expected = pixels[:, :, :3] / 257
    if channels == 4:
        alpha = pixels[:, :, 3:] / 65535
        expected = expected * alpha + 255 * (1 - alpha)
    content = cv2.imencode(kind, pixels)[1].tobytes()
    np.testing.assert_allclose(loaded(tmp_path / 'a', content), np.broadcast_to(expected, (227, 227, 3)), atol=1.51)


def can_read_gif(folder):
    (folder / 'probe.gif').write_bytes(encoded(PALETTE, 'GIF'))
    return cv2.haveImageReader(str(folder / 'probe.gif'))


def test_the_first_frame_of_a_gif_or_a_clear_refusal(tmp_path):
    other = Image.new('RGB', (227, 227), 'red').quantize(64)
    content = encoded(PALETTE, 'GIF', save_all=True, append_images=[other])
    if can_read_gif(tmp_path):
        np.testing.assert_allclose(loaded(tmp_path / 'a.jpg', content), by_pillow(content), atol=2)
    else:
        with pytest.raises(ValueError, match='OpenCV .* can not decode this GIF'):
            loaded(tmp_path / 'a.jpg', content)


@pytest.mark.parametrize('width, height', [(1, 1), (1, 20000), (20000, 1), (3, 2)])
@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_tiny_and_extreme_shapes(tmp_path, kind, width, height):
    image = loaded(tmp_path / 'a', encoded(Image.new('RGB', (width, height), (200, 100, 50)), kind, quality=95))
    assert image.shape == (227, 227, 3)
    np.testing.assert_allclose(image, np.broadcast_to([50, 100, 200], image.shape), atol=3)


def test_paths_with_blanks_and_other_letters(tmp_path):
    for name in ('a b.jpg', 'größe 写真 ☀.png', 'no extension'):
        np.testing.assert_array_equal(loaded(tmp_path / name, CASES['PNG']), by_pillow(CASES['PNG']))


def too_large(kind):
    """Return the start of a file of another kind with a header of 50000 x 50000 pixels."""
    side = struct.pack('<H', 50000)
    return {'JPEG': b'\xff\xd8\xff\xc0\0\x11\x08\xc3\x50\xc3\x50\3' + bytes(9) + b'\xff\xda\0\2\xff\xd9',
            'GIF': b'GIF89a' + side * 2 + bytes(9),
            'BMP': b'BM' + bytes(12) + struct.pack('<Iii', 40, 50000, -50000) + bytes(28),
            'TIFF': b'II*\0' + struct.pack('<IHHHIHHHHII', 8, 2, 256, 3, 1, 50000, 0, 257, 4, 1, 50000),
            'WebP': b'RIFF' + struct.pack('<I4s4sII', 22, b'WEBP', b'VP8X', 10, 0) + (49999).to_bytes(3, 'little') * 2}[kind]


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'GIF', 'BMP', 'TIFF', 'WebP'])
def test_too_many_pixels_are_refused_by_the_header(tmp_path, kind):
    (tmp_path / 'a').write_bytes(png_file(50000, 50000) if kind == 'PNG' else too_large(kind))
    for read in (load_image, check_image):
        with pytest.raises(ValueError, match=f'a: 50000 x 50000 pixels; from 1 to {MAX_PIXELS:,} are read'):
            read(str(tmp_path / 'a'))


@pytest.mark.parametrize('make, reason', [
    (lambda path: None, 'No such file'), (lambda path: path.mkdir(), 'not a file'), (os.mkfifo, 'not a file'),
    (lambda path: path.write_text('text'), 'not a JPEG, PNG'), (lambda path: path.write_bytes(b''), 'the file is empty'),
    (lambda path: path.write_bytes(png_file(0, 9)), '0 x 9 pixels'),
    (lambda path: path.write_bytes(encoded(Image.new('F', (9, 9)), 'TIFF')), 'can not decode this TIFF')])
def test_what_can_not_be_read_is_said_in_one_line(tmp_path, make, reason):
    make(tmp_path / 'a.jpg')
    for read in (load_image, check_image):
        with pytest.raises(ValueError, match=f'a.jpg: .*{reason}') as error:
            read(str(tmp_path / 'a.jpg'))
        assert '\n' not in str(error.value)


def test_a_missing_file_whose_name_is_not_utf_8_may_come_from_another_kind_of_list(tmp_path):
    with pytest.raises(ValueError, match=r'No such file or directory \(its name is not UTF-8: is the list\?\)'):
        check_image(f'{tmp_path}/K\udce4fer.jpg')


@pytest.mark.parametrize('case', CASES)
def test_a_file_that_is_cut_off_is_broken(tmp_path, case):
    """Anywhere, also within the last bytes; the look before training sees it as well."""
    content = CASES[case]
    for end in (20, len(content) // 3, len(content) * 9 // 10, len(content) - 1):
        (tmp_path / 'a').write_bytes(content[:end])
        for read in (load_image, check_image):
            with pytest.raises(ValueError):
                read(str(tmp_path / 'a'))
    (tmp_path / 'a').write_bytes(content)
    check_image(str(tmp_path / 'a'))


def test_bytes_after_the_end_of_a_jpeg_are_fine(tmp_path):
    content = CASES['progressive JPEG']
    for more in (b'\0', b'a video of a motion photo' * 1000, content[:2000]):
        np.testing.assert_array_equal(loaded(tmp_path / 'a', content + more), loaded(tmp_path / 'b', content))
    thumbnail = exif(1)
    thumbnail[0x927c] = CASES['JPEG'][:30000]  # a whole JPEG file inside a segment is not the end of the picture
    with_preview = encoded(photo(), 'JPEG', exif=thumbnail)
    with pytest.raises(ValueError, match='cut off'):
        loaded(tmp_path / 'a', with_preview[:-2000])


def test_a_changed_byte_of_a_png_is_broken(tmp_path):
    content = bytearray(CASES['PNG'])
    content[len(content) // 2] ^= 1
    (tmp_path / 'a').write_bytes(content)
    with pytest.raises(ValueError, match='checksum'):
        check_image(str(tmp_path / 'a'))


def test_load_image_is_bgr_minus_the_mean(picture_folder):
    image = load_image(str(picture_folder / '03.png'))
    assert image.shape == (227, 227, 3) and image.dtype == np.float32
    np.testing.assert_array_equal(image, np.broadcast_to(np.float32([60 - 104, 10 - 117, 200 - 124]), image.shape))


def test_load_image_shrinks_by_area_and_scales_each_side_by_itself(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (681, 454, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    expected = pixels.reshape(227, 3, 227, 2, 3).mean((1, 3))  # 3 x 2 blocks, by NumPy
    np.testing.assert_allclose(load_image(str(tmp_path / 'a.png'), mean=NO_MEAN), expected, atol=0.51)


def test_large_jpegs_are_decoded_small_and_change_little(tmp_path):
    """Mean difference to a whole decoding under 1 of 255, on a photo-like picture of 4000 x 3000 with fine detail."""
    random = np.random.RandomState(0)
    pixels = sum(cv2.resize(random.uniform(0, 255 / 4, (3 * n, 4 * n, 3)), (4000, 3000), interpolation=cv2.INTER_CUBIC)
                 for n in (2, 10, 50, 300))
    cv2.imwrite(str(tmp_path / 'a.jpg'), np.clip(pixels, 0, 255))
    with open(tmp_path / 'a.jpg', 'rb') as file:
        header = read_header(file)
    assert header == Header('JPEG', 4000, 3000)
    assert jpeg_flag(header, (227, 227)) == cv2.IMREAD_REDUCED_COLOR_4
    whole = cv2.resize(cv2.imread(str(tmp_path / 'a.jpg')), (227, 227), interpolation=cv2.INTER_AREA)
    difference = np.abs(load_image(str(tmp_path / 'a.jpg'), mean=NO_MEAN) - whole)
    assert difference.mean() < 1


@pytest.mark.parametrize('height, width, flag', [
    (907, 2000, cv2.IMREAD_COLOR), (908, 2000, cv2.IMREAD_REDUCED_COLOR_2), (3632, 3632, cv2.IMREAD_REDUCED_COLOR_8),
    (5, 5, cv2.IMREAD_COLOR)])
def test_twice_the_size_that_is_needed_is_kept(height, width, flag):
    content = cv2.imencode('.jpg', np.zeros((height, width, 3), np.uint8))[1].tobytes()
    header = read_header(io.BytesIO(content))
    assert header == Header('JPEG', width, height)
    assert jpeg_flag(header, (227, 227)) == flag


def test_photos_decoded_small_change_little():
    """20 photos, enlarged to more than 4 times the size needed and stored as JPEG: 1 of 255 on average, 3 at most."""
    folder, differences = shared('data', 'hymenoptera', 'val', 'bees'), []
    for name in sorted(os.listdir(folder))[:20]:
        picture = cv2.resize(cv2.imread(os.path.join(folder, name)), (1250, 1000), interpolation=cv2.INTER_CUBIC)
        content = cv2.imencode('.jpg', picture)[1]
        flag = jpeg_flag(read_header(io.BytesIO(content.tobytes())), (227, 227))
        assert flag == cv2.IMREAD_REDUCED_COLOR_2
        small, whole = (cv2.resize(cv2.imdecode(content, how), (227, 227), interpolation=cv2.INTER_AREA).astype(float)
                        for how in (flag, cv2.IMREAD_COLOR))
        differences.append(np.abs(small - whole).mean())
    assert np.mean(differences) <= 1 and max(differences) <= 3
