import base64
import csv
import os

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datagenerator import ImageDataGenerator
from inputs.lists import Datasets, read_list
from reports import run_log
from reports.run_log import RunLog
from run_folder.metrics import METRICS
from runtime.tf1 import tf

SETTINGS = {'display_step': 20, 'num_epochs': 3, 'batch_size': 4, 'train_layers': ('fc8',)}


def open_log(folder, picture_list, **changes):
    image_list = read_list(picture_list)
    generators = [ImageDataGenerator(image_list, shuffle=True, nb_classes=3, seed=1) for _ in range(2)]
    with tf.Graph().as_default():
        return RunLog(str(folder), {**SETTINGS, **changes}, 'python finetune.py',
                      Datasets(image_list, image_list, list('abc')), generators, ['layer'])


def filters():
    return np.random.RandomState(0).randn(11, 11, 3, 96).astype(np.float32)


def write_epoch(log, epoch, classes=(0, 1, 0) * 4, is_best=True, is_final=False):
    """Class 2 is always taken for class 0; the later an image is in the list, the surer of it."""
    metrics = {name: number + 0.5 for number, name in enumerate(METRICS)} | {'epoch': epoch, 'val_accuracy': 8 / 12}
    log.write_epoch(9 * epoch, metrics, (np.array(classes), np.linspace(0.5, 0.9, 12)), is_best, is_final)
    return metrics


@pytest.fixture(scope='module')
def run(tmp_path_factory, picture_list):
    """(run folder, metrics of its first epoch, TensorBoard's reader) of three epochs, the second being the best."""
    folder = tmp_path_factory.mktemp('run')
    with open_log(folder, picture_list) as log:
        log.begin(filters)
        log.write_step(20, 0.25, b'')
        metrics = write_epoch(log, 1, classes=[1] * 12)
        write_epoch(log, 2)
        write_epoch(log, 3, classes=[1] * 12, is_best=False, is_final=True)
    return folder, metrics, EventAccumulator(str(folder), {'images': 0}).Reload()


def test_scalars_and_pictures_are_read_back_by_tensorboard(run):
    _, metrics, events = run
    assert [(e.step, e.value) for e in events.Scalars('train/step_loss')] == [(20, 0.25)]
    for tag, column in (('train/loss', 'train_loss'), ('val/loss', 'val_loss'), ('train/accuracy', 'train_accuracy'),
                        ('val/accuracy', 'val_accuracy'), ('train/learning_rate', 'learning_rate'),
                        ('train/images_per_second', 'images_per_second')):
        values = events.Scalars(tag)
        assert [e.step for e in values] == [9, 18, 27] and values[0].value == pytest.approx(metrics[column])
    images = {tag: events.Images(tag) for tag in events.Tags()['images']}
    assert set(images) == {f'images/{name}' for name in ('first_batch', 'conv1_filters', 'confusion_matrix', 'mistakes')}
    assert [e.step for e in images['images/confusion_matrix']][-1] == 27
    [first_batch] = images['images/first_batch']
    assert (first_batch.height, first_batch.width) == (227 + 18, 4 * 229 - 2)


def test_metrics_have_a_row_an_epoch(run):
    folder, metrics, _ = run
    rows = list(csv.reader(open(folder / 'metrics.csv')))
    assert rows[0] == list(METRICS) and len(rows) == 4 and [float(cell) for cell in rows[1]] == list(metrics.values())


def test_the_report_is_that_of_the_best_epoch(run):
    """Label n % 3 of picture n; class 2 was taken for class 0 in the second epoch."""
    folder = run[0]
    assert list(csv.reader(open(folder / 'confusion_matrix.csv'))) == [
        ['true class', 'a', 'b', 'c'], ['a', '4', '0', '0'], ['b', '0', '4', '0'], ['c', '4', '0', '0']]
    rows = list(csv.DictReader(open(folder / 'val_predictions.csv')))
    assert len(rows) == 12 and rows[11]['path'].endswith('11.png')
    assert [rows[11][name] for name in ('class', 'predicted', 'probability')] == ['c', 'a', '0.9000']
    page = (folder / 'report.html').read_text()
    assert 'Best epoch 2 of 3' in page and page.count('<figure>') == 4 and 'python finetune.py' in page
    for name in ('curves', 'confusion_matrix'):
        assert base64.b64encode((folder / f'{name}.png').read_bytes()).decode() in page
    assert not [name for name in os.listdir(folder) if '.part-' in name]


