from types import SimpleNamespace

import numpy as np
import pytest

from alexnet import LAYERS
from inputs.lists import Datasets, ImageList
from reports.screen import (
    EpochPrinter,
    class_table,
    closing_lines,
    epoch_header,
    epoch_line,
    layer_table,
)
from run_folder.metrics import METRICS
from runtime.tf1 import tf


def toy_datasets(train, val, class_names):
    lists = [ImageList('list.txt', [''] * len(labels), np.array(labels), np.arange(len(labels)))
             for labels in (train, val)]
    return Datasets(*lists, class_names)


def test_layer_table_says_source_state_and_size():
    with tf.Graph().as_default():
        shapes = {layer: (tf.zeros([50, 4096]), tf.zeros([4096])) for layer in LAYERS}
        model = SimpleNamespace(variables=shapes)
        lines = layer_table(model, ('fc7', 'fc8'), {'conv1', 'fc7'})
    assert len(lines) == 9 and lines[1].split() == ['conv1', 'pretrained', 'frozen', '208,896']
    assert lines[7].split()[:3] == ['fc7', 'pretrained', 'trained']
    assert lines[8].split()[1:4] == ['from', 'scratch', 'trained']


def test_class_table_counts_and_says_what_guessing_gives():
    lines = class_table(toy_datasets([0, 1, 1, 1], [0, 0, 0, 1], ['ants', 'bees']))
    assert lines[1].split() == ['ants', '1', '3'] and lines[2].split() == ['bees', '3', '1']
    assert lines[3].split() == ['2', 'classes', '4', '4']
    assert lines[4].endswith('guessing bees gives val_accuracy 0.2500')


def test_many_classes_are_abbreviated_to_the_smallest():
    labels = [label for label in range(300)
              for _ in range(2 if label == 77 else 3 + label % 2)]
    names = [f'class {n} with a rather long and winding name' for n in range(300)]
    lines = class_table(toy_datasets(labels, labels, names))
    assert len(lines) == 9 and lines[1].startswith('class 77 ')
    assert '4 training images' in lines[6] and lines[7].startswith('300 classes')
    assert max(map(len, lines)) <= 80


def test_the_screen_shows_no_control_characters_of_a_class_name():
    lines = class_table(toy_datasets([0, 1], [0, 1], ['\x1b[31mred', 'b']))
    assert not any('\x1b' in line for line in lines)


def test_epoch_lines_fit_80_columns_under_their_header():
    row = dict(zip(METRICS, [3, 0.5, 0.25, 1.5, 0.75, 0.001, 321.4, 7.5], strict=True))
    assert epoch_line(row, 10, 62).split() == [
        '3/10', '0.5000', '0.2500', '1.5000', '0.7500', '0.001', '321', '0:01:02']
    huge = dict(zip(METRICS, [999, 1.2345678e30, 1.0, 1.2345678e-30, 1.0, 1.2345e-10, 123456.7,
                              1e5], strict=True))
    lines = epoch_header(), epoch_line(row, 10, 62), epoch_line(huge, 999, 86399)
    assert {len(line) for line in lines} == {80}
    assert all(line.isprintable() for line in lines)


def test_an_epoch_has_a_line_and_every_20_lines_a_header(capsys):
    printer, rows = EpochPrinter(num_epochs=30), []
    for epoch in range(1, 26):
        rows.append(dict.fromkeys(METRICS, 0.5) | {'epoch': epoch, 'seconds': 60.0})
        printer.print_epoch(rows)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 27
    assert [n for n, line in enumerate(lines) if line == epoch_header()] == [0, 21]
    assert lines[1].split()[0] == '1/30' and lines[1].endswith('0:29:00')
    assert lines[26].endswith('0:05:00')


def test_a_warning_is_printed_once(capsys):
    printer = EpochPrinter(num_epochs=3)
    for warnings in ({}, {'a': 'one'}, {'a': 'one again', 'b': 'two'}):
        printer.warn(warnings)
    assert capsys.readouterr().err == 'WARNING: one\nWARNING: two\n'
    assert printer.warnings == {'a': 'one again', 'b': 'two'}
    printer.warn({'b': 'two'})
    assert printer.warnings == {'b': 'two'}  # the report warns of what is so at its end


MATRIX = np.array([[4, 0, 0], [1, 1, 2], [0, 1, 3]])


@pytest.mark.parametrize('matrix, weak', [
    (MATRIX, ['weak: b, 0.25 recognised, 2 taken for c',
              'weak: c, 0.75 recognised, 1 taken for b']),
    (None, [])])
def test_closing_lines_name_the_weakest_classes_and_where_to_look(matrix, weak):
    best = {'epoch': 7, 'val_loss': 0.5, 'val_accuracy': 0.6667}
    lines = closing_lines(best, 0.3333, matrix, ['a', 'b', 'c'], 'r u n')
    assert lines[0] == 'best epoch 7: val_loss 0.5000, val_accuracy 0.6667; guessing: 0.3333'
    assert lines[1:-1] == weak and "tensorboard --logdir 'r u n'" in lines[-1]
