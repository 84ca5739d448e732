"""Measures what the values of the setting `views` earn and cost.

`python -m benchmarks.views CONV_WEIGHTS FOLDER [FOLDER ...]`: each FOLDER holds train.txt and
val.txt. Three runs per value and folder, the first one without stored features; values in turn.
Prints a table, and writes it to benchmarks/views.md.
"""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np

from benchmarks.recipe import SEEDS, TRAIN_FC, list_flags, name_of

RESULTS = 'benchmarks/views.md'
ROWS = {  # flags
    'whole': [], 'whole, cosine': ['--lr_schedule', 'cosine'],
    'crops': ['--views', 'crops'],
    'crops, cosine': ['--views', 'crops', '--lr_schedule', 'cosine']}


class Result(NamedTuple):
    """The outcome of one run."""

    best: float             # validation accuracy of the best epoch
    last: float             # of the last epoch
    seconds: float          # of the whole command
    images_per_second: float  # of training, median over epochs


def run(folder, weights, scratch, cache, flags):
    """Return the Result of finetune.py."""
    run_dir = os.path.join(scratch, f'run{len(os.listdir(scratch))}')
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, 'finetune.py', '--run_dir', run_dir, '--weights_path', weights,
         '--cache_dir', cache, *TRAIN_FC, *list_flags(folder), *flags],
        check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    with open(os.path.join(run_dir, 'metrics.csv')) as file:
        rows = list(csv.DictReader(file))
    accuracies = [float(row['val_accuracy']) for row in rows]
    rate = statistics.median(float(row['images_per_second']) for row in rows)
    return Result(max(accuracies), accuracies[-1], seconds, rate)


def table(results):
    """Return the lines of the table; results: {(name, folder): [Result per seed]}."""
    lines = ['Validation accuracy: mean (range) of 3 seeds. Seconds of whole commands, 10 epochs: '
             'without stored features, with them.', '',
             '| views | data | best epoch | last epoch | first run, s | later runs, s | '
             'training images/s |', '|---|---|---|---|---|---|---|']
    for (name, folder), rows in results.items():
        best, last, seconds, rates = zip(*rows, strict=True)
        lines.append(
            f'| {name} | {name_of(folder)} | {describe(best)} | {describe(last)} | '
            f'{seconds[0]:.0f} | {statistics.median(seconds[1:]):.0f} | '
            f'{statistics.median(rates):.0f} |')
    for name in dict.fromkeys(name for name, _ in results):
        parts = [np.mean(rows, 0)[:2] for (other, _), rows in results.items() if other == name]
        lines.append('| {} | mean | {:.4f} | {:.4f} | | | |'.format(name, *np.mean(parts, 0)))
    return lines


def describe(values):
    """Return mean and range."""
    return f'{np.mean(values):.4f} ({min(values):.3f} to {max(values):.3f})'


def main(weights, *folders):
    """Run all, and write the table."""
    results = {(name, folder): [] for name in ROWS for folder in folders}
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as caches:
        for seed in SEEDS:
            for (name, folder), rows in results.items():
                cache = os.path.join(caches, f'{name} {name_of(folder)}')
                flags = [*ROWS[name], '--seed', str(seed)]
                rows.append(run(folder, weights, scratch, cache, flags))
                print(name, name_of(folder), seed, rows[-1], flush=True)
    lines = table(results)
    with open(RESULTS, 'w') as file:
        file.writelines(f'{line}\n' for line in lines)
    print('\n'.join(lines))


if __name__ == '__main__':
    main(*sys.argv[1:])
