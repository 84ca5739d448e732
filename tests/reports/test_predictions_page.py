import base64
import hashlib
import io
import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from reports.image_grids import decode
from reports.predictions_page import THUMBNAIL_SIZE, add_thumbnails, write_page
from tests.reports.test_page import EVIL, Tags

BROWSER = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which(
    'google-chrome')
BROWSER_FLAGS = ('--headless', '--no-sandbox', '--disable-gpu', '--no-first-run',
                 '--disable-background-networking', '--disable-component-update',
                 '--disable-sync', '--dump-dom')
# Path, predicted class, its probability, true class.
PHOTOS = [('a/1.jpg', 'ants', 0.95, 'ants'), ('a/2.jpg', 'bees', 0.6, 'ants'),
          ('b/3.jpg', 'bees', 0.99, 'bees'), ('b/4.jpg', 'ants', 0.7, 'bees'),
          ('b/5.jpg', 'ants', 0.92, 'bees')]


def make_records(photos=PHOTOS, heatmaps=(), labels=True):
    """Records as predict.py makes them, with grey thumbnails."""
    records = []
    for path, name, probability, truth in photos:
        other = 'bees' if name == 'ants' else 'ants'
        records.append({'path': path, 'predictions': [
            {'class': name, 'probability': probability},
            {'class': other, 'probability': 1 - probability}]})
        records[-1] |= {'true_class': truth} if labels else {}
        records[-1] |= {'heatmaps': heatmaps} if heatmaps else {}
    add_thumbnails(records, np.full((len(records), 227, 227, 3), 99, np.uint8))
    return records


def page_of(records, title='runs/1'):
    """Return the text of the page."""
    file = io.StringIO()
    write_page(file, iter(records), title)
    return file.getvalue()


def read_photos(page):
    """Return the photos that the page hands to its script."""
    [data] = re.findall(r'<script id="photos" type="application/json">(.*?)</script>', page, re.S)
    return [json.loads(line) for line in data.strip().split('\n')]


def test_the_page_holds_each_photo():
    heat = np.zeros((13, 13), np.float32)
    heat[0, 1] = 0.5
    photos = read_photos(page_of(make_records(heatmaps=[heat])))
    assert [(photo['path'], *photo['top'][0], photo['truth']) for photo in photos] == PHOTOS
    assert photos[1]['top'][1] == ['ants', 0.4]
    image = decode(base64.b64decode(photos[0]['image']))
    assert image.shape == (THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3) and abs(int(image.mean()) - 99) <= 2
    cells = np.frombuffer(base64.b64decode(photos[0]['heat'][0]), np.uint8)
    assert cells.shape == (169,) and cells[1] == 128 and cells.sum() == 128


def test_without_labels_nothing_is_right_or_wrong():
    photos = read_photos(page_of(make_records(labels=False)))
    assert all(photo['truth'] is None and photo['heat'] == [] for photo in photos)


def test_the_page_runs_its_own_script_alone_and_loads_nothing():
    page = page_of(make_records())
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy"\s+content="([^"]*)">', page)
    [script] = re.findall(r'<script>(.*?)</script>', page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split('; ')[:2] == ["default-src 'none'", 'img-src data:']
    assert policy.split(';')[2].strip() == "style-src 'unsafe-inline'"
    assert policy.split(';')[3].strip() == f"script-src 'sha256-{digest}'"
    assert policy.count(';') == 3
    assert page.index(policy) < page.index('<style>')
    assert Tags(page).addresses == [] and 'http:' not in page and 'innerHTML' not in page


def test_nothing_from_a_file_becomes_markup_or_script():
    evil = '</script><!--' + EVIL
    page = page_of(make_records([(evil, evil, 0.5, evil)]), title=evil)
    assert Tags(page).tags == Tags(page_of(make_records())).tags
    assert not re.search(r'[\x00-\x08\x0b-\x1f]', page)
    [photo] = read_photos(page)
    assert photo['path'] == evil.replace('\x1b', r'\x1b') and r'\x1b' in photo['top'][0][0]


def test_memory_does_not_hold_all_photos():
    """Each record is written before the next one is asked for, a few of them apart."""
    file, sizes = io.StringIO(), []

    def records():
        for record in make_records(PHOTOS * 20):
            sizes.append(file.tell())
            yield record
    write_page(file, records(), 'x')
    assert len(sizes) == 100 and sizes[-1] > sizes[50] > sizes[1]


def test_a_page_of_5000_photos_stays_below_30_mb():
    """With two heatmaps each, and pictures of random colours, which take more than photos do."""
    draw, heat = np.random.RandomState(0), np.ones((13, 13), np.float32)
    records = make_records(PHOTOS * 10, heatmaps=[heat, heat])
    add_thumbnails(records, [cv2.resize(draw.randint(0, 256, (32, 32, 3), np.uint8), (227, 227))
                             for _ in records])
    assert len(page_of(records)) - len(page_of([])) < 30e6 * len(records) / 5000


@pytest.fixture
def browse(tmp_path):
    """Function (records, fragment) that returns what a browser shows.

    That is (count line, [(' class="wrong"' or '', file name) of each photo], DOM).
    """
    if not BROWSER:
        pytest.skip('needs a browser: chromium or google-chrome')

    def show(records, fragment=''):
        (tmp_path / 'page.html').write_text(page_of(records), encoding='utf-8')
        dom = subprocess.run(
            [BROWSER, *BROWSER_FLAGS, f'--user-data-dir={tmp_path / "profile"}',
             f'file://{tmp_path}/page.html#{fragment}'],
            capture_output=True, text=True, timeout=120, check=True).stdout
        [count] = re.findall(r'id="count">([^<]*)<', dom)
        figure = r'<figure( class="wrong")?.*?class="path">([^<]*)<'
        return count, re.findall(figure, dom, re.S), dom
    return show


@pytest.mark.slow
@pytest.mark.parametrize('fragment, count, shown', [
    ('', '5 of 5 photos, 3 of them wrong', '1 2! 3 4! 5!'),
    ('class=ants&sure=0.9', '2 of 5 photos, 1 of them wrong', '1 5!'),
    ('show=wrong&sort=surest', '3 of 5 photos, 3 of them wrong', '5! 4! 2!'),
    ('truth=bees&most=0.95&sort=unsure', '2 of 5 photos, 2 of them wrong', '4! 5!'),
    ('sort=class&show=right', '2 of 5 photos, 0 of them wrong', '1 3'),
])
def test_a_browser_shows_the_photos_of_a_filter(browse, fragment, count, shown):
    found_count, found, _ = browse(make_records(), fragment)
    names = [path[0] + ('!' if wrong else '') for wrong, path in found]
    assert (found_count, ' '.join(names)) == (count, shown)


@pytest.mark.slow
def test_a_browser_shows_pages_and_heat_by_need(browse):
    heat = np.ones((13, 13), np.float32)
    records = make_records(PHOTOS * 30, heatmaps=[heat])
    count, found, dom = browse(records, 'page=3')
    assert count.startswith('150 of 150') and len(found) == 30 and '<canvas' not in dom
    assert 'page 3 of 3' in dom
    _, found, dom = browse(records, 'heat=first')
    assert len(found) == dom.count('<canvas') == 60


@pytest.mark.slow
def test_a_browser_runs_no_foreign_script(browse):
    evil = '</script><script>document.title = "caught"</script><img src=x onerror=alert(1)>'
    _, found, dom = browse(make_records([(evil, evil, 0.5, evil)]))
    assert '<title>Predictions of runs/1</title>' in dom and len(found) == 1
