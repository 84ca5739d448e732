"""Kills finetune.py by SIGKILL at random moments, resumes it, compares with an undisturbed run.

`python -m benchmarks.killed_run [KILLS [SEED]]`, 30 and 0 by default, trains fc8 on the sample
images; it takes a few minutes.
"""

import os
import sys
import tempfile

import numpy as np

from tests.helpers import ROOT, kill_and_compare
from weight_files.npy import write_npy
from weight_files.reader import LAYER_SHAPES


def write_weights(path):
    """Write random weights for all layers, scaled as He et al. (2015)."""
    draw, layers = np.random.default_rng(0), {}
    for layer, shape in LAYER_SHAPES.items():
        scale = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        weights = scale * draw.standard_normal(shape, np.float32)
        layers[layer] = weights, np.zeros(shape[-1], np.float32)
    with open(path, 'wb') as file:
        write_npy(file, layers)


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
          'ended, each with the weights, metrics, predictions and files of the undisturbed one, '
          'bit for bit')


if __name__ == '__main__':
    main(*sys.argv[1:])
