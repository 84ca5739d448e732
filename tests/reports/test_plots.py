import io
import warnings

import numpy as np
import pytest
from PIL import Image

from reports import plots
from reports.image_grids import confusion_colours

ODD_NAMES = ['$\\frac{x$', '花' * 3, 'a' * 300, '<b>&', 'ä_^{', '%s']


def opened(content):
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize('epochs', [1, 40])
def test_curves_of_any_length(epochs):
    rows = [{'epoch': n} | {f'{part}_{name}': 1 / n for part in ('train', 'val')
                            for name in ('loss', 'accuracy')} for n in range(1, epochs + 1)]
    assert opened(plots.draw_curves(rows, epochs)).size == (600, 600)


@pytest.mark.slow
@pytest.mark.parametrize('count, limit', [(2, 600), (17, 1000), (200, 2700), (1000, 2000)])
def test_confusion_matrix_from_2_to_1000_classes(count, limit):
    """Large enough for a name in each row, of 10 pixels, and a small file."""
    content = plots.draw_confusion(np.eye(count, dtype=int) * 3,
                                   [f'class {n}' for n in range(count)])
    size = opened(content).size
    assert min(size) > (10 * count if count <= 200 else 1000) and max(size) <= limit
    assert len(content) < 600_000


def test_the_plot_has_the_colours_of_the_image_for_tensorboard():
    matrix = np.array([[1, 15], [0, 8]])
    pixels = np.asarray(opened(plots.draw_confusion(matrix, ['a', 'b'])).convert('RGB'))
    shown = {tuple(pixel) for pixel in pixels.reshape(-1, 3).tolist()}
    expected = {tuple(colour[::-1]) for colour in confusion_colours(matrix).reshape(-1, 3).tolist()}
    assert len(expected) == 4 and expected <= shown


def test_class_names_are_text_and_no_formulas():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        plots.draw_confusion(np.eye(len(ODD_NAMES), dtype=int), ODD_NAMES)
