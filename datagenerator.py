"""From list files to image batches: reads lists, turns an image file into numbers, decodes ahead of the network."""

import os
import struct
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np

IMAGENET_MEAN = np.array([104., 117., 124.], np.float32)  # blue, green, red; what Caffe's AlexNet subtracts
SHOWN_ERRORS = 20
JPEG_HEADER_BYTES = 1 << 18  # where its size is looked for: behind a camera's notes and preview


class ImageList(NamedTuple):
    """The lines of a list file: `paths` [n] str, `labels` int32 [n], `lines` int32 [n], 1-based; `file` its name."""

    file: str
    paths: list
    labels: np.ndarray
    lines: np.ndarray


def read_list(list_file, class_names=None):
    """Return the ImageList of a file with an image a line: path, blanks or tab, label.

    The label is what follows the last blank: a 0-based integer, or one of `class_names`. UTF-8 with or without BOM,
    any line end; blank lines and lines that begin with '# ' are skipped; relative paths start at the list's folder.
    Raises ValueError with every line that has no path, or a label that is neither; OSError for a missing file.
    """
    class_numbers = {name: number for number, name in enumerate(class_names or ())}
    folder = os.path.dirname(list_file)
    paths, labels, lines, errors = [], [], [], []
    with open(list_file, encoding='utf-8-sig', errors='surrogateescape') as file:
        for number, line in enumerate(file, 1):
            parts = line.rsplit(maxsplit=1)
            if not parts or line.startswith('# '):
                continue
            label = read_label(parts[1], class_numbers) if len(parts) == 2 else None
            if label is None:
                errors.append(f'{list_file}:{number}: {describe_bad_line(parts, class_names)}')
                continue
            paths.append(os.path.join(folder, parts[0].strip()))
            labels.append(label)
            lines.append(number)
    if not paths and not errors:
        errors.append(f'{list_file}: no image is listed; a line is a path, a blank and a label')
    raise_all(errors)
    return ImageList(list_file, paths, np.array(labels, np.int32), np.array(lines, np.int32))


def read_label(text, class_numbers):
    """Return the class number that `text` means, or None."""
    if text.isascii() and text.isdigit() and len(text) < 9:
        return int(text)
    return class_numbers.get(text)


def describe_bad_line(parts, class_names):
    """Return what is wrong with a line of a list that has no path, or no label."""
    if len(parts) == 1:
        return f'"{printable(parts[0])}" needs an image path, a blank and a label'
    known = 'a 0-based class number' + (' or one of the names in labels_file' if class_names else '')
    return f'label "{printable(parts[1])}" is not {known}'


def printable(text, limit=80):
    """Return text from a file fit for the screen: no control characters, not endless."""
    return ascii(text[:limit])[1:-1] if not text.isprintable() else text[:limit]


def raise_all(errors):
    """Raise one ValueError with the first errors and the count of all; do nothing if there are none."""
    if len(errors) > SHOWN_ERRORS:
        errors = errors[:SHOWN_ERRORS] + [f'... {len(errors)} such lines in all']
    if errors:
        raise ValueError('\n'.join(errors))


def read_class_names(labels_file):
    """Return the class names of a file with one a line, in the order of their numbers; raises ValueError if empty."""
    with open(labels_file, encoding='utf-8-sig', errors='surrogateescape') as file:
        names = [line.strip() for line in file]
    while names and not names[-1]:
        names.pop()
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not names or repeated:
        raise ValueError(f'{labels_file}: ' + (f'{", ".join(repeated)} more than once' if names else 'no class name'))
    return names


def check_labels(image_list, num_classes):
    """Raise ValueError naming every line whose label is not below `num_classes`."""
    wrong = np.flatnonzero(image_list.labels >= num_classes)
    raise_all([f'{image_list.file}:{image_list.lines[i]}: label {image_list.labels[i]}, but there are {num_classes} '
               f'classes, 0 to {num_classes - 1}' for i in wrong])


def first_places(image_lists):
    """Return {path: 'list:line'} of the first line that names each file."""
    places = {}
    for image_list in image_lists:
        for path, line in zip(image_list.paths, image_list.lines):
            places.setdefault(path, f'{image_list.file}:{line}')
    return places


def check_images(image_lists, num_threads=None, progress=lambda images, count: images):
    """Decode every listed file once; raises ValueError naming list and line of each that can't be read."""
    places = first_places(image_lists)
    images = progress(load_ahead(places, num_threads, ahead=64), len(places))
    raise_all([f'{place}: {image}' for place, image in zip(places.values(), images) if isinstance(image, ValueError)])


def load_ahead(paths, num_threads, ahead):
    """Yield load_image of each path, or the ValueError it raised, decoded in threads at most `ahead` images early."""
    def load(path):
        try:
            return load_image(path)
        except ValueError as error:
            return error
    with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        yield from map_ahead(load, paths, pool, ahead)


