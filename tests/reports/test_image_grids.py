import numpy as np
import pytest

from reports import image_grids


def test_a_sheet_keeps_its_tiles_in_reading_order():
    tiles = [np.full((4, 6, 3), 10 * n, np.uint8) for n in range(5)]
    sheet = image_grids.sheet(tiles, columns=3)
    assert sheet.shape == (4 + 2 + 4, 3 * 6 + 2 * 2, 3)
    corners = [sheet[top, left, 0] for top in (0, 6) for left in (0, 8, 16)]
    assert corners == [0, 10, 20, 30, 40, 255]


def test_captions_are_drawn_below_whatever_their_letters():
    image = np.zeros((50, 60, 3), np.uint8)
    result = image_grids.caption(image, 'Gänseblümchen 花 and much more', '\udcff b')
    assert result.shape == (50 + 2 * 18, 60, 3) and (result[:50] == 0).all()
    assert (result[50:68] < 128).any() and (result[68:] < 128).any()


@pytest.mark.parametrize('text, ascii_text, unicode_text', [
    ('Käfer', 'Kafer', 'Käfer'), ('花 b', '? b', '花 b'), ('\udcff', '?', '?')])
def test_letters_that_opencv_cannot_draw_are_replaced(text, ascii_text, unicode_text):
    assert image_grids.drawable(text, '4.8.0') == ascii_text
    assert image_grids.drawable(text, '5.0.0') == unicode_text


def test_filters_are_stretched_around_grey():
    weights = np.zeros((2, 2, 3, 2), np.float32)
    weights[0, 0, :, 1] = 0.5, -0.5, 0.25
    sheet = image_grids.filters(weights, scale=1)
    assert (sheet[:2, :2] == 128).all() and sheet[0, 4].tolist() == [255, 0, 191]
    assert (sheet[1, 4] == 128).all()


def test_a_confusion_image_shows_fractions_of_the_true_class():
    """3 of 12 are a quarter, whose square root is a half: the colour in the middle."""
    colours = image_grids.confusion_colours(np.array([[3, 9], [0, 6]]))
    assert colours[0, 0].tolist() == list(image_grids.BLUES[1])
    assert colours[1].tolist() == [list(image_grids.BLUES[0]), list(image_grids.BLUES[2])]
    image = image_grids.confusion_image(np.array([[3, 9], [0, 6]]))
    assert image.shape == (400, 400, 3) and (image[::200, ::200] == colours).all()


def test_large_and_empty_confusion_matrices_have_an_image():
    image = image_grids.confusion_image(np.zeros((1000, 1000), int))
    assert image.shape == (1000, 1000, 3) and (image == 255).all()


def test_a_png_file_holds_the_exact_image():
    image = np.random.RandomState(0).randint(0, 256, (5, 7, 3), np.uint8)
    assert (image_grids.decode(image_grids.encode_png(image)) == image).all()
