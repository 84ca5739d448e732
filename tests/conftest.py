"""Fixtures of several test files."""

import contextlib
import dataclasses
import os
import shlex
import shutil
import signal

import cv2
import numpy as np
import pytest

import finetune
from runtime.flags import command_line
from runtime.tf1 import tf
from tests.helpers import (
    FC_LAYERS,
    TIMES,
    hidden_gpus,
    random_conv_weights,
    read_csv,
    write_dark_and_bright,
    write_list,
)


def pytest_configure(config):
    """Let the test processes share a GPU: plain TensorFlow's sessions would take all its memory."""
    os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')


def pytest_runtest_setup(item):
    """Skip tests marked `gpu` where no GPU is visible."""
    if item.get_closest_marker('gpu') and not tf.config.list_physical_devices('GPU'):
        pytest.skip('needs a GPU')


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Hide the GPUs from tests marked `cpu`, and from the fixtures that these are the first to use.

    Where a fixture lasts longer than a test, mark all of its tests, or let it hide the GPUs itself.
    """
    with hidden_gpus() if item.get_closest_marker('cpu') else contextlib.nullcontext():
        return (yield)


@pytest.fixture(scope='session')
def conv_weights_file(tmp_path_factory):
    """A weight file with random conv layers and nothing else."""
    path = str(tmp_path_factory.mktemp('weights') / 'conv.npy')
    np.save(path, random_conv_weights(), allow_pickle=True)
    return path


@pytest.fixture(scope='session')
def picture_folder(tmp_path_factory):
    """A folder of 12 images of constant colour; image n is called 0n.png, BGR (20 n, 10, 200)."""
    folder = tmp_path_factory.mktemp('pictures')
    for n in range(12):
        image = np.full((40, 50, 3), (20 * n, 10, 200), np.uint8)
        cv2.imwrite(str(folder / f'{n:02d}.png'), image)
    return folder


@pytest.fixture(scope='session')
def picture_list(picture_folder):
    """A list of the 12 images; the label of image n is n % 3."""
    return write_list(picture_folder / 'list.txt', [f'{n:02d}.png {n % 3}' for n in range(12)])


@pytest.fixture(scope='session')
def all_weights_file(tmp_path_factory):
    """A weight file with random values for all layers, fc8 for 1000 classes: 244 MB.

    It is deleted after the tests, because pytest keeps temporary folders.
    """
    path, draw = str(tmp_path_factory.mktemp('all') / 'all.npy'), np.random.default_rng(0)
    layers = random_conv_weights()
    for layer, inputs, outputs, stddev in (
            ('fc6', 9216, 4096, 2e-4), ('fc7', 4096, 4096, 0.02), ('fc8', 4096, 1000, 0.02)):
        weights = draw.random((inputs, outputs), np.float32)
        weights -= np.float32(0.5)
        weights *= np.float32(np.sqrt(12) * stddev)
        layers[layer] = [weights, np.zeros(outputs, np.float32)]
    np.save(path, layers, allow_pickle=True)
    yield path
    os.remove(path)


@pytest.fixture(scope='session')
def finished_run(tmp_path_factory, all_weights_file):
    """The folder of a run of 2 epochs that trained fc8 on 7 classes.

    Beside it are val.txt, and pictures/, which it lists.
    """
    folder, draw = tmp_path_factory.mktemp('finished'), np.random.RandomState(1)
    (folder / 'pictures').mkdir()
    for n in range(35):
        colour = np.array([n % 2, 1, n % 3 == 0])
        image = draw.randint(0, 100, (240, 260, 3)) + 25 * (n % 7) * colour
        cv2.imwrite(str(folder / 'pictures' / f'{n:02d}.png'), image.astype(np.uint8))
    for part, numbers in (('train', range(14)), ('val', range(14, 35))):
        write_list(folder / f'{part}.txt', [f'pictures/{n:02d}.png {n % 7}' for n in numbers])
    names = ['ant', 'bee', 'Käfer', 'red fox', 'eel', 'owl', 'yak']
    write_list(folder / 'labels.txt', names)
    with hidden_gpus():  # tests marked `cpu` compare their numbers with the run's
        finetune.finetune(finetune.Settings(
            train_file=str(folder / 'train.txt'), val_file=str(folder / 'val.txt'),
            weights_path=all_weights_file, train_layers=('fc8',), num_epochs=2, batch_size=2,
            learning_rate=3e-4, run_dir=str(folder / 'run'), cache_dir=str(folder / 'cache')))
    yield folder / 'run'
    for parent in ('run/checkpoints', 'cache'):
        shutil.rmtree(folder / parent)


@pytest.fixture
def run_copy(finished_run, tmp_path):
    """A copy of the finished run to be broken; its one large file is the same file."""
    def copy(source, target):
        is_large = os.path.getsize(source) > 1 << 20
        os.link(source, target) if is_large else shutil.copy(source, target)
    return shutil.copytree(finished_run, tmp_path / 'run', copy_function=copy)


@pytest.fixture(scope='session')
def dark_and_bright(tmp_path_factory):
    """A folder with train.txt (10 images) and val.txt (5), whose classes are told apart at once."""
    return write_dark_and_bright(tmp_path_factory.mktemp('data'), 160)


@pytest.fixture(scope='session')
def small_settings(dark_and_bright, conv_weights_file):
    """Settings of a run of 2 epochs, of 3 steps each, that trains fc6, fc7 and fc8."""
    return finetune.Settings(
        train_file=str(dark_and_bright / 'train.txt'), val_file=str(dark_and_bright / 'val.txt'),
        weights_path=conv_weights_file, train_layers=FC_LAYERS, num_epochs=2, batch_size=4,
        learning_rate=1e-5, optimizer='momentum', horizontal_flip=False, display_step=2,
        cache_dir=str(dark_and_bright / 'cache'))


@pytest.fixture(scope='session')
def small_flags(small_settings):
    """The flags that mean small_settings."""
    return shlex.split(command_line('finetune.py', small_settings))[2:]


@pytest.fixture
def small_run(small_settings, tmp_path):
    """Function (folder name, changed settings) that trains; returns the metrics of each epoch.

    Times are left out. The checkpoints are deleted after the test.
    """
    def train(name='run', **changes):
        run_dir = str(tmp_path / name)
        finetune.finetune(dataclasses.replace(small_settings, run_dir=run_dir, **changes))
        return [{column: float(value) for column, value in row.items() if column not in TIMES}
                for row in read_csv(f'{run_dir}/metrics.csv')]
    yield train
    for checkpoints in tmp_path.glob('*/checkpoints'):
        shutil.rmtree(checkpoints)


@pytest.fixture(scope='session')
def resumable_lists(picture_folder, tmp_path_factory):
    """A folder with train.txt and val.txt, of 12 images each, in train/ and val/."""
    folder = tmp_path_factory.mktemp('lists')
    for part in ('train', 'val'):
        shutil.copytree(picture_folder, folder / part)
        write_list(folder / f'{part}.txt', [f'{part}/{n:02d}.png {n % 3}' for n in range(12)])
    return folder


@pytest.fixture(scope='session')
def resumable_flags(resumable_lists, all_weights_file, tmp_path_factory):
    """Flags of a run that trains fc8 for 4 epochs of 4 steps.

    It has dropout, mirror images, a schedule, and images in another order in each epoch.
    """
    return ['--train_file', str(resumable_lists / 'train.txt'),
            '--val_file', str(resumable_lists / 'val.txt'), '--weights_path', all_weights_file,
            '--train_layers', 'fc8', '--num_epochs', '4', '--batch_size', '3',
            '--lr_schedule', 'cosine', '--learning_rate', '0.01', '--display_step', '3',
            '--cache_dir', str(tmp_path_factory.mktemp('cache'))]


@pytest.fixture(scope='session')
def undisturbed(resumable_flags, tmp_path_factory):
    """The folder of a run with resumable_flags that nothing disturbs."""
    run_dir = tmp_path_factory.mktemp('undisturbed') / 'run'
    finetune.main([*resumable_flags, '--run_dir', str(run_dir)])
    yield run_dir
    shutil.rmtree(run_dir / 'checkpoints')


@pytest.fixture
def run_dir(tmp_path):
    """The folder of a run, whose checkpoints are deleted after the test."""
    yield str(tmp_path / 'run')
    for checkpoints in tmp_path.rglob('checkpoints'):
        shutil.rmtree(checkpoints)


@pytest.fixture
def default_signals():
    """Signals act as in a terminal, also where the tests run under nohup or in the background.

    There, some are ignored, and children inherit it.
    """
    numbers = signal.SIGHUP, signal.SIGTERM, signal.SIGINT
    before = {number: signal.getsignal(number) for number in numbers}
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
