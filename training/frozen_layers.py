"""Images through the frozen layers, once, into a store of features."""

import cv2
import numpy as np

from alexnet import IMAGE_SIZE
from inputs.batches import load_batches

IMAGES_PER_RUN = 128  # images that go through the frozen layers at once


def compute_features(store, missing, load, compute, num_threads, progress, broken):
    """Compute and store the features of images, decoding the next ones meanwhile.

    missing: {path: {key: whether it is the mirror image's}}. Others: see store_features.
    """
    paths, errors = list(missing), {}
    batches = group_by_rows(missing)
    for positions, pixels in load_batches(
            batches, load, (IMAGE_SIZE, IMAGE_SIZE, 3), errors, num_threads, progress):
        keys, rows = with_mirror_images(
            [missing[paths[position]] for position in positions], pixels)
        if keys:
            store.append(keys, compute(rows))
    store.commit()
    broken.update({paths[position]: message for position, message in errors.items()})


def group_by_rows(missing):
    """Return lists of paths, each of which needs IMAGES_PER_RUN rows of features or one more."""
    groups, rows = [], IMAGES_PER_RUN
    for path, wanted in missing.items():
        if rows >= IMAGES_PER_RUN:
            groups.append([])
            rows = 0
        groups[-1].append(path)
        rows += len(wanted)
    return groups


def with_mirror_images(wanted, pixels):
    """Return (keys, pixels) with a row per key, in the order of the images.

    wanted: {key: whether it is the mirror image's} per image. pixels: uint8 [n, height, width, 3].
    """
    keys = [key for keys in wanted for key in keys]
    rows = np.empty((len(keys), *pixels.shape[1:]), np.uint8)
    row = 0
    for image, keys_of_image in zip(pixels, wanted, strict=True):
        for mirrored in keys_of_image.values():
            if mirrored:
                cv2.flip(image, 1, dst=rows[row])
            else:
                rows[row] = image
            row += 1
    return keys, rows
