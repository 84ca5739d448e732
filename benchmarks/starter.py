"""What the starter weights are worth on photos: validation accuracy with them, with random convolutions, with Caffe's.

    python benchmarks/starter.py CONV_WEIGHTS FOLDER [FOLDER ...]

Each FOLDER holds train.txt and val.txt; CONV_WEIGHTS are Caffe's. fc6, fc7 and fc8 are trained by the default recipe,
three seeds; writes benchmarks/starter.md. Random convolutions are the network's own first values, another draw a seed,
with conv5 scaled as that of the starter weights is: without it, the first values of fc6 would not fit them.
"""

import os
import sys
import tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from alexnet import IMAGE_SIZE, LAYERS, AlexNet
from benchmarks.recipe import SEEDS, TRIO, describe, fine_tune, lists_of, name_of
from runtime.tf1 import tf
from starter_weights.network import scaled_to_norm
from starter_weights.pretrain import POOL5_NORM
from starter_weights.procedural import draw, make_bank
from weight_files.find import STARTER_WEIGHTS


def write_random_convolutions(seed, path, pictures):
    """Write a weight file of conv layers as alexnet.py draws them, scaled on these pictures; return its path."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(seed)
        network = AlexNet(tf.zeros([1, IMAGE_SIZE, IMAGE_SIZE, 3]), 1.0, 2, ())
        session.run([variable.initializer for layer in LAYERS[:5] for variable in network.variables[layer]])
        layers = session.run({layer: network.variables[layer] for layer in LAYERS[:5]})
    np.save(path, scaled_to_norm(layers, pictures, POOL5_NORM), allow_pickle=True)
    return path


def main(conv_weights, *folders):
    """Write a row for each folder and kind of convolutions: best epoch (mean, range) and last epoch (mean) of 3 seeds."""
    bank, random = make_bank(), np.random.default_rng(0)
    pictures = np.stack([draw(bank, random, IMAGE_SIZE)[0] for _ in range(32)])
    lines = ['| data | convolutions | best epoch | last epoch |', '|---|---|---|---|']
    with tempfile.TemporaryDirectory() as scratch:
        kinds = {'starter weights': [os.path.join(ROOT, STARTER_WEIGHTS)] * len(SEEDS),
                 'random': [write_random_convolutions(seed, os.path.join(scratch, f'{seed}.npy'), pictures)
                            for seed in SEEDS],
                 'Caffe, ImageNet': [conv_weights] * len(SEEDS)}
        for folder in folders:
            for kind, weights in kinds.items():
                results = [fine_tune(os.path.join(scratch, f'{name_of(folder)}-{kind}-{seed}'), *lists_of(folder), *TRIO,
                                     '--seed', str(seed), '--weights_path', path,
                                     '--cache_dir', os.path.join(scratch, 'cache'))
                           for seed, path in zip(SEEDS, weights)]
                lines.append(f'| {name_of(folder)} | {kind} | {describe(results)} |')
                print(lines[-1], flush=True)
    with open(os.path.join(ROOT, 'benchmarks', 'starter.md'), 'w') as file:
        file.writelines(f'{line}\n' for line in lines)


if __name__ == '__main__':
    main(*sys.argv[1:])