def test_the_first_batch_is_shown_as_the_network_sees_it(tmp_path, picture_list):
    """Pictures of constant colour, BGR (20 n, 10, 200), in the order of the first pass."""
    with open_log(tmp_path, picture_list) as log:
        log.begin(filters)
        log.train_images.start_epoch(0)
        order = log.train_images.take_indices(4)
    sheet = run_log.image_grids.decode(log.pictures['first_batch'])
    for n, index in enumerate(order):
        np.testing.assert_allclose(sheet[100, 229 * n + 100], [20 * index, 10, 200], atol=4)


def test_a_run_ended_by_an_error_has_its_report_and_the_error_goes_on(tmp_path, picture_list, capsys):
    with pytest.raises(KeyboardInterrupt):
        with open_log(tmp_path, picture_list) as log:
            write_epoch(log, 1)
            raise KeyboardInterrupt
    assert (tmp_path / 'report.html').exists() and 'best epoch 1' in capsys.readouterr().out
    assert EventAccumulator(str(tmp_path)).Reload().Scalars('val/loss')


def test_without_a_mistake_the_sheet_of_earlier_ones_goes(tmp_path, picture_list):
    (tmp_path / 'mistakes.jpg').write_bytes(b'of a run that goes on')
    with open_log(tmp_path, picture_list) as log:
        write_epoch(log, 1, classes=log.data.val.labels)
    assert (tmp_path / 'report.html').exists() and not (tmp_path / 'mistakes.jpg').exists()


def test_a_run_without_an_epoch_has_no_report(tmp_path, picture_list, capsys):
    with pytest.raises(FloatingPointError), open_log(tmp_path, picture_list):
        raise FloatingPointError
    assert sorted(name.split('.')[0] for name in os.listdir(tmp_path)) == ['events', 'metrics']
    assert capsys.readouterr() == ('', '')


def test_a_run_whose_reader_has_ended_has_its_report(tmp_path, picture_list, capsys, monkeypatch):
    with pytest.raises(BrokenPipeError), open_log(tmp_path, picture_list) as log:
        write_epoch(log, 1)
        reader, writer = os.pipe()
        os.close(reader)
        monkeypatch.setattr('sys.stdout', open(writer, 'w', buffering=1))
        write_epoch(log, 2)
    monkeypatch.undo()
    assert 'Best epoch 2' in (tmp_path / 'report.html').read_text() and capsys.readouterr().err == ''


def test_a_report_that_cannot_be_written_is_said_and_does_not_end_the_run(tmp_path, picture_list, capsys):
    (tmp_path / 'curves.png').mkdir()
    with open_log(tmp_path, picture_list) as log:
        write_epoch(log, 1)
    shown = capsys.readouterr().err
    assert shown.startswith('error: the report') and 'curves.png' in shown and shown.count('\n') == 1
    assert not [name for name in os.listdir(tmp_path) if '.part-' in name]


def test_an_image_that_is_gone_by_the_end_is_left_out(tmp_path, picture_list, capsys):
    with open_log(tmp_path, picture_list) as log:
        write_epoch(log, 1)
        log.data.val.paths[11] = 'gone.png'
    assert (tmp_path / 'report.html').read_text().count('<figure>') == 3 and capsys.readouterr().err == ''


def test_without_a_mistake_there_is_no_sheet_of_them(tmp_path, picture_list):
    with open_log(tmp_path, picture_list) as log:
        write_epoch(log, 1, classes=(0, 1, 2) * 4)
    assert not (tmp_path / 'mistakes.jpg').exists() and '<p>None.</p>' in (tmp_path / 'report.html').read_text()


def test_trouble_is_said_once(tmp_path, picture_list, capsys):
    with open_log(tmp_path, picture_list) as log:
        for epoch in (1, 2, 3):
            write_epoch(log, epoch, classes=[1] * 12)
    assert capsys.readouterr().err.count('WARNING: every validation image is taken for the same class') == 1
    assert 'every validation image' in (tmp_path / 'report.html').read_text()


def test_summaries_come_every_display_step_and_stay_few_in_a_long_run(tmp_path, picture_list):
    with open_log(tmp_path, picture_list) as log:
        steps = [step for step in range(1, 1_000_001) if log.wants_summaries(step)]
    assert steps[:21] == list(range(20, 421, 20)) and len(steps) < 200


def test_pictures_stay_few_in_a_long_run(tmp_path, picture_list, monkeypatch):
    monkeypatch.setattr(run_log, 'SECONDS_BETWEEN_PICTURES', -1)
    with open_log(tmp_path, picture_list) as log:
        log.warn = lambda classes: None
        for epoch in range(1, 401):
            write_epoch(log, epoch, is_final=epoch == 400)
        log.rows = []  # no report
    written = EventAccumulator(str(tmp_path), {'images': 0}).Reload().Images('images/confusion_matrix')
    assert [e.step // 9 for e in written[:20]] == list(range(1, 21))
    assert len(written) < 100 and written[-1].step == 3600
