"""predict.py --heatmaps, and --output page.html."""

import base64
import json
import os
import re

import cv2
import numpy as np
import pytest

import predict
from reports.image_grids import decode
from tests.helpers import run_main


@pytest.fixture(scope='module')
def written(finished_run, tmp_path_factory):
    """(page, {file name of heatmaps: image}, records as JSON has them) for a list with labels."""
    folder = tmp_path_factory.mktemp('pictures')
    for name, flags in (('page.html', ['--heatmaps', str(folder / 'heat')]), ('plain.json', [])):
        assert predict.main([str(finished_run), str(finished_run.parent / 'val.txt'), '--output',
                             str(folder / name), '--batch_size', '8', *flags]) == 0
    pictures = {name: cv2.imread(str(folder / 'heat' / name))
                for name in sorted(os.listdir(folder / 'heat'))}
    images = json.loads((folder / 'plain.json').read_text())['images']
    return (folder / 'page.html').read_text(encoding='utf-8'), pictures, images


def photos_of(page):
    """Return the photos that the page hands to its script."""
    [data] = re.findall(r'<script id="photos" type="application/json">(.*?)</script>', page, re.S)
    return [json.loads(line) for line in data.strip().split('\n')]


def is_wrong(image):
    """Return whether the first prediction of a record is not its true class."""
    return image['true_class'] != image['predictions'][0]['class']


def smooth(image):
    """Return an image without the noise of its pixels, which JPEG does not keep."""
    return cv2.blur(image, (15, 15)).astype(int)


def test_the_page_has_the_predictions_of_the_other_files(written):
    page, _, images = written
    photos = photos_of(page)
    assert [photo['path'] for photo in photos] == [image['path'] for image in images]
    for photo, image in zip(photos, images, strict=True):
        assert photo['truth'] == image['true_class']
        guesses = image['predictions']
        assert [name for name, _ in photo['top']] == [guess['class'] for guess in guesses]
        np.testing.assert_allclose([sure for _, sure in photo['top']],
                                   [guess['probability'] for guess in guesses], atol=1e-3)


def test_wrong_images_have_a_second_heatmap(written):
    page, pictures, images = written
    assert [name[:8] for name in pictures] == [f'{n + 1:05d}-{n + 14}' for n in range(21)]
    wrong = [is_wrong(image) for image in images]
    assert any(wrong) and not all(wrong)
    for photo, picture, second in zip(photos_of(page), pictures.values(), wrong, strict=True):
        assert picture.shape == (227 + 18, (3 if second else 2) * 229 - 2, 3)
        assert len(photo['heat']) == 1 + second


def test_the_picture_shows_the_heat_of_the_page(written):
    """The grey photo is redder the hotter it is; for some images nothing spoke."""
    page, pictures, _ = written
    correlations = []
    for photo, picture in zip(photos_of(page), pictures.values(), strict=True):
        for tile, text in enumerate(photo['heat'], 1):
            cells = np.frombuffer(base64.b64decode(text), np.uint8).reshape(13, 13)
            heat = cv2.resize(cells, (227, 227)).astype(int)
            shown = picture[:227, 229 * tile:229 * tile + 227].astype(int)
            redness = shown[..., 2] - shown[..., 0]
            if heat.any():
                correlations.append(np.corrcoef(heat.ravel(), redness.ravel())[0, 1])
            else:
                assert abs(redness.mean()) < 2  # JPEG is not exact
    assert correlations and min(correlations) > 0.9, correlations


def test_the_report_shows_the_same_heat(finished_run, written):
    """The run computes it with its own session, predict.py with the checkpoint of the best epoch.

    Of each mistake the report has the photo, the heat for the wrong and for the true class.
    """
    _, pictures, images = written
    text = (finished_run / 'report.html').read_text(encoding='utf-8')
    section = text.split('Most confident mistakes</h2>')[1].split('<h2>')[0]
    shown = [decode(base64.b64decode(text)) for text in re.findall(r'base64,([^"]+)"', section)]
    wrong = [number for number, image in enumerate(images) if is_wrong(image)]
    wrong.sort(key=lambda number: -images[number]['predictions'][0]['probability'])
    pictures = list(pictures.values())
    assert len(shown) == 3 * len(wrong)
    for n, number in enumerate(wrong):
        for tile in range(3):
            expected = smooth(pictures[number][:227, 229 * tile:229 * tile + 227])
            assert np.abs(smooth(shown[3 * n + tile]) - expected).mean() < 2


@pytest.mark.cpu
def test_heatmaps_change_no_prediction(finished_run, tmp_path, capsys):
    pictures = finished_run.parent / 'pictures'
    _, plain, _ = run_main(predict.main, [finished_run, pictures], capsys)
    status, shown, _ = run_main(
        predict.main, [finished_run, pictures, '--heatmaps', tmp_path / 'heat'], capsys)
    assert (status, shown) == (0, plain) and len(os.listdir(tmp_path / 'heat')) == 35


def test_images_of_one_name_have_files_of_their_own(finished_run, tmp_path, capsys):
    picture = finished_run.parent / 'pictures' / '20.png'
    names = ['a/x y.png', 'b/x y.png', 'b/<é>.png', 'gone.png', 'b/\udcff.png']
    for name in (name for name in names if name != 'gone.png'):
        path = os.fsencode(tmp_path / name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as file:
            file.write(picture.read_bytes())
    status, _, _ = run_main(predict.main, [finished_run, *(tmp_path / name for name in names),
                                           '--heatmaps', tmp_path / 'heat'], capsys)
    assert status == 1
    assert sorted(os.listdir(tmp_path / 'heat')) == [
        '00001-x_y.jpg', '00002-x_y.jpg', '00003-_é_.jpg', '00005-_udcff.jpg']


@pytest.mark.parametrize('flags, named', [
    (['--heatmaps', 'taken'], 'heatmaps taken exists already'),
    (['--heatmaps', 'taken/file'], 'heatmaps taken/file exists already'),
    (['--heatmaps', 'new', '--features', 'fc7', '--output', 'x.npy'], 'leave out --features'),
    (['--output', 'page.htm'], 'neither .csv nor .json nor .html'),
    (['--output', 'taken/page.html'], 'taken/page.html exists already'),
])
def test_wrong_flags_end_in_a_line(finished_run, tmp_path, monkeypatch, capsys, flags, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'taken').mkdir()
    for name in ('file', 'page.html'):
        (tmp_path / 'taken' / name).write_text('x')
    status, out, err = run_main(
        predict.main, [finished_run, finished_run.parent / 'pictures', *flags], capsys)
    assert status == 2 and out == '' and named in err and len(err.splitlines()) == 1
    assert os.listdir(tmp_path) == ['taken'] and len(os.listdir(tmp_path / 'taken')) == 2
