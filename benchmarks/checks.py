"""Measures the check of listed files against the first epoch.

`python -m benchmarks.checks TRAIN_LIST VAL_LIST CONV_WEIGHTS` checks both lists as finetune.py
does, by structure and by decoding, then trains fc6 to fc8 for one epoch, with and without stored
features, and prints the seconds of each check and its fraction of the first epoch.
"""

import contextlib
import csv
import io
import os
import re
import sys
import tempfile
import time

import finetune
from inputs.checks import find_broken
from inputs.images import check_image, load_image
from inputs.lists import read_list


def check_seconds(lists, check):
    """Return the seconds of a check of some ImageLists, none of whose files is remembered."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        find_broken(lists, check, folder)
        return time.perf_counter() - start


def epoch_seconds(train_file, val_file, weights_path, cache_features):
    """Return the seconds of the first epoch, computing features included."""
    with (tempfile.TemporaryDirectory() as folder,
          contextlib.redirect_stdout(io.StringIO()) as shown):
        run_dir = os.path.join(folder, 'run')
        finetune.finetune(finetune.Settings(
            train_file=train_file, val_file=val_file, weights_path=weights_path,
            train_layers=('fc6', 'fc7', 'fc8'), num_epochs=1, cache_features=cache_features,
            cache_dir=os.path.join(folder, 'cache'), run_dir=run_dir))
        with open(os.path.join(run_dir, 'metrics.csv')) as file:
            [row] = csv.DictReader(file)
    computed = re.search(r'([\d,]+) of them computed now \((\d+) views/s\)', shown.getvalue())
    features = int(computed[1].replace(',', '')) / int(computed[2]) if computed else 0
    return float(row['seconds']) + features


def main(train_file, val_file, weights_path):
    """Print a line with stored features, where structure is checked, and one without."""
    lists = [read_list(path) for path in (train_file, val_file)]
    for cache_features, check in (('on', check_image), ('off', load_image)):
        checking = check_seconds(lists, check)
        epoch = epoch_seconds(train_file, val_file, weights_path, cache_features)
        print(f'cache_features {cache_features}: {check.__name__} {checking:.2f} s, first epoch '
              f'{epoch:.2f} s, {checking / epoch:.1%}')


if __name__ == '__main__':
    main(*sys.argv[1:])
