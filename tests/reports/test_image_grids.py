import numpy as np

from reports import image_grids


def test_visible_is_the_inverse_of_subtracting_the_mean():
    mean = np.array([104, 117, 124], np.float32)
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert (image_grids.visible(image - mean, mean) == image).all()
    assert image_grids.visible(np.full((1, 1, 3), 300.0), mean).tolist() == [[[255, 255, 255]]]


def test_a_sheet_keeps_its_tiles_in_reading_order():
    tiles = [np.full((4, 6, 3), 10 * n, np.uint8) for n in range(5)]
    sheet = image_grids.sheet(tiles, columns=3)
    assert sheet.shape == (4 + 2 + 4, 3 * 6 + 2 * 2, 3)
    assert [sheet[top, left, 0] for top in (0, 6) for left in (0, 8, 16)] == [0, 10, 20, 30, 40, 255]


def test_labels_are_drawn_below_whatever_their_letters():
    image = np.zeros((50, 60, 3), np.uint8)
    labelled = image_grids.labelled(image, 'Gänseblümchen 花 and much more')
    assert labelled.shape == (68, 60, 3) and (labelled[:50] == 0).all() and (labelled[50:] < 128).any()


def test_filters_are_stretched_around_grey():
    weights = np.zeros((2, 2, 3, 2), np.float32)
    weights[0, 0, :, 1] = 0.5, -0.5, 0.25
    sheet = image_grids.filters(weights, scale=1)
    assert (sheet[:2, :2] == 128).all() and sheet[0, 4].tolist() == [255, 0, 191] and (sheet[1, 4] == 128).all()


def test_heat_shows_shares_of_rows():
    heat = image_grids.heat(np.array([[3, 3], [0, 6]]))
    assert heat.shape == (400, 400, 3) and len(np.unique(heat.reshape(-1, 3), axis=0)) == 3  # a half, nothing, all
    assert image_grids.heat(np.zeros((1000, 1000), int)).shape == (1000, 1000, 3)
