"""Starter weights in place of ImageNet's: what finetune.py does with them."""

import csv
import dataclasses
import json
import os
import shutil

import pytest

import finetune
from finetune import STARTER_WARNING, Settings
from runtime.tf1 import tf
from tests.helpers import ROOT, run_main, write_list
from training.setup import choose_layers
from weight_files.find import STARTER_WEIGHTS
from weight_files.reader import read_weights

STARTER = os.path.join(ROOT, STARTER_WEIGHTS)
FC_LAYERS = ('fc6', 'fc7', 'fc8')


@pytest.fixture
def flags(tmp_path, monkeypatch):
    """Flags of a run of two images and two more in tmp_path / 'run'; `auto` finds no ImageNet weights: nobody listens on port 9."""
    if os.path.exists(os.path.join(ROOT, 'bvlc_alexnet.npy')):
        pytest.skip('bvlc_alexnet.npy is there')
    monkeypatch.setattr('weight_files.find.BVLC_ALEXNET_URL', 'http://127.0.0.1:9/w.npy')
    images = os.path.join(ROOT, 'sample', 'images', 'train')
    for number, name in enumerate(('train', 'val')):
        write_list(tmp_path / f'{name}.txt', [f'{images}/{shape}/{number:02d}.jpg {label}'
                                              for label, shape in enumerate(('circle', 'star'))])
    yield ['--train_file', tmp_path / 'train.txt', '--val_file', tmp_path / 'val.txt', '--train_layers', 'fc8',
           '--num_epochs', 1, '--cache_dir', tmp_path / 'cache', '--run_dir', tmp_path / 'run']
    shutil.rmtree(tmp_path / 'run' / 'checkpoints')  # pytest keeps temporary folders, and these are large


def test_they_stand_in_for_weights_that_are_missing_and_a_run_from_them_goes_on(flags, tmp_path, capsys):
    status, _, errors = run_main(finetune.main, flags, capsys)
    assert status == 0 and 'could not be downloaded' in errors.splitlines()[0]
    # At the start and at the end; between them can be what a run of two images makes one wonder about.
    assert errors.splitlines()[1] == errors.splitlines()[-1] == STARTER_WARNING and errors.count(STARTER_WARNING) == 2
    written = json.load(open(tmp_path / 'run' / 'settings.json'))
    assert written['train_layers'] == written['skip_layers'] == list(FC_LAYERS)
    frozen = tf.train.load_checkpoint(str(tmp_path / 'run' / 'checkpoints' / 'frozen'))
    for layer, pair in read_weights(STARTER).items():
        for name, values in zip(('weights', 'biases'), pair):
            assert (frozen.get_tensor(f'{layer}/{name}') == values).all()
    status, _, errors = run_main(finetune.main, ['--resume', tmp_path / 'run', '--num_epochs', 2], capsys)
    assert status == 0 and errors.splitlines()[0] == errors.splitlines()[-1] == STARTER_WARNING
    assert errors.splitlines().count(STARTER_WARNING) == 2
    assert [row['epoch'] for row in csv.DictReader(open(tmp_path / 'run' / 'metrics.csv'))] == ['1', '2']


@pytest.mark.parametrize('train_layers, skip_layers, expected', [
    (('fc8',), None, (FC_LAYERS, FC_LAYERS)),
    (('fc8', 'conv5'), (), (('conv5', *FC_LAYERS), FC_LAYERS)),
    (('conv5',), None, (('conv5', *FC_LAYERS), ('conv5', *FC_LAYERS)))])
def test_layers_that_they_lack_are_trained_whatever_is_said(train_layers, skip_layers, expected):
    settings = Settings(train_layers=train_layers, skip_layers=skip_layers)
    assert choose_layers(settings, STARTER) == expected
    again = dataclasses.replace(settings, train_layers=expected[0], skip_layers=expected[1])  # as a run that goes on
    assert choose_layers(again, os.path.relpath(STARTER)) == expected
