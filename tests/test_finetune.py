"""A run as a user starts it, and what it leaves."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import finetune
from alexnet import LAYERS
from datagenerator import ImageDataGenerator
from finetune import Settings
from inputs.lists import read_datasets, read_list
from runtime.tf1 import open_session, tf
from tests.helpers import FC_LAYERS, ROOT, read_checkpoint_name, read_csv
from training.devices import Devices
from training.graph import build_training_graph
from training.setup import make_setup

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def run(small_settings, tmp_path_factory):
    """(best accuracy, its epoch, run folder) of a small run."""
    run_dir = tmp_path_factory.mktemp('runs') / 'run'
    yield finetune.finetune(dataclasses.replace(small_settings, run_dir=str(run_dir)))
    shutil.rmtree(run_dir / 'checkpoints')  # pytest keeps temporary folders, and these are large


def test_the_script_as_a_user_runs_it(small_settings, run_dir, tmp_path):
    """One epoch in a process of its own: nothing but the run's own words is on the screen."""
    words = [sys.executable, os.path.join(ROOT, 'finetune.py'),
             '--train_file', small_settings.train_file, '--val_file', small_settings.val_file,
             '--weights_path', small_settings.weights_path, '--train_layers', *FC_LAYERS,
             '--num_epochs', '1', '--run_dir', 'run']
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, '') and done.stdout.isascii()
    lines = done.stdout.splitlines()
    assert lines[14].startswith('pool5 of 15 views')  # one of 10 images each, and 5
    assert lines[15].startswith('  epoch  train loss') and lines[16].split()[0] == '1/1'
    assert lines[17].startswith('best epoch 1: ')
    accuracy = float(read_csv(f'{run_dir}/metrics.csv')[0]['val_accuracy'])
    assert lines[-1] == f'best val_accuracy {accuracy:.4f} (epoch 1) in run'


def test_the_run_folder_has_all_files(run):
    _, best_epoch, folder = run
    names = {re.sub(r'\.tfevents\..*', '', name) for name in os.listdir(folder)}
    assert names - {'mistakes.jpg'} == {
        '.lock', 'settings.json', 'labels.txt', 'metrics.csv', 'checkpoints', 'events.out',
        'confusion_matrix.csv', 'val_predictions.csv', 'curves.png', 'confusion_matrix.png',
        'report.html'}
    with open(os.path.join(folder, 'labels.txt')) as file:
        assert file.read() == 'dark\nbright\n'
    assert read_checkpoint_name(folder, 'best') == f'best-{best_epoch}'
    assert read_checkpoint_name(folder, 'last') == 'last-2'


def test_every_setting_is_in_settings_json(run):
    with open(os.path.join(run[2], 'settings.json')) as file:
        written = json.load(file)
    assert {field.name for field in dataclasses.fields(Settings)} <= set(written)
    assert written['num_classes'] == 2 and written['seed'] == 0
    assert written['skip_layers'] == list(FC_LAYERS)


def test_metrics_are_counted_over_the_whole_lists(run):
    best_accuracy, best_epoch, folder = run
    rows = read_csv(os.path.join(folder, 'metrics.csv'))
    assert [row['epoch'] for row in rows] == ['1', '2']
    for row in rows:
        assert float(row['val_accuracy']) * 5 in range(6)  # 5 images in batches of 4 and 1
        assert round(float(row['train_accuracy']) * 10, 6) in range(11)
    accuracies = [float(row['val_accuracy']) for row in rows]
    assert best_accuracy == max(accuracies)
    assert best_epoch == 1 + accuracies.index(best_accuracy)


def test_event_files_stay_small_and_carry_no_graph(run):
    [name] = [name for name in os.listdir(run[2]) if 'tfevents' in name]
    assert os.path.getsize(os.path.join(run[2], name)) < 1 << 20


def test_every_group_is_in_the_event_file(run):
    events = EventAccumulator(run[2]).Reload()
    tags = events.Tags()
    shown = {*tags['scalars'], *tags['histograms'], *tags['images']}
    assert {'train/loss', 'val/accuracy', 'weights/fc6/dead_relus',
            'weights/fc6/weights_gradient', 'weights/fc8/biases', 'images/first_batch',
            'images/conv1_filters', 'images/confusion_matrix'} <= shown
    gradient = events.Histograms('weights/fc6/weights_gradient')[-1].histogram_value
    assert gradient.min < 0 < gradient.max


def test_predictions_agree_with_the_metrics(run, small_settings):
    best_accuracy, _, folder = run
    rows = read_csv(os.path.join(folder, 'val_predictions.csv'))
    image_list = read_list(small_settings.val_file, ['dark', 'bright'])
    assert [row['path'] for row in rows] == image_list.paths
    assert np.mean([row['class'] == row['predicted'] for row in rows]) == best_accuracy
    assert all(0.5 <= float(row['probability']) <= 1 for row in rows)


def test_predictions_keep_the_order_of_the_list_over_batches(
        run, small_run, tmp_path, monkeypatch):
    """The same run, validated in batches of 4 and 1 in place of one batch."""
    make_batches = finetune.make_batches

    def make_small_batches(*arguments):
        generators, sources = make_batches(*arguments)
        sources[1].batches.eval_batch_size = 1
        return generators, sources
    monkeypatch.setattr(finetune, 'make_batches', make_small_batches)
    small_run()
    whole, parts = (read_csv(os.path.join(folder, 'val_predictions.csv'))
                    for folder in (run[2], tmp_path / 'run'))
    for expected, got in zip(whole, parts, strict=True):
        probability = float(expected.pop('probability'))
        assert float(got.pop('probability')) == pytest.approx(probability, abs=1e-3)
        assert got == expected


def checkpoint_logits(run_dir, settings):
    """Restore the checkpoint last-2 into a new graph.

    Returns (logits, one-hot labels) of the validation list, as one batch.
    """
    datasets, _ = read_datasets(settings.train_file, settings.val_file)
    checkpoints = os.path.join(run_dir, 'checkpoints')
    with tf.Graph().as_default(), open_session() as session:
        setup = make_setup(settings, datasets, settings.weights_path)
        model = build_training_graph(setup, Devices()).model
        frozen = [variable for layer in LAYERS if layer not in FC_LAYERS
                  for variable in model.variables[layer]]
        others = [variable for variable in tf.global_variables() if variable not in frozen]
        tf.train.Saver(frozen).restore(session, os.path.join(checkpoints, 'frozen'))
        tf.train.Saver(others).restore(session, os.path.join(checkpoints, 'last-2'))
        assert session.run(tf.train.get_global_step()) == 6  # 10 images in batches of 4, twice
        images, labels = ImageDataGenerator(datasets.val).next_batch(5)
        return session.run(model.fc8, {model.x: images}).astype(np.float64), labels


def test_the_validation_loss_is_that_of_the_checkpoint(run, small_settings):
    """The loss is computed by NumPy: log-sum-exp of the logits less the logit of the label."""
    logits, labels = checkpoint_logits(run[2], small_settings)
    row = read_csv(os.path.join(run[2], 'metrics.csv'))[-1]
    shifted = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - (shifted * labels).sum(1)
    np.testing.assert_allclose(float(row['val_loss']), losses.mean(), rtol=1e-4, atol=1e-6)
    is_correct = logits.argmax(1) == labels.argmax(1)
    assert float(row['val_accuracy']) == is_correct.mean()
