"""What the frozen layers compute, computed once an image and kept on disk, to be fed where the trained layers begin."""

import hashlib
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from filelock import FileLock, Timeout

import alexnet
from alexnet import LAYERS, tf
from checks import KEY_BYTES, image_key
from datagenerator import load_ahead, map_ahead
from images import decoder_key, describe
from lists import BrokenImages

FED_AT = {'fc6': 'pool5', 'fc7': 'fc6', 'fc8': 'fc7'}  # first trained layer: the output that it sees
IMAGES_A_RUN = 128     # images that go through the frozen layers at once
ROWS_A_COMMIT = 256   # rows after which what is stored so far is made to last
SPARE_BYTES = 1 << 30  # left free on the disk


def feature_output(trained):
    """Return the name of the output whose values can be stored if the layers `trained` are trained, or None."""
    return FED_AT.get(next(layer for layer in LAYERS if layer in trained))


def network_key(session, model, output, precision):
    """Return text that differs whenever `output` could: for other weights, preprocessing, precision or libraries."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    with open(alexnet.__file__, 'rb') as code:  # an edit of the network, or of how a file is read, is another network
        digest.update(code.read())
    digest.update(f'{precision} {tf.__version__} {decoder_key()}'.encode())
    computed = LAYERS[:5] if output == 'pool5' else LAYERS[:LAYERS.index(output) + 1]
    for values in session.run([model.variables[layer] for layer in computed]):
        for value in values:
            digest.update(np.ascontiguousarray(value))
    return f'{output}-{digest.hexdigest()}'


class NoRoom(ValueError):
    """The disk has no room for the features."""


class FeatureStore:
    """A folder with `features`, float32 rows of `width` values, and `keys`, 16 bytes for the image of each row.

    Both files only grow. Rows are written and flushed to the disk before their keys, so what a killed process leaves
    half-done is a row without a key, or a part of one, and the next process cuts it off. Use it as a context manager:
    one process at a time has the folder open, others wait until it ends.
    """

    def __init__(self, folder, width):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.width = folder, width
        self.lock = FileLock(os.path.join(folder, 'lock'))

    def __enter__(self):
        try:
            self.lock.acquire(timeout=1)
        except Timeout:
            print(f'{self.folder} is in use by another process: waiting for it to end', file=sys.stderr)
            self.lock.acquire()
        self.features, self.keys = (open(os.path.join(self.folder, name), 'a+b') for name in ('features', 'keys'))
        self.count = min(self.keys.tell() // KEY_BYTES, self.features.tell() // (4 * self.width))
        self.features.truncate(self.count * 4 * self.width)
        self.keys.truncate(self.count * KEY_BYTES)
        self.keys.seek(0)
        content = self.keys.read()
        self.rows = {content[row * KEY_BYTES:(row + 1) * KEY_BYTES]: row for row in range(self.count)}
        self.pending = []
        return self

    def __exit__(self, kind, error, trace):
        with self.lock, self.keys, self.features:  # closed and released in this order's reverse, whatever happens
            self.lock.release()
            if not (kind and issubclass(kind, OSError)):  # a full disk stays full
                self.commit()

    def append(self, keys, features):
        """Store the rows of some images: as many keys, and float32 [n, width]."""
        self.features.write(features)
        self.pending += keys
        if len(self.pending) >= ROWS_A_COMMIT:
            self.commit()

    def commit(self):
        """Make the appended rows last, then their keys."""
        for file, content in ((self.features, b''), (self.keys, b''.join(self.pending))):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.rows.update({key: self.count + n for n, key in enumerate(self.pending)})
        self.count += len(self.pending)
        self.pending = []

    def check_room(self, count, share):
        """Raise NoRoom if `count` more rows do not fit into this share of the free disk space."""
        if not count:
            return
        needed, free = count * (4 * self.width + KEY_BYTES), shutil.disk_usage(self.folder).free
        if needed > (free - SPARE_BYTES) * share:
            raise NoRoom(f'{count:,} features need {needed / 1e9:.1f} GB in {self.folder}, where {free / 1e9:.1f} '
                         'GB are free: make room, set cache_dir to another disk, or cache_features to off')

    def read(self):
        """Return all rows, float32 [n, width], mapped from the disk, not read."""
        return np.memmap(os.path.join(self.folder, 'features'), np.float32, 'r', shape=(self.count, self.width))


class StoredBatches:
    """The passes of an ImageDataGenerator, same order, same flips, with stored features in place of images.

    array: float32 [rows, ...]. rows: int64 [2, n], where in it each image of the generator's list is, as it is
    and mirrored.
    """

    VALIDATION_BATCH = 1024  # features are a seventeenth of an image, or less

    def __init__(self, generator, array, rows):
        self.generator, self.array, self.rows = generator, array, rows
        self.data_size, self.start_epoch = generator.data_size, generator.start_epoch

    def batches(self, batch_size):
        """Yield what is left of this pass: features, float32 [n, ...], and one-hot labels; reads one batch ahead."""
        starts = range(self.generator.pointer, self.data_size, batch_size)
        with ThreadPoolExecutor(1) as pool:
            yield from map_ahead(self.read, (self.generator.next_indices(batch_size) for _ in starts), pool, ahead=1)

    def read(self, indices):
        """Return the features and labels at positions in the list."""
        rows = self.rows[self.generator.flipped[indices].astype(int), indices]
        return self.array[rows], self.generator.one_hot(indices)


def store_batches(session, model, output, generators, folder, share, num_threads, progress):
    """Return the StoredBatches of ImageDataGenerators, after storing what is missing; raises as store_features."""
    start = time.monotonic()
    parts = [(generator.image_list, generator.horizontal_flip) for generator in generators]
    array, rows, computed = store_features(session, model, output, parts, folder, share, num_threads, progress)
    print(f'{output} of {sum(part.size for part in rows):,} images, {computed:,} of them computed now '
          f'({computed / (time.monotonic() - start):.0f} images/s), is stored in {folder}, {array.nbytes / 1e6:,.0f} MB')
    return [StoredBatches(generator, array, part_rows) for generator, part_rows in zip(generators, rows)]


def store_features(session, model, output, parts, folder, share, num_threads, progress):
    """Compute what `folder` lacks of the values of `output` for the images of some lists.

    parts: pairs (ImageList, whether mirrored images are wanted too). share: of the free disk space that may be used.
    progress: wraps an iterable and shows how far it is. Returns (array, [rows of each part]) as StoredBatches takes
    them, and the number of features computed. Raises BrokenImages naming every missing or unreadable image, after
    storing the others; NoRoom, a ValueError, before it computes; OSError if the disk is full all the same.
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
        broken.update(compute_features(session, model, output, missing, store, num_threads, progress))
        if broken:
            raise BrokenImages([image_list for image_list, _ in parts], broken)
        rows = [np.array([[store.rows[key] for key in row_keys] for row_keys in part_keys]) for part_keys in keys]
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


def compute_features(session, model, output, missing, store, num_threads, progress):
    """Store `output` for the images of `missing`, {path: {key: mirrored}}; decodes while the network computes.

    Returns {path: what is wrong} of those that can't be read.
    """
    broken, keys, pixels = {}, [], []

    def run():
        features = session.run(model.outputs[output], {model.x: np.stack(pixels)})
        store.append(keys.copy(), features.reshape(len(keys), -1))
        keys.clear()
        pixels.clear()
    for path, image in progress(zip(missing, load_ahead(missing, num_threads, ahead=2 * IMAGES_A_RUN)), len(missing)):
        if isinstance(image, ValueError):
            broken[path] = str(image)
            continue
        for key, mirrored in missing[path].items():
            keys.append(key)
            pixels.append(image[:, ::-1] if mirrored else image)
        if len(pixels) >= IMAGES_A_RUN:
            run()
    if pixels:
        run()
    store.commit()
    return broken
