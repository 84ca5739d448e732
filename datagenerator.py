"""Batches of images for the network, from list files, decoded in threads ahead of their use."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from inputs.batches import prefetch_batches, split
from inputs.images import IMAGENET_MEAN, load_views
from inputs.lists import ImageList, check_labels, read_list
from inputs.views import View, central_view, with_mirror_images


class EpochOrder(NamedTuple):
    """The random choices of an epoch."""

    order: np.ndarray  # int64 [n], positions in the list in the order of the epoch
    views: np.ndarray  # int64 [n], by position: the number of the view that is taken


def draw_epoch(seed: int, epoch: int, size: int, shuffle: bool, num_views: int) -> EpochOrder:
    """Draw the EpochOrder of an epoch from nothing but these values.

    seed: of the run.
    epoch: number of the epoch, from 0.
    size: number of images in the list.
    shuffle: draw an order; False: the order of the list.
    num_views: views of an image, each of which is taken with the same probability.
    """
    random = np.random.default_rng([seed, epoch])
    # Of two views, numbers below 1/2 draw the mirror image, as in the runs of older versions.
    views = num_views - 1 - (num_views * random.random(size)).astype(int)
    order = np.arange(size)
    if shuffle:
        random.shuffle(order)
    return EpochOrder(order, views)


class ImageDataGenerator:
    """Batches of images and one-hot labels from a list file, epoch after epoch.

    class_list: a list file, or its ImageList.
    horizontal_flip: in each epoch, take the mirror image with probability 1/2.
    shuffle: draw a new order in each epoch.
    mean: float32 [3], BGR, subtracted from each pixel.
    scale_size: (width, height) that whole pictures are scaled to.
    nb_classes: length of the one-hot labels.
    views: of each image, one of which is drawn in each epoch; None: the whole picture in
        scale_size and, with horizontal_flip, its mirror image.
    all_views: take all views of each image instead, one after the other, as rows of the batch.
    seed: decides, with the number of the epoch, all that is drawn; None: a seed is drawn.
    num_threads: threads that decode, a few batches ahead; None: one per core.
    shard: (index, count). All workers draw the same batches; this one yields the images of each
        batch whose list position modulo count is index. That may be none.

    Raises ValueError naming every line with a label that is not below nb_classes.
    """

    def __init__(self, class_list: str | ImageList, horizontal_flip: bool = False,
                 shuffle: bool = False, mean: Sequence[float] = IMAGENET_MEAN,
                 scale_size: Sequence[int] = (227, 227), nb_classes: int = 2, *,
                 views: Sequence[View] | None = None, all_views: bool = False,
                 seed: int | None = None, num_threads: int | None = None,
                 shard: tuple[int, int] = (0, 1)):
        image_list = class_list if isinstance(class_list, ImageList) else read_list(class_list)
        check_labels(image_list, nb_classes)
        self.image_list, self.images, self.labels = image_list, image_list.paths, image_list.labels
        self.data_size, self.n_classes = len(self.images), nb_classes
        self.shuffle, self.mean = shuffle, np.asarray(mean, np.float32)
        self.views = tuple(views or whole_picture(scale_size, horizontal_flip))
        self.all_views, self.rows_per_image = all_views, len(self.views) if all_views else 1
        self.seed = int(np.random.SeedSequence().entropy) if seed is None else seed
        self.shard = shard
        self.eval_batch_size = 256  # rows per batch where no training step follows
        self.pool = ThreadPoolExecutor(num_threads or os.cpu_count(), thread_name_prefix='decode')
        self.prefetched, self.prefetched_size = None, 0
        self.start_epoch(0)

    def start_epoch(self, epoch: int, pointer: int = 0) -> None:
        """Begin an epoch, counted from 0, after its first `pointer` images.

        An epoch is the same however often, and in whatever order, epochs are started.
        """
        self.epoch, self.pointer = epoch, pointer
        self.epoch_order = draw_epoch(
            self.seed, epoch, self.data_size, self.shuffle, len(self.views))
        self.cancel_prefetch()

    def reset_pointer(self) -> None:
        """Begin the next epoch."""
        self.start_epoch(self.epoch + 1)

    def shuffle_data(self) -> None:
        """Shuffle the list once more, and begin the epoch again."""
        order = self.epoch_order.order.copy()
        np.random.default_rng([self.seed, self.epoch, 1]).shuffle(order)
        self.epoch_order, self.pointer = self.epoch_order._replace(order=order), 0
        self.cancel_prefetch()

    def cancel_prefetch(self) -> None:
        """Cancel the loading of images for an order that is no longer valid."""
        if self.prefetched is not None:
            self.prefetched.close()
        self.prefetched = None

    def take_indices(self, batch_size: int) -> np.ndarray:
        """Move on by a batch; return the list positions of its images in this shard, int64 [n]."""
        indices = self.epoch_order.order[self.pointer:self.pointer + batch_size]
        self.pointer += len(indices)
        return self.in_shard(indices)

    def in_shard(self, indices: np.ndarray) -> np.ndarray:
        """Return the list positions that belong to this shard."""
        index, count = self.shard
        return indices[indices % count == index]

    def drawn_views(self, num_epochs: int) -> np.ndarray:
        """Return which views of this shard's images the first epochs take, bool [views, n]."""
        positions = np.arange(self.data_size)
        drawn = np.full((len(self.views), self.data_size), self.all_views)
        for epoch in range(num_epochs):
            if drawn.all():
                break
            order = draw_epoch(self.seed, epoch, self.data_size, False, len(self.views))
            drawn[order.views, positions] = True
        return drawn[:, self.in_shard(positions)]

    def next_batch(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the next batch: images minus the mean, float32, and one-hot labels.

        Shapes and errors: as in next_pixels.
        """
        pixels, labels = self.next_pixels(batch_size)
        return pixels - self.mean, labels

    def next_pixels(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the next batch: pixels, uint8 [rows, height, width, 3], and one-hot labels.

        labels: float32 [n, nb_classes]. n is batch_size, or the rest of the epoch; with several
        shards, the part in this one. rows is n, or n times the number of views with all_views.
        Raises ValueError after the end of the epoch, and for an image that cannot be read.
        """
        if self.pointer >= self.data_size:
            raise ValueError(f'all {self.data_size} images of this epoch are read: '
                             'call reset_pointer()')
        if batch_size != self.prefetched_size or self.prefetched is None:
            self.prefetch(batch_size)
        indices = self.take_indices(batch_size)
        pixels, errors = next(self.prefetched)
        if errors:
            self.cancel_prefetch()
            raise errors[min(errors)]
        return pixels.reshape(-1, *pixels.shape[2:]), self.one_hot(indices)

    def prefetch(self, batch_size):
        """Start to load the rest of the epoch in batches."""
        self.cancel_prefetch()
        rest = self.epoch_order.order[self.pointer:]
        batches = map(self.in_shard, split(rest, batch_size))
        self.prefetched_size = batch_size
        shape = self.rows_per_image, *self.views[0].size[::-1], 3
        self.prefetched = prefetch_batches(
            self.load_views, batches, shape, self.pool, batch_size)

    def batches(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rest of the epoch, batch by batch, as next_pixels returns it."""
        while self.pointer < self.data_size:
            yield self.next_pixels(batch_size)

    def load_views(self, index: int, out: np.ndarray | None = None) -> np.ndarray:
        """Return the views of the image at a list position that this epoch takes.

        out: uint8 [views, height, width, 3], receives them and is returned; None: a new array.
        """
        views = self.views if self.all_views else [self.views[self.epoch_order.views[index]]]
        return load_views(self.images[index], views, out)

    def one_hot(self, indices: np.ndarray) -> np.ndarray:
        """Return the labels at list positions, float32 [n, nb_classes]."""
        labels = np.zeros((len(indices), self.n_classes), np.float32)
        labels[np.arange(len(indices)), self.labels[indices]] = 1
        return labels


def whole_picture(scale_size, horizontal_flip):
    """Return the View of a whole picture scaled to (width, height) and, if wanted, its mirror."""
    view = central_view(scale_size, scale_size)
    return with_mirror_images([view]) if horizontal_flip else (view,)
