import math

import numpy as np
import pytest

from alexnet import LAYERS
from finetune import Settings
from inputs.lists import Datasets, ImageList
from tests.caffe_files import caffemodel
from tests.npy_files import small_caffe_layers
from training.setup import (
    check_agreement,
    choose_layers,
    choose_weights,
    find_broken_on_all,
    make_setup,
    settings_to_store,
)
from training.workers import SingleWorker


@pytest.fixture
def datasets():
    """Lists of 13 and 4 images of 2 classes; only the last image for training is of class 1."""
    def image_list(name, count):
        labels = np.int32(np.arange(count) == count - 1)
        return ImageList(name, [f'{n}.png' for n in range(count)], labels, np.arange(count))
    return Datasets(image_list('train.txt', 13), image_list('val.txt', 4), ['a', 'b'])


@pytest.mark.parametrize('train, skip, weights, trained, scratch', [
    (('fc8', 'fc7'), None, 'w.npy', ('fc7', 'fc8'), ('fc7', 'fc8')),
    (('fc7', 'fc8'), ('fc8',), 'w.npy', ('fc7', 'fc8'), ('fc8',)),
    (('fc7', 'fc8'), (), 'w.npy', ('fc7', 'fc8'), ()),
    (('fc8',), ('fc8',), None, LAYERS, LAYERS)])
def test_trained_and_skipped_layers(train, skip, weights, trained, scratch):
    """In the network's order, whatever the setting's; without a file, all layers."""
    assert choose_layers(train, skip, weights) == (trained, scratch)


def test_a_layer_that_is_skipped_must_be_trained():
    with pytest.raises(ValueError, match='skip_layers names layers that train_layers does not'):
        choose_layers(('fc8',), ('fc7',), 'w.npy')


@pytest.mark.parametrize('setting, stored, path', [
    ('none', None, None), ('auto', 'none', None), ('auto', 'stored.npy', 'stored.npy'),
    ('named.npy', 'stored.npy', 'named.npy'), ('none', 'stored.npy', None)])
def test_a_resumed_run_keeps_its_weight_file(setting, stored, path, tmp_path):
    if stored:
        stored = {'weights_path': stored, 'architecture': 'alexnet'}
    assert choose_weights(setting, 'auto', stored, str(tmp_path)) == (path, 'alexnet')


CAFFENET_RUN = {'weights_path': '/gone/bvlc_reference_caffenet.caffemodel',
                'architecture': 'caffenet'}


@pytest.mark.parametrize('weights_path, architecture, chosen', [
    ('caffenet', 'auto', tuple(CAFFENET_RUN.values())),  # as the run began
    ('auto', 'auto', tuple(CAFFENET_RUN.values())),
    (CAFFENET_RUN['weights_path'], 'caffenet', tuple(CAFFENET_RUN.values())),
    (CAFFENET_RUN['weights_path'], 'alexnet', (CAFFENET_RUN['weights_path'], 'alexnet')),
    ('other.npy', 'auto', ('other.npy', 'caffenet'))])
def test_a_resumed_run_keeps_its_architecture(weights_path, architecture, chosen):
    """What has changed is refused later, by name: run_folder/resume.py."""
    assert choose_weights(weights_path, architecture, CAFFENET_RUN, '') == chosen


@pytest.mark.parametrize('weights_path, architecture', [
    ('auto', 'caffenet'), ('caffenet', 'alexnet')])
def test_public_files_of_another_architecture_are_not_downloaded(
        weights_path, architecture, tmp_path):
    message = f'weights_path {weights_path} is .*net, and architecture is {architecture}'
    with pytest.raises(ValueError, match=message):
        choose_weights(weights_path, architecture, None, str(tmp_path))


def test_a_new_run_has_the_architecture_of_its_setting_or_file(tmp_path):
    path = str(tmp_path / 'net.caffemodel')
    with open(path, 'wb') as file:
        file.write(caffemodel(small_caffe_layers(), ends=('Pooling', 'LRN')))
    assert choose_weights(path, 'auto', None, '') == (path, 'caffenet')
    assert choose_weights('none', 'caffenet', None, '') == (None, 'caffenet')
    with pytest.raises(ValueError, match='net.caffemodel is caffenet .* architecture is alexnet'):
        choose_weights(path, 'alexnet', None, '')


def test_the_last_batch_of_an_epoch_is_a_step(datasets):
    """13 images in batches of 4 are 4 steps per epoch."""
    settings = Settings(num_epochs=3, batch_size=4, train_layers='fc8', class_weights='balanced')
    setup = make_setup(settings, datasets, 'w.npy')
    assert setup.num_steps == 12 and setup.num_classes == 2
    assert setup.pretrained_layers == LAYERS[:-1]
    np.testing.assert_allclose(setup.class_weights, [13 / 24, 13 / 2], rtol=1e-6)
    setup = make_setup(Settings(), datasets, 'w.npy')
    assert setup.class_weights.dtype == np.float32 and setup.class_weights.tolist() == [1, 1]


@pytest.mark.parametrize('views, size', [('whole', (227, 227)), ('crops', (256, 256))])
def test_stored_settings_say_what_was_chosen(datasets, views, size):
    settings = {'views': views, 'horizontal_flip': True, 'resume': 'run', 'weights_path': 'auto',
                'seed': 5}
    stored = settings_to_store(settings, make_setup(Settings(), datasets, None), datasets)
    assert stored == {
        'views': views, 'horizontal_flip': True, 'resume': None, 'weights_path': 'none', 'seed': 5,
        'architecture': 'alexnet',
        'num_classes': 2, 'train_layers': LAYERS, 'skip_layers': LAYERS, 'scale_size': size,
        'batch_size': 64,
        'image_mean': [104, 117, 124], 'train_images': 13, 'val_images': 4}


@pytest.mark.parametrize('count, expected', [(1, 64), (999, 64), (1000, 128), (10**6, 128)])
def test_large_lists_have_larger_batches(datasets, count, expected):
    train = datasets.train._replace(paths=['a.jpg'] * count, labels=np.zeros(count, np.int32))
    setup = make_setup(Settings(num_epochs=1), datasets._replace(train=train), None)
    assert setup.batch_size == expected and setup.num_steps == math.ceil(count / expected)
    for settings, expected in ((Settings(batch_size=7), 7), (Settings(views='crops'), 64)):
        assert make_setup(settings, datasets._replace(train=train), None).batch_size == expected


def test_a_single_worker_agrees_with_itself(datasets):
    check_agreement(SingleWorker(), {'seed': 0})
    image_lists = datasets.train, datasets.val
    checked = []

    def check_images(parts):
        checked.extend(path for part in parts for path in part.paths)
        return {'3.png': 'broken'}
    assert find_broken_on_all(SingleWorker(), check_images, image_lists) == {'3.png': 'broken'}
    assert checked == datasets.train.paths + datasets.val.paths
