"""Kills finetune.py with SIGKILL at ten random moments while it stores features.

    python -m benchmarks.killed_cache TRAIN_LIST VAL_LIST CONV_WEIGHTS [SEED]

Then a run may end, and its stored features are compared with an undisturbed run's. Prints how many
features each killed run left, and the largest difference at the end.
"""

import glob
import os
import random
import subprocess
import sys
import tempfile
import time

import numpy as np

from training.feature_store import FeatureStore

KILLS = 10
WIDTH = 6 * 6 * 256  # of pool5


def command(lists, weights, folder, name):
    """Return the command that fills the cache `name` and then trains for one epoch."""
    train_list, val_list = lists
    run_dir = os.path.join(folder, f'{name}-{time.time()}')
    return [sys.executable, 'finetune.py', '--train_file', train_list, '--val_file', val_list,
            '--weights_path', weights, '--train_layers', 'fc6', 'fc7', 'fc8',
            '--num_epochs', '1', '--no-horizontal_flip',
            '--cache_dir', os.path.join(folder, name), '--run_dir', run_dir]


def stored(folder, name):
    """Return {key: features} of a cache."""
    paths = glob.glob(os.path.join(folder, name, 'pool5-*'))
    if not paths:
        return {}
    with FeatureStore(paths[0], WIDTH) as store:
        array = store.read()
        return {key: np.array(array[row]) for key, row in store.rows.items()}


def kill_after(seconds, words):
    """Run a command and kill it after so many seconds."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.kill()
    process.wait()


def main(train_list, val_list, weights, seed='0'):
    """Fill one cache undisturbed and another one under kills, and compare them."""
    moments, lists = random.Random(int(seed)), (train_list, val_list)
    with tempfile.TemporaryDirectory() as folder:
        words = command(lists, weights, folder, 'whole')
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        for _ in range(KILLS):
            seconds = moments.uniform(1.5, 5)
            kill_after(seconds, command(lists, weights, folder, 'killed'))
            count = len(stored(folder, 'killed'))
            print(f'killed after {seconds:.2f} s: {count} features', flush=True)
        words = command(lists, weights, folder, 'killed')
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        compare(stored(folder, 'whole'), stored(folder, 'killed'))


def compare(whole, killed):
    """Print the numbers of features of two caches and their largest difference."""
    difference = max(np.abs(whole[key] - killed[key]).max() for key in whole)
    largest = max(values.max() for values in whole.values())
    print(f'same images: {whole.keys() == killed.keys()}, {len(whole)}; '
          f'largest difference {difference:.2g} of {largest:.3g}')


if __name__ == '__main__':
    main(*sys.argv[1:])
