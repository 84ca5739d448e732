"""Measures what looking at every listed file costs: `python benchmarks/checks.py TRAIN_LIST VAL_LIST CONV_WEIGHTS`.

Trains fc6, fc7 and fc8 for one epoch in this process, with and without stored features, each twice, and prints the
seconds that finding broken files takes and their share of the epoch: features if stored, steps, validation.
"""

import os
import sys
import tempfile
import time

import finetune
from inputs import checks
from training import feature_cache, steps

TIMED = ((checks, 'find_broken'), (feature_cache, 'find_broken'), (feature_cache, 'store_batches'), (steps, 'run_pass'))


def timed(module, name, seconds):
    """Make the function that a module calls by this name add its seconds to `seconds`."""
    function = getattr(module, name)

    def wrapper(*arguments):
        start = time.monotonic()
        try:
            return function(*arguments)
        finally:
            seconds[name] += time.monotonic() - start
    setattr(module, name, wrapper)


def main(train_file, val_file, weights_path):
    seconds = {}
    for module, name in TIMED:
        timed(module, name, seconds)
    with tempfile.TemporaryDirectory() as folder:
        for number, cache_features in enumerate(('on', 'on', 'off', 'off')):
            seconds.update(dict.fromkeys((name for _, name in TIMED), 0))
            finetune.finetune(finetune.Settings(
                train_file=train_file, val_file=val_file, weights_path=weights_path, train_layers=('fc6', 'fc7', 'fc8'),
                num_epochs=1, cache_features=cache_features, cache_dir=os.path.join(folder, cache_features),
                run_dir=os.path.join(folder, f'run{number}')))
            looking, epoch = seconds['find_broken'], seconds['store_batches'] + seconds['run_pass']
            print(f'cache_features {cache_features}: {looking:.2f} s of {epoch:.2f} s, {looking / epoch:.1%}')


if __name__ == '__main__':
    main(*sys.argv[1:])
