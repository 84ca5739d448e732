import csv

import pytest

from run_folder.metrics import METRICS, MetricsFile, best_row, read_rows


def row(epoch, val_accuracy=0.5, val_loss=1.0):
    return dict.fromkeys(METRICS, 0.25) | {
        'epoch': epoch, 'val_accuracy': val_accuracy, 'val_loss': val_loss}


def test_the_best_has_the_highest_accuracy_then_the_lowest_loss():
    rows = [row(1, 0.5, 0.1), row(2, 0.75, 0.9), row(3, 0.75, 0.8), row(4, 0.75, 0.8)]
    assert best_row(rows)['epoch'] == 3 and best_row([]) is None


def test_rows_are_read_back_as_they_were_written(tmp_path):
    metrics = MetricsFile(str(tmp_path))
    assert read_rows(str(tmp_path), 0) == []
    rows = [row(1, 1 / 3, 1e-7), row(2, 2 / 3, 1e7)]
    for each in rows:
        metrics.append(each)
    assert read_rows(str(tmp_path), 2) == rows == metrics.rows
    assert read_rows(str(tmp_path), 1) == rows[:1]
    with open(tmp_path / 'metrics.csv', newline='') as file:
        assert next(csv.reader(file)) == list(METRICS)


def test_a_resumed_run_keeps_its_rows_and_drops_later_ones(tmp_path):
    MetricsFile(str(tmp_path), [row(1), row(2), row(3)])
    metrics = MetricsFile(str(tmp_path), read_rows(str(tmp_path), 2))
    assert [each['epoch'] for each in read_rows(str(tmp_path), 2)] == [1, 2]
    metrics.append(row(3, val_accuracy=0.9))
    assert read_rows(str(tmp_path), 3)[2]['val_accuracy'] == 0.9


def test_the_file_stays_whole_when_a_row_cannot_be_written(tmp_path):
    metrics = MetricsFile(str(tmp_path), [row(1)])
    with pytest.raises(ValueError):
        metrics.append(row(2) | {'unknown': 1.0})
    assert read_rows(str(tmp_path), 1) == [row(1)]
    assert [path.name for path in tmp_path.iterdir()] == ['metrics.csv']


@pytest.mark.parametrize('content, message', [
    ('epoch,train_loss\n1,0.5\n', "is broken: 'train_accuracy'"),
    (f'{",".join(METRICS)}\n1,a{",0" * 6}\n', 'is broken: could not convert'),
    (f'{",".join(METRICS)}\n1\n', 'is broken'),
    (f'{",".join(METRICS)}\n2{",0" * 7}\n', 'it lacks epochs of the 1 that the last checkpoint'),
    (f'{",".join(METRICS)}\n', 'it lacks epochs')])
def test_a_broken_file_is_named(tmp_path, content, message):
    (tmp_path / 'metrics.csv').write_text(content)
    with pytest.raises(ValueError, match='metrics.csv is broken') as error:
        read_rows(str(tmp_path), 1)
    assert message in str(error.value)
