import os
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from inputs import images
from inputs.images import decoder_fingerprint, load_image
from tests import image_files
from tests.image_files import CASES, NO_MEAN, by_pillow, encoded, exif, loaded, photo


@pytest.mark.parametrize('case', CASES)
def test_each_kind_gives_the_pixels_that_pillow_reads(tmp_path, case):
    """Within 2 of 255; 4 for CMYK, YCCK and lossy WebP, whose decoders round differently."""
    atol = 4 if 'CMYK' in case or case in ('YCCK JPEG', 'WebP') else 2
    content = CASES[case]
    np.testing.assert_allclose(loaded(tmp_path / 'noname', content), by_pillow(content), atol=atol)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_applied(tmp_path, kind, orientation):
    """As by Pillow; PNG and WebP have alpha, because OpenCV alone does not turn those."""
    image = photo() if kind in ('JPEG', 'TIFF') else image_files.with_alpha(photo())
    options = {'lossless': True} if kind == 'WEBP' else {}
    content = encoded(image, kind, exif=exif(orientation), **options)
    np.testing.assert_allclose(loaded(tmp_path / 'a', content), by_pillow(content), atol=2)


@pytest.mark.parametrize('data', [b'', b'Exif\0\0II*\0', b'II*\0\xff\xff\xff\x7f', bytes(20),
                                  exif(3).tobytes().replace(b'\3\0\0\0', b'\x63\0\0\0')])
def test_broken_exif_data_mean_upright(tmp_path, data):
    content = encoded(photo(), 'PNG', exif=data or b'x')
    np.testing.assert_array_equal(loaded(tmp_path / 'a', content), by_pillow(CASES['PNG']))


@pytest.mark.parametrize('kind', ['.png', '.tif'])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_16_bits_are_scaled(tmp_path, kind, channels):
    """Divided by 257 and composited by NumPy; clipping would turn nearly all pixels white."""
    pixels = np.random.RandomState(0).randint(0, 65536, (227, 227, channels)).astype(np.uint16)
    expected = pixels[:, :, :3] / 257
    if channels == 4:
        alpha = pixels[:, :, 3:] / 65535
        expected = expected * alpha + 255 * (1 - alpha)
    content = cv2.imencode(kind, pixels)[1].tobytes()
    expected = np.broadcast_to(expected, (227, 227, 3))
    np.testing.assert_allclose(loaded(tmp_path / 'a', content), expected, atol=1.51)


@pytest.mark.parametrize('width, height', [(1, 1), (1, 20000), (20000, 1), (3, 2)])
@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_tiny_and_extreme_shapes(tmp_path, kind, width, height):
    picture = Image.new('RGB', (width, height), (200, 100, 50))
    image = loaded(tmp_path / 'a', encoded(picture, kind, quality=95))
    assert image.shape == (227, 227, 3)
    np.testing.assert_allclose(image, np.broadcast_to([50, 100, 200], image.shape), atol=3)


def test_paths_with_blanks_and_other_letters(tmp_path):
    expected = by_pillow(CASES['PNG'])
    for name in ('a b.jpg', 'größe 写真 ☀.png', 'no extension'):
        np.testing.assert_array_equal(loaded(tmp_path / name, CASES['PNG']), expected)


def test_load_image_is_bgr_minus_the_mean(picture_folder):
    image = load_image(str(picture_folder / '03.png'))
    assert image.shape == (227, 227, 3) and image.dtype == np.float32
    expected = np.float32([60 - 104, 10 - 117, 200 - 124])
    np.testing.assert_array_equal(image, np.broadcast_to(expected, image.shape))


def test_load_image_shrinks_each_side_by_area(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (681, 454, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    expected = pixels.reshape(227, 3, 227, 2, 3).mean((1, 3))  # 3 x 2 blocks, by NumPy
    image = load_image(str(tmp_path / 'a.png'), mean=NO_MEAN)
    np.testing.assert_allclose(image, expected, atol=0.51)


def test_load_image_is_bilinear_if_only_one_side_shrinks(tmp_path):
    """By OpenCV, whose two methods differ here."""
    pixels = np.random.RandomState(0).randint(0, 256, (100, 454, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    expected, other = (cv2.resize(pixels, (227, 227), interpolation=method)
                       for method in (cv2.INTER_LINEAR, cv2.INTER_AREA))
    image = load_image(str(tmp_path / 'a.png'), mean=NO_MEAN)
    np.testing.assert_array_equal(image, expected)
    assert (expected != other).any()


def test_load_image_crops_the_scaled_picture(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (260, 256, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    crop = load_image(str(tmp_path / 'a.png'), (256, 260), NO_MEAN, (227, 230))
    np.testing.assert_array_equal(crop, pixels[15:245, 14:241])


@pytest.mark.parametrize('number', range(3))
def test_the_fingerprint_changes_with_the_code(tmp_path, monkeypatch, number):
    before, files = decoder_fingerprint(), list(images.PIXEL_FILES)
    names = [os.path.basename(path) for path in files]
    assert names == ['images.py', 'decoders.py', 'image_headers.py']
    edited = shutil.copy(files[number], tmp_path)
    with open(edited, 'a') as file:
        file.write('\n')
    files[number] = edited
    monkeypatch.setattr(images, 'PIXEL_FILES', files)
    assert decoder_fingerprint() != before


@pytest.mark.parametrize('library', ['cv2', 'PIL'])
def test_the_fingerprint_changes_with_the_decoders(monkeypatch, library):
    before = decoder_fingerprint()
    monkeypatch.setattr(f'{library}.__version__', '99.0')
    assert decoder_fingerprint() != before
