"""Batches of images for the network, decoded in threads ahead of it, from lists of image files."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from inputs.images import IMAGENET_MEAN, load_image
from inputs.lists import ImageList, check_labels, read_list
from inputs.prefetch import prefetch_map


class ImageDataGenerator:
    """Batches of images and one-hot labels from a list file, one pass over the list after the other.

    class_list: a list file, or the ImageList read from one. nb_classes: length of the one-hot labels.
    horizontal_flip: mirror each image, in each pass, with probability 1/2. shuffle: new order for each pass.
    crop_size: (width, height) to cut out of the scaled image, anywhere if random_crop, else at its centre; None: all.
    seed: order, flips and crops depend on it and on the number of the pass alone; None draws one.
    num_threads: threads that decode; None takes one a core. They work at most a batch ahead.
    share: (worker, workers); order and batches are those of the whole list, and of each batch comes what belongs to
    ImageList.share of this worker, down to no image.
    """

    eval_batch_size = 256  # images at once where no training step follows

    def __init__(self, class_list, horizontal_flip=False, shuffle=False, mean=IMAGENET_MEAN, scale_size=(227, 227),
                 nb_classes=2, *, crop_size=None, random_crop=False, seed=None, num_threads=None,
                 share=(0, 1)):
        image_list = class_list if isinstance(class_list, ImageList) else read_list(class_list)
        check_labels(image_list, nb_classes)
        self.image_list, self.images, self.labels = image_list, image_list.paths, image_list.labels
        self.horizontal_flip, self.shuffle = horizontal_flip, shuffle
        self.mean, self.scale_size, self.n_classes = np.asarray(mean, np.float32), tuple(scale_size), nb_classes
        self.crop_size, self.random_crop = tuple(crop_size or scale_size), random_crop
        self.seed = int(np.random.SeedSequence().entropy) if seed is None else seed
        self.data_size, self.share = len(self.images), share
        self.epoch = -1
        self.pool = ThreadPoolExecutor(num_threads or os.cpu_count(), thread_name_prefix='decode')
        self.reset_pointer()

    def reset_pointer(self):
        """Begin the next pass over the list."""
        self.start_epoch(self.epoch + 1)

    def start_epoch(self, epoch, pointer=0):
        """Begin the pass with this number, 0 being the first, after its first `pointer` images.

        Its order and flips are the same whenever it is run.
        """
        self.epoch, self.pointer = epoch, pointer
        self.order = np.arange(self.data_size)
        random = np.random.default_rng([self.seed, epoch])
        self.flipped = random.random(self.data_size) < (0.5 if self.horizontal_flip else 0)
        if self.shuffle:
            random.shuffle(self.order)
        room = self.max_crop_offset()
        self.corners = random.integers(0, room + 1, (self.data_size, 2)) if self.random_crop else None
        self.cancel_prefetch()

    def max_crop_offset(self):
        """Return how far down and to the right the crop could begin in the scaled image, in pixels, int64 [2]."""
        return np.array(self.scale_size[::-1]) - self.crop_size[::-1]

    def shuffle_data(self):
        """Put the list into another random order, and begin the pass again."""
        np.random.default_rng([self.seed, self.epoch, 1]).shuffle(self.order)
        self.pointer = 0
        self.cancel_prefetch()

    def cancel_prefetch(self):
        """Give up images that were being loaded for an order that no longer holds."""
        if getattr(self, 'prefetched', None) is not None:
            self.prefetched.close()
        self.prefetched = None

    def take_indices(self, batch_size):
        """Return the positions in the list of the next at most `batch_size` images of this pass, int64 [n].

        Of a batch that is shared, those of this worker.
        """
        indices = self.order[self.pointer:self.pointer + batch_size]
        self.pointer += len(indices)
        return self.in_shard(indices)

    def in_shard(self, indices):
        """Return those of the positions in the list that belong to this worker."""
        worker, workers = self.share
        return indices[indices % workers == worker]

    def next_batch(self, batch_size):
        """Return the next images, float32 [n, height, width, 3], and labels, one-hot float32 [n, nb_classes].

        n is batch_size, or what is left of the pass; of these, this worker's share. Raises ValueError after the end of
        the pass, and for an unreadable image.
        """
        start, indices = self.pointer, self.take_indices(batch_size)
        if start >= self.data_size:
            raise ValueError(f'all {self.data_size} images of this pass are read: call reset_pointer()')
        if self.prefetched is None:
            self.prefetched = prefetch_map(self.load, self.in_shard(self.order[start:]), self.pool,
                                     ahead=-(-batch_size // self.share[1]))
        images = np.empty((len(indices), self.crop_size[1], self.crop_size[0], 3), np.float32)
        for row in range(len(indices)):
            images[row] = next(self.prefetched)
        return images, self.one_hot(indices)

    def load(self, index):
        """Return the image at a position in the list, cut and mirrored as this pass has it."""
        image = self.load_unflipped(self.images[index], None if self.corners is None else self.corners[index])
        return image[:, ::-1] if self.flipped[index] else image

    def load_unflipped(self, path, corner=None):
        """Return the image of a file, not mirrored, cut at `corner` = (top, left), else at the centre."""
        top, left = self.max_crop_offset() // 2 if corner is None else corner
        image = load_image(path, self.scale_size, self.mean)
        return image[top:top + self.crop_size[1], left:left + self.crop_size[0]]

    def one_hot(self, indices):
        """Return the labels at positions in the list as float32 [n, nb_classes]."""
        labels = np.zeros((len(indices), self.n_classes), np.float32)
        labels[np.arange(len(indices)), self.labels[indices]] = 1
        return labels

    def batches(self, batch_size):
        """Yield what is left of this pass, batch by batch."""
        while self.pointer < self.data_size:
            yield self.next_batch(batch_size)


