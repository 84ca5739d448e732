import io
import os

import cv2
import numpy as np
import pytest

from inputs.decoders import jpeg_flag
from inputs.image_headers import Header, read_header
from inputs.images import load_image
from tests.helpers import shared
from tests.image_files import NO_MEAN, by_pillow, encoded, exif, loaded, photo


def scale(image, size=(227, 227)):
    """Return an image scaled by area."""
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def test_large_jpegs_are_turned_upright_too(tmp_path):
    content = encoded(photo(2000, 1500), 'JPEG', quality=95, exif=exif(6))
    expected = scale(by_pillow(content).astype(np.uint8))
    np.testing.assert_allclose(loaded(tmp_path / 'a', content), expected, atol=3)


def test_large_jpegs_are_decoded_small_and_change_little(tmp_path):
    """Mean difference to a whole decoding under 1 of 255, on a picture with fine detail."""
    random, path = np.random.RandomState(0), str(tmp_path / 'a.jpg')
    pixels = sum(cv2.resize(random.uniform(0, 255 / 4, (3 * n, 4 * n, 3)), (4000, 3000),
                            interpolation=cv2.INTER_CUBIC) for n in (2, 10, 50, 300))
    cv2.imwrite(path, np.clip(pixels, 0, 255))
    with open(path, 'rb') as file:
        header = read_header(file)
    assert header == Header('JPEG', 4000, 3000)
    assert jpeg_flag(header, (227, 227)) == cv2.IMREAD_REDUCED_COLOR_4
    difference = np.abs(load_image(path, mean=NO_MEAN) - scale(cv2.imread(path)))
    assert difference.mean() < 1


@pytest.mark.parametrize('height, width, flag', [
    (907, 2000, cv2.IMREAD_COLOR), (908, 2000, cv2.IMREAD_REDUCED_COLOR_2),
    (1815, 1816, cv2.IMREAD_REDUCED_COLOR_2), (1816, 1816, cv2.IMREAD_REDUCED_COLOR_4),
    (3631, 3632, cv2.IMREAD_REDUCED_COLOR_4), (3632, 3632, cv2.IMREAD_REDUCED_COLOR_8),
    (5, 5, cv2.IMREAD_COLOR)])
def test_twice_the_size_that_is_needed_is_kept(height, width, flag):
    content = cv2.imencode('.jpg', np.zeros((height, width, 3), np.uint8))[1].tobytes()
    header = read_header(io.BytesIO(content))
    assert header == Header('JPEG', width, height)
    assert jpeg_flag(header, (227, 227)) == flag


def test_photos_decoded_small_change_little():
    """20 photos, enlarged to over 4 times the size needed: 1 of 255 on average, 3 at most."""
    folder, differences = shared('data', 'hymenoptera', 'val', 'bees'), []
    for name in sorted(os.listdir(folder))[:20]:
        picture = cv2.resize(cv2.imread(os.path.join(folder, name)), (1250, 1000),
                             interpolation=cv2.INTER_CUBIC)
        content = cv2.imencode('.jpg', picture)[1]
        flag = jpeg_flag(read_header(io.BytesIO(content.tobytes())), (227, 227))
        assert flag == cv2.IMREAD_REDUCED_COLOR_2
        small = scale(cv2.imdecode(content, flag)).astype(float)
        whole = scale(cv2.imdecode(content, cv2.IMREAD_COLOR)).astype(float)
        differences.append(np.abs(small - whole).mean())
    assert np.mean(differences) <= 1 and max(differences) <= 3
