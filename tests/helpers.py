"""Helpers of several test files: small images and lists, random weights, results of runs."""

import contextlib
import csv
import os
import random
import shutil
import struct
import subprocess
import sys
import time
import zlib

import cv2
import numpy as np
import pytest

from runtime import command

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONV_SHAPES = {'conv1': (11, 11, 3, 96), 'conv2': (5, 5, 48, 256), 'conv3': (3, 3, 256, 384),
               'conv4': (3, 3, 192, 384), 'conv5': (3, 3, 192, 256)}
FC_LAYERS = ('fc6', 'fc7', 'fc8')
TIMES = ('seconds', 'images_per_second')  # columns of metrics.csv that differ between equal runs
# finetune.py, but small runs are saved as often as long ones.
OFTEN_SAVED = '''
import sys; sys.path.insert(0, sys.argv.pop(1))
import finetune
from run_folder.checkpoints import Checkpoints
Checkpoints.SECONDS_BETWEEN_EPOCHS = Checkpoints.SECONDS_BETWEEN_STEPS = 0.1
finetune.run_command(finetune.main)
'''


@contextlib.contextmanager
def hidden_gpus():
    """Hide the GPUs from sessions that are opened meanwhile, and from processes that are started.

    A session that is open already keeps them.
    """
    from runtime.tf1 import tf
    tf.config.list_physical_devices()  # CUDA reads its variable once: before it changes
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('CUDA_VISIBLE_DEVICES', '')
        patch.setattr(tf.config, 'list_physical_devices', lambda kind=None: [])
        yield


def shared(*parts):
    """Return a path in ../shared, or skip the test where that is missing."""
    path = os.path.join(ROOT, '..', 'shared', *parts)
    if not os.path.exists(path):
        pytest.skip(f'needs {os.path.relpath(path, ROOT)}, which is not part of the project')
    return path


def random_conv_weights():
    """Return {conv layer: [weights, biases]}, float32, of AlexNet's shapes, as He et al. (2015)."""
    draw, layers = np.random.RandomState(0), {}
    for layer, shape in CONV_SHAPES.items():
        weights = draw.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:3]))
        layers[layer] = [np.float32(weights), np.float32(draw.standard_normal(shape[3]) * 0.1)]
    return layers


def png_file(width, height):
    """Return a PNG file with correct checksums, a header of this size and next to no data."""
    def chunk(kind, data):
        checksum = struct.pack('>I', zlib.crc32(kind + data))
        return struct.pack('>I', len(data)) + kind + data + checksum
    header = struct.pack('>IIBBBBB', width, height, 8, 6, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
            + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b''))


def write_list(path, lines):
    """Write a list file and return its path as text."""
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
    return str(path)


def write_dark_and_bright(folder, difference):
    """Write train.txt (10 images) and val.txt (5) of two classes, which labels.txt names.

    Images of class 1 are brighter by `difference`. Returns the folder.
    """
    draw = np.random.RandomState(0)
    for n in range(15):
        image = draw.randint(0, 90, (60, 60, 3)).astype(np.uint8) + difference * (n % 2)
        cv2.imwrite(str(folder / f'{n}.png'), image)
    write_list(folder / 'train.txt', [f'{n}.png {n % 2}' for n in range(10)])
    write_list(folder / 'val.txt', [f'{n}.png {("dark", "bright")[n % 2]}' for n in range(10, 15)])
    write_list(folder / 'labels.txt', ['dark', 'bright'])
    return folder


def read_csv(path):
    """Return the rows of a CSV file as dicts of text."""
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def read_checkpoint_name(run_dir, kind):
    """Return the name of the checkpoint `best` or `last` of a run; None if it has none."""
    path = os.path.join(run_dir, 'checkpoints', kind)
    if not os.path.exists(path):
        return None
    with open(path) as file:
        return file.read().strip()


