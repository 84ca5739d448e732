import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from alexnet import AlexNet
from datagenerator import ImageDataGenerator
from inputs.checks import image_key
from inputs.images import load_image
from inputs.lists import read_list
from runtime.tf1 import tf
from tests.helpers import ROOT, random_conv_weights, write_list
from training.feature_cache import StoredBatches, feature_output, network_fingerprint, store_features

WIDTH = 6 * 6 * 256


@pytest.fixture(scope='module')
def network(conv_weights_file):
    with tf.Graph().as_default(), tf.Session() as session:
        model = AlexNet(tf.placeholder(tf.float32, [None, 227, 227, 3]), 1.0, 2, ('fc6', 'fc7', 'fc8'), conv_weights_file)
        session.run(tf.global_variables_initializer())
        model.load_initial_weights(session)
        yield session, model


@pytest.fixture
def photos(tmp_path):
    """A folder with 5 pictures of noise and a list of them; its labels are 0 1 0 1 0."""
    random = np.random.RandomState(0)
    for n in range(5):
        cv2.imwrite(str(tmp_path / f'{n}.png'), random.randint(0, 256, (60, 70, 3)).astype(np.uint8))
    return write_list(tmp_path / 'list.txt', [f'{n}.png {n % 2}' for n in range(5)])


def store(network, list_file, folder, mirrored=False):
    """Return (array, rows, number computed) for one list."""
    session, model = network
    array, rows, computed = store_features(session, model, 'pool5', [(read_list(list_file), mirrored)],
                                           load_image, str(folder), share=1, num_threads=2, progress=lambda images, count: images)
    return array, rows[0], computed


def expected(network, paths, mirrored=False):
    """Return pool5 of image files, computed one by one without the store."""
    session, model = network
    images = (load_image(path)[:, ::-1 if mirrored else 1] for path in paths)
    return np.concatenate([session.run(model.outputs['pool5'], {model.x: image[None]}) for image in images])


def assert_close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize('trained, output', [
    (('fc6', 'fc7', 'fc8'), 'pool5'), (('fc6', 'fc8'), 'pool5'), (('fc7', 'fc8'), 'fc6'), (('fc8',), 'fc7'),
    (('conv5', 'fc8'), None)])
def test_what_is_stored_is_the_input_of_the_first_trained_layer(trained, output):
    assert feature_output(trained) == output


def test_features_are_those_of_the_network_and_come_back_without_computing(network, photos, tmp_path):
    array, rows, computed = store(network, photos, tmp_path / 'c')
    assert computed == 5 and rows.shape == (1, 5) and array.dtype == np.float32
    assert_close(array[rows[0]], expected(network, read_list(photos).paths))
    again, rows_again, computed = store(network, photos, tmp_path / 'c')
    assert computed == 0
    np.testing.assert_array_equal(again[rows_again[0]], array[rows[0]])


def test_only_mirrored_added_or_changed_images_are_computed(network, photos, tmp_path):
    store(network, photos, tmp_path / 'c')
    array, rows, computed = store(network, photos, tmp_path / 'c', mirrored=True)
    assert computed == 5 and rows.shape == (2, 5)
    assert_close(array[rows[1]], expected(network, read_list(photos).paths, mirrored=True))
    with open(photos, 'a') as file:
        file.write('more.png 1\n')
    shutil.copy(tmp_path / '0.png', tmp_path / 'more.png')
    assert store(network, photos, tmp_path / 'c')[2] == 1
    state = os.stat(tmp_path / '1.png')
    changed = (tmp_path / '2.png').read_bytes()[:state.st_size].ljust(state.st_size, b'\0')
    (tmp_path / '1.png').write_bytes(changed)  # another picture, of the same size and time
    os.utime(tmp_path / '1.png', ns=(state.st_atime_ns, state.st_mtime_ns))
    array, rows, computed = store(network, photos, tmp_path / 'c')
    assert computed == 1
    assert_close(array[rows[0]], expected(network, read_list(photos).paths))


def test_the_key_of_the_network_changes_with_what_frozen_layers_compute(network, tmp_path):
    session, model = network
    keys = {network_fingerprint(session, model, 'pool5', 'float32', (227, 227)), network_fingerprint(session, model, 'pool5', 'bfloat16', (227, 227)),
            network_fingerprint(session, model, 'fc6', 'float32', (227, 227))}
    layers = random_conv_weights()
    layers['conv3'][1][0] += 1e-6
    np.save(tmp_path / 'w.npy', layers, allow_pickle=True)
    path, model.weights_path = model.weights_path, str(tmp_path / 'w.npy')
    try:
        model.load_initial_weights(session)
        keys.add(network_fingerprint(session, model, 'pool5', 'float32', (227, 227)))
    finally:
        model.weights_path = path
        model.load_initial_weights(session)
    assert len(keys) == 4 and network_fingerprint(session, model, 'pool5', 'float32', (227, 227)) in keys


