"""Kills finetune.py with SIGKILL at random moments, resumes it each time, and compares.

`python -m benchmarks.killed_run [KILLS [SEED]]`, 30 and 0 by default, trains fc8 on the sample
images for a few minutes. A run that ends by itself is compared with an undisturbed one, and
another one starts, until all kills are done.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

from tests.helpers import ROOT, outcome, read_name
from weight_files.npy import write_npy
from weight_files.reader import LAYER_SHAPES

# The script, but small runs are saved as often as long ones.
SCRIPT = '''
import finetune
from run_folder.checkpoints import Checkpoints
Checkpoints.SECONDS_BETWEEN_EPOCHS = Checkpoints.SECONDS_BETWEEN_STEPS = 0.1
finetune.run_command(finetune.main)
'''


def write_weights(path):
    """Write random weights for all layers, scaled as He et al. (2015)."""
    draw, layers = np.random.default_rng(0), {}
    for layer, shape in LAYER_SHAPES.items():
        scale = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        layers[layer] = (scale * draw.standard_normal(shape, np.float32),
                         np.zeros(shape[-1], np.float32))
    with open(path, 'wb') as file:
        write_npy(file, layers)


def start(folder, flags):
    """Start or resume the run folder/run, with a cache beside it; return the process."""
    os.makedirs(folder, exist_ok=True)
    command = [sys.executable, '-c', SCRIPT, '--train_layers', 'fc8', *flags,
               '--run_dir', 'run', '--cache_dir', 'cache']
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, 'PYTHONPATH': ROOT})


def finish(process):
    """Wait for a run to end; raise RuntimeError with its output unless it ends well."""
    shown = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f'exit status {process.returncode}: {shown}')


def kill_and_compare(folder, flags, kills, seed=0):
    """Kill runs `kills` times; return [(seconds, last checkpoint then)] and how many runs ended.

    Raises RuntimeError as soon as one of them differs from the undisturbed one.
    """
    whole, killed = os.path.join(folder, 'whole'), os.path.join(folder, 'killed')
    begin = time.monotonic()
    finish(start(whole, flags))
    duration, expected = time.monotonic() - begin, outcome(whole)
    moments, happened, ended = random.Random(seed), [], 0
    while True:
        moment = moments.uniform(0.1, duration) if len(happened) < kills else None
        if kill(start(killed, flags), moment):
            happened.append((moment, read_name(os.path.join(killed, 'run'), 'last')))
            last = happened[-1][1] or 'no checkpoint'
            print(f'killed after {moment:.2f} s, at {last}', flush=True)
            continue
        if outcome(killed) != expected:
            raise RuntimeError(f'{killed} is not what {whole} is')
        ended += 1
        if len(happened) == kills:
            return happened, ended
        shutil.rmtree(killed)


def kill(process, moment):
    """Kill a run after `moment` seconds, None for never; return False if it ends well before."""
    try:
        shown = process.communicate(timeout=moment)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    if process.returncode:
        raise RuntimeError(f'exit status {process.returncode}: {shown}')
    return False


def main(kills='30', seed='0'):
    """Print what happened."""
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, 'weights.npy')
        write_weights(weights)
        flags = ['--train_file', os.path.join(ROOT, 'train.txt'),
                 '--val_file', os.path.join(ROOT, 'val.txt'), '--weights_path', weights,
                 '--num_epochs', '600', '--batch_size', '10', '--lr_schedule', 'cosine']
        happened, ended = kill_and_compare(folder, flags, int(kills), int(seed))
    early = sum(name is None for _, name in happened)
    print(f'{len(happened)} kills, {early} of them before the first checkpoint; {ended} runs '
          'ended, each with the weights, metrics, predictions and files of the undisturbed '
          'one, bit for bit')


if __name__ == '__main__':
    main(*sys.argv[1:])
