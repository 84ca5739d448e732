"""Plots for the run folder, PNG files drawn by matplotlib, whatever its user has set up.

Importing this takes half a second and reads MPLBACKEND: see reports/figures.py.
"""

import contextlib
import io
import warnings
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.evaluation import row_fractions
from reports.image_grids import confusion_colours

MOST_NUMBERS = 30   # classes up to which the confusion matrix shows the counts
MOST_NAMES = 200    # classes up to which it shows their names
NAME_LENGTH = 24    # letters


@contextlib.contextmanager
def default_style():
    """Draw by matplotlib's defaults, not by the matplotlibrc or rcParams of the user.

    Class names are drawn as they are: '$' begins no formula, and letters that the font lacks
    become boxes, silently.
    """
    defaults = dict(matplotlib.rcParamsDefault, **{'text.parse_math': False})
    del defaults['backend']  # a Figure needs none, and the user's is not to be loaded
    with matplotlib.rc_context(defaults), warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*[Gg]lyph')
        yield


def encode_figure(figure: Figure) -> bytes:
    """Return a PNG file of the figure, at 100 pixels per inch."""
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=100)
    return file.getvalue()


@default_style()
def draw_curves(rows: Sequence[dict], best_epoch: int) -> bytes:
    """Return a plot of loss and accuracy over the epochs, with the best epoch marked.

    rows: the rows of metrics.csv.
    """
    figure = Figure(figsize=(6, 6), layout='constrained')  # two plots above each other: for phones
    for axes, name in zip(figure.subplots(2, sharex=True), ('loss', 'accuracy'), strict=True):
        draw_metric(axes, rows, name)
        axes.axvline(best_epoch, color='grey', linestyle='--', label=f'best: epoch {best_epoch}')
        axes.legend()
    return encode_figure(figure)


def draw_metric(axes, rows, name):
    """Draw 'loss' or 'accuracy' of training and validation into one plot."""
    epochs, marker = [row['epoch'] for row in rows], 'o' if len(rows) < 30 else None
    for part, label in (('train', 'training'), ('val', 'validation')):
        axes.plot(epochs, [row[f'{part}_{name}'] for row in rows], label=label, linewidth=2,
                  marker=marker, markersize=4)
    axes.set(xlabel='epoch', ylabel=name, ylim=(0, None) if name == 'loss' else (0, 1.02))
    axes.label_outer()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)


@default_style()
def draw_confusion(matrix: np.ndarray, class_names: Sequence[str]) -> bytes:
    """Return a plot of a confusion matrix, int [true, predicted], in the colours of image_grids.

    It has the class names up to MOST_NAMES classes, and the counts up to MOST_NUMBERS.
    """
    inches = confusion_inches(len(matrix))
    figure = Figure(figsize=(inches, inches), layout='constrained')
    axes = figure.subplots()
    axes.imshow(confusion_colours(matrix)[..., ::-1], interpolation='nearest')
    axes.set(xlabel='predicted', ylabel='true class')
    if len(matrix) <= MOST_NAMES:
        names = [shorten(name) for name in class_names]
        size = 9 if len(matrix) <= MOST_NUMBERS else 6
        axes.set_xticks(range(len(matrix)), names, rotation=90, fontsize=size)
        axes.set_yticks(range(len(matrix)), names, fontsize=size)
    if len(matrix) <= MOST_NUMBERS:
        draw_counts(axes, matrix)
    return encode_figure(figure)


def draw_counts(axes, matrix):
    """Write the counts that are not 0 into the cells of a confusion matrix."""
    fractions = row_fractions(matrix)
    for row, column in np.argwhere(matrix):
        colour = 'white' if fractions[row, column] > 0.25 else 'black'
        axes.text(column, row, matrix[row, column], ha='center', va='center', fontsize=8,
                  color=colour)


def confusion_inches(num_classes):
    """Return the side of a confusion matrix: each row has space for a name, if names are shown."""
    if num_classes > MOST_NAMES:
        return 20
    return max(4.5, 2.2 + num_classes * (0.36 if num_classes <= MOST_NUMBERS else 0.12))


def shorten(name):
    """Return a class name that fits beside a plot."""
    return name if len(name) <= NAME_LENGTH else name[:NAME_LENGTH - 1] + '…'
