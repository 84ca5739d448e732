"""Measures what the starter weights are worth on photos, beside random and Caffe's convolutions.

    python -m benchmarks.starter CONV_WEIGHTS FOLDER [FOLDER ...]

Each FOLDER holds train.txt and val.txt; CONV_WEIGHTS are Caffe's. fc6, fc7 and fc8 are trained by
the default recipe with three seeds; the validation accuracies go to benchmarks/starter.md. Random
convolutions are the network's own initial values, drawn anew per seed. Their conv5 is scaled as the
starter weights' is: without that, the initial values of fc6 would not fit them.
"""

import os
import sys
import tempfile

import numpy as np

from alexnet import IMAGE_SIZE, LAYERS, AlexNet
from benchmarks.recipe import SEEDS, TRAIN_FC, describe, fine_tune, list_flags, name_of
from runtime.tf1 import tf
from starter_weights.network import scaled_to_norm
from starter_weights.pretrain import POOL5_NORM
from starter_weights.procedural import draw, make_bank
from weight_files.find import STARTER_WEIGHTS

RESULTS = 'benchmarks/starter.md'


def write_random_convolutions(seed, path, images):
    """Write conv layers as alexnet.py draws them, scaled on these images; return the path."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(seed)
        network = AlexNet(tf.zeros([1, IMAGE_SIZE, IMAGE_SIZE, 3]), 1.0, 2, ())
        variables = {layer: network.variables[layer] for layer in LAYERS[:5]}
        session.run([variable.initializer for pair in variables.values() for variable in pair])
        layers = session.run(variables)
    np.save(path, scaled_to_norm(layers, images, POOL5_NORM), allow_pickle=True)
    return path


def draw_images(count):
    """Return drawn images, uint8 [count, 227, 227, 3]."""
    bank, random = make_bank(), np.random.default_rng(0)
    return np.stack([draw(bank, random, IMAGE_SIZE)[0] for _ in range(count)])


def weight_files(conv_weights, scratch):
    """Return {kind of convolutions: its weight file per seed}."""
    images = draw_images(32)
    random = [write_random_convolutions(seed, os.path.join(scratch, f'{seed}.npy'), images)
              for seed in SEEDS]
    return {'starter weights': [STARTER_WEIGHTS for _ in SEEDS], 'random': random,
            'Caffe, ImageNet': [conv_weights for _ in SEEDS]}


def results_of(folder, paths, scratch, kind):
    """Return [(best, last accuracy)] per seed, each with its own weight file."""
    results = []
    for seed, path in zip(SEEDS, paths, strict=True):
        run_dir = os.path.join(scratch, f'{name_of(folder)}-{kind}-{seed}')
        results.append(fine_tune(
            run_dir, *list_flags(folder), *TRAIN_FC, '--seed', str(seed), '--weights_path', path,
            '--cache_dir', os.path.join(scratch, 'cache')))
    return results


def main(conv_weights, *folders):
    """Write a row per folder and kind of convolutions: best and last epoch of 3 seeds."""
    lines = ['| data | convolutions | best epoch | last epoch |', '|---|---|---|---|']
    with tempfile.TemporaryDirectory() as scratch:
        kinds = weight_files(conv_weights, scratch)
        for folder in folders:
            for kind, paths in kinds.items():
                scores = describe(results_of(folder, paths, scratch, kind))
                lines.append(f'| {name_of(folder)} | {kind} | {scores} |')
                print(lines[-1], flush=True)
    with open(RESULTS, 'w') as file:
        file.writelines(f'{line}\n' for line in lines)


if __name__ == '__main__':
    main(*sys.argv[1:])
