import base64
import csv
import inspect
import os
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datagenerator import ImageDataGenerator
from inputs.lists import Datasets, read_list
from reports.image_grids import decode
from reports.run_log import NoLog, RunLog
from run_folder.metrics import METRICS
from runtime.tf1 import tf

SETTINGS = {'display_step': 20, 'num_epochs': 3, 'batch_size': 4, 'train_layers': ('fc8',)}


def open_log(folder, picture_list, **changes):
    image_list = read_list(picture_list)
    generators = [ImageDataGenerator(image_list, shuffle=True, nb_classes=3, seed=1)
                  for _ in range(2)]
    return RunLog(str(folder), {**SETTINGS, **changes}, 'python finetune.py',
                  Datasets(image_list, image_list, list('abc')), generators, ['layer'])


def random_filters():
    return np.random.RandomState(0).randn(11, 11, 3, 96).astype(np.float32)


def no_heat(images, classes):
    return np.zeros((*np.shape(classes), 13, 13), np.float32)


def write_epoch(log, epoch, classes=(0, 1, 0) * 4, is_best=True, is_final=False):
    """Class 2 is always taken for class 0; the later an image is in the list, the surer of it."""
    row = {name: number + 0.5 for number, name in enumerate(METRICS)}
    row |= {'epoch': epoch, 'val_accuracy': 8 / 12}
    predictions = np.array(classes, np.int32), np.linspace(0.5, 0.9, 12, dtype=np.float32)
    log.write_epoch(9 * epoch, row, predictions, is_best, is_final)
    return row


def read_events(folder):
    return EventAccumulator(str(folder), {'images': 0}).Reload()


@pytest.fixture(scope='module')
def run(tmp_path_factory, picture_list):
    """(folder, row of the first epoch, TensorBoard's reader) of 3 epochs, the second the best."""
    folder = tmp_path_factory.mktemp('run')
    with open_log(folder, picture_list) as log:
        log.begin(random_filters, no_heat)
        log.write_step(20, 0.25, b'')
        row = write_epoch(log, 1, classes=[1] * 12)
        write_epoch(log, 2)
        write_epoch(log, 3, classes=[1] * 12, is_best=False, is_final=True)
        assert log.figures_future  # they are drawn while the last checkpoint is written
    return folder, row, read_events(folder)


def test_scalars_and_images_are_read_back_by_tensorboard(run):
    _, row, events = run
    assert [(e.step, e.value) for e in events.Scalars('train/step_loss')] == [(20, 0.25)]
    values = events.Scalars('val/loss')
    assert [e.step for e in values] == [9, 18, 27]
    assert values[0].value == pytest.approx(row['val_loss'])
    assert set(events.Tags()['images']) == {
        f'images/{name}' for name in ('first_batch', 'conv1_filters', 'confusion_matrix',
                                      'mistakes')}
    assert events.Images('images/confusion_matrix')[-1].step == 27
    [first_batch] = events.Images('images/first_batch')
    assert (first_batch.height, first_batch.width) == (227 + 18, 4 * 229 - 2)
    [mistakes] = events.Images('images/mistakes')
    assert (mistakes.step, mistakes.height, mistakes.width) == (27, 227 + 54, 4 * 229 - 2)


def test_metrics_have_a_row_per_epoch(run):
    folder, row, _ = run
    with open(folder / 'metrics.csv', newline='') as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(METRICS) and len(rows) == 4
    assert [float(cell) for cell in rows[1]] == list(row.values())


