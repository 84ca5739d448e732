import shutil

import numpy as np

from inputs.views import views_of
from training.feature_store import FeatureStore
from training.frozen_layers import compute_features


def no_progress(results, count):
    """Return the results."""
    return results


def test_many_views_go_through_in_batches_of_so_many_rows(picture_folder, tmp_path):
    """A batch is 6 images with 10 views; those of broken images alone are not computed."""
    views, rows, broken = views_of('crops', True), [], {}
    gone = [str(tmp_path / f'{n}.png') for n in range(12)]
    last = shutil.copy(picture_folder / '05.png', tmp_path / 'last.png')
    paths = [*gone, *(str(picture_folder / f'{n:02d}.png') for n in range(12)), str(last)]
    keys = {path: [f'{n:03d} {m:012d}'.encode() for m in range(10)] for n, path in enumerate(paths)}

    def compute(pixels):
        rows.append(len(pixels))
        return pixels[:, 0, 0, :1].astype(np.float32)
    with FeatureStore(str(tmp_path / 'store'), 1) as store:
        missing = {path: dict(zip(keys[path], views, strict=True)) for path in paths}
        compute_features(store, missing, compute, 2, no_progress, broken)
        assert sorted(rows) == [10, 60, 60] and set(broken) == set(gone)
        blue = store.read()[:, 0]  # 20 times the number of the picture
        found = [blue[[store.rows[key] for key in keys[path]]].tolist() for path in paths[12:]]
    assert found == [[20 * n] * 10 for n in (*range(12), 5)]


def test_images_that_lack_different_views_are_all_computed(picture_folder, tmp_path):
    views, shapes = views_of('whole', True), []
    paths = [str(picture_folder / f'{n:02d}.png') for n in range(3)]
    lacking = {b'a': views[0], b'b': views[1]}, {b'c': views[1]}, {b'd': views[0], b'e': views[1]}
    missing = {path: {16 * key: view for key, view in wanted.items()}
               for path, wanted in zip(paths, lacking, strict=True)}

    def compute(pixels):
        shapes.append(pixels.shape)
        return pixels[:, 0, 0, :1].astype(np.float32)
    with FeatureStore(str(tmp_path), 1) as store:
        compute_features(store, missing, compute, 2, no_progress, {})
        blue = {key[:1]: store.read()[row, 0] for key, row in store.rows.items()}
    assert blue == {b'a': 0, b'b': 0, b'c': 20, b'd': 40, b'e': 40}
    assert sorted(shapes) == [(1, 227, 227, 3), (4, 227, 227, 3)]
