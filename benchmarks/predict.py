"""Measures predict.py against the evaluation of training.

`python -m benchmarks.predict RUN LIST [IMAGES [ROUNDS]]`: in one process and in turn, IMAGES paths
of the list, repeated as needed, go through predict.py, CSV file included, and through the
validation of finetune.py without stored features. RUN is a run on the list's classes.
"""

import os
import statistics
import sys
import tempfile
import time

import numpy as np

import predict
from datagenerator import ImageDataGenerator
from finetune import Settings
from inputs.lists import Datasets, ImageList, read_list
from run_folder.trained_run import read_run
from runtime.tf1 import tf
from training.devices import Devices
from training.graph import build_training_graph
from training.setup import make_setup
from training.sources import BatchSource
from training.steps import evaluate


def make_evaluation(image_list, class_names):
    """Return a function that runs the validation of training over the images."""
    devices = Devices()
    with tf.Graph().as_default():
        setup = make_setup(Settings(), Datasets(image_list, image_list, class_names), None)
        graph = build_training_graph(setup, devices)
        session = devices.open_session()
        session.run(tf.global_variables_initializer())

    def run():
        images = ImageDataGenerator(image_list, nb_classes=len(class_names))
        evaluate(session, graph, BatchSource('images', images), devices.workers, batch_size=64)
    return run


def seconds_of(function):
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main(run_folder, list_file, count=5000, rounds=3):
    """Print the rates of each round and the median of their ratios."""
    run, image_list = read_run(run_folder), read_list(list_file)
    chosen = np.arange(count) % len(image_list.paths)
    image_list = ImageList(list_file, [image_list.paths[n] for n in chosen],
                           image_list.labels[chosen], chosen)
    evaluation, ratios = make_evaluation(image_list, run.class_names), []
    with tempfile.TemporaryDirectory() as folder:
        paths = os.path.join(folder, 'paths.txt')
        with open(paths, 'w') as file:
            file.writelines(f'{os.path.abspath(path)}\n' for path in image_list.paths)
        for number in range(rounds):
            settings = predict.Settings(
                run_folder, (paths,), output=os.path.join(folder, f'{number}.csv'))
            training = seconds_of(evaluation)
            predicting = seconds_of(lambda settings=settings: predict.predict(settings))
            ratios.append(training / predicting)
            print(f'training {count / training:.0f} images/s, predict.py {count / predicting:.0f}: '
                  f'{ratios[-1]:.2f}')
    print(f'median of {rounds}: {statistics.median(ratios):.2f}')


if __name__ == '__main__':
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
