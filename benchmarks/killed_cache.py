"""Kills finetune.py with SIGKILL at ten random moments while it stores features, then lets it end, and compares what is
stored with what an undisturbed run stores.

`python benchmarks/killed_cache.py TRAIN_LIST VAL_LIST CONV_WEIGHTS [SEED]` prints how many features each killed run left
and the largest difference at the end.
"""

import glob
import os
import random
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from training.feature_store import FeatureStore

WIDTH = 6 * 6 * 256


def command(train_list, val_list, weights, folder, name):
    """Return the command that fills the cache `name` and then trains for one epoch."""
    return [sys.executable, os.path.join(ROOT, 'finetune.py'), '--train_file', train_list, '--val_file', val_list,
            '--weights_path', weights, '--train_layers', 'fc6', 'fc7', 'fc8', '--num_epochs', '1',
            '--no-horizontal_flip',
            '--cache_dir', os.path.join(folder, name), '--run_dir', os.path.join(folder, f'{name}-{time.time()}')]


def stored(folder, name):
    """Return {key: features} of a cache."""
    paths = glob.glob(os.path.join(folder, name, 'pool5-*'))
    if not paths:
        return {}
    with FeatureStore(paths[0], WIDTH) as store:
        array = store.read() if store.count else None
        return {key: np.array(array[row]) for key, row in store.rows.items()}


def main(train_list, val_list, weights, seed='0'):
    moments = random.Random(int(seed))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(command(train_list, val_list, weights, folder, 'whole'), check=True, stdout=subprocess.DEVNULL)
        for _ in range(10):
            process = subprocess.Popen(command(train_list, val_list, weights, folder, 'killed'),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            moment = moments.uniform(1.5, 5)
            time.sleep(moment)
            process.kill()
            process.wait()
            print(f'killed after {moment:.2f} s: {len(stored(folder, "killed"))} features', flush=True)
        subprocess.run(command(train_list, val_list, weights, folder, 'killed'), check=True, stdout=subprocess.DEVNULL)
        whole, killed = stored(folder, 'whole'), stored(folder, 'killed')
    difference = max(np.abs(whole[key] - killed[key]).max() for key in whole)
    largest = max(values.max() for values in whole.values())
    print(f'same images: {whole.keys() == killed.keys()}, {len(whole)}; '
          f'largest difference {difference:.2g} of {largest:.3g}')


if __name__ == '__main__':
    main(*sys.argv[1:])
