"""Measures 1 and 2 workers on this machine, each pinned to one core: images/s, and what adding up the gradients costs.

`python benchmarks/distribution.py TRAIN_LIST VAL_LIST CONV_WEIGHTS [ROUNDS [EPOCHS [BATCH_SIZE]]]` runs finetune.py on
stored features and on images, with fc8 and with fc6 to fc8 trained, prints a table after each round and writes it to
benchmarks/distribution.md. CONV_WEIGHTS holds conv1 to conv5; where fc8 alone is trained, fc6 and fc7 are drawn.
"""

import csv
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import finetune
from benchmarks.speed import FC_LAYERS, draw_full_weights
from inputs.lists import read_datasets
from runtime.tf1 import tf
from training.strategy import Distribution
from weight_files.reader import LAYER_SHAPES

MODEL_BYTES = 4 * 60_965_224  # of AlexNet with ImageNet's 1000 classes, float32


def start(command, workers):
    """Start a command as each worker of a cluster, pinned to a core each, on one thread; return the processes."""
    sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(workers)]
    jobs = {'worker': [f'127.0.0.1:{each.getsockname()[1]}' for each in sockets]}
    for each in sockets:
        each.close()
    return [subprocess.Popen(
        command, stdout=subprocess.DEVNULL, preexec_fn=lambda core=core: os.sched_setaffinity(0, [core]),
        env={**os.environ, 'TF_CONFIG': json.dumps({'cluster': jobs, 'task': {'type': 'worker', 'index': core}})})
        for core in range(workers)]


def run(command, workers):
    """Run a command as each worker of a cluster; CalledProcessError if one fails."""
    for process in start(command, workers):
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)


def training_rate(flags, workers, folder):
    """Return images/s of a run, the median of its epochs after the first."""
    run_dir = os.path.join(folder, 'run')
    shutil.rmtree(run_dir, ignore_errors=True)
    command = [sys.executable, os.path.join(ROOT, 'finetune.py'), *flags, '--num_threads', '1', '--run_dir', run_dir]
    run(command, workers)
    with open(os.path.join(run_dir, 'metrics.csv')) as file:
        return statistics.median([float(row['images_per_second']) for row in csv.DictReader(file)][1:])


def adding_seconds(count, folder):
    """Return the seconds that two workers take to add up `count` float32 values each."""
    path = os.path.join(folder, 'seconds')
    run([sys.executable, __file__, 'add', str(count), path], 2)
    with open(path) as file:
        return float(file.read())


def add(count, path, rounds=10):
    """On one worker: add up values, and write the median of the seconds that it takes."""
    with Distribution(finetune.Settings(num_threads=1)) as group, tf.Graph().as_default():
        total = tf.group(group.total(lambda number: tf.fill([int(count)], float(number))))
        session, seconds = finetune.open_session(num_threads=1, make=group.session), []
        for _ in range(rounds + 1):
            begin = time.perf_counter()
            session.run(total)
            seconds.append(time.perf_counter() - begin)
    if group.is_chief:
        with open(path, 'w') as file:
            file.write(str(statistics.median(seconds[1:])))


def table(rates, seconds, batch_size, num_classes):
    """Return the lines of the report: medians of the rounds."""
    rounds = min(map(len, rates.values()))
    lines = [f'Medians of {rounds} rounds; batches of {batch_size}, a core and a thread a worker.', '',
             '| trained | fed | images/s, 1 worker | 2 workers | efficiency | gradients, MB a step | of the model '
             '| seconds to add up | share of a step |', '|---|---|---|---|---|---|---|---|---|']
    for (trained, fed, workers), values in rates.items():
        if workers == 1 and (trained, fed, 2) in rates:
            one, two = statistics.median(values), statistics.median(rates[trained, fed, 2])
            size, adding = 4 * parameters(trained, num_classes), statistics.median(seconds[trained])
            lines.append(f'| {" ".join(trained)} | {fed} | {one:.0f} | {two:.0f} | {two / one / 2:.2f} '
                         f'| {size / 1e6:.2f} | {size / MODEL_BYTES:.3f} | {adding:.4f} '
                         f'| {adding * two / batch_size:.2f} |')
    return lines


def parameters(trained, num_classes):
    """Return the number of weights and biases of fully connected layers."""
    sizes = {layer: LAYER_SHAPES[layer] for layer in trained} | {'fc8': (4096, num_classes)}
    return sum((inputs + 1) * outputs for inputs, outputs in sizes.values())


def main(train_list, val_list, conv_weights, rounds='3', epochs='4', batch_size='128'):
    num_classes = len(read_datasets(train_list, val_list)[0].class_names)
    rates, seconds = defaultdict(list), defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        full_weights = os.path.join(folder, 'full.npy')
        draw_full_weights(conv_weights, full_weights)
        for _ in range(int(rounds)):
            for trained in (('fc8',), FC_LAYERS):
                seconds[trained].append(adding_seconds(parameters(trained, num_classes), folder))
                for fed, cache in (('stored features', 'on'), ('images', 'off')):
                    for workers in (1, 2):
                        flags = ['--train_file', train_list, '--val_file', val_list, '--weights_path', full_weights,
                                 '--train_layers', *trained, '--num_epochs', epochs, '--batch_size', batch_size,
                                 '--optimizer', 'momentum', '--learning_rate', '0.001', '--no-horizontal_flip',
                                 '--cache_features', cache, '--cache_dir', os.path.join(folder, 'cache')]
                        rates[trained, fed, workers].append(training_rate(flags, workers, folder))
            report = '\n'.join(table(rates, seconds, int(batch_size), num_classes)) + '\n'
            print(report, flush=True)
            with open(os.path.join(ROOT, 'benchmarks', 'distribution.md'), 'w') as file:
                file.write(report)


if __name__ == '__main__':
    add(*sys.argv[2:]) if sys.argv[1] == 'add' else main(*sys.argv[1:])
