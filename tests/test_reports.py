import csv
from types import SimpleNamespace

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet import LAYERS, tf
from reports import METRICS, RunLog, epoch_line, histogram_summaries, layer_table


def toy_model():
    variables = {}
    for layer in LAYERS:
        with tf.variable_scope(layer):
            variables[layer] = (tf.get_variable('weights', [50, 4096]), tf.get_variable('biases', [4096]))
    return SimpleNamespace(variables=variables)


def test_layer_table_says_source_state_and_size():
    with tf.Graph().as_default():
        lines = layer_table(toy_model(), ('fc7', 'fc8'), {'conv1', 'fc7'})
    assert len(lines) == 9 and lines[1].split() == ['conv1', 'pretrained', 'frozen', '208,896']
    assert lines[7].split()[:3] == ['fc7', 'pretrained', 'trained'] and lines[8].split()[1:3] == ['from', 'scratch']


def test_what_is_written_is_read_back_by_tensorboard(tmp_path):
    metrics = {name: number + 0.5 for number, name in enumerate(METRICS)} | {'epoch': 2}
    with tf.Graph().as_default(), tf.Session() as session:
        model = toy_model()
        histograms = histogram_summaries(model, ('fc8',))
        session.run(tf.global_variables_initializer())
        with RunLog(str(tmp_path)) as log:
            log.write_step(7, 0.25, session.run(histograms))
            log.write_epoch(9, metrics)
            log.write_epoch(18, metrics)
        weights = session.run(model.variables['fc8'][0])
    train, val = (EventAccumulator(str(tmp_path / part)).Reload() for part in ('train', 'val'))
    assert [(e.step, e.value) for e in train.Scalars('step/loss')] == [(7, 0.25)]
    for part, events in (('train', train), ('val', val)):
        for name in ('loss', 'accuracy'):
            expected = metrics[f'{part}_{name}']
            assert [(e.step, e.value) for e in events.Scalars(f'epoch/{name}')] == [(9, expected), (18, expected)]
    assert sorted(train.Tags()['histograms']) == ['weights/fc8/biases', 'weights/fc8/weights']
    histogram = train.Histograms('weights/fc8/weights')[0].histogram_value
    # The share of each sign is that of the whole matrix, though only a sample of it is written.
    assert 5_000 < histogram.num <= 20_000 and abs(histogram.sum / histogram.num - weights.mean()) < 0.01
    rows = list(csv.reader(open(tmp_path / 'metrics.csv')))
    assert rows[0] == list(METRICS) and len(rows) == 3 and [float(cell) for cell in rows[1]] == list(metrics.values())
    assert np.isfinite(histogram.sum)


def test_epoch_line():
    line = epoch_line({name: 0.5 for name in METRICS} | {'epoch': 3}, 10)
    assert line.startswith('epoch   3/10') and 'val loss 0.5000 accuracy 0.5000' in line and '\n' not in line
