"""Measures what summaries cost, as a fraction of training time.

`python -m benchmarks.summaries [LAYER...]` trains the layers (default: fc6 fc7 fc8) on random
features of 1,088 images in 17 classes, in batches of 128, with the default display_step. In one
process, in
turn: epochs with all summaries, and epochs without. Prints ratios of groups of 8 epochs, and the
seconds of the end of a run.
"""

import dataclasses
import os
import statistics
import sys
import tempfile
import time

import cv2
import numpy as np

from finetune import Settings
from inputs.lists import Datasets, ImageList
from reports.run_log import NoLog, RunLog
from run_folder.checkpoint_files import Progress
from runtime.tf1 import tf
from training.devices import Devices
from training.feature_cache import feature_layer
from training.graph import build_training_graph
from training.setup import make_setup, settings_to_store
from training.sources import BatchSource, make_generators
from training.steps import epoch_metrics, evaluate, train_epoch

ROUNDS, IMAGES, VAL_IMAGES, CLASSES = 24, 1088, 272, 17


class RandomFeatures:
    """Batches of random features in place of stored ones."""

    pointer, eval_batch_size = 0, 1024

    def __init__(self, shape, labels):
        values = np.random.RandomState(0).standard_normal((len(labels), *shape))
        self.features = np.maximum(values, 0).astype(np.float32)
        self.one_hot = np.eye(CLASSES, dtype=np.float32)[labels]
        self.data_size = len(labels)

    def start_epoch(self, epoch, pointer=0):
        """Do nothing: all epochs are alike."""

    def batches(self, batch_size):
        """Yield features and one-hot labels."""
        for start in range(0, self.data_size, batch_size):
            yield self.features[start:start + batch_size], self.one_hot[start:start + batch_size]


def draw_list(folder, count):
    """Return an ImageList of `count` lines, all of one picture."""
    path = os.path.join(folder, 'picture.jpg')
    cv2.imwrite(path, np.random.RandomState(0).randint(0, 255, (375, 500, 3), np.uint8))
    numbers = np.arange(count, dtype=np.int32)
    return ImageList('list.txt', [path] * count, numbers % CLASSES, numbers)


def run_epoch(session, graph, sources, workers, log, epoch):
    """Run an epoch as finetune.py does, without checkpoints; return its seconds."""
    start, progress = time.perf_counter(), Progress(epoch - 1)
    train_epoch(session, graph, sources[0], progress, log, lambda: None, 128, 0.5)
    validation = evaluate(session, graph, sources[1], workers, 128)
    log.write_epoch(epoch * progress.steps, epoch_metrics(progress, validation, IMAGES),
                    validation.predictions, True, False)
    return time.perf_counter() - start


def measure(trained):
    """Print the ratios for some trained layers."""
    settings = Settings(train_layers=trained, num_epochs=2 * ROUNDS + 2, batch_size=128)
    devices = Devices()
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default() as graph:
        names = [f'class {n}' for n in range(CLASSES)]
        datasets = Datasets(draw_list(folder, IMAGES), draw_list(folder, VAL_IMAGES), names)
        setup = make_setup(settings, datasets, None)._replace(
            trained_layers=trained, scratch_layers=trained)
        training = build_training_graph(setup, devices)
        initializer = tf.global_variables_initializer()
        graph.finalize()
        with devices.open_session() as session:
            session.run(initializer)
            layer = feature_layer(trained)
            shape = training.model.outputs[layer].shape.as_list()[1:]
            sources = [BatchSource(layer, RandomFeatures(shape, part.labels))
                       for part in datasets[:2]]
            stored = settings_to_store(dataclasses.asdict(settings), setup, datasets)
            log = RunLog(folder, stored, '', datasets, make_generators(
                datasets, views='whole', horizontal_flip=True, seed=0, num_threads=None), [])
            log.begin(lambda: session.run(training.model.variables['conv1'][0]))
            times = {'with': [], 'without': []}
            for epoch in range(1, ROUNDS + 2):
                for name, kind in (('with', log), ('without', NoLog())):
                    times[name].append(
                        run_epoch(session, training, sources, devices.workers, kind, epoch))
            start = time.perf_counter()
            log.__exit__()
            end = time.perf_counter() - start
    report(trained, {name: values[1:] for name, values in times.items()}, end)


def report(trained, times, end):
    """Print the result in groups of epochs: not every epoch has a step with summaries."""
    without = np.array(times['without'])
    ratios = np.reshape(times['with'], (-1, 8)).sum(1) / without.reshape(-1, 8).sum(1)
    print(f'{" ".join(trained)}: median of {len(ratios)} groups of 8 epochs, with / without: '
          f'{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); an epoch '
          f'without: {statistics.median(without):.3f} s; the end of the run: {end:.2f} s')


if __name__ == '__main__':
    measure(tuple(sys.argv[1:]) or ('fc6', 'fc7', 'fc8'))
