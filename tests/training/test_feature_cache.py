import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from datagenerator import ImageDataGenerator
from inputs.checks import image_key
from inputs.images import load_image
from inputs.lists import read_list
from inputs.views import views_of
from tests.helpers import ROOT, random_conv_weights, write_list
from training.feature_cache import (
    CacheOptions,
    StoredBatches,
    cache_features_of,
    feature_layer,
    network_fingerprint,
    store_features,
    view_key,
)
from training.feature_store import FeatureStore, NotEnoughSpace

WIDTH = 6 * 6 * 256  # of pool5


WHOLE = views_of('whole', False)


def store_pool5(conv_network, list_file, folder, views=WHOLE, broken=None, fraction=1):
    """Store pool5 of a list; return (all stored rows, row of each image, number computed).

    views: of each image.
    broken: {path: message} of broken images, None to assert that there are none.
    fraction: of the free disk space that may be used.
    """
    session, model = conv_network
    errors, image_list = {} if broken is None else broken, read_list(list_file)
    with FeatureStore(str(folder), WIDTH) as store:
        rows, computed = store_features(
            store, [(image_list, views, np.ones((len(views), len(image_list.paths)), bool))],
            lambda pixels: session.run(model.outputs['pool5'], {model.images: pixels}), fraction,
            num_threads=2, progress=lambda images, count: images, broken=errors)
        array = store.read().reshape(-1, 6, 6, 256)
    assert broken is not None or not errors
    return array, rows[0], computed


def compute_pool5(conv_network, images):
    """Return pool5 of images minus the mean, computed one by one without the store."""
    session, model = conv_network
    return np.concatenate(
        [session.run(model.outputs['pool5'], {model.x: image[None]}) for image in images])


def expected_pool5(conv_network, list_file):
    """Return pool5 of the images of a list."""
    return compute_pool5(
        conv_network, [load_image(path) for path in read_list(list_file).paths])


def assert_close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize('trained, output', [
    (('fc6', 'fc7', 'fc8'), 'pool5'), (('fc6', 'fc8'), 'pool5'), (('fc7', 'fc8'), 'fc6'),
    (('fc8',), 'fc7'), (('conv5', 'fc8'), None)])
def test_features_are_the_input_of_the_first_trained_layer(trained, output):
    assert feature_layer(trained) == output


def test_stored_features_equal_the_networks(conv_network, photos, tmp_path):
    array, rows, computed = store_pool5(conv_network, photos, tmp_path / 'c')
    assert computed == 5 and rows.shape == (1, 5) and array.dtype == np.float32
    assert_close(array[rows[0]], expected_pool5(conv_network, photos))
    again, rows_again, computed = store_pool5(conv_network, photos, tmp_path / 'c')
    assert computed == 0
    np.testing.assert_array_equal(again[rows_again[0]], array[rows[0]])


def test_mirror_images_are_computed_when_they_are_wanted(conv_network, photos, tmp_path):
    store_pool5(conv_network, photos, tmp_path / 'c')
    views = views_of('whole', True)
    array, rows, computed = store_pool5(conv_network, photos, tmp_path / 'c', views)
    assert computed == 5 and rows.shape == (2, 5)
    mirrored = [load_image(path)[:, ::-1] for path in read_list(photos).paths]
    assert_close(array[rows[1]], compute_pool5(conv_network, mirrored))


def test_features_of_views_equal_those_of_the_crops_pixels(conv_network, photos, tmp_path):
    """Crops of the scaled picture are cut out and mirrored by NumPy."""
    store_pool5(conv_network, photos, tmp_path / 'c', views_of('crops', False))
    views = views_of('crops', True)
    array, rows, computed = store_pool5(conv_network, photos, tmp_path / 'c', views)
    assert computed == 25 and rows.shape == (10, 5)  # the mirror images; five crops were there
    pictures = [load_image(path, (256, 256)) for path in read_list(photos).paths]
    for number, (top, left) in enumerate(((14, 14), (0, 0), (0, 29), (29, 0), (29, 29))):
        crops = [picture[top:top + 227, left:left + 227] for picture in pictures]
        for row, images in ((2 * number, crops), (2 * number + 1, [c[:, ::-1] for c in crops])):
            assert_close(array[rows[row]], compute_pool5(conv_network, images))


