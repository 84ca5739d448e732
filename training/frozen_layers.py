"""Images through the frozen layers, once, into a store of features."""

import itertools
from concurrent.futures import ThreadPoolExecutor

from inputs.batches import load_batches, split
from inputs.images import load_views
from inputs.prefetch import prefetch_map

ROWS_PER_RUN = 64  # that go through the frozen layers at once, if each image has fewer views
RUNS_AT_ONCE = 2  # while one waits for the slowest of its threads, the other one computes


def compute_features(store, missing, compute, num_threads, progress, broken):
    """Compute and store the features of images, decoding the next ones meanwhile.

    store: an open FeatureStore.
    missing: {path: {key: View}}, all views of one size and one scale_size.
    Others: see store_features; compute is called in threads.
    """
    def load(path, out):
        return load_views(path, tuple(missing[path].values()), out)

    def run(batch):
        positions, pixels = batch
        return positions, compute(pixels.reshape(-1, *pixels.shape[2:]))
    done = iter(progress(range(len(missing)), len(missing)))
    for num_views, paths in group_by_number_of_views(missing).items():
        height_and_width, errors = next(iter(missing[paths[0]].values())).size[::-1], {}
        batches = load_batches(
            split(paths, max(1, ROWS_PER_RUN // num_views)), load,
            (num_views, *height_and_width, 3), errors, num_threads,
            lambda results, count: itertools.islice(done, count))
        readable = (batch for batch in batches if len(batch[0]))
        with ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
            for positions, features in prefetch_map(run, readable, pool, ahead=RUNS_AT_ONCE):
                store.append([key for n in positions for key in missing[paths[n]]], features)
        broken.update({paths[position]: message for position, message in errors.items()})
    next(done, None)  # ends the progress bar
    store.commit()


def group_by_number_of_views(missing):
    """Return {number of views: paths}, so that the images of a batch have as many."""
    groups = {}
    for path, wanted in missing.items():
        groups.setdefault(len(wanted), []).append(path)
    return groups
