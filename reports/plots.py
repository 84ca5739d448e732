"""Plots for the run folder, drawn by matplotlib; importing it takes half a second, so it waits for the end of a run."""

import contextlib
import io
import warnings

import matplotlib
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

MOST_NUMBERS = 30   # classes up to which the confusion matrix shows the counts
MOST_NAMES = 200    # classes up to which it shows their names
NAME_LENGTH = 24    # letters
SIDE = 227 / 100    # inches of an image on the sheet of mistakes


@contextlib.contextmanager
def plain_text():
    """Draw class names as they are: '$' begins no formula, and letters that the font lacks become boxes, silently."""
    with matplotlib.rc_context({'text.parse_math': False}), warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*[Gg]lyph')
        yield


def file_of(figure, extension='png'):
    """Return the bytes of a file of the figure, at 100 pixels an inch."""
    file = io.BytesIO()
    figure.savefig(file, format=extension, dpi=100)
    return file.getvalue()


def shortened(name):
    """Return a name that fits beside a plot."""
    return name if len(name) <= NAME_LENGTH else name[:NAME_LENGTH - 1] + '…'


def draw(rows, best_epoch, matrix, class_names, found):
    """Return {file name: its content} of a run's figures; matrix: of the best epoch, or None for no such figure."""
    return {'curves.png': curves(rows, best_epoch),
            **({} if matrix is None else {'confusion_matrix.png': confusion(matrix, class_names)}),
            **({'mistakes.jpg': mistakes(found)} if found else {})}


def curves(rows, best_epoch):
    """Return a PNG file of loss and accuracy over the epochs, the best one marked; rows: dicts as in metrics.csv."""
    figure = Figure(figsize=(6, 6), layout='constrained')  # one above the other: readable on a phone
    epochs = [row['epoch'] for row in rows]
    for axes, name in zip(figure.subplots(2, sharex=True), ('loss', 'accuracy')):
        for part, label in (('train', 'training'), ('val', 'validation')):
            axes.plot(epochs, [row[f'{part}_{name}'] for row in rows], label=label, linewidth=2,
                      marker='o' if len(rows) < 30 else None, markersize=4)
        axes.axvline(best_epoch, color='grey', linestyle='--', label=f'best: epoch {best_epoch}')
        axes.set(xlabel='epoch', ylabel=name, ylim=(0, None) if name == 'loss' else (0, 1.02))
        axes.label_outer()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend()
    return file_of(figure)


def confusion(matrix, class_names):
    """Return a PNG file of a confusion matrix, int [true, predicted]; coloured by the share of the true class."""
    count = len(matrix)
    inches = max(4.5, 2.2 + count * (0.36 if count <= MOST_NUMBERS else 0.12)) if count <= MOST_NAMES else 20
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    with plain_text():
        figure = Figure(figsize=(inches, inches), layout='constrained')
        axes = figure.subplots()
        norm = PowerNorm(0.5, 0, 1)
        axes.imshow(shares, cmap='Blues', norm=norm, interpolation='nearest')
        axes.set(xlabel='predicted', ylabel='true class')
        if count <= MOST_NAMES:
            names, size = [shortened(name) for name in class_names], 9 if count <= MOST_NUMBERS else 6
            axes.set_xticks(range(count), names, rotation=90, fontsize=size)
            axes.set_yticks(range(count), names, fontsize=size)
        if count <= MOST_NUMBERS:
            for row, column in np.argwhere(matrix):
                axes.text(column, row, matrix[row, column], ha='center', va='center', fontsize=8,
                          color='white' if shares[row, column] > 0.25 else 'black')
        return file_of(figure)


def mistakes(found, columns=4):
    """Return a JPEG file of a sheet of mistakes.

    found: of each the image, uint8 [227, 227, 3], BGR, its class, the predicted one, and the latter's probability.
    """
    columns, rows = min(columns, len(found)), -(-len(found) // columns)
    width, height = columns * (SIDE + 0.1), rows * (SIDE + 0.45)
    with plain_text():
        figure = Figure(figsize=(width, height))
        for n, (image, name, predicted, probability) in enumerate(found):
            left, top = n % columns * (SIDE + 0.1) + 0.05, height - n // columns * (SIDE + 0.45) - 0.05
            figure.figimage(image[..., ::-1], 100 * left, 100 * (top - SIDE), origin='upper')
            figure.text(left / width, (top - SIDE - 0.03) / height, va='top', fontsize=8,
                        s=f'is {shortened(name)}\ntaken for {shortened(predicted)} {probability:.2f}')
        return file_of(figure, 'jpg')
