"""Measures how good the recipe is: validation accuracy of candidate settings and of the defaults.

    python -m benchmarks.recipe choose CONV_WEIGHTS FOLDER [FOLDER ...]
    python -m benchmarks.recipe measure CONV_WEIGHTS FOLDER [FOLDER ...]

Each FOLDER holds train.txt and val.txt. `choose` never reads val.txt: with each seed, it holds out
another fifth of the training images and validates on it. `measure` validates on val.txt and writes
benchmarks/recipe.md. Three seeds each.
"""

import csv
import os
import subprocess
import sys
import tempfile

import numpy as np

from inputs.lists import read_list
from runtime.tf1 import tf
from weight_files.reader import read_weights

SEEDS = (0, 1, 2)
TRAIN_FC = ['--train_layers', 'fc6', 'fc7', 'fc8']
CANDIDATES = [  # flags that change the defaults
    '', '--no-horizontal_flip', '--lr_schedule cosine', '--label_smoothing 0.1',
    '--batch_size 32', '--batch_size 128', '--learning_rate 0.0003',
    '--optimizer momentum --learning_rate 0.001',
    '--optimizer momentum --learning_rate 0.0003 --batch_size 32', '--views crops']
RESULTS = 'benchmarks/recipe.md'


def fine_tune(run_dir, *flags):
    """Run finetune.py; return (best, last validation accuracy)."""
    command = [sys.executable, 'finetune.py', '--run_dir', run_dir, *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(os.path.join(run_dir, 'metrics.csv')) as file:
        rows = list(csv.DictReader(file))
    assert all(np.isfinite(float(row['train_loss'])) for row in rows)
    accuracies = [float(row['val_accuracy']) for row in rows]
    return max(accuracies), accuracies[-1]


def fine_tune_seeds(run_dir, *flags):
    """Run finetune.py with each seed in run_dir-<seed>; return [(best, last accuracy)]."""
    return [fine_tune(f'{run_dir}-{seed}', *flags, '--seed', str(seed)) for seed in SEEDS]


def list_flags(folder):
    """Return the flags of the two lists in a folder."""
    train, val = (os.path.join(folder, name) for name in ('train.txt', 'val.txt'))
    return ['--train_file', train, '--val_file', val]


def hold_out(folder, seed, target):
    """Write train.txt and val.txt into `target`, a fifth of each class of train.txt in val.txt."""
    image_list = read_list(os.path.join(folder, 'train.txt'))
    random, held_out = np.random.RandomState(1000 + seed), set()
    for label in np.unique(image_list.labels):
        members = np.flatnonzero(image_list.labels == label)
        held_out.update(random.permutation(members)[:round(len(members) / 5)].tolist())
    lines = [f'{os.path.abspath(path)} {label}\n'
             for path, label in zip(image_list.paths, image_list.labels, strict=True)]
    for name, is_val in (('train.txt', False), ('val.txt', True)):
        with open(os.path.join(target, name), 'w') as file:
            file.writelines(line for n, line in enumerate(lines) if (n in held_out) == is_val)


def describe(results):
    """Return mean and range of the best accuracies, and the mean of the last ones."""
    best, last = np.transpose(results)
    return f'{best.mean():.3f} ({best.min():.3f}-{best.max():.3f}) | {last.mean():.3f}'


def choose(weights, folders):
    """Print a row per candidate."""
    for candidate in CANDIDATES:
        row = [candidate or 'defaults']
        for folder in folders:
            row.append(describe(validate_candidate(candidate, weights, folder)))
        print('|', ' | '.join(row), '|', flush=True)


def validate_candidate(candidate, weights, folder):
    """Return [(best, last accuracy)] of a candidate per seed, on held out training images."""
    results, flags = [], ['--weights_path', weights, *TRAIN_FC, *candidate.split()]
    with tempfile.TemporaryDirectory() as scratch:
        for seed in SEEDS:
            hold_out(folder, seed, scratch)
            run_dir = os.path.join(scratch, f'run{seed}')
            results.append(fine_tune(run_dir, *list_flags(scratch), *flags, '--seed', str(seed)))
    return results


def measure(weights, folders):
    """Write the table of the defaults.

    Its rows: pretrained convolutions; fc8 alone, on fc6 and fc7 from another folder's run; nothing
    pretrained.
    """
    report(['Validation accuracy with the default settings: best epoch, mean (range) of 3 seeds, '
            'last epoch, mean.', '', '| data | convolutions | trained | best epoch | last epoch |',
            '|---|---|---|---|---|'], 'w')
    with tempfile.TemporaryDirectory() as scratch:
        runs = {folder: os.path.join(scratch, name_of(folder)) for folder in folders}
        borrowed = {}
        for folder, run in runs.items():
            measure_row(folder, run, 'pretrained', 'fc6 fc7 fc8', '--weights_path', weights,
                        *TRAIN_FC)
            borrowed[folder] = borrow(f'{run}-0', weights, f'{run}.npy')
        for folder, other in zip(folders, folders[1:] + folders[:1], strict=True):
            source = f'pretrained, and fc6 and fc7 as trained on {name_of(other)}'
            measure_row(folder, f'{runs[folder]}-fc8', source, 'fc8', '--weights_path',
                        borrowed[other], '--train_layers', 'fc8')
        for folder, run in runs.items():
            measure_row(folder, f'{run}-none', 'random', 'all', '--weights_path', 'none')


def measure_row(folder, run_dir, convolutions, trained, *flags):
    """Fine-tune on a folder with each seed, and report the row of the table."""
    scores = describe(fine_tune_seeds(run_dir, *list_flags(folder), *flags))
    report([f'| {name_of(folder)} | {convolutions} | {trained} | {scores} |'])


def report(lines, mode='a'):
    """Print lines and write them to benchmarks/recipe.md."""
    with open(RESULTS, mode) as file:
        file.writelines(f'{line}\n' for line in lines)
    print('\n'.join(lines), flush=True)


def name_of(folder):
    """Return the last part of a folder's path."""
    return os.path.basename(os.path.abspath(folder))


def borrow(run_dir, weights, target):
    """Write the convolutions of `weights` and a run's fc6 and fc7 to a file; return its path."""
    folder = os.path.join(run_dir, 'checkpoints')
    with open(os.path.join(folder, 'best')) as file:
        reader = tf.train.load_checkpoint(os.path.join(folder, file.read().strip()))
    layers = {layer: [reader.get_tensor(f'{layer}/{name}') for name in ('weights', 'biases')]
              for layer in ('fc6', 'fc7')}
    np.save(target, {**read_weights(weights), **layers}, allow_pickle=True)
    return target


if __name__ == '__main__':
    {'choose': choose, 'measure': measure}[sys.argv[1]](sys.argv[2], sys.argv[3:])