def test_the_space_for_all_missing_views_is_asked_for(conv_network, photos, tmp_path):
    store_pool5(conv_network, photos, tmp_path / 'c', views_of('crops', False))
    with pytest.raises(NotEnoughSpace, match='^25 features need 0.0 GB in '):
        store_pool5(conv_network, photos, tmp_path / 'c', views_of('crops', True), fraction=0)


def test_only_added_and_changed_images_are_computed(conv_network, photos, tmp_path):
    store_pool5(conv_network, photos, tmp_path / 'c')
    with open(photos, 'a') as file:
        file.write('more.png 1\n')
    shutil.copy(tmp_path / '0.png', tmp_path / 'more.png')
    assert store_pool5(conv_network, photos, tmp_path / 'c')[2] == 1
    state = os.stat(tmp_path / '1.png')
    content = (tmp_path / '2.png').read_bytes()[:state.st_size].ljust(state.st_size, b'\0')
    (tmp_path / '1.png').write_bytes(content)  # another picture, of the same size and time
    os.utime(tmp_path / '1.png', ns=(state.st_atime_ns, state.st_mtime_ns))
    array, rows, computed = store_pool5(conv_network, photos, tmp_path / 'c')
    assert computed == 1
    assert_close(array[rows[0]], expected_pool5(conv_network, photos))


def test_the_fingerprint_differs_by_what_features_depend_on(conv_network, tmp_path):
    session, model = conv_network

    def fingerprint(layer='pool5', precision='float32'):
        return network_fingerprint(session, model, layer, precision)
    found = {fingerprint(), fingerprint(precision='bfloat16'), fingerprint('fc6')}
    layers = random_conv_weights()
    layers['conv3'][1][0] += 1e-6
    np.save(tmp_path / 'w.npy', layers, allow_pickle=True)
    path, model.weights_path = model.weights_path, str(tmp_path / 'w.npy')
    try:
        model.load_initial_weights(session)
        found.add(fingerprint())
    finally:
        model.weights_path = path
        model.load_initial_weights(session)
    assert len(found) == 4 and fingerprint() in found


@pytest.mark.parametrize('name, value', [
    ('alexnet.__file__', __file__), ('training.frozen_layers.__file__', __file__),
    ('inputs.images.PIXEL_FILES', (__file__,))])
def test_the_fingerprint_differs_by_the_code(conv_network, monkeypatch, name, value):
    session, model = conv_network
    before = network_fingerprint(session, model, 'pool5', 'float32')
    monkeypatch.setattr(name, value)
    after = network_fingerprint(session, model, 'pool5', 'float32')
    assert after != before


