"""metrics.csv: a row per epoch, and which of them is the best."""

import csv
import itertools
import os

METRICS = ('epoch', 'train_loss', 'train_accuracy', 'val_loss', 'val_accuracy', 'learning_rate', 'images_per_second',
           'seconds')


def read_rows(run_dir, count):
    """Return the rows of the first `count` epochs of a run's metrics.csv, dicts with the keys METRICS.

    Raises ValueError if they are not there.
    """
    path = os.path.join(run_dir, 'metrics.csv')
    if not count:
        return []
    with open(path, newline='', encoding='utf-8') as file:
        lines = list(itertools.islice(csv.DictReader(file), count))
    try:
        rows = [{name: int(line[name]) if name == 'epoch' else float(line[name]) for name in METRICS} for line in lines]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is broken: {error}') from error
    if [row['epoch'] for row in rows] != list(range(1, count + 1)):
        raise ValueError(f'{path} is broken: it lacks epochs of the {count} that the last checkpoint has')
    return rows


def best_row(rows):
    """Return the row of the best epoch: the highest validation accuracy, then the lowest validation loss; or None."""
    return max(rows, key=lambda row: (row['val_accuracy'], -row['val_loss']), default=None)
