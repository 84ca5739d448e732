"""Measures predict.py against the forward pass of training: `python benchmarks/predict.py RUN LIST [IMAGES [ROUNDS]]`.

In one process and in turn, IMAGES paths of the list, repeated as needed, go through predict.py, CSV file included, and
through the validation pass of finetune.py without stored features. RUN is a finished run on the list's classes.
"""

import os
import statistics
import sys
import tempfile
import time

import numpy as np

import finetune
import predict
from datagenerator import ImageDataGenerator
from inputs.lists import Datasets, ImageList, read_list
from run_folder.checkpoints import Progress
from run_folder.trained_run import read_run
from runtime.tf1 import open_session, tf
from training.graph import build_network
from training.setup import TrainingSetup
from training.steps import run_pass


def forward_pass(image_list, class_names):
    """Return a function that runs the validation pass of training over the images."""
    settings, graph = finetune.Settings(), tf.Graph()
    with graph.as_default():
        network = build_network(TrainingSetup(
            settings, Datasets(image_list, image_list, class_names), None, ('fc8',), ('fc8',)))
        session = open_session()
        session.run(tf.global_variables_initializer())

    def run():
        images = ImageDataGenerator(image_list, nb_classes=len(class_names))
        run_pass(session, network, (network.model.x, images), settings, Progress(), 'validation')
    return run


def main(run_folder, list_file, count=5000, rounds=3):
    run, image_list = read_run(run_folder), read_list(list_file)
    chosen = np.arange(count) % len(image_list.paths)
    image_list = ImageList(list_file, [image_list.paths[n] for n in chosen], image_list.labels[chosen], chosen)
    forward, ratios = forward_pass(image_list, run.class_names), []
    with tempfile.TemporaryDirectory() as folder:
        paths = os.path.join(folder, 'paths.txt')
        with open(paths, 'w') as file:
            file.writelines(f'{os.path.abspath(path)}\n' for path in image_list.paths)
        for number in range(rounds):
            seconds = []
            for work in (forward, lambda: predict.predict(predict.Settings(
                    run_folder, (paths,), output=os.path.join(folder, f'{number}.csv')))):
                start = time.monotonic()
                work()
                seconds.append(time.monotonic() - start)
            ratios.append(seconds[0] / seconds[1])
            print(f'training {count / seconds[0]:.0f} images/s, predict {count / seconds[1]:.0f}: {ratios[-1]:.2f}')
    print(f'median of {rounds}: {statistics.median(ratios):.2f}')


if __name__ == '__main__':
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
