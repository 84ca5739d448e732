"""predict.py averages the probabilities of views."""

import json

import cv2
import numpy as np
import pytest

import predict
from tests.helpers import run_main

pytestmark = pytest.mark.cpu

@pytest.fixture
def probabilities(finished_run, tmp_path, capsys):
    """Function of arguments that returns the probabilities of all 7 classes, [n, 7]."""
    def compute(*arguments):
        output = tmp_path / 'answers.json'
        flags = '--top', 7, '--output', output
        assert run_main(predict.main, [finished_run, *arguments, *flags], capsys)[0] == 0
        images = json.loads(output.read_text())['images']
        output.unlink()
        names = sorted(guess['class'] for guess in images[0]['predictions'])
        tables = [{guess['class']: guess['probability'] for guess in image['predictions']}
                  for image in images]
        return np.array([[table[name] for name in names] for table in tables])
    return compute


def test_ten_crops_have_the_mean_of_ten_single_probabilities(probabilities, tmp_path):
    """Crops are cut out, mirrored, predicted one by one and averaged by NumPy."""
    picture = np.random.default_rng(0).integers(256, size=(256, 256, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'whole.png'), picture)
    crops = []
    for top, left in ((14, 14), (0, 0), (0, 29), (29, 0), (29, 29)):
        for step in (1, -1):
            crops.append(str(tmp_path / f'{len(crops)}.png'))
            cv2.imwrite(crops[-1], picture[top:top + 227, left:left + 227][:, ::step])
    single = np.concatenate([probabilities(path, '--batch_size', 1) for path in crops])
    [ten] = probabilities(tmp_path / 'whole.png', '--views', 'crops')
    assert np.ptp(single, 0).max() > 1e-4  # the crops differ
    np.testing.assert_allclose(ten, single.mean(0), rtol=0, atol=1e-6)


def test_batches_of_views_are_those_of_images(finished_run, probabilities):
    pictures = finished_run.parent / 'pictures'
    answers = [probabilities(pictures, '--views', 'crops', '--batch_size', size)
               for size in (1, 70)]
    np.testing.assert_allclose(*answers, rtol=0, atol=1e-6)
