"""Measures what the values of the setting `views` earn and cost.

`python -m benchmarks.views CONV_WEIGHTS FOLDER [FOLDER ...]`: each FOLDER holds train.txt and
val.txt. Three runs per row and folder, rows in turn; the first one with a value of `views` computes
the features. Prints a table, and writes it to benchmarks/views.md.
"""

import csv
import os
import statistics
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np

from benchmarks.recipe import SEEDS, TRAIN_FC, fine_tune, list_flags, name_of

RESULTS = 'benchmarks/views.md'
ROWS = (  # flags
    '--views whole', '--views crops', '--views whole --batch_size 64',
    '--views crops --lr_schedule cosine')


class Result(NamedTuple):
    """The outcome of one run."""

    best: float               # validation accuracy of the best epoch
    last: float               # of the last epoch
    seconds: float            # of the whole command
    images_per_second: float  # of training, median over epochs


def run(folder, weights, cache, *flags):
    """Return the Result of finetune.py."""
    with tempfile.TemporaryDirectory() as run_dir:
        start = time.perf_counter()
        best, last = fine_tune(run_dir, '--weights_path', weights, '--cache_dir', cache, *TRAIN_FC,
                               *list_flags(folder), *flags)
        seconds = time.perf_counter() - start
        with open(os.path.join(run_dir, 'metrics.csv')) as file:
            rates = [float(row['images_per_second']) for row in csv.DictReader(file)]
    return Result(best, last, seconds, statistics.median(rates))


def table(results):
    """Return the lines of the table; results: {(flags, folder): [Result per seed]}."""
    lines = ['Validation accuracy: mean (range) of 3 seeds. Seconds of whole commands, 10 epochs: '
             'without stored features, with them.', '',
             '| flags | data | best epoch | last epoch | first run, s | later runs, s | '
             'training images/s |', '|---|---|---|---|---|---|---|']
    for (flags, folder), rows in results.items():
        best, last, seconds, rates = zip(*rows, strict=True)
        first = f'{seconds[0]:.0f}' if flags in ROWS[:2] else ''
        lines.append(
            f'| {flags} | {name_of(folder)} | {describe(best)} | {describe(last)} | {first} | '
            f'{statistics.median(seconds[1:]):.0f} | {statistics.median(rates):.0f} |')
    for flags in ROWS:
        parts = [np.mean(rows, 0)[:2] for (other, _), rows in results.items() if other == flags]
        best, last = np.mean(parts, 0)
        lines.append(f'| {flags} | mean | {best:.4f} | {last:.4f} | | | |')
    return lines


def describe(values):
    """Return mean and range."""
    return f'{np.mean(values):.4f} ({min(values):.3f} to {max(values):.3f})'


def main(weights, *folders):
    """Run all, and write the table."""
    results = {(flags, folder): [] for flags in ROWS for folder in folders}
    with tempfile.TemporaryDirectory() as caches:
        for seed in SEEDS:
            for (flags, folder), rows in results.items():
                cache = os.path.join(caches, '-'.join([flags.split()[1], name_of(folder)]))
                rows.append(run(folder, weights, cache, *flags.split(), '--seed', str(seed)))
                print(flags, name_of(folder), seed, rows[-1], flush=True)
    lines = table(results)
    with open(RESULTS, 'w') as file:
        file.writelines(f'{line}\n' for line in lines)
    print('\n'.join(lines))


if __name__ == '__main__':
    main(*sys.argv[1:])
