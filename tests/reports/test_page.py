import re
from html.parser import HTMLParser

import numpy as np
import pytest

from inputs.lists import Datasets, ImageList
from reports.evaluation import Predictions
from reports.figures import Mistake
from reports.page import RunRecord, make_page
from run_folder.metrics import METRICS

EVIL = '<script src="http://evil.example/x.js"></script><img src=x onerror=alert(1)>"\'&\x1b[31m'
EVIL += '{{ record }}{% for %}'
IMAGES = {'curves': b'\x89PNG...', 'first_batch': b'\xff\xd8...'}


def image_list(labels):
    return ImageList('list.txt', [''] * len(labels), np.array(labels), np.arange(len(labels)))


def make_record(class_names=('ants', 'bees'), **changes):
    """A run on 3 and 4 training images; of the 2 validation images, both ants, one is a bee."""
    rows = [dict(zip(METRICS, [n, 1 / n, 0.5, 1 / n, 0.5, 0.001, 100.0, 1.0], strict=True))
            for n in (1, 2)]
    datasets = Datasets(image_list([0] * 3 + [1] * 4), image_list([0, 0]), list(class_names))
    predictions = Predictions(np.array([0, 0]), np.array([0, 1]), np.array([0.5, 0.75]))
    fields = {'run_dir': 'runs/1', 'command': 'python finetune.py',
              'settings': {'seed': 0, 'train_layers': ('fc7', 'fc8')}, 'layers': ['conv1 frozen'],
              'datasets': datasets, 'rows': rows, 'best': rows[1], 'predictions': predictions,
              'warnings': {'kind': 'trouble'}}
    return RunRecord(**{**fields, **changes})


def mistakes(true_class='ants', predicted_class='bees'):
    return [Mistake(np.zeros((4, 4, 3), np.uint8), true_class, predicted_class, 0.75)]


class Tags(HTMLParser):
    """Collects the tags, addresses and text of a page as a browser reads them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.addresses, self.texts = [], [], []
        self.cells, self.in_cell = [], False  # [class, text] of each td
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes
                           if name in ('src', 'href', 'srcset', 'action', 'data')]
        assert not any(name.startswith('on') for name, _ in attributes)
        if tag == 'td':
            self.cells.append([dict(attributes).get('class'), ''])
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag != 'td'

    def handle_data(self, data):
        self.texts.append(data.strip())
        if self.in_cell:
            self.cells[-1][1] += data.strip()


def test_the_page_shows_the_record():
    texts = Tags(make_page(make_record(), IMAGES, mistakes())).texts
    for shown in ('runs/1', 'trouble', 'ants', 'bees', 'bees (1)', '0.75', 'fc7 fc8',
                  'conv1 frozen', 'python finetune.py', 'Loss and accuracy',
                  'The first batch as the network sees it'):
        assert any(shown in text for text in texts), shown
    assert '0.500' in texts
    assert texts[texts.index('ants', texts.index('most often taken for')) + 1] == '0.500'
    assert 'Always guessing the largest class: 0.0000.' in ' '.join(texts)


def test_numbers_stand_right_and_texts_left():
    cells = Tags(make_page(make_record(), {}, [])).cells
    assert [tuple(cell) for cell in cells[:10]] == [
        (None, 'ants'), ('number', '0.500'), (None, 'bees (1)'), ('number', '3'), ('number', '2'),
        (None, 'bees'), ('number', ''), (None, ''), ('number', '4'), ('number', '0')]
    assert [tuple(cell) for cell in cells[10:14]] == [
        ('number', '1'), ('number', '1'), ('number', '0.5'), ('number', '1')]
    assert [tuple(cell) for cell in cells[-4:-2]] == [(None, 'seed'), (None, '0')]


def test_nothing_from_a_file_becomes_markup_or_an_address():
    text = make_page(make_record(
        run_dir=EVIL, command=EVIL, settings={EVIL: EVIL}, layers=[EVIL], warnings={'a': EVIL},
        class_names=[EVIL, EVIL]), IMAGES, mistakes(EVIL, EVIL))
    read = Tags(text)
    assert read.tags == Tags(make_page(make_record(settings={'seed': 0}), IMAGES, mistakes())).tags
    assert len(read.addresses) == 3
    assert all(address.startswith('data:image/') for address in read.addresses)
    assert not re.search(r'[\x00-\x08\x0b-\x1f]', text)
    assert 'script src' in ''.join(read.texts) and '{{ record }}' in ''.join(read.texts)


def test_a_browser_loads_nothing_from_elsewhere():
    text = make_page(make_record(), IMAGES, mistakes())
    [policy] = re.findall(
        r'<meta http-equiv="Content-Security-Policy"\s+content="([^"]*)">', text)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert text.index(policy) < text.index('<style>') and 'http:' not in text


def test_undecodable_paths_and_missing_parts_do_no_harm():
    text = make_page(make_record(run_dir='\udcff', warnings={}), {}, [])
    assert text.encode() and 'Filters' not in text and '<p>None.</p>' in text


@pytest.mark.parametrize('classes, has_recall', [(1000, True), (1001, False)])
def test_with_too_many_classes_the_class_table_has_counts_alone(classes, has_recall):
    read = Tags(make_page(make_record([f'class {n}' for n in range(classes)]), {}, []))
    assert ('meter' in read.tags) == has_recall and f'class {classes - 1}' in read.texts


def test_mistakes_stand_beside_their_overlays():
    explained = [mistake._replace(overlays=(mistake.image, mistake.image))
                 for mistake in mistakes()]
    read = Tags(make_page(make_record(), {}, explained))
    assert len(read.addresses) == 3 and 'Grad-CAM' in ' '.join(read.texts)
    start = read.texts.index('for bees')
    assert 'for ants' in read.texts[start + 1:]  # the true class comes last
    assert 'Grad-CAM' not in make_page(make_record(), {}, mistakes())
