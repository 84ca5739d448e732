"""Images through the frozen layers, once, into a store of features."""

import functools

from inputs.batches import load_batches, split
from inputs.images import load_views

ROWS_PER_RUN = 128  # that go through the frozen layers at once, if each image has fewer views


def compute_features(store, missing, compute, num_threads, progress, broken):
    """Compute and store the features of images, decoding the next ones meanwhile.

    missing: {path: {key: View}}. Others: see store_features.
    """
    for views, keys in group_by_views(missing).items():
        paths, errors = list(keys), {}
        height_and_width = views[0].size[::-1]
        for positions, pixels in load_batches(
                split(paths, max(1, ROWS_PER_RUN // len(views))),
                functools.partial(load_views, views=views), (len(views), *height_and_width, 3),
                errors, num_threads, progress):
            if len(positions):
                features = compute(pixels.reshape(-1, *pixels.shape[2:]))
                store.append([key for n in positions for key in keys[paths[n]]], features)
        broken.update({paths[position]: message for position, message in errors.items()})
    store.commit()


def group_by_views(missing):
    """Return {views: {path: keys of these views}}, so that all images of a group are alike."""
    groups = {}
    for path, wanted in missing.items():
        groups.setdefault(tuple(wanted.values()), {})[path] = list(wanted)
    return groups
