"""What the frozen layers compute, computed once an image and kept on disk, to be fed where the trained layers begin."""

import contextlib
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import alexnet
import datagenerator
from alexnet import IMAGE_SIZE, LAYERS
from datagenerator import ImageDataGenerator
from inputs.checks import KEY_BYTES, find_broken, image_key
from inputs.images import decoder_fingerprint, describe, load_image
from inputs.lists import BrokenImages
from inputs.prefetch import prefetch_images, prefetch_map
from runtime.command import progress_bar
from runtime.tf1 import tf
from training.feature_store import FeatureStore, NotEnoughSpace

FEATURE_LAYER = {'fc6': 'pool5', 'fc7': 'fc6', 'fc8': 'fc7'}  # first trained layer: the output that it sees
IMAGES_PER_RUN = 128     # images that go through the frozen layers at once


def prepare_batches(plan, session, model, distribution):
    """Return (generators, sources), once all listed images are known to be good.

    generators: the ImageDataGenerators of training and validation, of the share that the Distribution leaves to this
    worker. sources: for each, the tensor to feed and the batches for it; where the frozen layers' output is stored, it
    is that. Raises BrokenImages naming list and line of every image that is missing or can't be read, also by another
    worker.
    """
    generators, broken = make_generators(plan.settings, plan.data, distribution.share), {}
    with distribution.barrier():
        try:
            sources = make_sources(plan.settings, session, model, generators, plan.trained)
        except BrokenImages as error:
            broken = error.broken
    broken = distribution.gather_broken(plan.data[:2], broken)
    if broken:
        raise BrokenImages(plan.data[:2], broken)
    _, val = sources[1]  # a worker that has no room to store can't take as many at once
    val.eval_batch_size = min(distribution.all_gather_object(val.eval_batch_size))
    return generators, sources


def make_generators(settings, data, share=(0, 1)):
    """Return the ImageDataGenerators of training and of validation; share: (worker, workers)."""
    options = {'nb_classes': len(data.class_names), 'scale_size': scale_size(settings), 'shard': share,
               'crop_size': (IMAGE_SIZE, IMAGE_SIZE), 'seed': settings.seed, 'num_threads': settings.num_threads}
    return [ImageDataGenerator(data.train, settings.horizontal_flip, True, random_crop=settings.random_crop, **options),
            ImageDataGenerator(data.val, **options)]


def make_sources(settings, session, model, generators, trained):
    """Return [(tensor to feed, batches for it)] of the generators; raises BrokenImages."""
    output = feature_output(trained)
    try:
        stored, reason = store(settings, session, model, output, generators)
    except BrokenImages as error:  # what is not stored can be broken, too
        cropped = [generator for generator in generators if generator.random_crop]
        raise BrokenImages([generator.image_list for generator in generators],
                           {**error.broken, **find_undecodable(settings, cropped)}) from error
    if reason and settings.cache_features == 'on':
        raise ValueError(f'cache_features is on, but {reason}')
    plain = generators[:len(generators) - len(stored)]
    if plain:
        print(f'what the frozen layers compute {"of the training images " if stored else ""}is not stored: {reason}')
        broken = find_undecodable(settings, plain)
        if broken:
            raise BrokenImages([generator.image_list for generator in plain], broken)
    return [(model.x, batches) for batches in plain] + [(model.outputs[output], batches) for batches in stored]


def find_undecodable(settings, generators):
    """Return {path: what is wrong} of those images of some ImageDataGenerators that can't be decoded."""
    lists = [generator.image_list.shard(*generator.shard) for generator in generators]
    return find_broken(lists, load_image, settings.cache_dir, settings.num_threads, progress_bar('checking images'))


def store(settings, session, model, output, generators):
    """Return (StoredBatches of those of the generators whose features can be stored, the last ones, why not of all)."""
    if settings.cache_features == 'off':
        return [], 'cache_features is off'
    if not output:
        return [], 'a convolution is trained, and only the input of fc6, fc7 or fc8 is stored'
    key = network_fingerprint(session, model, output, settings.precision, scale_size(settings))
    folder = os.path.join(settings.cache_dir, key)
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise ValueError(f'cache_dir {settings.cache_dir} is no folder that can be written to: name another one, or '
                         'set cache_features to off')
    fixed = [generator for generator in generators if not generator.random_crop]
    try:
        stored = store_batches(session, model, output, fixed, folder, disk_fraction(settings), settings.num_threads,
                               progress_bar(f'computing {output}'))
    except NotEnoughSpace as error:
        return [], str(error)
    return stored, 'random_crop cuts other pixels in each epoch' if len(fixed) < len(generators) else None


def disk_fraction(settings):
    """Return the share of the free disk space that features may take."""
    return 1 if settings.cache_features == 'on' else 0.5


def scale_size(settings):
    """Return (width, height) that images are scaled to before the network's 227x227 are cut out of them."""
    return (256, 256) if settings.random_crop else (IMAGE_SIZE, IMAGE_SIZE)


def feature_output(trained):
    """Return the name of the output whose values can be stored if the layers `trained` are trained, or None."""
    return FEATURE_LAYER.get(next(layer for layer in LAYERS if layer in trained))