def read_values(prefix):
    """Return {variable: value} of a checkpoint."""
    from runtime.tf1 import tf
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def read_checkpoint(folder, name):
    """Return {variable: value} of the checkpoint in `folder` that the file `name` names."""
    return read_values(folder / (folder / name).read_text().strip())


def outcome(run_dir):
    """Return what a finished run leaves, except for times and event files, to be compared.

    These are the names of its files, its metrics, its predictions, and the bytes of its weights.
    """
    names = sorted(name for _, _, files in os.walk(run_dir) for name in files
                   if 'tfevents' not in name)
    rows = read_csv(os.path.join(run_dir, 'metrics.csv'))
    metrics = [{name: row[name] for name in row if name not in TIMES} for row in rows]
    predictions = read_csv(os.path.join(run_dir, 'val_predictions.csv'))
    values = {}
    for name in ('frozen', *(read_checkpoint_name(run_dir, kind) for kind in ('best', 'last'))):
        for key, value in read_values(os.path.join(run_dir, 'checkpoints', name)).items():
            values[name, key] = value.tobytes()
    return names, metrics, predictions, values


def at_batch(number, action, monkeypatch):
    """Call `action` after the batch of this number, of training and validation, from 1."""
    from run_folder.checkpoints import Checkpoints
    count, after_step = [0], Checkpoints.after_step

    def counted(*arguments):
        count[0] += 1
        if count[0] == number:
            action()
        after_step(*arguments)
    monkeypatch.setattr(Checkpoints, 'after_step', counted)


def run_main(main, arguments, capsys):
    """Run a command in this process; return (exit status, standard output, standard error)."""
    statuses = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('runtime.command.exit_now', statuses.append)  # would end the tests
        command.run_command(main, [str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return statuses[0], shown.out, shown.err


def one_error_line(shown):
    """Return the one line of standard error that is no warning about so small a data set."""
    [line] = [line for line in shown.splitlines() if not line.lower().startswith('warning: ')]
    return line


def start_often_saved(folder, flags):
    """Start or resume the run `folder`/run in a process of its own, and return the process."""
    os.makedirs(folder, exist_ok=True)
    words = [sys.executable, '-c', OFTEN_SAVED, ROOT, '--train_layers', 'fc8', *flags,
             '--run_dir', 'run', '--cache_dir', 'cache']
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True)


def kill_and_compare(folder, flags, kills, seed=0):
    """Kill runs by SIGKILL at random moments, resume them, compare with an undisturbed one.

    A run that ends is compared, and another one starts, until `kills` processes are killed and the
    last run has ended. flags: of finetune.py.
    Returns ([(seconds, last checkpoint then) per kill], number of runs that ended); raises
    AssertionError as soon as a run fails, or differs from the undisturbed one.
    """
    whole, killed = os.path.join(folder, 'whole'), os.path.join(folder, 'killed')
    start, moments = time.monotonic(), random.Random(seed)
    finish(start_often_saved(whole, flags))
    duration, expected = time.monotonic() - start, outcome(os.path.join(whole, 'run'))
    happened, ended, run_dir = [], 0, os.path.join(killed, 'run')
    while True:
        process, moment = start_often_saved(killed, flags), moments.uniform(0.1, duration)
        try:
            finish(process, moment if len(happened) < kills else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            last = read_checkpoint_name(run_dir, 'last')
            happened.append((moment, last))
            print(f'killed after {moment:.2f} s, at {last or "no checkpoint"}', flush=True)
            continue
        kinds = 'names of files', 'metrics', 'predictions', 'values'
        for kind, part, got in zip(kinds, expected, outcome(run_dir), strict=True):
            shown = '' if kind == 'values' else f': {got}, not {part}'
            assert part == got, f'other {kind}{shown}'
        ended += 1
        if len(happened) == kills:
            return happened, ended
        shutil.rmtree(killed)


def finish(process, timeout=None):
    """Wait for a process; AssertionError with what it printed unless it ends well."""
    shown = process.communicate(timeout=timeout)[0]
    assert process.returncode == 0, f'exit status {process.returncode}: {shown}'
