"""metrics.csv: the metrics of each epoch, one row per epoch, and which of them is the best."""

import csv
import itertools
import os
from collections.abc import Sequence

from runtime.files import new_file

METRICS = ('epoch', 'train_loss', 'train_accuracy', 'val_loss', 'val_accuracy', 'learning_rate',
           'images_per_second', 'seconds')


class MetricsFile:
    """The metrics.csv of a run folder. It is written at once, with the rows of a resumed run.

    rows: dicts with the keys METRICS, one per epoch.
    """

    def __init__(self, run_dir: str, rows: Sequence[dict] = ()):
        self.path, self.rows = os.path.join(run_dir, 'metrics.csv'), list(rows)
        self.write()

    def append(self, row: dict):
        """Add the row of an epoch and write the file anew."""
        self.rows.append(row)
        self.write()

    def write(self):
        """Write all rows to a new file that replaces the old one: a killed run leaves it whole."""
        with new_file(self.path, replace=True, newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, METRICS)
            writer.writeheader()
            writer.writerows(self.rows)


def read_rows(run_dir: str, count: int) -> list[dict]:
    """Return the rows of the first `count` epochs of a run's metrics.csv.

    They are dicts with the keys METRICS; the epoch is an int, the rest floats. Raises ValueError
    if the file lacks one of these epochs or holds anything else.
    """
    path = os.path.join(run_dir, 'metrics.csv')
    if not count:
        return []
    with open(path, newline='', encoding='utf-8') as file:
        lines = list(itertools.islice(csv.DictReader(file), count))
    try:
        rows = [parse_row(line) for line in lines]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is broken: {error}') from error
    if [row['epoch'] for row in rows] != list(range(1, count + 1)):
        raise ValueError(f'{path} is broken: it lacks epochs of the {count} that the last '
                         'checkpoint has')
    return rows


def parse_row(line: dict) -> dict:
    """Return a row of metrics.csv with numbers in place of their text."""
    return {name: int(line[name]) if name == 'epoch' else float(line[name]) for name in METRICS}


def best_row(rows: Sequence[dict]) -> dict | None:
    """Return the row of the best epoch, or None without rows.

    The best has the highest validation accuracy, of these the lowest validation loss, and of
    these it is the first.
    """
    return max(rows, key=lambda row: (row['val_accuracy'], -row['val_loss']), default=None)
