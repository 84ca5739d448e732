"""Measures predict.py against the limit of its parts.

`python -m benchmarks.predict RUN LIST [IMAGES [ROUNDS [VIEWS]]]`: in one process and in turn, paths
of the list, repeated up to IMAGES, go through predict.py, CSV file included; through the pipeline
of pixels alone; and through the network alone, as many views as there are. VIEWS is whole or crops.
The limit is the sum of the seconds of both parts, which share the cores.
"""

import functools
import os
import statistics
import sys
import tempfile

import numpy as np

import predict
from alexnet import IMAGE_SIZE
from benchmarks.pipeline import seconds_of
from inputs.batches import load_batches, split
from inputs.images import load_views
from inputs.lists import read_list
from inputs.views import evaluation_views
from run_folder.trained_run import read_run, rebuild_network
from runtime.tf1 import open_session, tf

BATCH_SIZE = 128


def run_pipeline(paths, views):
    """Read the pixels of all views, batch by batch."""
    load = functools.partial(load_views, views=views)
    shape = len(views), IMAGE_SIZE, IMAGE_SIZE, 3
    for _ in load_batches(split(paths, BATCH_SIZE // len(views)), load, shape, {}):
        pass


def make_network(run, count):
    """Return a function that computes the logits of `count` views, batch by batch."""
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, IMAGE_SIZE, IMAGE_SIZE, 3])
        model, restore = rebuild_network(run, images)
        session = open_session(run.precision)
        restore(session)
    pixels = np.random.default_rng(0).integers(
        256, size=(BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)

    def compute():
        for batch in split(range(count), BATCH_SIZE):
            session.run(model.fc8, {images: pixels[:len(batch)]})
    return compute


def main(run_folder, list_file, count='3000', rounds='3', view='whole'):
    """Print the rates of each round and the median share of the limit."""
    run, listed = read_run(run_folder), read_list(list_file).paths
    paths = [os.path.abspath(listed[n % len(listed)]) for n in range(int(count))]
    views, shares = evaluation_views(view, True), []
    network = make_network(run, len(paths) * len(views))
    with tempfile.TemporaryDirectory() as folder:
        names = os.path.join(folder, 'paths.txt')
        with open(names, 'w') as file:
            file.writelines(f'{path}\n' for path in paths)
        for number in range(int(rounds)):
            settings = predict.Settings(
                run_folder, (names,), views=view, output=os.path.join(folder, f'{number}.csv'))
            parts = [lambda: run_pipeline(paths, views), network,
                     lambda settings=settings: predict.predict(settings)]
            pipeline, computing, whole = map(seconds_of, parts)
            shares.append((pipeline + computing) / whole)
            print(f'pipeline {len(paths) / pipeline:.0f} images/s, network '
                  f'{len(paths) / computing:.0f}, predict.py {len(paths) / whole:.0f}: '
                  f'{shares[-1]:.2f} of the limit', flush=True)
    print(f'median of {rounds}: {statistics.median(shares):.2f}')


if __name__ == '__main__':
    main(*sys.argv[1:])
