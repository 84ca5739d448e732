import os
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from inputs.lists import BrokenImages, Datasets, ImageList, read_list
from inputs.views import views_of
from tests.helpers import write_list
from training.feature_store import SPARE_BYTES
from training.sources import CacheOptions, make_generators, make_sources
from training.workers import SingleWorker

FC_LAYERS = 'fc6', 'fc7', 'fc8'


def generators_of(train_file, val_file, views='whole'):
    """Return the ImageDataGenerators of two lists of 2 classes."""
    datasets = Datasets(read_list(train_file), read_list(val_file), ['a', 'b'])
    return make_generators(datasets, views=views, horizontal_flip=True, seed=0, num_threads=2)


def sources_of(conv_network, generators, trained, mode, folder):
    """Return the BatchSources of generators on a single worker; mode: of CacheOptions."""
    cache = CacheOptions(mode, str(folder), 'float32', 2, 2)
    return make_sources(*conv_network, generators, trained, cache, SingleWorker())


@pytest.mark.parametrize('mode, views, trained, inputs, reason', [
    ('on', 'whole', FC_LAYERS, 'pool5', ''), ('auto', 'whole', FC_LAYERS, 'pool5', ''),
    ('auto', 'crops', FC_LAYERS, 'pool5', ''),
    ('auto', 'crops', ('conv5', 'fc8'), 'images', 'features are not stored: a convolution'),
    ('off', 'whole', FC_LAYERS, 'images', 'features are not stored: cache_features is off')])
def test_features_are_fed_where_they_can_be_stored(
        conv_network, photos, tmp_path, capsys, mode, views, trained, inputs, reason):
    generators = generators_of(photos, photos, views)
    sources = sources_of(conv_network, generators, trained, mode, tmp_path / 'cache')
    assert [source.input_name for source in sources] == [inputs] * 2
    for source, generator in zip(sources, generators, strict=True):
        assert (source.batches is generator) == (source.input_name == 'images')
    output = capsys.readouterr().out
    assert reason in output and ('not stored' in output) == bool(reason)


@pytest.mark.parametrize('views, drawn_from, averaged', [('whole', 2, 1), ('crops', 10, 10)])
def test_training_takes_one_view_of_an_image_and_validation_all(
        photos, views, drawn_from, averaged):
    train, val = generators_of(photos, photos, views)
    assert train.views == views_of(views, True) and len(train.views) == drawn_from
    for generator, count in ((train, 1), (val, averaged)):
        pixels, labels = generator.next_pixels(2)
        assert pixels.shape == (2 * count, 227, 227, 3) and len(labels) == 2


def test_a_cache_that_must_be_on_but_cannot_is_an_error(conv_network, photos, tmp_path):
    generators = generators_of(photos, photos)
    with pytest.raises(ValueError, match='^cache_features is on, but '):
        sources_of(conv_network, generators, ('conv5', 'fc8'), 'on', tmp_path / 'cache')


def test_views_are_stored_if_they_fit_into_half_of_the_disk(
        conv_network, photos, tmp_path, monkeypatch, capsys):
    """Into all of it if cache_features is on. Both lists have the same 5 images of 10 views."""
    def inputs(mode, free):
        monkeypatch.setattr(shutil, 'disk_usage', lambda folder: SimpleNamespace(free=free))
        return [source.input_name for source in sources_of(
            conv_network, generators_of(photos, photos, 'crops'), FC_LAYERS, mode, tmp_path)]
    needed = 50 * (4 * 6 * 6 * 256 + 16)
    with pytest.raises(ValueError, match='^cache_features is on, but 50 features need'):
        inputs('on', SPARE_BYTES + needed - 1)
    assert inputs('auto', SPARE_BYTES + 2 * needed - 1) == ['images', 'images']
    assert 'features are not stored: 50 features need' in capsys.readouterr().out
    assert inputs('on', SPARE_BYTES + needed) == ['pool5', 'pool5']


@pytest.mark.parametrize('mode, views', [('on', 'whole'), ('auto', 'crops'), ('off', 'whole')])
def test_broken_images_of_both_lists_are_all_named(conv_network, photos, tmp_path, mode, views):
    """Whether the image is read for its features, or only checked."""
    (tmp_path / '1.png').write_text('text')
    (tmp_path / '3.png').write_bytes(b'')
    os.remove(tmp_path / '4.png')
    val_file = write_list(tmp_path / 'val.txt', ['0.png 0', '3.png 0'])
    with pytest.raises(BrokenImages) as error:
        sources_of(conv_network, generators_of(photos, val_file, views), FC_LAYERS, mode,
                   tmp_path / 'cache')
    *lines, _ = str(error.value).splitlines()
    assert [line.split(': ')[0] for line in lines] == [
        f'{photos}:2', f'{photos}:4', f'{photos}:5', f'{val_file}:2']
    assert re.search(r'4\.png: No such file', lines[2])


@pytest.mark.parametrize('count', range(1, 10))
@pytest.mark.parametrize('workers', [1, 2, 3, 4])
def test_each_image_is_read_once_per_epoch_by_one_worker(picture_folder, count, workers):
    """Lists of 1 to 9 images, batches of 4: around the batch, and fewer images than workers."""
    paths = [str(picture_folder / f'{n:02d}.png') for n in range(count)]
    image_list = ImageList('list', paths, np.arange(count, dtype=np.int32), np.arange(count))
    datasets = Datasets(image_list, image_list, [str(n) for n in range(9)])

    def training_generator(shard):
        return make_generators(datasets, views='whole', horizontal_flip=False, seed=3,
                               num_threads=1, shard=shard)[0]
    whole, shards = training_generator((0, 1)), [
        training_generator((rank, workers)) for rank in range(workers)]
    for _ in range(2):
        batches = [list(generator.batches(4)) for generator in (whole, *shards)]
        for (_, expected), *parts in zip(*batches, strict=True):
            labels = np.concatenate([labels for _, labels in parts]).argmax(1)
            assert sorted(labels) == sorted(expected.argmax(1))
            for pixels, part in parts:  # blue is 20 times the label
                assert (pixels[:, 0, 0, 0] // 20 == part.argmax(1)).all()
        for generator in (whole, *shards):
            generator.reset_pointer()
