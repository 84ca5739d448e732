"""Kills finetune.py with SIGKILL at random moments, lets it go on each time, and compares with an undisturbed run.

`python benchmarks/killed_run.py [KILLS [SEED]]`, 30 and 0 by default, trains fc8 on the sample images; it takes a few
minutes. A run that ends by itself is compared, and another one begins, until all kills are done.
"""

import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from runtime.tf1 import tf
from weight_files.npy import write_npy
from weight_files.reader import LAYER_SHAPES

# The script, but small runs are saved as often as long ones.
SCRIPT = '''
import sys; sys.path.insert(0, sys.argv.pop(1))
import finetune
finetune.Checkpoints.SECONDS_BETWEEN, finetune.Checkpoints.SECONDS_BETWEEN_STEPS = 0.1, 0.1
finetune.run_command(finetune.main)
'''


def write_weights(path):
    """Write random weights for all layers, scaled as He et al. (2015)."""
    draw = np.random.default_rng(0)
    with open(path, 'wb') as file:
        write_npy(file, {layer: (np.float32(np.sqrt(2 / np.prod(shape[:-1]))) * draw.standard_normal(shape, np.float32),
                                 np.zeros(shape[-1], np.float32)) for layer, shape in LAYER_SHAPES.items()})


def start(folder, flags):
    """Start a run in `folder`, new or to go on, which it calls run, with a cache beside it; return the process."""
    os.makedirs(folder, exist_ok=True)
    command = [sys.executable, '-c', SCRIPT, ROOT, '--train_layers', 'fc8', *flags, '--run_dir', 'run',
               '--cache_dir', 'cache']
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    """Wait for a run to end; RuntimeError with what it printed unless it ends well."""
    shown = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f'exit status {process.returncode}: {shown}')


def outcome(folder):
    """Return all that a finished run in `folder` leaves, but for times: names of files, numbers, bytes of weights."""
    run = os.path.join(folder, 'run')
    names = sorted(name for _, _, files in os.walk(run) for name in files if 'tfevents' not in name)
    with open(os.path.join(run, 'metrics.csv'), newline='') as file:
        rows = [{name: value for name, value in row.items() if name not in ('seconds', 'images_per_second')}
                for row in csv.DictReader(file)]
    with open(os.path.join(run, 'val_predictions.csv')) as file:
        predictions = file.read()
    values = {}
    for name in ('frozen', *(read_name(run, text) for text in ('best', 'last'))):
        reader = tf.train.load_checkpoint(os.path.join(run, 'checkpoints', name))
        values.update({(name, key): reader.get_tensor(key).tobytes() for key in reader.get_variable_to_shape_map()})
    return names, rows, predictions, values


def read_name(run, text):
    """Return the checkpoint that the text file `best` or `last` names, or None."""
    path = os.path.join(run, 'checkpoints', text)
    if not os.path.exists(path):
        return None
    with open(path) as file:
        return file.read().strip()


def kill_and_compare(folder, flags, kills, seed=0):
    """Kill runs `kills` times; return [(seconds, last checkpoint then)] and the number of runs that ended.

    Raises AssertionError as soon as one of them is not what the undisturbed one is.
    """
    whole, killed, moments = os.path.join(folder, 'whole'), os.path.join(folder, 'killed'), random.Random(seed)
    begin = time.monotonic()
    finish(start(whole, flags))
    duration, expected = time.monotonic() - begin, outcome(whole)
    happened, ended = [], 0
    while True:
        process, moment = start(killed, flags), moments.uniform(0.1, duration)
        try:
            process.communicate(timeout=moment if len(happened) < kills else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            happened.append((moment, read_name(os.path.join(killed, 'run'), 'last')))
            print(f'killed after {moment:.2f} s, at {happened[-1][1] or "no checkpoint"}', flush=True)
            continue
        assert process.returncode == 0, process.returncode
        for part, got in zip(expected, outcome(killed)):
            assert part == got
        ended += 1
        if len(happened) == kills:
            return happened, ended
        shutil.rmtree(killed)


def main(kills='30', seed='0'):
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, 'weights.npy')
        write_weights(weights)
        flags = [f'--{name}={os.path.join(ROOT, name[:-5])}.txt' for name in ('train_file', 'val_file')] + [
            '--weights_path', weights, '--num_epochs', '600', '--batch_size', '10', '--lr_schedule', 'cosine']
        happened, ended = kill_and_compare(folder, flags, int(kills), int(seed))
    early = sum(name is None for _, name in happened)
    print(f'{len(happened)} kills, {early} of them before the first checkpoint; {ended} runs ended, each with the weights, '
          'metrics, predictions and files of the undisturbed one, bit for bit')


if __name__ == '__main__':
    main(*sys.argv[1:])