@pytest.mark.parametrize('name, value', [('alexnet.__file__', __file__), ('datagenerator.__file__', __file__),
                                         ('inputs.images.PIXEL_FILES', (__file__,))])
def test_the_key_of_the_network_changes_with_the_code(network, monkeypatch, name, value):
    session, model = network
    before = network_fingerprint(session, model, 'pool5', 'float32', (227, 227))
    monkeypatch.setattr(name, value)
    assert network_fingerprint(session, model, 'pool5', 'float32', (227, 227)) != before


@pytest.mark.parametrize('name', ['features', 'keys'])
def test_files_cut_anywhere_are_repaired(network, photos, tmp_path, name):
    array, rows, _ = store(network, photos, tmp_path / 'c')
    wanted, size = np.array(array[rows[0]]), os.path.getsize(tmp_path / 'c' / name)
    for cut in (0, 1, size // 2, size - 1):
        os.truncate(tmp_path / 'c' / name, cut)
        array, rows, computed = store(network, photos, tmp_path / 'c')
        assert 0 < computed <= 5
        assert_close(array[rows[0]], wanted)


def test_unreadable_images_are_all_named_and_the_others_kept(network, photos, tmp_path):
    (tmp_path / '1.png').write_text('text')
    (tmp_path / '3.png').write_bytes(b'')
    with pytest.raises(ValueError) as error:
        store(network, photos, tmp_path / 'c')
    assert [line.split(': ')[0] for line in str(error.value).splitlines()[:-1]] == [f'{photos}:2', f'{photos}:4']
    os.remove(tmp_path / '4.png')
    with pytest.raises(ValueError, match='list.txt:5: .*4.png: No such file'):
        store(network, photos, tmp_path / 'c')
    write_list(tmp_path / 'list.txt', ['0.png 0', '2.png 1'])
    assert store(network, photos, tmp_path / 'c')[2] == 0


def test_stored_batches_follow_the_generators_order_and_flips(network, photos, tmp_path):
    array, rows, _ = store(network, photos, tmp_path / 'c', mirrored=True)
    options = {'horizontal_flip': True, 'shuffle': True, 'seed': 3}
    stored, images = StoredBatches(ImageDataGenerator(photos, **options), array, rows), ImageDataGenerator(photos, **options)
    session, model = network
    for epoch in (0, 1):
        stored.start_epoch(epoch)
        images.start_epoch(epoch)
        for (features, labels), (pixels, labels_of_pixels) in zip(stored.batches(2), images.batches(2), strict=True):
            np.testing.assert_array_equal(labels, labels_of_pixels)
            assert_close(features, session.run(model.outputs['pool5'], {model.x: pixels}))


def test_image_keys_differ_by_file_and_mirroring(photos, tmp_path):
    paths = [str(tmp_path / f'{n}.png') for n in range(3)]
    assert len({image_key(path, flipped) for path in paths for flipped in (False, True)}) == 6
    assert image_key(paths[0], False) == image_key(os.path.relpath(paths[0]), False)


MEMORY_TRIAL = '''
import resource, sys
from alexnet import AlexNet
from runtime.tf1 import tf
from training.feature_cache import store_batches
from datagenerator import ImageDataGenerator
list_file, weights, folder = sys.argv[1:]
with tf.Graph().as_default(), tf.Session() as session:
    model = AlexNet(tf.placeholder(tf.float32, [None, 227, 227, 3]), 1.0, 2, ('fc6', 'fc7', 'fc8'), weights)
    model.load_initial_weights(session)
    stored = store_batches(session, model, 'pool5', [ImageDataGenerator(list_file, True, True, seed=0)], folder, 1, 2,
                           lambda images, count: images)[0]
    for number, batch in enumerate(stored.batches(128)):
        if number == 6:
            break
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
'''


def test_memory_does_not_grow_with_the_list(tmp_path, picture_folder, conv_weights_file):
    peaks = []
    for count in (1000, 100_000):
        path = write_list(tmp_path / f'{count}.txt', [f'{picture_folder}/{n % 12:02d}.png {n % 2}' for n in range(count)])
        done = subprocess.run([sys.executable, '-c', MEMORY_TRIAL, path, conv_weights_file, str(tmp_path / str(count))],
                              cwd=ROOT, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.splitlines()[-1]) / 1024)
    assert peaks[1] - peaks[0] < 100, peaks
