"""What the loop feeds: images, or stored features of the frozen layers where training starts."""

from typing import NamedTuple

from alexnet import IMAGE_SIZE
from datagenerator import ImageDataGenerator
from inputs.checks import find_broken, gather_broken
from inputs.images import load_image
from inputs.lists import BrokenImages
from runtime.command import progress_bar
from training.feature_cache import CacheOptions, StoredBatches, cache_features_of, feature_layer
from training.setup import scale_size


class BatchSource(NamedTuple):
    """Batches, and the tensor that takes them."""

    input_name: str  # 'x' for images, or the output of the network in whose place features are fed
    batches: ImageDataGenerator | StoredBatches


def make_generators(datasets, *, horizontal_flip, random_crop, seed, num_threads, shard=(0, 1)):
    """Return the ImageDataGenerators of the training and the validation list.

    shard: (rank, number of workers).
    """
    options = {'nb_classes': len(datasets.class_names), 'scale_size': scale_size(random_crop),
               'crop_size': (IMAGE_SIZE, IMAGE_SIZE), 'seed': seed, 'num_threads': num_threads,
               'shard': shard}
    return [ImageDataGenerator(datasets.train, horizontal_flip, shuffle=True,
                               random_crop=random_crop, **options),
            ImageDataGenerator(datasets.val, **options)]


def make_sources(session, model, generators, trained_layers, cache: CacheOptions, workers):
    """Return the BatchSource of each ImageDataGenerator, once all listed images are known to be good.

    generators: of the training and the validation list.
    trained_layers: names of the layers that training changes.
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

    Adds images that cannot be decoded to `broken`, {path: message}.
    """
    layer = feature_layer(trained_layers)
    cached, reason = cache_features_of(session, model, layer, generators, cache, broken)
    if reason and cache.mode == 'on':
        raise ValueError(f'cache_features is on, but {reason}')
    uncached = [generator for generator in generators if generator not in cached]
    if uncached:
        which = 'features of the training images' if cached else 'features'
        print(f'{which} are not stored: {reason}')
        broken.update(find_undecodable(uncached, cache))
    return [BatchSource(layer, cached[generator]) if generator in cached
            else BatchSource('x', generator) for generator in generators]


def find_undecodable(generators, cache):
    """Return {path: message} of the images of some generators that cannot be decoded."""
    shards = [generator.image_list.shard(*generator.shard) for generator in generators]
    return find_broken(shards, load_image, cache.folder, cache.num_threads,
                       progress_bar('checking images'))
