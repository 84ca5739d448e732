"""Batches for the loop: images, or stored features of the frozen layers."""

from collections.abc import Sequence
from typing import NamedTuple

from alexnet import AlexNet
from datagenerator import ImageDataGenerator
from inputs.checks import find_broken, gather_broken
from inputs.images import load_image
from inputs.lists import BrokenImages, Datasets
from inputs.views import evaluation_views, views_of
from runtime.command import progress_bar
from runtime.tf1 import tf
from training.feature_cache import CacheOptions, StoredBatches, cache_features_of, feature_layer
from training.workers import Workers


class BatchSource(NamedTuple):
    """Batches, and the tensor that takes them."""

    input_name: str  # 'images', or the layer whose output the features replace
    batches: ImageDataGenerator | StoredBatches


def make_generators(datasets: Datasets, *, views: str, horizontal_flip: bool, seed: int,
                    num_threads: int | None,
                    shard: tuple[int, int] = (0, 1)) -> list[ImageDataGenerator]:
    """Return the ImageDataGenerators of the training and the validation list.

    views, horizontal_flip: the settings. An epoch of training takes one of views_of(...) of each
        image, validation all of evaluation_views(...).
    seed: of image order and views.
    num_threads: that decode images; None: one per core.
    shard: (rank, number of workers).
    """
    options = {'nb_classes': len(datasets.class_names), 'seed': seed, 'num_threads': num_threads,
               'shard': shard}
    return [ImageDataGenerator(datasets.train, shuffle=True,
                               views=views_of(views, horizontal_flip), **options),
            ImageDataGenerator(datasets.val, all_views=True,
                               views=evaluation_views(views, horizontal_flip), **options)]


def make_sources(session: tf.Session, model: AlexNet, generators: list[ImageDataGenerator],
                 trained_layers: Sequence[str], cache: CacheOptions,
                 workers: Workers) -> list[BatchSource]:
    """Return the BatchSource of each ImageDataGenerator, after checking all listed images.

    session, model: the AlexNet with its weights.
    generators: of the training and the validation list.
    trained_layers: names of the layers that training changes.
    cache: where and how features are stored.
    Raises BrokenImages naming each image that is missing or cannot be decoded, on any worker.
    """
    broken = {}
    with workers.barrier():
        sources = find_sources(session, model, generators, trained_layers, cache, broken)
    image_lists = [generator.image_list for generator in generators]
    broken = gather_broken(workers, image_lists, broken)
    if broken:
        raise BrokenImages(image_lists, broken)
    # A worker without space for features cannot evaluate as many images at once.
    val = sources[1].batches
    val.eval_batch_size = min(workers.all_gather_object(val.eval_batch_size))
    return sources


def find_sources(session, model, generators, trained_layers, cache, broken):
    """Return the BatchSource of each generator on this worker.

    broken: {path: message}, to which images that cannot be decoded are added.
    Others: see make_sources. Raises ValueError if cache_features is on and cannot be.
    """
    layer = feature_layer(trained_layers)
    stored, reason = cache_features_of(session, model, layer, generators, cache, broken)
    if stored:
        return [BatchSource(layer, batches) for batches in stored]
    if cache.mode == 'on':
        raise ValueError(f'cache_features is on, but {reason}')
    print(f'features are not stored: {reason}')
    broken.update(find_undecodable(generators, cache))
    return [BatchSource('images', generator) for generator in generators]


def find_undecodable(generators, cache):
    """Return {path: message} of the images of some generators that cannot be decoded."""
    shards = [generator.image_list.shard(*generator.shard) for generator in generators]
    return find_broken(shards, load_image, cache.folder, cache.num_threads,
                       progress_bar('checking images'))