def load_image(path, scale_size=(227, 227), mean=IMAGENET_MEAN):
    """Return what the network sees of an image file: float32 [height, width, 3], BGR, 0..255 minus `mean`.

    The whole picture is scaled to scale_size = (width, height), by area if it shrinks, else linearly.
    Raises ValueError if the file can't be read as an image.
    """
    try:
        content = np.fromfile(path, np.uint8)
        image = cv2.imdecode(content, decoding_flag(content.tobytes()[:JPEG_HEADER_BYTES], scale_size))
    except (OSError, cv2.error):
        image = None
    if image is None:
        reason = 'is not a picture that OpenCV can read' if os.path.isfile(path) else 'does not exist'
        raise ValueError(f'{printable(path, 4096)} {reason}')
    shrinks = image.shape[1] >= scale_size[0] and image.shape[0] >= scale_size[1]
    image = cv2.resize(image, scale_size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return image - mean


def decoding_flag(header, scale_size):
    """Return OpenCV's flag for colour, at 1/2, 1/4 or 1/8 scale for JPEGs much larger than scale_size.

    The decoder then skips most of its work. At least twice scale_size is kept on both sides, so that scaling the rest
    by area gives nearly the same: on photos a mean difference of less than 1 of 255, less than 3 on the worst.
    """
    sides = jpeg_size(header) or (0, 0)
    room = min(side // (2 * wanted) for side, wanted in zip(sorted(sides), sorted(scale_size)))
    for factor, flag in ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4),
                         (2, cv2.IMREAD_REDUCED_COLOR_2)):
        if room >= factor:
            return flag
    return cv2.IMREAD_COLOR


def jpeg_size(header):
    """Return (height, width) from the first bytes of a JPEG file, None for other content (ITU-T T.81, annex B)."""
    position = 2
    while header[:2] == b'\xff\xd8' and position + 9 <= len(header) and header[position] == 0xff:
        marker = header[position + 1]
        if 0xc0 <= marker <= 0xcf and marker not in (0xc4, 0xc8, 0xcc):  # a frame header
            return struct.unpack('>HH', header[position + 5:position + 9])
        position += 1 if marker == 0xff else 2 + int.from_bytes(header[position + 2:position + 4], 'big')
    return None


def map_ahead(function, items, pool, ahead):
    """Yield function(item) for each item, in order, computed in the pool's threads at most `ahead` items early.

    What a function raises is raised here, at its item's turn.
    """
    pending = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


class ImageDataGenerator:
    """Batches of images and one-hot labels from a list file, one pass over the list after the other.

    class_list: a list file, or the ImageList read from one. nb_classes: length of the one-hot labels.
    horizontal_flip: mirror each image, in each pass, with probability 1/2. shuffle: new order for each pass.
    seed: order and flips depend on it and on the number of the pass alone; None draws one.
    num_threads: threads that decode; None takes one a core. They work at most a batch ahead.
    """

    def __init__(self, class_list, horizontal_flip=False, shuffle=False, mean=IMAGENET_MEAN, scale_size=(227, 227),
                 nb_classes=2, *, seed=None, num_threads=None):
        image_list = class_list if isinstance(class_list, ImageList) else read_list(class_list)
        check_labels(image_list, nb_classes)
        self.images, self.labels = image_list.paths, image_list.labels
        self.horizontal_flip, self.shuffle = horizontal_flip, shuffle
        self.mean, self.scale_size, self.n_classes = np.asarray(mean, np.float32), tuple(scale_size), nb_classes
        self.seed = int(np.random.SeedSequence().entropy) if seed is None else seed
        self.data_size = len(self.images)
        self.epoch = -1
        self.pool = ThreadPoolExecutor(num_threads or os.cpu_count(), thread_name_prefix='decode')
        self.reset_pointer()

    def reset_pointer(self):
        """Begin the next pass over the list."""
        self.start_epoch(self.epoch + 1)

    def start_epoch(self, epoch):
        """Begin the pass with this number, 0 being the first; its order and flips are the same whenever it is run."""
        self.epoch, self.pointer = epoch, 0
        self.order = np.arange(self.data_size)
        random = np.random.default_rng([self.seed, epoch])
        self.flipped = random.random(self.data_size) < (0.5 if self.horizontal_flip else 0)
        if self.shuffle:
            random.shuffle(self.order)
        self.stop_loading()

    def shuffle_data(self):
        """Put the list into another random order, and begin the pass again."""
        np.random.default_rng([self.seed, self.epoch, 1]).shuffle(self.order)
        self.pointer = 0
        self.stop_loading()

    def stop_loading(self):
        """Give up images that were being loaded for an order that no longer holds."""
        if getattr(self, 'loading', None) is not None:
            self.loading.close()
        self.loading = None

    def next_indices(self, batch_size):
        """Return the positions in the list of the next at most `batch_size` images of this pass, int64 [n]."""
        indices = self.order[self.pointer:self.pointer + batch_size]
        self.pointer += len(indices)
        return indices

    def next_batch(self, batch_size):
        """Return the next images, float32 [n, height, width, 3], and labels, one-hot float32 [n, nb_classes].

        n is batch_size, or what is left of the pass. Raises ValueError after its end, and for an unreadable image.
        """
        start, indices = self.pointer, self.next_indices(batch_size)
        if not len(indices):
            raise ValueError(f'all {self.data_size} images of this pass are read: call reset_pointer()')
        if self.loading is None:
            self.loading = map_ahead(self.load, self.order[start:], self.pool, ahead=batch_size)
        images = np.empty((len(indices), self.scale_size[1], self.scale_size[0], 3), np.float32)
        for row in range(len(indices)):
            images[row] = next(self.loading)
        return images, self.one_hot(indices)

    def load(self, index):
        """Return the image at a position in the list, mirrored if this pass mirrors it."""
        image = load_image(self.images[index], self.scale_size, self.mean)
        return image[:, ::-1] if self.flipped[index] else image

    def one_hot(self, indices):
        """Return the labels at positions in the list as float32 [n, nb_classes]."""
        labels = np.zeros((len(indices), self.n_classes), np.float32)
        labels[np.arange(len(indices)), self.labels[indices]] = 1
        return labels

    def batches(self, batch_size):
        """Yield what is left of this pass, batch by batch."""
        while self.pointer < self.data_size:
            yield self.next_batch(batch_size)
