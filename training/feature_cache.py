"""Features: outputs of the frozen layers, computed once per image and stored on disk."""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

import alexnet
from alexnet import LAYERS
from datagenerator import ImageDataGenerator
from inputs.checks import KEY_BYTES, image_key
from inputs.images import decoder_fingerprint, describe
from inputs.prefetch import prefetch_map
from runtime.command import progress_bar
from runtime.tf1 import tf
from training import frozen_layers
from training.feature_store import FeatureStore, NotEnoughSpace
from training.frozen_layers import compute_features
from weight_files.architecture import BLOCK_ENDS

FEATURE_LAYER = {'fc6': 'pool5', 'fc7': 'fc6', 'fc8': 'fc7'}  # first trained layer: its input
COMPUTED_BY = (alexnet, frozen_layers)  # modules besides inputs/ whose code decides the features


class CacheOptions(NamedTuple):
    """Which features are stored, where and how."""

    mode: str                # 'auto', 'on' or 'off'
    folder: str              # of all stored features
    precision: str           # of matrix products, 'float32', 'tensorfloat32' or 'bfloat16'
    num_threads: int | None  # that decode images; None: one per core
    num_epochs: int          # of the run: only the views that they take are stored


class StoredBatches:
    """The batches of an ImageDataGenerator, with features in place of images.

    Order and views are the generator's.
    array: float32 [rows, ...].
    rows: int64 [views, n], the row of the features of each view of image i, -1 if they are not
        stored; i counts the images of the generator's shard.
    """

    def __init__(self, generator: ImageDataGenerator, array: np.ndarray, rows: np.ndarray):
        self.generator, self.array, self.rows = generator, array, rows
        self.data_size, self.start_epoch = generator.data_size, generator.start_epoch
        self.rows_per_image = generator.rows_per_image
        self.eval_batch_size = 1024  # features take at most a seventeenth of an image's memory

    @property
    def pointer(self) -> int:
        """The position in the epoch at which the next batch is read, which is a batch early."""
        return self.generator.pointer

    def batches(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the remaining batches: features, float32 [rows, ...], and one-hot labels.

        labels: float32 [n, num_classes]. rows: n, or n times the views if the generator takes all.
        """
        starts = range(self.pointer, self.data_size, batch_size)
        with ThreadPoolExecutor(1) as pool:
            indices = (self.generator.take_indices(batch_size) for _ in starts)
            yield from prefetch_map(self.read, indices, pool, ahead=1)

    def read(self, indices):
        """Return features and one-hot labels; indices: int [n], positions in the list."""
        _, count = self.generator.shard
        if self.generator.all_views:
            rows = self.rows[:, indices // count].T.ravel()
        else:
            rows = self.rows[self.generator.epoch_order.views[indices], indices // count]
        if (rows < 0).any():
            raise ValueError('this epoch takes views whose features are not stored')
        return self.array[rows], self.generator.one_hot(indices)


def feature_layer(trained_layers):
    """Return the name of the layer whose output is stored; None if a convolution is trained."""
    return FEATURE_LAYER.get(next(layer for layer in LAYERS if layer in trained_layers))


def cache_features_of(session, model, layer, generators, cache, broken):
    """Return (a StoredBatches per ImageDataGenerator, None), or (None, why there are none).

    session, model: the AlexNet with its weights.
    layer: name of the layer whose output is stored, or None.
    cache: CacheOptions.
    broken: {path: message}, to which images that cannot be decoded are added; with any, the caller
        must not use the StoredBatches.
    """
    if cache.mode == 'off':
        return None, 'cache_features is off'
    if not layer:
        return None, 'a convolution is trained, and only the input of fc6, fc7 or fc8 is stored'
    folder = make_folder(
        cache.folder, network_fingerprint(session, model, layer, cache.precision))

    def compute(pixels):
        return session.run(model.outputs[layer], {model.images: pixels})
    try:
        shape = model.outputs[layer].shape.as_list()[1:]
        return store_batches(generators, folder, layer, shape, compute, cache, broken), None
    except NotEnoughSpace as error:
        return None, str(error)


def make_folder(cache_dir, name):
    """Make a folder in the cache, and return its path; ValueError if it cannot be written to."""
    folder = os.path.join(cache_dir, name)
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise ValueError(f'cache_dir {cache_dir} is no folder that can be written to: name another '
                         'one, or set cache_features to off')
    return folder


def network_fingerprint(session, model, layer, precision):
    """Return a name of a layer's features that changes with what all of them depend on.

    They depend on weights, architecture, precision, code and libraries.
    """
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for module in COMPUTED_BY:
        with open(module.__file__, 'rb') as code:
            digest.update(code.read())
    order = BLOCK_ENDS[model.architecture]
    digest.update(f'{order} {precision} {tf.__version__} {decoder_fingerprint()}'.encode())
    last = 'conv5' if layer == 'pool5' else layer
    computed = LAYERS[:LAYERS.index(last) + 1]
    for values in session.run([model.variables[layer] for layer in computed]):
        for value in values:
            digest.update(np.ascontiguousarray(value))
    return f'{layer}-{digest.hexdigest()}'


def store_batches(generators, folder, layer, shape, compute, cache, broken):
    """Return the StoredBatches of each ImageDataGenerator, after computing missing features.

    folder: of the features of `layer`.
    shape: of the features of one image.
    compute: function of pixels, uint8 [n, 227, 227, 3], that returns float32 [n, *shape].
    cache, broken: as in cache_features_of.
    """
    start = time.monotonic()
    parts = [(generator.image_list.shard(*generator.shard), generator.views,
              generator.drawn_views(cache.num_epochs)) for generator in generators]
    width, fraction = int(np.prod(shape)), 1 if cache.mode == 'on' else 0.5
    with FeatureStore(folder, width) as store:
        rows, computed = store_features(store, parts, compute, fraction, cache.num_threads,
                                        progress_bar(f'computing {layer}'), broken)
        array = store.read().reshape(-1, *shape)
    if not broken:
        rate = computed / (time.monotonic() - start)
        count = sum(int((part >= 0).sum()) for part in rows)
        print(f'{layer} of {count:,} views, {computed:,} of them computed now '
              f'({rate:.0f} views/s), is stored in {folder}, {array.nbytes / 1e6:,.0f} MB')
    return [StoredBatches(generator, array, part)
            for generator, part in zip(generators, rows, strict=True)]


def store_features(store, parts, compute, fraction, num_threads, progress, broken):
    """Compute and store the features of image lists that a FeatureStore lacks.

    store: an open FeatureStore.
    parts: triples (ImageList, views, which of them are wanted of each image, bool [views, n]).
    compute: function of pixels, uint8 [n, 227, 227, 3], that returns float32 [n, ...].
    fraction: of the free disk space that may be used, 0..1.
    num_threads: that decode; None: one per core.
    progress: function (iterable, length) that iterates under a progress bar.
    broken: {path: message}, to which images that cannot be read are added.
    Returns ([rows of each part] as StoredBatches takes them, number of features computed). Raises
    NotEnoughSpace before computing, OSError if the disk fills later.
    """
    keys = [image_keys(*part, broken) for part in parts]
    missing = find_missing(store, parts, keys)
    before, count = store.count, sum(len(wanted) for wanted in missing.values())
    store.check_space(count, fraction)
    compute_features(store, missing, compute, num_threads, progress, broken)
    rows = []
    for part_keys in keys:
        numbers = [[store.rows.get(key, -1) for key in row_keys] for row_keys in part_keys]
        rows.append(np.array(numbers, np.int64))
    return rows, store.count - before


def image_keys(image_list, views, wanted, broken):
    """Return the keys of the views of listed images, [views][n]; None: the view is not wanted.

    A missing image has none either, and its path is added to `broken`, {path: message}.
    """
    files = []
    for path in image_list.paths:
        try:
            files.append(image_key(path))
        except (OSError, ValueError) as error:
            broken[path] = describe(path, error)
            files.append(None)
    return [[view_key(key, view) if key and is_wanted else None
             for key, is_wanted in zip(files, row, strict=True)]
            for view, row in zip(views, wanted, strict=True)]


def view_key(file_key, view):
    """Return 16 bytes that differ per image_key of a file, and per View of it."""
    text = repr(tuple(view)).encode()
    return hashlib.blake2b(text, key=file_key, digest_size=KEY_BYTES).digest()


def find_missing(store, parts, keys):
    """Return {path: {key: View}} of features that a store lacks."""
    missing = {}
    for (image_list, views, _), part_keys in zip(parts, keys, strict=True):
        for view, row_keys in zip(views, part_keys, strict=True):
            for path, key in zip(image_list.paths, row_keys, strict=True):
                if key and key not in store.rows:
                    missing.setdefault(path, {})[key] = view
    return missing
