"""Measures finetune.py, whole commands, against PyTorch, itself without stored features, and
limits.

`python -m benchmarks.speed TRAIN_LIST VAL_LIST CONV_WEIGHTS [ROUNDS [NAME...]]` runs every
contender, or those whose name or label is given as in the table, such as 'warm cache, sgd',
'fc6 fc7 fc8, Adam' or 'fc8: warm cache', once per round, in turn. After each round it prints a
table of medians and ratios, and writes it to benchmarks/speed.md. The optimizer is momentum with
batches of 128, as in the plain PyTorch script, or sgd where a name says so; with the label Adam it
is the default recipe without mirror images, as in the careful PyTorch script, which keeps the
outputs of the frozen layers, too; with the labels defaults it is the default recipe for 5 epochs.
CONV_WEIGHTS holds conv1 to conv5; for the runs that train less than fc6 to fc8, the others are
drawn. PyTorch is left out where torch is missing.
"""

import contextlib
import csv
import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from inputs.lists import read_list
from runtime.tf1 import tf
from weight_files.reader import read_weights

EPOCHS = '10'
# As the PyTorch script has it.
RECIPE = ('--num_epochs', EPOCHS, '--batch_size', '128', '--optimizer', 'momentum',
          '--learning_rate', '0.001', '--no-horizontal_flip')
ADAM_RECIPE = ('--num_epochs', EPOCHS, '--no-horizontal_flip')
FC_LAYERS = ('fc6', 'fc7', 'fc8')
ADAM = 'fc6 fc7 fc8, Adam'
# FLOPs per image: multiply and add of each weight at each place; a trained layer also needs the
# gradients of its weights and, except for the first one, of its input.
CONV_FLOPS = 2 * (55**2 * 96 * 363 + 27**2 * 256 * 1200
                  + 13**2 * (384 * 2304 + 384 * 1728 + 256 * 1728))
TRAIN_FLOPS = 2 * (2 * 9216 * 4096 + 3 * 4096 * 4096 + 3 * 4096 * 17)


def draw_full_weights(conv_weights, path):
    """Write a full-size weight file: the convolutions given, and fc6 to fc8 drawn."""
    layers = {name: list(pair) for name, pair in read_weights(conv_weights).items()}
    random = np.random.RandomState(7)
    for layer, shape in {'fc6': (9216, 4096), 'fc7': (4096, 4096), 'fc8': (4096, 1000)}.items():
        weights = np.float32(random.standard_normal(shape) * 0.01)
        layers[layer] = [weights, np.zeros(shape[1], np.float32)]
    np.save(path, layers, allow_pickle=True)


def contenders(train_list, val_list, weights, folder):
    """Return {(name, label): command}, in the order in which a round runs them."""
    commands = adam_contenders(train_list, val_list, weights[FC_LAYERS], folder)
    commands.update(default_contenders(train_list, val_list, weights, folder))
    for trained in (FC_LAYERS, ('fc8',)):
        label, options = ' '.join(trained), {'cold cache': [], 'warm cache': []}
        ours = our_command(train_list, val_list, weights[trained], folder, trained, RECIPE)
        if trained == FC_LAYERS:
            bfloat16, sgd = ['--precision', 'bfloat16'], ['--optimizer', 'sgd']
            uncached = ['--cache_features', 'off']
            options.update({
                'bfloat16, cold cache': bfloat16, 'bfloat16, warm cache': bfloat16,
                'without cache': uncached, 'cold cache, sgd': sgd, 'warm cache, sgd': sgd,
                'without cache, sgd': uncached + sgd})
        commands.update({(name, label): ours + more for name, more in options.items()})
        if importlib.util.find_spec('torch'):
            commands['PyTorch', label] = [
                sys.executable, '-m', 'benchmarks.pytorch_finetune', train_list, val_list,
                weights[trained], EPOCHS, *trained]
    return commands


def our_command(train_list, val_list, weights, folder, trained, recipe):
    """Return the command of finetune.py with a recipe."""
    return [sys.executable, 'finetune.py', '--train_file', train_list, '--val_file', val_list,
            '--weights_path', weights, *recipe, '--train_layers', *trained,
            '--cache_dir', os.path.join(folder, 'cache'), '--run_dir', os.path.join(folder, 'run')]


def adam_contenders(train_list, val_list, weights, folder):
    """Return {(name, label): command} of the recipe ADAM and of careful PyTorch."""
    ours = our_command(train_list, val_list, weights, folder, FC_LAYERS, ADAM_RECIPE)
    commands = {('cold cache', ADAM): ours, ('warm cache', ADAM): ours}
    if importlib.util.find_spec('torch'):
        theirs = [sys.executable, '-m', 'benchmarks.pytorch_features', train_list, val_list,
                  weights, EPOCHS, os.path.join(folder, 'features.pt')]
        commands['PyTorch, cold cache', ADAM] = theirs
        commands['PyTorch, warm cache', ADAM] = theirs
    return commands


def default_contenders(train_list, val_list, weights, folder):
    """Return {(name, label): command} of the default recipe; fc7 and fc8 are trained by default."""
    commands = {}
    for trained in (FC_LAYERS, FC_LAYERS[1:]):
        ours = our_command(train_list, val_list, weights[trained], folder, trained,
                           ('--num_epochs', '5'))
        for name, more in (('cold cache', []), ('warm cache', []),
                           ('without cache', ['--cache_features', 'off'])):
            commands[name, f'{" ".join(trained)}, defaults'] = ours + more
    return commands


