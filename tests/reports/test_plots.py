import io
import warnings

import numpy as np
import pytest
from PIL import Image

from reports import plots

ODD_NAMES = ['$\\frac{x$', '花' * 3, 'a' * 300, '<b>&', 'ä_^{', '%s']


def opened(content):
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize('epochs', [1, 40])
def test_curves_of_any_length(epochs):
    rows = [{'epoch': n, **{f'{part}_{name}': 1 / n for part in ('train', 'val') for name in ('loss', 'accuracy')}}
            for n in range(1, epochs + 1)]
    assert opened(plots.curves(rows, epochs)).size == (600, 600)


@pytest.mark.parametrize('count, limit', [(2, 600), (17, 1000), (200, 2700), (1000, 2000)])
def test_confusion_matrix_from_2_to_1000_classes(count, limit):
    """Large enough for a name a row: 10 pixels; and small in bytes."""
    content = plots.confusion(np.eye(count, dtype=int) * 3, [f'class {n}' for n in range(count)])
    assert min(opened(content).size) > (10 * count if count <= 200 else 1000) and max(opened(content).size) <= limit
    assert len(content) < 600_000


def test_class_names_are_text_and_no_formulas():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        plots.confusion(np.eye(len(ODD_NAMES), dtype=int), ODD_NAMES)
        plots.mistakes([(np.zeros((227, 227, 3), np.uint8), name, name, 0.5) for name in ODD_NAMES])


@pytest.mark.parametrize('count', [1, 4, 7])
def test_sheet_of_mistakes_shows_the_images_pixel_by_pixel(count):
    found = [(np.full((227, 227, 3), (200, 30 * n, 0), np.uint8), 'ant', 'bee', 0.5) for n in range(count)]
    sheet = np.asarray(opened(plots.mistakes(found)))
    for n in range(count):  # RGB in the middle of each
        top, left = 5 + n // 4 * 272 + 113, 5 + n % 4 * 237 + 113
        np.testing.assert_allclose(sheet[top, left], [0, 30 * n, 200], atol=6)
