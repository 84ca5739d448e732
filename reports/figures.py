"""The figures of a report. One that fails is reported on the screen and costs that figure alone."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from datagenerator import ImageDataGenerator
from inputs.images import load_views
from inputs.lists import Datasets
from reports import image_grids
from reports.evaluation import Predictions
from reports.heatmaps import overlay
from runtime.files import printable
from runtime.tf1 import error_line

MOST_MISTAKES = 24  # shown
FIRST_BATCH = 16    # images shown of it, at most


class Mistake(NamedTuple):
    """An image of the validation list that was given a wrong class."""

    image: np.ndarray  # uint8 [height, width, 3], BGR, as the network sees it
    true_class: str
    predicted_class: str
    probability: float  # of the predicted class, 0..1
    numbers: tuple[int, int] = (0, 0)  # of the predicted and the true class
    # The image under the heatmaps of these two classes, uint8 [height, width, 3], BGR; or none.
    overlays: tuple[np.ndarray, ...] = ()


def draw_figures(rows: Sequence[dict], best_epoch: int, matrix: np.ndarray | None,
                 class_names: Sequence[str], mistakes: Sequence[Mistake]) -> dict[str, bytes]:
    """Return {file name in the run folder: its content} of the figures of a run.

    rows: the rows of metrics.csv, in which best_epoch is the best.
    matrix: confusion matrix of the best epoch; None for no such figure.
    mistakes: most confident first; without any there is no mistakes.jpg.
    """
    figures: dict[str, Callable[[], bytes]] = {
        'curves.png': lambda: import_plots().draw_curves(rows, best_epoch)}
    if matrix is not None:
        figures['confusion_matrix.png'] = lambda: import_plots().draw_confusion(
            matrix, class_names)
    if mistakes:
        figures['mistakes.jpg'] = lambda: image_grids.encode_jpeg(mistakes_sheet(mistakes))
    files = {}
    for name, draw in figures.items():
        try:
            files[name] = draw()
        except Exception as error:  # whatever it is: the report is complete without this figure
            print(f'error: the report has no {name}, which could not be drawn: '
                  f'{printable(str(error))}', file=sys.stderr)
    return files


def import_plots():
    """Import reports.plots with matplotlib: at the end of a run, as it takes half a second.

    Importing matplotlib raises ValueError if MPLBACKEND names an unknown backend, and cannot be
    tried again. So it is imported without MPLBACKEND, and takes a known backend from it later: a
    notebook that goes on to plot needs it.
    """
    is_first = 'matplotlib' not in sys.modules
    backend = os.environ.pop('MPLBACKEND', None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ['MPLBACKEND'] = backend
    if is_first and backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams['backend'] = backend
    from reports import plots
    return plots


def load_mistakes(predictions: Predictions, datasets: Datasets,
                  generator: ImageDataGenerator) -> list[Mistake]:
    """Return the most confident mistakes of the validation list, most confident first.

    generator: of the list; images are shown in its first view. One that is gone is left out.
    """
    mistakes, names = [], datasets.class_names
    for index in predictions.mistakes(MOST_MISTAKES):
        with contextlib.suppress(ValueError):
            [image] = load_views(datasets.val.paths[index], generator.views[:1])
            predicted, true = int(predictions.classes[index]), int(predictions.labels[index])
            mistakes.append(Mistake(
                image, names[true], names[predicted],
                float(predictions.probabilities[index]), (predicted, true)))
    return mistakes


def explain_mistakes(mistakes: Sequence[Mistake], explain: Callable | None) -> Sequence[Mistake]:
    """Return the mistakes with their overlays; without any if these cannot be computed.

    explain: function as RunLog.begin takes it; None: there are no heatmaps.
    """
    if explain is None or not mistakes:
        return mistakes
    try:
        heatmaps = explain(np.stack([mistake.image for mistake in mistakes]),
                           [mistake.numbers for mistake in mistakes])
    except Exception as error:  # whatever it is: the report is complete without heatmaps
        print(f'error: the report has no heatmaps, which could not be computed: '
              f'{printable(error_line(error))}', file=sys.stderr)
        return mistakes
    return [mistake._replace(overlays=tuple(overlay(mistake.image, heatmap) for heatmap in pair))
            for mistake, pair in zip(mistakes, heatmaps, strict=True)]


def mistakes_sheet(mistakes: Sequence[Mistake]) -> np.ndarray:
    """Return a sheet of mistakes with captions, uint8 [height, width, 3], BGR."""
    return image_grids.sheet([
        image_grids.caption(
            mistake.image, f'is {mistake.true_class}', f'taken for {mistake.predicted_class}',
            f'probability {mistake.probability:.2f}')
        for mistake in mistakes], columns=4)


def first_batch_sheet(generator: ImageDataGenerator, class_names: Sequence[str],
                      batch_size: int) -> np.ndarray:
    """Return a sheet of the first training images as the network sees them, with their classes."""
    generator.start_epoch(0)
    order = generator.epoch_order.order
    indices = generator.in_shard(order)[:min(FIRST_BATCH, batch_size)]
    tiles = []
    views = generator.pool.map(generator.load_views, indices)
    for index, [image] in zip(indices, views, strict=True):
        tiles.append(image_grids.caption(image, class_names[generator.labels[index]]))
    return image_grids.sheet(tiles, columns=4)
