import re
from html.parser import HTMLParser

import numpy as np

from reports import page
from run_folder.metrics import METRICS

EVIL = '<script src="http://evil.example/x.js"></script><img src=x onerror=alert(1)>"\'&\x1b[31m'


def make_record(**changes):
    rows = [dict(zip(METRICS, [n, 1 / n, 0.5, 1 / n, 0.5, 0.001, 100.0, 1.0])) for n in (1, 2)]
    pictures = {'curves': b'\x89PNG...', 'first_batch': b'\xff\xd8...'}
    fields = {'run_dir': 'runs/1', 'command': 'python finetune.py',
              'settings': {'seed': 0, 'train_layers': ('fc7', 'fc8')}, 'layers': ['conv1 frozen'],
              'class_names': ['ants', 'bees'], 'counts': (np.array([3, 4]), np.array([2, 0])), 'guessing': 0.5,
              'rows': rows, 'best': rows[1], 'matrix': np.array([[1, 1], [0, 0]]), 'troubles': ['trouble'],
              'pictures': pictures, 'mistakes': [(b'\xff\xd8.', 'ants', 'bees', 0.75)]}
    return page.Record(**{**fields, **changes})


class Tags(HTMLParser):
    """Collects the tags of a page, the addresses in them and its text, as a browser would read them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.addresses, self.texts = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ('src', 'href', 'srcset', 'action', 'data')]
        assert not any(name.startswith('on') for name, _ in attributes)

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_the_page_shows_what_the_record_holds():
    texts = Tags(page.make_page(make_record())).texts
    for shown in ('runs/1', 'trouble', 'ants', 'bees', 'bees (1)', '0.75', 'fc7 fc8', 'conv1 frozen',
                  'python finetune.py'):
        assert any(shown in text for text in texts), shown
    assert '0.500' in texts and texts[texts.index('ants', texts.index('most often taken for')) + 1] == '0.500'


def test_nothing_from_a_file_becomes_markup_or_an_address():
    text = page.make_page(make_record(
        run_dir=EVIL, command=EVIL, settings={EVIL: EVIL}, layers=[EVIL], class_names=[EVIL, EVIL], troubles=[EVIL],
        mistakes=[(b'\xff\xd8.', EVIL, EVIL, 0.75)]))
    read = Tags(text)
    assert read.tags == Tags(page.make_page(make_record(settings={'seed': 0}))).tags
    assert read.addresses and all(address.startswith('data:image/') for address in read.addresses)
    assert not re.search(r'[\x00-\x08\x0b-\x1f]', text) and "default-src 'none'" in text


def test_undecodable_paths_and_missing_parts_do_no_harm():
    text = page.make_page(make_record(run_dir='\udcff', matrix=None, pictures={}, mistakes=[], troubles=[]))
    assert text.encode() and 'Filters' not in text and '<p>None.</p>' in text
