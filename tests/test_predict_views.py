"""predict.py averages the probabilities of views."""

import json

import cv2
import numpy as np
import pytest

import predict
from inputs.arguments import read_inputs
from inputs.views import views_of
from tests.helpers import run_main

pytestmark = pytest.mark.cpu

@pytest.fixture
def probabilities(finished_run, tmp_path, capsys):
    """Function of arguments that returns the probabilities of all 7 classes, [n, 7]."""
    def compute(*arguments, run=finished_run):
        output = tmp_path / 'answers.json'
        flags = '--top', 7, '--output', output
        assert run_main(predict.main, [run, *arguments, *flags], capsys)[0] == 0
        images = json.loads(output.read_text())['images']
        output.unlink()
        names = sorted(guess['class'] for guess in images[0]['predictions'])
        tables = [{guess['class']: guess['probability'] for guess in image['predictions']}
                  for image in images]
        return np.array([[table[name] for name in names] for table in tables])
    return compute


@pytest.fixture
def crops(tmp_path):
    """(path of a picture of noise, paths of its ten crops), cut out and mirrored by NumPy."""
    picture = np.random.default_rng(0).integers(256, size=(256, 256, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'whole.png'), picture)
    paths = []
    for top, left in ((14, 14), (0, 0), (0, 29), (29, 0), (29, 29)):
        for step in (1, -1):
            paths.append(str(tmp_path / f'{len(paths)}.png'))
            cv2.imwrite(paths[-1], picture[top:top + 227, left:left + 227][:, ::step])
    return str(tmp_path / 'whole.png'), paths


def test_ten_crops_have_the_mean_of_ten_single_probabilities(probabilities, crops):
    """Crops are predicted one by one and averaged by NumPy."""
    picture, paths = crops
    single = np.concatenate([probabilities(path, '--batch_size', 1) for path in paths])
    [ten] = probabilities(picture, '--views', 'crops')
    assert np.ptp(single, 0).max() > 1e-4  # the crops differ
    np.testing.assert_allclose(ten, single.mean(0), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_batches_of_views_are_those_of_images(finished_run, probabilities):
    pictures = finished_run.parent / 'pictures'
    answers = [probabilities(pictures, '--views', 'crops', '--batch_size', size)
               for size in (1, 70)]
    np.testing.assert_allclose(*answers, rtol=0, atol=1e-6)


def test_a_batch_is_of_views(finished_run):
    """Of 35 images with 10 views each, 12 are in a batch of 129."""
    inputs = read_inputs([str(finished_run.parent / 'pictures')], [])
    batches = predict.read_batches(inputs, views_of('crops', True), {}, 129, num_threads=2)
    assert [pixels.shape[:2] for _, pixels in batches] == [(12, 10), (12, 10), (11, 10)]


def test_a_run_answers_by_its_own_views_unless_told_otherwise(probabilities, crops, run_copy):
    """Without horizontal_flip, no crop is mirrored, be they the run's or asked for."""
    picture, paths = crops
    five = probabilities(*paths[::2]).mean(0)
    [whole] = probabilities(picture)
    assert np.abs(whole - five).max() > 1e-4
    settings = json.loads((run_copy / 'settings.json').read_text())
    for views, flag, expected in (
            ('crops', (), five), ('crops', ('--views', 'whole'), whole),
            ('whole', ('--views', 'crops'), five), ('whole', (), whole)):
        changed = {**settings, 'views': views, 'horizontal_flip': False}
        (run_copy / 'settings.json').write_text(json.dumps(changed))
        [found] = probabilities(picture, *flag, run=run_copy)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_features_are_those_of_the_first_view(finished_run, crops, tmp_path):
    picture, [central, *_] = crops
    for name, path, views in (('expected', central, 'whole'), ('found', picture, 'crops')):
        assert predict.main([str(finished_run), path, path, '--views', views, '--features', 'fc7',
                             '--output', str(tmp_path / f'{name}.npy')]) == 0
    expected, found = (np.load(tmp_path / f'{name}.npy') for name in ('expected', 'found'))
    assert found.shape == (2, 4096)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_thumbnails_and_heatmaps_are_of_the_first_view():
    """Pixels and outputs of conv5 are the numbers of two images' three views."""
    def network(pixels):
        return {'values': np.zeros((2, 7)), 'conv5': pixels.ravel()}
    [batch] = predict.compute_batches(
        network, [(np.arange(2), np.arange(6).reshape(2, 3, 1, 1, 1))])
    assert batch.images.ravel().tolist() == batch.conv5.tolist() == [0, 3]
