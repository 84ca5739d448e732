"""What several test files need: small pictures, small lists, random weight files, and the optional shared folder."""

import os
import shutil
import struct
import zlib

import cv2
import numpy as np
import pytest

import console

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONV_SHAPES = {'conv1': (11, 11, 3, 96), 'conv2': (5, 5, 48, 256), 'conv3': (3, 3, 256, 384),
               'conv4': (3, 3, 192, 384), 'conv5': (3, 3, 192, 256)}


def shared(*parts):
    """Return a path in ../shared, or skip the test where that is missing."""
    path = os.path.join(ROOT, '..', 'shared', *parts)
    if not os.path.exists(path):
        pytest.skip(f'needs {os.path.relpath(path, ROOT)}, which is not part of the project')
    return path


def random_conv_weights():
    """Return {conv layer: [weights, biases]} of AlexNet's shapes, float32, scaled as He et al. (2015)."""
    random = np.random.RandomState(0)
    return {layer: [np.float32(random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:3]))),
                    np.float32(random.standard_normal(shape[3]) * 0.1)] for layer, shape in CONV_SHAPES.items()}


@pytest.fixture(scope='session')
def conv_weights_file(tmp_path_factory):
    """A weight file with random conv layers and nothing else."""
    path = str(tmp_path_factory.mktemp('weights') / 'conv.npy')
    np.save(path, random_conv_weights(), allow_pickle=True)
    return path


def png_file(width, height):
    """Return a PNG file with right checksums, a header of this size and next to no data."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 6, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b''))


@pytest.fixture(scope='session')
def picture_folder(tmp_path_factory):
    """A folder of 12 pictures, 00.png to 11.png, of constant colour: picture n is BGR (20 n, 10, 200)."""
    folder = tmp_path_factory.mktemp('pictures')
    for n in range(12):
        cv2.imwrite(str(folder / f'{n:02d}.png'), np.full((40, 50, 3), (20 * n, 10, 200), np.uint8))
    return folder


def write_list(path, lines):
    """Write a list file and return its path as text."""
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
    return str(path)


@pytest.fixture(scope='session')
def picture_list(picture_folder):
    """A list of the 12 pictures; the label of picture n is n % 3."""
    return write_list(picture_folder / 'list.txt', [f'{n:02d}.png {n % 3}' for n in range(12)])


def write_dark_and_bright(folder, difference):
    """Write train.txt (10 pictures) and val.txt (5): of class 0, dark, and class 1, brighter; labels.txt names them."""
    random = np.random.RandomState(0)
    for n in range(15):
        picture = random.randint(0, 90, (60, 60, 3)).astype(np.uint8) + difference * (n % 2)
        cv2.imwrite(str(folder / f'{n}.png'), picture)
    write_list(folder / 'train.txt', [f'{n}.png {n % 2}' for n in range(10)])
    write_list(folder / 'val.txt', [f'{n}.png {("dark", "bright")[n % 2]}' for n in range(10, 15)])
    write_list(folder / 'labels.txt', ['dark', 'bright'])
    return folder


@pytest.fixture(scope='session')
def all_weights_file(tmp_path_factory):
    """A weight file with random values for all layers, fc8 for 1000 classes: 244 MB, deleted after the tests."""
    path, random = str(tmp_path_factory.mktemp('all') / 'all.npy'), np.random.default_rng(0)
    layers = random_conv_weights()
    for layer, inputs, outputs, stddev in (('fc6', 9216, 4096, 2e-4), ('fc7', 4096, 4096, 0.02),
                                           ('fc8', 4096, 1000, 0.02)):
        weights = random.random((inputs, outputs), np.float32)
        weights -= np.float32(0.5)
        weights *= np.float32(np.sqrt(12) * stddev)
        layers[layer] = [weights, np.zeros(outputs, np.float32)]
    np.save(path, layers, allow_pickle=True)
    yield path
    os.remove(path)


@pytest.fixture(scope='session')
def finished_run(tmp_path_factory, all_weights_file):
    """The folder of a run of 2 epochs that trained fc8 on 7 classes; beside it val.txt, and pictures/ which it lists."""
    import finetune
    folder, random = tmp_path_factory.mktemp('finished'), np.random.RandomState(1)
    names = ['ant', 'bee', 'Käfer', 'red fox', 'eel', 'owl', 'yak']
    (folder / 'pictures').mkdir()
    for n in range(35):
        picture = random.randint(0, 100, (240, 260, 3)) + 25 * (n % 7) * np.array([n % 2, 1, n % 3 == 0])
        cv2.imwrite(str(folder / 'pictures' / f'{n:02d}.png'), picture.astype(np.uint8))
    for part, numbers in (('train', range(14)), ('val', range(14, 35))):
        write_list(folder / f'{part}.txt', [f'pictures/{n:02d}.png {n % 7}' for n in numbers])
    write_list(folder / 'labels.txt', names)
    finetune.finetune(finetune.Settings(
        train_file=str(folder / 'train.txt'), val_file=str(folder / 'val.txt'), weights_path=all_weights_file,
        train_layers=('fc8',), num_epochs=2, batch_size=2, learning_rate=3e-4, run_dir=str(folder / 'run'),
        cache_dir=str(folder / 'cache')))
    yield folder / 'run'
    for parent in ('run/checkpoints', 'cache'):
        shutil.rmtree(folder / parent)


@pytest.fixture
def run_copy(finished_run, tmp_path):
    """A copy of the finished run to be broken; its one large file is the same file."""
    def copy(source, target):
        os.link(source, target) if os.path.getsize(source) > 1 << 20 else shutil.copy(source, target)
    return shutil.copytree(finished_run, tmp_path / 'run', copy_function=copy)


def read_checkpoint(folder, name):
    """Return {variable: value} of the checkpoint in `folder` that the file `name` names."""
    from alexnet import tf
    reader = tf.train.load_checkpoint(str(folder / (folder / name).read_text().strip()))
    return {variable: reader.get_tensor(variable) for variable in reader.get_variable_to_shape_map()}


def at_batch(number, action, monkeypatch):
    """Do something after the batch of this number, of training and validation, the first being 1."""
    from checkpoints import Checkpoints
    count, save_step = [0], Checkpoints.save_step

    def counted(*arguments):
        count[0] += 1
        if count[0] == number:
            action()
        save_step(*arguments)
    monkeypatch.setattr(Checkpoints, 'save_step', counted)


def run_main(main, arguments, capsys):
    """Run a command in this process; return (exit status, standard output, standard error)."""
    statuses = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('console.leave', statuses.append)  # the real one would end the tests
        console.run_command(main, [str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return statuses[0], shown.out, shown.err
