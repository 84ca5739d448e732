"""Views of pictures: which ones, and their pixels."""

import cv2
import numpy as np
import pytest

import alexnet
from inputs import views
from inputs.images import load_pixels, load_views
from inputs.views import central_view, evaluation_views, views_of


@pytest.fixture
def picture(tmp_path):
    """(path, pixels) of a picture of 256x256 random pixels, uint8 [256, 256, 3]."""
    pixels = np.random.RandomState(0).randint(256, size=(256, 256, 3), dtype=np.uint8)
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, pixels)
    return path, pixels


def test_a_view_has_the_networks_size():
    assert views.IMAGE_SIZE == alexnet.IMAGE_SIZE


def test_crops_are_the_ten_of_the_paper(picture):
    """Centre and corners of 256x256, each and mirrored, cut out by NumPy."""
    path, pixels = picture
    found = load_views(path, views_of('crops', True))
    expected = []
    for top, left in ((14, 14), (0, 0), (0, 29), (29, 0), (29, 29)):
        crop = pixels[top:top + 227, left:left + 227]
        expected += [crop, crop[:, ::-1]]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_without_mirror_images_half_of_the_views_are_left(picture):
    path, _ = picture
    for name, count in (('whole', 1), ('crops', 5)):
        both, straight = (load_views(path, views_of(name, flip)) for flip in (True, False))
        assert len(both) == 2 * count
        np.testing.assert_array_equal(both[::2], straight)
        np.testing.assert_array_equal(both[1::2], straight[:, :, ::-1])


def test_the_whole_picture_is_that_of_load_pixels(picture):
    path, _ = picture
    np.testing.assert_array_equal(load_views(path, views_of('whole', False)), [load_pixels(path)])


def test_an_array_receives_the_pixels(picture):
    path, pixels = picture
    out = np.zeros((1, 227, 227, 3), np.uint8)
    assert load_views(path, [central_view((256, 256))], out) is out
    np.testing.assert_array_equal(out[0], pixels[14:241, 14:241])


@pytest.mark.parametrize('name, flip, expected', [
    ('whole', True, views_of('whole', False)), ('whole', False, views_of('whole', False)),
    ('crops', True, views_of('crops', True)), ('crops', False, views_of('crops', False))])
def test_evaluation_takes_the_picture_or_all_crops(name, flip, expected):
    assert evaluation_views(name, flip) == expected
