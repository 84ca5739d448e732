"""How good the recipe is: validation accuracy of candidates on images held out of training, and of the defaults.

    python benchmarks/recipe.py choose CONV_WEIGHTS FOLDER [FOLDER ...]
    python benchmarks/recipe.py measure CONV_WEIGHTS FOLDER [FOLDER ...]

Each FOLDER holds train.txt and val.txt. `choose` never looks at val.txt: each seed keeps another fifth of the training
images aside and validates with it. `measure` validates with val.txt and writes benchmarks/recipe.md. Three seeds each.
"""

import csv
import os
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from inputs.lists import read_list
from runtime.tf1 import tf
from weight_files.reader import read_weights

SEEDS = (0, 1, 2)
TRIO = ['--train_layers', 'fc6', 'fc7', 'fc8']
CANDIDATES = [  # flags that change the defaults
    '', '--no-horizontal_flip', '--lr_schedule cosine', '--label_smoothing 0.1', '--batch_size 32', '--batch_size 128',
    '--learning_rate 0.0003', '--optimizer momentum --learning_rate 0.001',
    '--optimizer momentum --learning_rate 0.0003 --batch_size 32', '--random_crop']


def fine_tune(run_dir, *flags):
    """Run finetune.py; return (best, last validation accuracy)."""
    command = [sys.executable, os.path.join(ROOT, 'finetune.py'), '--run_dir', run_dir, *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(os.path.join(run_dir, 'metrics.csv')) as file:
        rows = list(csv.DictReader(file))
    assert all(np.isfinite(float(row['train_loss'])) for row in rows)
    accuracies = [float(row['val_accuracy']) for row in rows]
    return max(accuracies), accuracies[-1]


def lists_of(folder):
    return ['--train_file', os.path.join(folder, 'train.txt'), '--val_file', os.path.join(folder, 'val.txt')]


def hold_out(folder, seed, target):
    """Write train.txt and val.txt into `target` from the training list of `folder`, a fifth of each class held out."""
    image_list, random = read_list(os.path.join(folder, 'train.txt')), np.random.RandomState(1000 + seed)
    held_out = set()
    for label in np.unique(image_list.labels):
        members = np.flatnonzero(image_list.labels == label)
        held_out.update(random.permutation(members)[:round(len(members) / 5)].tolist())
    for name, wanted in (('train.txt', False), ('val.txt', True)):
        with open(os.path.join(target, name), 'w') as file:
            file.writelines(f'{os.path.abspath(path)} {label}\n' for n, (path, label) in
                            enumerate(zip(image_list.paths, image_list.labels)) if (n in held_out) == wanted)


def describe(results):
    """Return mean and range of the best validation accuracies, and the mean of the last ones."""
    best, last = np.transpose(results)
    return f'{best.mean():.3f} ({best.min():.3f}-{best.max():.3f}) | {last.mean():.3f}'


def choose(weights, folders):
    """Print a row a candidate."""
    for candidate in CANDIDATES:
        row = [candidate or 'defaults']
        for folder in folders:
            with tempfile.TemporaryDirectory() as scratch:
                results = []
                for seed in SEEDS:
                    hold_out(folder, seed, scratch)
                    results.append(fine_tune(os.path.join(scratch, f'run{seed}'), *lists_of(scratch), '--weights_path',
                                             weights, *TRIO, '--seed', str(seed), *candidate.split()))
            row.append(describe(results))
        print('|', ' | '.join(row), '|', flush=True)


def measure(weights, folders):
    """Write the table of the defaults: pretrained convolutions, fc8 alone on borrowed layers, and nothing pretrained."""
    report(['Validation accuracy with the default settings: best epoch, mean (range) of 3 seeds, last epoch, mean.', '',
            '| data | convolutions | trained | best epoch | last epoch |', '|---|---|---|---|---|'], 'w')
    with tempfile.TemporaryDirectory() as scratch:
        def results(folder, name, *flags):
            return describe([fine_tune(os.path.join(scratch, f'{name}-{seed}'), *lists_of(folder), *flags, '--seed',
                                       str(seed)) for seed in SEEDS])
        borrowed = {}
        for folder in folders:
            name = name_of(folder)
            report([f'| {name} | pretrained | fc6 fc7 fc8 | {results(folder, name, "--weights_path", weights, *TRIO)} |'])
            borrowed[folder] = borrow(os.path.join(scratch, f'{name}-0'), weights, os.path.join(scratch, f'{name}.npy'))
        for folder, other in zip(folders, folders[1:] + folders[:1]):
            fc8 = results(folder, f'{name_of(folder)}-fc8', '--weights_path', borrowed[other], '--train_layers', 'fc8')
            report([f'| {name_of(folder)} | pretrained, and fc6 and fc7 as trained on {name_of(other)} | fc8 | {fc8} |'])
        for folder in folders:
            scores = results(folder, f'{name_of(folder)}-none', '--weights_path', 'none')
            report([f'| {name_of(folder)} | random | all | {scores} |'])


def report(lines, mode='a'):
    """Print lines and write them to benchmarks/recipe.md."""
    with open(os.path.join(ROOT, 'benchmarks', 'recipe.md'), mode) as file:
        file.writelines(f'{line}\n' for line in lines)
    print('\n'.join(lines), flush=True)


def name_of(folder):
    return os.path.basename(os.path.abspath(folder))


def borrow(run_dir, weights, target):
    """Write a weight file of the convolutions of `weights` and of fc6 and fc7 as a run left them; return its path."""
    with open(os.path.join(run_dir, 'checkpoints', 'best')) as file:
        reader = tf.train.load_checkpoint(os.path.join(run_dir, 'checkpoints', file.read().strip()))
    layers = {layer: [reader.get_tensor(f'{layer}/{name}') for name in ('weights', 'biases')] for layer in ('fc6', 'fc7')}
    np.save(target, {**read_weights(weights), **layers}, allow_pickle=True)
    return target


if __name__ == '__main__':
    {'choose': choose, 'measure': measure}[sys.argv[1]](sys.argv[2], sys.argv[3:])
