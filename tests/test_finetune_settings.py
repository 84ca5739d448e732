"""What single settings change in a run."""

import dataclasses
import json
import os
import re

import numpy as np
import pytest

import finetune
import predict
from datagenerator import ImageDataGenerator
from inputs.lists import read_datasets
from runtime.tf1 import open_session, tf
from tests.helpers import FC_LAYERS, read_checkpoint_name
from training.devices import Devices
from training.graph import build_training_graph, initialize
from training.setup import choose_layers, make_setup
from weight_files.reader import read_weights


def test_layers_that_are_named_twice_count_once():
    twice = ('fc8', 'fc7', 'fc8')
    assert choose_layers(twice, twice, 'w.npy') == (('fc7', 'fc8'), ('fc7', 'fc8'))


def train_one_epoch(settings, batch_size):
    """Train for an epoch without dropout.

    Returns ({layer: variables} before and after, names of the optimizer's variables).
    """
    datasets, _ = read_datasets(settings.train_file, settings.val_file)
    with tf.Graph().as_default(), open_session() as session:
        setup = make_setup(settings, datasets, settings.weights_path)
        training = build_training_graph(setup, Devices())
        initialize(session, training.model)
        before = session.run(training.model.variables)
        for images, labels in ImageDataGenerator(datasets.train).batches(batch_size):
            session.run(training.train_op, training.feed('images', images, labels, len(labels)))
        after = session.run(training.model.variables)
        names = [variable.name for variable in tf.global_variables()]
    slots = [name for name in names
             if name.split('/')[-1] not in ('weights:0', 'biases:0', 'global_step:0')]
    return before, after, slots


@pytest.mark.slow
def test_frozen_layers_keep_the_files_values_bit_for_bit(small_settings):
    before, after, slots = train_one_epoch(small_settings, batch_size=5)
    for layer, pair in read_weights(small_settings.weights_path).items():
        for values in (before[layer], after[layer]):
            assert [value.tobytes() for value in values] == [value.tobytes() for value in pair]
    for layer in FC_LAYERS:
        assert all((a != b).any() for a, b in zip(before[layer], after[layer], strict=True))
    assert sorted(slots) == [f'{layer}/{kind}/Momentum:0' for layer in FC_LAYERS
                             for kind in ('biases', 'weights')]


@pytest.mark.slow
def test_layers_from_the_file_take_smaller_steps(small_settings):
    """conv5 moves by pretrained_lr_mult of its step of plain gradient descent."""
    settings = dataclasses.replace(
        small_settings, optimizer='sgd', learning_rate=0.1, train_layers=('conv5', *FC_LAYERS),
        skip_layers=FC_LAYERS)
    moves = []
    for factor in (1.0, 0.25):
        before, after, _ = train_one_epoch(
            dataclasses.replace(settings, pretrained_lr_mult=factor), batch_size=10)
        moves.append(after['conv5'][1] - before['conv5'][1])
    assert np.abs(moves[0]).max() > 1e-5  # float32 rounds these biases to about 1e-8
    np.testing.assert_allclose(moves[1], 0.25 * moves[0], rtol=1e-2, atol=1e-8)


def assert_same_metrics(expected_rows, rows):
    """Check loss and accuracy of every epoch within 1e-4."""
    for expected, got in zip(expected_rows, rows, strict=True):
        for column, value in expected.items():
            assert got[column] == pytest.approx(value, rel=1e-4, abs=1e-4), column


@pytest.mark.slow
@pytest.mark.cpu
def test_a_run_from_stored_features_equals_one_from_images(small_run, tmp_path, capsys):
    """With and without features in the cache: the same dropout, order and initial values."""
    runs = {}
    for name, cache_features in (('off', 'off'), ('cold', 'on'), ('warm', 'auto')):
        runs[name] = small_run(name, cache_features=cache_features, learning_rate=1e-4,
                               cache_dir=str(tmp_path / 'cache'), num_epochs=3)
    shown = capsys.readouterr().out
    assert 'features are not stored: cache_features is off' in shown
    assert '15 views, 15 of them computed' in shown and '15 views, 0 of them computed' in shown
    assert_same_metrics(runs['off'], runs['cold'])
    assert_same_metrics(runs['off'], runs['warm'])


