"""Measures 1 and 2 workers on this machine, each on one core: images/s, and the sum of gradients.

`python -m benchmarks.distribution TRAIN_LIST VAL_LIST CONV_WEIGHTS [ROUNDS [EPOCHS [BATCH_SIZE]]]`
runs finetune.py on stored features and on images, with fc8 and with fc6 to fc8 trained, prints a
table after each round and writes it to benchmarks/distribution.md. CONV_WEIGHTS holds conv1 to
conv5; where fc8 alone is trained, fc6 and fc7 are drawn.
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

from benchmarks.speed import FC_LAYERS, draw_full_weights
from inputs.lists import read_datasets
from runtime.tf1 import tf
from training.devices import Devices
from training.strategy import all_reduce_sum
from weight_files.reader import LAYER_SHAPES

MODEL_BYTES = 4 * 60_965_224  # of AlexNet with ImageNet's 1000 classes, float32


def start(command, workers):
    """Start a command as each worker of a cluster, each on its own core; return the processes."""
    sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(workers)]
    jobs = {'worker': [f'127.0.0.1:{each.getsockname()[1]}' for each in sockets]}
    for each in sockets:
        each.close()
    processes = []
    for core in range(workers):
        task = {'cluster': jobs, 'task': {'type': 'worker', 'index': core}}
        processes.append(subprocess.Popen(
            command, stdout=subprocess.DEVNULL, env={**os.environ, 'TF_CONFIG': json.dumps(task)},
            preexec_fn=lambda core=core: os.sched_setaffinity(0, [core])))
    return processes


def run(command, workers):
    """Run a command as each worker of a cluster; CalledProcessError if one fails."""
    for process in start(command, workers):
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)


def training_rate(flags, workers, folder):
    """Return images/s of a run, the median of its epochs after the first."""
    run_dir = os.path.join(folder, 'run')
    shutil.rmtree(run_dir, ignore_errors=True)
    command = [sys.executable, 'finetune.py', *flags, '--num_threads', '1',
               '--run_dir', run_dir]
    run(command, workers)
    with open(os.path.join(run_dir, 'metrics.csv')) as file:
        rates = [float(row['images_per_second']) for row in csv.DictReader(file)]
    return statistics.median(rates[1:])


def adding_seconds(count, folder):
    """Return the seconds that two workers take to add up `count` float32 values each."""
    path = os.path.join(folder, 'seconds')
    run([sys.executable, '-m', 'benchmarks.distribution', 'add', str(count), path], 2)
    with open(path) as file:
        return float(file.read())


def add(count, path, rounds=10):
    """On one worker: add up values, and write the median of the seconds that it takes."""
    with Devices(num_threads=1) as devices, tf.Graph().as_default():
        total = tf.group(all_reduce_sum(
            devices.strategy, lambda replica: tf.fill([int(count)], float(replica))))
        session, seconds = devices.open_session(), []
        for _ in range(rounds + 1):
            begin = time.perf_counter()
            session.run(total)
            seconds.append(time.perf_counter() - begin)
    if devices.workers.rank == 0:
        with open(path, 'w') as file:
            file.write(str(statistics.median(seconds[1:])))


def table(rates, seconds, batch_size, num_classes):
    """Return the lines of the report: medians of the rounds."""
    rounds = min(map(len, rates.values()))
    lines = [f'Medians of {rounds} rounds; batches of {batch_size}, a core and a thread per '
             'worker.', '',
             '| trained | fed | images/s, 1 worker | 2 workers | efficiency '
             '| gradients, MB per step | of the model | seconds to add up | share of a step |',
             '|---|---|---|---|---|---|---|---|---|']
    for (trained, fed, workers), values in rates.items():
        if workers == 1 and (trained, fed, 2) in rates:
            one, two = statistics.median(values), statistics.median(rates[trained, fed, 2])
            size = 4 * parameters(trained, num_classes)
            adding = statistics.median(seconds[trained])
            lines.append(f'| {" ".join(trained)} | {fed} | {one:.0f} | {two:.0f} '
                         f'| {two / one / 2:.2f} '
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
        common = ['--train_file', train_list, '--val_file', val_list,
                  '--weights_path', full_weights, '--num_epochs', epochs,
                  '--batch_size', batch_size, '--optimizer', 'momentum',
                  '--learning_rate', '0.001', '--no-horizontal_flip',
                  '--cache_dir', os.path.join(folder, 'cache')]
        for _ in range(int(rounds)):
            for trained in (('fc8',), FC_LAYERS):
                seconds[trained].append(adding_seconds(parameters(trained, num_classes), folder))
                for fed, cache in (('stored features', 'on'), ('images', 'off')):
                    for workers in (1, 2):
                        flags = [*common, '--train_layers', *trained, '--cache_features', cache]
                        rates[trained, fed, workers].append(
                            training_rate(flags, workers, folder))
            report = '\n'.join(table(rates, seconds, int(batch_size), num_classes)) + '\n'
            print(report, flush=True)
            with open(os.path.join('benchmarks', 'distribution.md'), 'w') as file:
                file.write(report)


if __name__ == '__main__':
    add(*sys.argv[2:]) if sys.argv[1] == 'add' else main(*sys.argv[1:])
