"""What writing summaries costs, as a share of training time: `python benchmarks/summaries.py [LAYER...]`.

Epochs on random features of 1,088 images in 17 classes, in batches of 128, as finetune.py trains from stored features,
with the default display_step. In one process, in turn: epochs with all summaries, and epochs without. Prints ratios of
groups of 8 epochs, and what the end of a run costs. LAYER...: the trained layers, of fc6 fc7 fc8 (default: all three).
"""

import os
import statistics
import sys
import tempfile
import time

import cv2
import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import finetune
from inputs.lists import Datasets, ImageList
from reports.run_log import RunLog
from run_folder.checkpoints import Progress
from run_folder.metrics import METRICS
from runtime.tf1 import open_session, tf
from training.feature_cache import feature_output, make_generators
from training.graph import build_network
from training.setup import TrainingSetup
from training.steps import means, run_pass

ROUNDS, IMAGES, VAL_IMAGES, CLASSES = 24, 1088, 272, 17


class RandomFeatures:
    """Batches of random features in place of stored ones."""

    eval_batch_size = 1024

    def __init__(self, shape, labels):
        values = np.random.RandomState(0).standard_normal((len(labels), *shape))
        self.features = np.maximum(values, 0).astype(np.float32)
        self.one_hot, self.data_size = np.eye(CLASSES, dtype=np.float32)[labels], len(labels)

    def batches(self, batch_size):
        for start in range(0, self.data_size, batch_size):
            yield self.features[start:start + batch_size], self.one_hot[start:start + batch_size]


class Silent:
    """A log that counts training as such and writes nothing."""

    def wants_summaries(self, step):
        return False


def draw_list(folder, count):
    """Return an ImageList of `count` lines, all of one picture."""
    path = os.path.join(folder, 'picture.jpg')
    cv2.imwrite(path, np.random.RandomState(0).randint(0, 255, (375, 500, 3), np.uint8))
    return ImageList('list.txt', [path] * count, np.arange(count, dtype=np.int32) % CLASSES, np.arange(count))


def run_epoch(session, network, settings, sources, log, epoch):
    """Run an epoch as Training does, but for checkpoints; return its seconds."""
    start = time.perf_counter()
    training, validation = Progress(epoch - 1), Progress()
    run_pass(session, network, sources[0], settings, training, 'training', log=log)
    predictions = run_pass(session, network, sources[1], settings, validation, 'validation')
    if isinstance(log, RunLog):
        metrics = {'epoch': epoch, **means('train', training, sources[0][1]), **means('val', validation, sources[1][1])}
        log.write_epoch(epoch * training.steps, {**dict.fromkeys(METRICS, 1.0), **metrics}, predictions, True, False)
    return time.perf_counter() - start


def measure(trained):
    """Print the table for some trained layers."""
    settings = finetune.Settings(train_layers=trained, num_epochs=2 * ROUNDS + 2)
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default() as graph:
        data = Datasets(draw_list(folder, IMAGES), draw_list(folder, VAL_IMAGES), [f'class {n}' for n in range(CLASSES)])
        plan = TrainingSetup(settings, data, None, trained, trained)
        network = build_network(plan)
        initializers = tf.global_variables_initializer()
        graph.finalize()
        with open_session() as session:
            session.run(initializers)
            inputs = network.model.outputs[feature_output(trained)]
            sources = [(inputs, RandomFeatures(inputs.shape.as_list()[1:], part.labels)) for part in data[:2]]
            log = RunLog(folder, finetune.effective_settings(plan), '', data,
                         make_generators(settings, data), [])
            times = {'with': [], 'without': []}
            log.begin(lambda: session.run(network.model.variables['conv1'][0]))
            for epoch in range(1, ROUNDS + 2):
                for name, kind in (('with', log), ('without', Silent())):
                    times[name].append(run_epoch(session, network, settings, sources, kind, epoch))
            start = time.perf_counter()
            log.__exit__()
            end = time.perf_counter() - start
    report(trained, {name: values[1:] for name, values in times.items()}, end)


def report(trained, times, end):
    """Print what was measured, in groups of epochs: not every one has a step with summaries."""
    without = np.array(times['without'])
    ratios = np.reshape(times['with'], (-1, 8)).sum(1) / without.reshape(-1, 8).sum(1)
    print(f'{" ".join(trained)}: median of {len(ratios)} groups of 8 epochs, with / without: '
          f'{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); an epoch without: '
          f'{statistics.median(without):.3f} s; the end of the run: {end:.2f} s', flush=True)


if __name__ == '__main__':
    measure(tuple(sys.argv[1:]) or ('fc6', 'fc7', 'fc8'))