@pytest.mark.slow
@pytest.mark.cpu
def test_training_on_stored_crops_equals_that_on_images(small_run, tmp_path, capsys):
    cache_dir = str(tmp_path / 'cache')
    small_run('whole', num_epochs=1, cache_dir=cache_dir)  # features of no use for crops
    capsys.readouterr()
    runs = [small_run(mode, cache_features=mode, views='crops', horizontal_flip=True,
                      learning_rate=1e-4, cache_dir=cache_dir) for mode in ('auto', 'off')]
    shown = re.search(r'pool5 of (\d+) views, (\d+) of them computed now', capsys.readouterr().out)
    # Ten views of 5 validation images; 2 epochs take one or two of each of 10 training images.
    assert shown[1] == shown[2] and 60 <= int(shown[1]) <= 70
    assert_same_metrics(*runs)
    settings = json.loads((tmp_path / 'auto' / 'settings.json').read_text())
    assert settings['scale_size'] == [256, 256]
    predict.main([str(tmp_path / 'auto'), settings['val_file'], '--checkpoint', 'last'])
    assert f'accuracy       {runs[0][-1]["val_accuracy"]:.4f}' in capsys.readouterr().out


@pytest.mark.slow
def test_trained_convolutions_are_not_stored(small_settings, small_run, tmp_path, capsys):
    layers = ('conv5', *FC_LAYERS)
    small_run(train_layers=layers, num_epochs=1, cache_dir=str(tmp_path / 'cache'))
    assert 'are not stored: a convolution is trained' in capsys.readouterr().out
    names = {name.split('-')[0] for name in os.listdir(tmp_path / 'cache')}
    assert names == {'check_image', 'load_image'}
    with pytest.raises(ValueError, match='cache_features is on, but a convolution is trained'):
        finetune.finetune(dataclasses.replace(
            small_settings, train_layers=layers, cache_features='on'))


@pytest.mark.slow
@pytest.mark.cpu
def test_bfloat16_learns_with_float32_variables(small_run, tmp_path):
    rows = small_run(precision='bfloat16', num_epochs=1)
    reader = tf.train.load_checkpoint(str(tmp_path / 'run' / 'checkpoints' / 'last-1'))
    types = set(reader.get_variable_to_dtype_map().values())
    assert types == {tf.float32, tf.int64}  # int64: the global step
    assert np.isfinite(rows[0]['val_loss'])


@pytest.mark.slow
def test_dropout_rate_is_the_fraction_dropped(small_settings, small_run):
    """At rate 0, a step sees the network that was validated before it.

    If the rate were the fraction that is kept, nothing would be left of fc6 and fc7, and nothing
    but fc8's biases could learn.
    """
    rows = small_run(dropout_rate=0.0, learning_rate=2e-5, num_epochs=4, batch_size=10,
                     val_file=small_settings.train_file)
    for before, row in zip(rows, rows[1:], strict=False):
        assert row['train_loss'] == pytest.approx(before['val_loss'], rel=1e-3, abs=1e-4)
    assert rows[-1]['val_loss'] < 0.9 * rows[0]['train_loss']


@pytest.mark.slow
def test_patience_ends_a_run_that_gets_no_better(small_run, tmp_path, capsys):
    """With a step so small that nothing changes, the first epoch stays the best one."""
    rows = small_run(learning_rate=1e-20, num_epochs=9, patience=2)
    assert len(rows) == 3
    assert 'stopped: 2 epochs without a better one' in capsys.readouterr().out
    assert read_checkpoint_name(tmp_path / 'run', 'last') == 'last-3'
    assert read_checkpoint_name(tmp_path / 'run', 'best') == 'best-1'


@pytest.mark.slow
def test_the_learning_rate_follows_the_schedule(small_run):
    """3 epochs of 3 steps: a tenth after each third of the run is a tenth after each epoch."""
    rates = [row['learning_rate'] for row in small_run(lr_schedule='step', num_epochs=3)]
    np.testing.assert_allclose(rates, [1e-5, 1e-6, 1e-7], rtol=1e-5)