def network_fingerprint(session, model, output, precision, scale_size):
    """Return text that differs whenever `output` could: for other weights, preprocessing, precision or libraries."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for module in (alexnet, datagenerator):  # an edit of the network, or of what is cut out, is another network
        with open(module.__file__, 'rb') as code:
            digest.update(code.read())
    digest.update(f'{precision} {scale_size} {tf.__version__} {decoder_fingerprint()}'.encode())
    computed = LAYERS[:5] if output == 'pool5' else LAYERS[:LAYERS.index(output) + 1]
    for values in session.run([model.variables[layer] for layer in computed]):
        for value in values:
            digest.update(np.ascontiguousarray(value))
    return f'{output}-{digest.hexdigest()}'


class StoredBatches:
    """The passes of an ImageDataGenerator, same order, same flips, with stored features in place of images.

    array: float32 [rows, ...]. rows: int64 [2, n], where in it each image of the generator's share of the list is, as
    it is and mirrored.
    """

    eval_batch_size = 1024  # features are a seventeenth of an image, or less

    def __init__(self, generator, array, rows):
        self.generator, self.array, self.rows = generator, array, rows
        self.data_size, self.start_epoch = generator.data_size, generator.start_epoch

    def batches(self, batch_size):
        """Yield what is left of this pass: features, float32 [n, ...], and one-hot labels; reads one batch ahead."""
        starts = range(self.generator.pointer, self.data_size, batch_size)
        with ThreadPoolExecutor(1) as pool:
            yield from prefetch_map(self.read, (self.generator.take_indices(batch_size) for _ in starts), pool, ahead=1)

    def read(self, indices):
        """Return the features and labels at positions in the list."""
        rows = self.rows[self.generator.epoch_order.flipped[indices].astype(int), indices // self.generator.shard[1]]
        return self.array[rows], self.generator.one_hot(indices)


def store_batches(session, model, output, generators, folder, share, num_threads, progress):
    """Return the StoredBatches of ImageDataGenerators, after storing what is missing; raises as store_features."""
    start = time.monotonic()
    parts = [(generator.image_list.shard(*generator.shard), generator.horizontal_flip) for generator in generators]
    array, rows, computed = store_features(session, model, output, parts, generators[0].load_unflipped, folder, share,
                                           num_threads, progress)
    print(f'{output} of {sum(part.size for part in rows):,} images, {computed:,} of them computed now '
          f'({computed / (time.monotonic() - start):.0f} images/s), is stored in {folder}, '
          f'{array.nbytes / 1e6:,.0f} MB')
    return [StoredBatches(generator, array, part_rows) for generator, part_rows in zip(generators, rows)]


def store_features(session, model, output, parts, load_image, folder, share, num_threads, progress):
    """Compute what `folder` lacks of the values of `output` for the images of some lists.

    parts: pairs (ImageList, whether mirrored images are wanted too). load_image: function path -> what the network
    sees. share: of the free disk space that may be used. progress: wraps an iterable and shows how far it is. Returns
    (array, [rows of each part]) as StoredBatches takes them, and the number of features computed. Raises BrokenImages
    naming every missing or unreadable image, after storing the others; NotEnoughSpace, a ValueError, before it computes;
    OSError if the disk is full all the same.
    """
    shape = model.outputs[output].shape.as_list()[1:]
    with FeatureStore(folder, int(np.prod(shape))) as store:
        broken, missing = {}, {}
        keys = [image_keys(image_list, mirrored, broken) for image_list, mirrored in parts]
        for (image_list, _), part_keys in zip(parts, keys):
            for flipped, row_keys in enumerate(part_keys):
                for path, key in zip(image_list.paths, row_keys):
                    if key and key not in store.rows:
                        missing.setdefault(path, {})[key] = bool(flipped)
        before, count = store.count, sum(len(wanted) for wanted in missing.values())
        store.check_room(count, share)
        broken.update(compute_features(session, model, output, missing, load_image, store, num_threads, progress))
        if broken:
            raise BrokenImages([image_list for image_list, _ in parts], broken)
        rows = [np.array([[store.rows[key] for key in row_keys] for row_keys in part_keys], np.int64)
                for part_keys in keys]
        return store.read().reshape(-1, *shape), rows, store.count - before


def image_keys(image_list, mirrored, broken):
    """Return the keys of a list's images, and of the mirrored ones if wanted; None, and why in `broken`, if gone."""
    keys = []
    for flipped in (False, True)[:1 + mirrored]:
        keys.append([])
        for path in image_list.paths:
            try:
                keys[-1].append(image_key(path, flipped))
            except (OSError, ValueError) as error:
                broken[path] = describe(path, error)
                keys[-1].append(None)
    return keys


def compute_features(session, model, output, missing, load_image, store, num_threads, progress):
    """Store `output` for the images of `missing`, {path: {key: mirrored}}; decodes while the network computes.

    Returns {path: what is wrong} of those that can't be read.
    """
    broken, keys, pixels = {}, [], []

    def run():
        features = session.run(model.outputs[output], {model.x: np.stack(pixels)})
        store.append(keys.copy(), features.reshape(len(keys), -1))
        keys.clear()
        pixels.clear()
    images = prefetch_images(missing, num_threads, 2 * IMAGES_PER_RUN, load_image)
    for path, image in progress(zip(missing, images), len(missing)):
        if isinstance(image, ValueError):
            broken[path] = str(image)
            continue
        for key, mirrored in missing[path].items():
            keys.append(key)
            pixels.append(image[:, ::-1] if mirrored else image)
        if len(pixels) >= IMAGES_PER_RUN:
            run()
    if pixels:
        run()
    store.commit()
    return broken
