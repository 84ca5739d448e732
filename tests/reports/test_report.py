import base64
import csv
import os

import pytest

from reports.report import write_report
from tests.reports.test_page import IMAGES, make_record, mistakes

FIGURES = {'curves.png': b'\x89PNG curves', 'confusion_matrix.png': b'\x89PNG matrix',
           'mistakes.jpg': b'\xff\xd8 mistakes'}


@pytest.fixture
def record(tmp_path):
    record = make_record(run_dir=str(tmp_path))
    record.datasets.val.paths[1] = 'caf\udce9,1.jpg'  # Latin-1 on the disk
    return record


def test_tables_figures_and_page_are_written(record, tmp_path):
    write_report(record, IMAGES, FIGURES, mistakes())
    assert sorted(os.listdir(tmp_path)) == [
        'confusion_matrix.csv', 'confusion_matrix.png', 'curves.png', 'mistakes.jpg',
        'report.html', 'val_predictions.csv']
    for name, content in FIGURES.items():
        assert (tmp_path / name).read_bytes() == content
    page = (tmp_path / 'report.html').read_text()
    for content in (FIGURES['curves.png'], FIGURES['confusion_matrix.png'],
                    IMAGES['first_batch']):
        assert base64.b64encode(content).decode() in page
    with open(tmp_path / 'val_predictions.csv', encoding='utf-8', errors='surrogateescape',
              newline='') as file:
        assert list(csv.reader(file))[2] == ['caf\udce9,1.jpg', 'ants', 'bees', '0.7500']


def test_figures_of_an_earlier_report_that_are_missing_now_go(record, tmp_path):
    write_report(record, IMAGES, FIGURES, mistakes())
    write_report(record, {}, {'curves.png': b'\x89PNG new'}, [])
    assert sorted(os.listdir(tmp_path)) == [
        'confusion_matrix.csv', 'curves.png', 'report.html', 'val_predictions.csv']
    assert (tmp_path / 'curves.png').read_bytes() == b'\x89PNG new'


def test_a_file_that_cannot_be_written_leaves_no_part(record, tmp_path):
    (tmp_path / 'curves.png').mkdir()
    with pytest.raises(OSError, match='curves.png'):
        write_report(record, {}, FIGURES, [])
    assert not [name for name in os.listdir(tmp_path) if '.part-' in name]