def run(name, command, folder):
    """Return {measure: value} of one command: its seconds, and rates of the parts of
    finetune.py."""
    shutil.rmtree(os.path.join(folder, 'run'), ignore_errors=True)
    if 'cold' in name:
        shutil.rmtree(os.path.join(folder, 'cache'), ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(folder, 'features.pt'))
    start = time.perf_counter()
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    values = {'seconds': time.perf_counter() - start}
    if name.startswith('PyTorch'):
        accuracies = re.findall(r'val \S+ (\S+)', shown)
    else:
        with open(os.path.join(folder, 'run', 'metrics.csv')) as file:
            rows = list(csv.DictReader(file))
        accuracies = [row['val_accuracy'] for row in rows]
        values['training images/s'] = statistics.median(
            float(row['images_per_second']) for row in rows)
    values['val_accuracy'] = max(map(float, accuracies))
    if name.endswith('cold cache') and not name.startswith('PyTorch'):
        values['first pass images/s'] = float(re.search(r'\((\d+) views/s\)', shown)[1])
    return values


def decoding_rate(paths):
    """Return the images/s that cv2.imread and a resize by area alone reach on all cores."""
    def load(path):
        return cv2.resize(cv2.imread(path), (227, 227), interpolation=cv2.INTER_AREA).shape
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        start = time.perf_counter()
        list(pool.map(load, paths))
        return len(paths) / (time.perf_counter() - start)


def product_rate(size=4096):
    """Return the FLOP/s of a large float32 matrix product."""
    with tf.Graph().as_default(), tf.Session() as session:
        matrix = tf.Variable(np.random.rand(size, size).astype(np.float32))
        product = tf.matmul(matrix, matrix).op
        session.run(tf.global_variables_initializer())
        times = []
        for _ in range(6):
            start = time.perf_counter()
            session.run(product)
            times.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(times)


def table(results):
    """Return the lines of the report: medians, and ratios of the medians."""
    seconds = {key: statistics.median(row['seconds'] for row in rows)
               for key, rows in results.items()}
    rounds = min(len(rows) for rows in results.values())
    lines = [f'Medians of {rounds} rounds; whole commands, {EPOCHS} epochs, 5 with the defaults, '
             'batches of 128, 64 in careful PyTorch.', '',
             '| trained | contender | seconds | PyTorch / this | without cache / this | '
             'val_accuracy |', '|---|---|---|---|---|---|']
    for (name, label), value in seconds.items():
        others = ('', 'without cache, sgd') if 'sgd' in name else ('PyTorch', 'without cache')
        if label == ADAM:
            others = (f'PyTorch, {name.removeprefix("PyTorch, ")}', '')
        ratios = [f'{seconds[other, label] / value:.1f}' if (other, label) in seconds else ''
                  for other in others]
        accuracy = statistics.median(row['val_accuracy'] for row in results[name, label])
        lines.append(f'| {label} | {name} | {value:.1f} | {ratios[0]} | {ratios[1]} | '
                     f'{accuracy:.4f} |')
    return lines


def limits(results, decode, product):
    """Return the lines that compare the first pass and training with the limits of the machine."""
    label = ' '.join(FC_LAYERS)
    decode, product = statistics.median(decode), statistics.median(product)
    first_pass = 1 / (1 / decode + CONV_FLOPS / product)
    lines = ['', f'Decoding alone: {decode:.0f} images/s. Matrix products: '
             f'{product / 1e9:.0f} GFLOP/s.', '',
             '| part | images/s | limit | share |', '|---|---|---|---|']
    for part, name, measure, limit in (
            ('first pass', 'cold cache', 'first pass images/s', first_pass),
            (f'training {label}', 'warm cache', 'training images/s', product / TRAIN_FLOPS)):
        if (name, label) in results:
            rate = statistics.median(row[measure] for row in results[name, label])
            lines.append(f'| {part} | {rate:.0f} | {limit:.0f} | {rate / limit:.2f} |')
    return lines


def main(train_list, val_list, conv_weights, rounds='3', *names):
    """Print the table after each round, and write it."""
    if not importlib.util.find_spec('torch'):
        print('torch is not installed: the PyTorch script is left out')
    paths = read_list(train_list).paths
    results, decode, product = defaultdict(list), [], []
    with tempfile.TemporaryDirectory() as folder:
        full_weights = os.path.join(folder, 'full.npy')
        draw_full_weights(conv_weights, full_weights)
        weights = {FC_LAYERS: conv_weights, FC_LAYERS[1:]: full_weights, ('fc8',): full_weights}
        commands = contenders(train_list, val_list, weights, folder)
        for _ in range(int(rounds)):
            decode.append(decoding_rate(paths))
            product.append(product_rate())
            for (name, label), command in commands.items():
                if not names or {name, label, f'{label}: {name}'} & set(names):
                    results[name, label].append(run(name, command, folder))
                    print(f'{label:21} {name:22} {results[name, label][-1]}', flush=True)
            report = '\n'.join(table(results) + limits(results, decode, product)) + '\n'
            print(report, flush=True)
            with open(os.path.join('benchmarks', 'speed.md'), 'w') as file:
                file.write(report)


if __name__ == '__main__':
    main(*sys.argv[1:])
