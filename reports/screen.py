"""Lines for the screen, at most 80 letters wide: tables, the epochs, the end of a run."""

import contextlib
import datetime
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from alexnet import LAYERS
from inputs.lists import Datasets
from reports.evaluation import (
    class_recall,
    majority_accuracy,
    most_confused_with,
    weakest_classes,
)
from runtime.files import printable
from runtime.tables import format_table
from weight_files.find import is_starter

MOST_CLASSES = 20  # classes up to which the class table shows all
LINES_BETWEEN_HEADERS = 20
EPOCH_COLUMNS = ('epoch', 'train loss', 'accuracy', 'val loss', 'accuracy', 'rate', 'images/s',
                 'time left')
EPOCH_WIDTHS = 7, 10, 8, 8, 8, 8, 8, 9

STARTER_WARNING = (
    'WARNING: these are not the ImageNet weights. conv1 to conv5 are starter weights, which have '
    'seen drawings alone, and fc6, fc7 and fc8 start from random values: results on real photos '
    'will be far below those with the ImageNet weights. See docs/weights.md')


def layer_table(model, trained_layers: Collection[str],
                pretrained_layers: Collection[str]) -> list[str]:
    """Return a line per layer: where its values come from, if they change, how many they are.

    model: the AlexNet. trained_layers, pretrained_layers: names of layers.
    """
    rows = [('layer', 'values', '', 'parameters')]
    for layer in LAYERS:
        count = sum(variable.shape.num_elements() for variable in model.variables[layer])
        rows.append((layer, 'pretrained' if layer in pretrained_layers else 'from scratch',
                     'trained' if layer in trained_layers else 'frozen', f'{count:,}'))
    return format_table(rows, 'lllr')


def class_counts(datasets: Datasets) -> tuple[np.ndarray, np.ndarray]:
    """Return the images per class in the training and in the validation list, int [classes]."""
    train, val = (np.bincount(part.labels, minlength=len(datasets.class_names))
                  for part in (datasets.train, datasets.val))
    return train, val


def class_table(datasets: Datasets) -> list[str]:
    """Return a line per class with its images in both lists; of many classes the smallest five."""
    train, val = class_counts(datasets)
    names = [printable(name, 36) for name in datasets.class_names]
    is_short = len(names) <= MOST_CLASSES
    numbers = range(len(names)) if is_short else np.argsort(train, kind='stable')[:5]
    rows = [('class', 'training', 'validation')]
    rows += [(names[number], f'{train[number]:,}', f'{val[number]:,}') for number in numbers]
    rows.append((f'{len(names):,} classes', f'{train.sum():,}', f'{val.sum():,}'))
    *lines, total = format_table(rows, 'lrr')
    if not is_short:
        lines.append('... these are the smallest; the largest class has '
                     f'{train.max():,} training images')
    largest, accuracy = majority_accuracy(train, val)
    return [*lines, total, f'always guessing {names[largest]} gives val_accuracy {accuracy:.4f}']


def epoch_line(row: dict, num_epochs: int, seconds_left: float) -> str:
    """Return a line about an epoch that fits under epoch_header; row: of metrics.csv."""
    return format_epoch([
        f'{row["epoch"]}/{num_epochs}',
        format_loss(row['train_loss']), f'{row["train_accuracy"]:.4f}',
        format_loss(row['val_loss']), f'{row["val_accuracy"]:.4f}',
        f'{row["learning_rate"]:.3g}', f'{row["images_per_second"]:.0f}',
        str(datetime.timedelta(seconds=round(seconds_left)))])


def epoch_header() -> str:
    """Return the header of the epoch lines."""
    return format_epoch(EPOCH_COLUMNS)


def format_epoch(cells):
    """Return cells in the columns of the epoch lines."""
    return format_table([cells], 'r' * len(cells), EPOCH_WIDTHS)[0]


def format_loss(loss):
    """Return a loss in at most 10 letters, however large it is."""
    return f'{loss:.4f}' if loss < 1e4 else f'{loss:.3g}'


class EpochPrinter:
    """Prints a line per epoch, headers between them, and each warning once.

    warnings: {problem: advice} for the last epoch.
    """

    def __init__(self, num_epochs: int):
        self.num_epochs, self.lines, self.warnings = num_epochs, 0, {}
        self.printed = set()

    def print_epoch(self, rows: Sequence[dict]):
        """Print the line of the last of `rows`, and a header if the last one is far above."""
        seconds_per_epoch = sum(row['seconds'] for row in rows) / len(rows)
        seconds_left = (self.num_epochs - rows[-1]['epoch']) * seconds_per_epoch
        if self.lines % LINES_BETWEEN_HEADERS == 0:
            print(epoch_header())
        self.lines += 1
        print(epoch_line(rows[-1], self.num_epochs, seconds_left), flush=True)

    def warn(self, warnings: dict[str, str]):
        """Print each of {problem: advice} on standard error the first time that it occurs."""
        for problem, advice in warnings.items():
            if problem not in self.printed:
                print(f'WARNING: {advice}', file=sys.stderr)
        self.printed.update(warnings)
        self.warnings.clear()
        self.warnings.update(warnings)


def closing_lines(best: dict, guessing: float, matrix: np.ndarray | None,
                  class_names: Sequence[str], run_dir: str) -> list[str]:
    """Return lines about a run that has ended: its best epoch, weakest classes, where to look.

    best: row of the best epoch in metrics.csv.
    guessing: validation accuracy of always predicting the largest class, 0..1.
    matrix: confusion matrix of the best epoch, or None.
    """
    lines = [f'best epoch {best["epoch"]}: val_loss {best["val_loss"]:.4f}, val_accuracy '
             f'{best["val_accuracy"]:.4f}; guessing: {guessing:.4f}']
    if matrix is not None:
        recall = class_recall(matrix)
        for number in weakest_classes(matrix, 3):
            other, times = most_confused_with(matrix, number)
            lines.append(
                f'weak: {printable(class_names[number], 24)}, {recall[number]:.2f} recognised, '
                f'{times} taken for {printable(class_names[other], 24)}')
    return [*lines, f'to look at: {run_dir}/report.html, or tensorboard --logdir '
            f'{shlex.quote(run_dir)}']


@contextlib.contextmanager
def warn_of_starter_weights(weights_path: str | None) -> Iterator[None]:
    """Warn before and after a block that trains on starter weights."""
    if is_starter(weights_path):
        print(STARTER_WARNING, file=sys.stderr)
    yield
    if is_starter(weights_path):
        print(STARTER_WARNING, file=sys.stderr)