def test_the_report_is_that_of_the_best_epoch(run):
    """Label n % 3 of picture n; class 2 was taken for class 0 in the second epoch."""
    folder = run[0]
    with open(folder / 'confusion_matrix.csv', newline='') as file:
        assert list(csv.reader(file)) == [['true class', 'a', 'b', 'c'], ['a', '4', '0', '0'],
                                          ['b', '0', '4', '0'], ['c', '4', '0', '0']]
    with open(folder / 'val_predictions.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and rows[11]['path'].endswith('11.png')
    assert [rows[11][name] for name in ('class', 'predicted', 'probability')] == [
        'c', 'a', '0.9000']
    page = (folder / 'report.html').read_text()
    assert 'Best epoch 2 of 3' in page and page.count('<figure>') == 4
    assert 'python finetune.py' in page and 'Grad-CAM' in page
    for name in ('curves', 'confusion_matrix'):
        assert base64.b64encode((folder / f'{name}.png').read_bytes()).decode() in page
    assert not [name for name in os.listdir(folder) if '.part-' in name]


def test_the_first_batch_is_shown_as_the_network_sees_it(tmp_path, picture_list):
    """Pictures of constant colour, BGR (20 n, 10, 200), in the order of the first epoch."""
    with open_log(tmp_path, picture_list) as log:
        log.begin(random_filters)
        log.train_images.start_epoch(0)
        order = log.train_images.take_indices(4)
    [event] = read_events(tmp_path).Images('images/first_batch')
    sheet = decode(event.encoded_image_string)
    for n, index in enumerate(order):
        np.testing.assert_allclose(sheet[100, 229 * n + 100], [20 * index, 10, 200], atol=4)


@pytest.mark.parametrize('trained, steps', [(('conv1', 'fc8'), [0, 9]), (('fc8',), [0])])
def test_filters_that_were_trained_are_shown_again_at_the_end(tmp_path, picture_list, trained,
                                                              steps):
    with open_log(tmp_path, picture_list, train_layers=trained) as log:
        log.begin(random_filters)
        write_epoch(log, 1)
    written = read_events(tmp_path).Images('images/conv1_filters')
    assert [event.step for event in written] == steps


@pytest.mark.parametrize('error', [KeyboardInterrupt, ValueError, FloatingPointError])
def test_a_run_ended_by_an_error_has_its_report(tmp_path, picture_list, capsys, error):
    with pytest.raises(error):
        with open_log(tmp_path, picture_list) as log:
            write_epoch(log, 1)
            raise error
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[0] == '1/3' and lines[2].startswith('best epoch 1')
    assert (tmp_path / 'report.html').exists()
    assert read_events(tmp_path).Scalars('val/loss')


@pytest.mark.parametrize('error', [
    OSError(28, 'No space left on device'), tf.errors.UnavailableError(None, None, 'peer lost')])
def test_a_run_that_lost_its_disk_or_a_peer_has_no_report(tmp_path, picture_list, capsys, error):
    with pytest.raises(type(error)):
        with open_log(tmp_path, picture_list) as log:
            write_epoch(log, 1)
            raise error
    assert not (tmp_path / 'report.html').exists()
    assert 'best epoch' not in capsys.readouterr().out


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
    assert 'Best epoch 2' in (tmp_path / 'report.html').read_text()
    assert capsys.readouterr().err == ''


def test_a_report_that_cannot_be_written_does_not_end_the_run(tmp_path, picture_list, capsys):
    (tmp_path / 'curves.png').mkdir()
    with open_log(tmp_path, picture_list) as log:
        write_epoch(log, 1)
    shown = capsys.readouterr().err
    assert shown.startswith('error: the report') and 'curves.png' in shown
    assert shown.count('\n') == 1
    assert not [name for name in os.listdir(tmp_path) if '.part-' in name]


def test_figures_that_fail_are_missing_in_the_report(tmp_path, picture_list, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'reports.plots', None)  # importing it raises ImportError
    monkeypatch.delattr('reports.plots', raising=False)
    (tmp_path / 'curves.png').write_bytes(b'of the run before it was resumed')
    with open_log(tmp_path, picture_list) as log:
        write_epoch(log, 1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(',')[0] for line in lines] == [
        'error: the report has no curves.png', 'error: the report has no confusion_matrix.png']
    page = (tmp_path / 'report.html').read_text()
    assert 'Loss and accuracy' not in page and page.count('<figure>') == 4
    assert (tmp_path / 'mistakes.jpg').exists() and not (tmp_path / 'curves.png').exists()


def test_an_image_that_is_gone_by_the_end_is_left_out(tmp_path, picture_list, capsys):
    with open_log(tmp_path, picture_list) as log:
        write_epoch(log, 1)
        log.record.datasets.val.paths[11] = 'gone.png'
    assert (tmp_path / 'report.html').read_text().count('<figure>') == 3
    assert capsys.readouterr().err == ''


def test_without_a_mistake_the_sheet_of_earlier_ones_goes(tmp_path, picture_list):
    (tmp_path / 'mistakes.jpg').write_bytes(b'of the run before it was resumed')
    with open_log(tmp_path, picture_list) as log:
        write_epoch(log, 1, classes=(0, 1, 2) * 4)
    assert not (tmp_path / 'mistakes.jpg').exists()
    assert '<p>None.</p>' in (tmp_path / 'report.html').read_text()


def test_a_resumed_run_reports_its_earlier_best_epoch(tmp_path, picture_list):
    with open_log(tmp_path, picture_list) as log:
        rows = [write_epoch(log, 1)]
    image_list = read_list(picture_list)
    generator = ImageDataGenerator(image_list, nb_classes=3)
    with RunLog(str(tmp_path), SETTINGS, 'python finetune.py', Datasets(
            image_list, image_list, list('abc')), [generator] * 2, [], rows, 9) as log:
        log.show_best(np.array((0, 1, 0) * 4), np.linspace(0.5, 0.9, 12))
        write_epoch(log, 2, classes=[1] * 12, is_best=False)
    assert 'Best epoch 1 of 2' in (tmp_path / 'report.html').read_text()
    assert len(log.metrics.rows) == 2


def test_problems_are_on_the_screen_once_and_in_the_report(tmp_path, picture_list, capsys):
    with open_log(tmp_path, picture_list) as log:
        for epoch in (1, 2, 3):
            write_epoch(log, epoch, classes=[1] * 12)
    warning = 'every validation image is taken for the same class'
    assert capsys.readouterr().err.count(f'WARNING: {warning}') == 1
    assert warning in (tmp_path / 'report.html').read_text()


def test_a_worker_without_a_log_calls_the_same_methods(tmp_path, capsys):
    methods = {name for name, _ in inspect.getmembers(RunLog, inspect.isfunction)}
    assert {'begin', 'show_best', 'summaries_due', 'write_step', 'write_epoch'} <= methods
    with NoLog() as log:
        log.begin(random_filters)
        log.show_best(None, None)
        assert log.summaries_due(20) is False
        log.write_step(20, 0.5, b'')
        write_epoch(log, 1)
    assert capsys.readouterr() == ('', '')
    with pytest.raises(KeyError), NoLog():
        raise KeyError
