"""Networks, pictures, and a run on one device with which runs on several are compared."""

import shutil

import cv2
import numpy as np
import pytest

import finetune
from alexnet import AlexNet
from inputs.lists import Datasets, ImageList
from runtime.tf1 import open_session, tf
from tests.helpers import write_list
from training.devices import Devices
from training.graph import build_training_graph
from training.setup import make_setup


@pytest.fixture(scope='session')
def run_flags(picture_folder, all_weights_file, tmp_path_factory):
    """32 steps of fc8 on crops, without dropout: 8 epochs of 13 images, batches of 4, 4, 4 and 1.

    The labels of the 9 validation images make epoch 4 the best one.
    """
    folder = tmp_path_factory.mktemp('lists')
    shutil.copytree(picture_folder, folder / 'pictures')
    numbers = [5 * n % 12 for n in range(13)]
    write_list(folder / 'train.txt', [f'pictures/{n:02d}.png {n % 3}' for n in numbers])
    write_list(folder / 'val.txt', [f'pictures/{numbers[n]:02d}.png {n * n % 3}' for n in range(9)])
    yield ['--train_file', f'{folder}/train.txt', '--val_file', f'{folder}/val.txt',
           '--weights_path', all_weights_file, '--train_layers', 'fc8', '--num_epochs', '8',
           '--batch_size', '4', '--learning_rate', '0.001', '--weight_decay', '0.01',
           '--label_smoothing', '0.1', '--dropout_rate', '0', '--class_weights', 'balanced',
           '--views', 'crops',
           '--cache_dir', f'{folder}/cache', '--peer_timeout', '200']
    shutil.rmtree(folder / 'cache', ignore_errors=True)


@pytest.fixture(scope='session')
def one_device(run_flags, tmp_path_factory):
    """The folder of a run on one device."""
    folder = tmp_path_factory.mktemp('one') / 'run'
    finetune.main([*run_flags, '--run_dir', str(folder)])
    yield folder
    shutil.rmtree(folder / 'checkpoints')


@pytest.fixture
def run_dir(tmp_path):
    """The folder of a run, whose checkpoints are deleted after the test."""
    yield tmp_path / 'run'
    shutil.rmtree(tmp_path / 'run' / 'checkpoints', ignore_errors=True)


@pytest.fixture(scope='session')
def conv_network(conv_weights_file):
    """(session, AlexNet) with the values of a file for the convolutions and random ones above."""
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 227, 227, 3])
        model = AlexNet(images, 1.0, 2, ('fc6', 'fc7', 'fc8'), conv_weights_file)
        initializer = tf.global_variables_initializer()
        session = open_session()
    session.run(initializer)
    model.load_initial_weights(session)
    yield session, model
    session.close()


@pytest.fixture
def photos(tmp_path):
    """A list of 5 pictures of noise beside it, with the labels 0 1 0 1 0."""
    random = np.random.RandomState(0)
    for n in range(5):
        picture = random.randint(0, 256, (60, 70, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f'{n}.png'), picture)
    return write_list(tmp_path / 'list.txt', [f'{n}.png {n % 2}' for n in range(5)])


@pytest.fixture(scope='session')
def two_devices():
    """(session, TrainingGraph) of two devices with random values; sgd trains fc8, of 3 classes."""
    settings = finetune.Settings(optimizer='sgd', learning_rate=0.001, batch_size=4)
    one_image = ImageList('', ['a'], np.zeros(1, np.int32), np.ones(1, np.int32))
    setup = make_setup(settings, Datasets(one_image, one_image, ['a', 'b', 'c']), None)
    setup = setup._replace(trained_layers=('fc8',), scratch_layers=('fc8',))
    with Devices(('CPU:0', 'CPU:1')) as devices, tf.Graph().as_default():
        training_graph = build_training_graph(setup, devices)
        initializer = tf.global_variables_initializer()
        session = devices.open_session()
    session.run(initializer)
    yield session, training_graph
    session.close()