@pytest.mark.parametrize('name', ['features', 'keys'])
def test_files_cut_anywhere_are_repaired(conv_network, photos, tmp_path, name):
    array, rows, _ = store_pool5(conv_network, photos, tmp_path / 'c')
    wanted, size = np.array(array[rows[0]]), os.path.getsize(tmp_path / 'c' / name)
    for cut in (0, 1, size // 2, size - 1):
        os.truncate(tmp_path / 'c' / name, cut)
        array, rows, computed = store_pool5(conv_network, photos, tmp_path / 'c')
        assert 0 < computed <= 5
        assert_close(array[rows[0]], wanted)


def test_broken_images_are_collected_and_the_others_stored(conv_network, photos, tmp_path):
    (tmp_path / '1.png').write_text('text')
    (tmp_path / '3.png').write_bytes(b'')
    os.remove(tmp_path / '4.png')
    broken = {}
    _, rows, computed = store_pool5(conv_network, photos, tmp_path / 'c', broken=broken)
    assert set(broken) == {str(tmp_path / f'{n}.png') for n in (1, 3, 4)}
    assert 'No such file' in broken[str(tmp_path / '4.png')]
    assert computed == 2 and (rows[0] < 0).tolist() == [False, True, False, True, True]
    write_list(tmp_path / 'list.txt', ['0.png 0', '2.png 1'])
    assert store_pool5(conv_network, photos, tmp_path / 'c')[2] == 0


@pytest.mark.parametrize('all_views', [False, True])
@pytest.mark.parametrize('shard', [(0, 1), (1, 2)])
def test_stored_batches_keep_order_and_views(conv_network, photos, tmp_path, shard, all_views):
    options = {'views': views_of('crops', True), 'all_views': all_views, 'shuffle': True,
               'seed': 3, 'shard': shard}
    images, generator = ImageDataGenerator(photos, **options), ImageDataGenerator(photos, **options)
    session, model = conv_network
    cache = CacheOptions('on', str(tmp_path / 'c'), 'float32', 2, 2)
    [stored], reason = cache_features_of(session, model, 'pool5', [generator], cache, {})
    assert isinstance(stored, StoredBatches) and reason is None
    for epoch in (0, 1):
        stored.start_epoch(epoch)
        images.start_epoch(epoch)
        for (features, labels), (pixels, wanted) in zip(
                stored.batches(2), images.batches(2), strict=True):
            np.testing.assert_array_equal(labels, wanted)
            if len(labels):
                pool5 = session.run(model.outputs['pool5'], {model.images: pixels})
                assert_close(features, pool5)
    if not all_views:  # ten views of few images: a third epoch takes some that two did not
        assert len(stored.array) <= 2 * len(generator.in_shard(np.arange(5)))
        stored.start_epoch(2)
        with pytest.raises(ValueError, match='^this epoch takes views whose features are not sto'):
            list(stored.batches(5))


def test_keys_differ_by_file_and_view(photos, tmp_path):
    paths = [str(tmp_path / f'{n}.png') for n in range(3)]
    views = [*views_of('whole', True), *views_of('crops', True)]
    assert len({view_key(image_key(path), view) for path in paths for view in views}) == 36
    assert image_key(paths[0]) == image_key(os.path.relpath(paths[0]))


MEMORY_TRIAL = '''
import resource, sys
from alexnet import AlexNet
from datagenerator import ImageDataGenerator
from runtime.tf1 import tf
from training.feature_cache import CacheOptions, cache_features_of
list_file, weights, folder = sys.argv[1:]
with tf.Graph().as_default(), tf.Session() as session:
    images = tf.placeholder(tf.uint8, [None, 227, 227, 3])
    model = AlexNet(images, 1.0, 2, ('fc6', 'fc7', 'fc8'), weights)
    model.load_initial_weights(session)
    generator = ImageDataGenerator(list_file, True, True, seed=0)
    options = CacheOptions('on', folder, 'float32', 2, 9)
    [stored], _ = cache_features_of(session, model, 'pool5', [generator], options, {})
    for number, batch in enumerate(stored.batches(128)):
        if number == 6:
            break
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
'''


@pytest.mark.slow
def test_memory_does_not_grow_with_the_list(tmp_path, picture_folder, conv_weights_file):
    megabytes = []
    for count in (1000, 100_000):
        lines = [f'{picture_folder}/{n % 12:02d}.png {n % 2}' for n in range(count)]
        arguments = [write_list(tmp_path / f'{count}.txt', lines), conv_weights_file,
                     str(tmp_path / str(count))]
        done = subprocess.run([sys.executable, '-c', MEMORY_TRIAL, *arguments], cwd=ROOT,
                              capture_output=True, text=True, check=True)
        megabytes.append(int(done.stdout.splitlines()[-1]) / 1024)
    assert megabytes[1] - megabytes[0] < 100, megabytes
