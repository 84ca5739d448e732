import os

import cv2
import numpy as np
import pytest
from conftest import shared

from images import decoding_flag, jpeg_size, load_image


def test_load_image_is_bgr_minus_the_mean(picture_folder):
    image = load_image(str(picture_folder / '03.png'))
    assert image.shape == (227, 227, 3) and image.dtype == np.float32
    np.testing.assert_array_equal(image, np.broadcast_to(np.float32([60 - 104, 10 - 117, 200 - 124]), image.shape))


def test_load_image_shrinks_by_area_and_scales_each_side_by_itself(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (681, 454, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    expected = pixels.reshape(227, 3, 227, 2, 3).mean((1, 3))  # 3 x 2 blocks, by NumPy
    np.testing.assert_allclose(load_image(str(tmp_path / 'a.png'), mean=np.zeros(3, np.float32)), expected, atol=0.51)


def test_large_jpegs_are_decoded_small_and_change_little(tmp_path):
    """Mean difference to a whole decoding under 1 of 255, on a photo-like picture of 4000 x 3000 with fine detail."""
    random = np.random.RandomState(0)
    pixels = sum(cv2.resize(random.uniform(0, 255 / 4, (3 * n, 4 * n, 3)), (4000, 3000), interpolation=cv2.INTER_CUBIC)
                 for n in (2, 10, 50, 300))
    cv2.imwrite(str(tmp_path / 'a.jpg'), np.clip(pixels, 0, 255))
    content = (tmp_path / 'a.jpg').read_bytes()
    assert jpeg_size(content) == (3000, 4000)
    assert decoding_flag(content, (227, 227)) == cv2.IMREAD_REDUCED_COLOR_4
    whole = cv2.resize(cv2.imread(str(tmp_path / 'a.jpg')), (227, 227), interpolation=cv2.INTER_AREA)
    difference = np.abs(load_image(str(tmp_path / 'a.jpg'), mean=np.zeros(3, np.float32)) - whole)
    assert difference.mean() < 1


@pytest.mark.parametrize('shape, flag', [((907, 2000), cv2.IMREAD_COLOR), ((908, 2000), cv2.IMREAD_REDUCED_COLOR_2),
                                         ((3632, 3632), cv2.IMREAD_REDUCED_COLOR_8), ((5, 5), cv2.IMREAD_COLOR)])
def test_twice_the_size_that_is_needed_is_kept(shape, flag):
    content = cv2.imencode('.jpg', np.zeros((*shape, 3), np.uint8))[1].tobytes()
    assert jpeg_size(content) == shape
    assert decoding_flag(content, (227, 227)) == flag


def test_other_content_has_no_jpeg_size():
    jpeg = cv2.imencode('.jpg', np.zeros((9, 9, 3), np.uint8))[1].tobytes()
    for content in (b'', b'\xff', b'\xff\xd8', b'\xff\xd8' + b'\xff' * 50, b'\x89PNG\r\n', jpeg[:100], b'\xff\xd8\xff\xe0\0'):
        assert jpeg_size(content) is None


def test_photos_decoded_small_change_little():
    """20 photos, enlarged to more than 4 times the size needed and stored as JPEG: 1 of 255 on average, 3 at most."""
    folder, differences = shared('data', 'hymenoptera', 'val', 'bees'), []
    for name in sorted(os.listdir(folder))[:20]:
        photo = cv2.resize(cv2.imread(os.path.join(folder, name)), (1250, 1000), interpolation=cv2.INTER_CUBIC)
        content = cv2.imencode('.jpg', photo)[1]
        flag = decoding_flag(content.tobytes(), (227, 227))
        assert flag == cv2.IMREAD_REDUCED_COLOR_2
        small, whole = (cv2.resize(cv2.imdecode(content, how), (227, 227), interpolation=cv2.INTER_AREA).astype(float)
                        for how in (flag, cv2.IMREAD_COLOR))
        differences.append(np.abs(small - whole).mean())
    assert np.mean(differences) <= 1 and max(differences) <= 3


@pytest.mark.parametrize('make, reason', [
    (lambda path: None, 'No such file'), (lambda path: path.mkdir(), 'Is a directory'),
    (lambda path: path.write_text('text'), 'not a picture'), (lambda path: path.write_bytes(b''), 'not a picture')])
def test_what_can_not_be_read_is_said_in_one_line(tmp_path, make, reason):
    make(tmp_path / 'a.jpg')
    with pytest.raises(ValueError, match=f'a.jpg.*{reason}') as error:
        load_image(str(tmp_path / 'a.jpg'))
    assert '\n' not in str(error.value)
