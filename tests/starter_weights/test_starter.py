"""Starter weights in place of ImageNet's: how finetune.py uses them."""

import json
import os
import shutil

import pytest

import finetune
from reports.screen import STARTER_WARNING
from runtime.tf1 import tf
from tests.helpers import FC_LAYERS, ROOT, read_csv, run_main, write_list
from training.setup import choose_layers
from weight_files.find import PUBLIC_FILES, STARTER_WEIGHTS, PublicFile
from weight_files.reader import read_weights

STARTER = os.path.join(ROOT, STARTER_WEIGHTS)


@pytest.fixture
def flags(tmp_path, monkeypatch):
    """Flags of a run of two training and two validation images in tmp_path / 'run'.

    `auto` finds no ImageNet weights: nobody listens on port 9.
    """
    monkeypatch.setitem(PUBLIC_FILES, 'auto', [PublicFile('http://127.0.0.1:9/w.npy', None)])
    images = os.path.join(ROOT, 'sample', 'images', 'train')
    for number, name in enumerate(('train', 'val')):
        write_list(tmp_path / f'{name}.txt', [f'{images}/{shape}/{number:02d}.jpg {label}'
                                              for label, shape in enumerate(('circle', 'star'))])
    yield ['--train_file', tmp_path / 'train.txt', '--val_file', tmp_path / 'val.txt',
           '--train_layers', 'fc8', '--num_epochs', 1, '--cache_dir', tmp_path / 'cache',
           '--run_dir', tmp_path / 'run']
    shutil.rmtree(tmp_path / 'run' / 'checkpoints')  # pytest keeps folders, and this one is large


def assert_warned_at_start_and_end(lines):
    """Assert that the warning is the first and the last line, and only these."""
    assert lines[0] == lines[-1] == STARTER_WARNING and lines.count(STARTER_WARNING) == 2


def move_to_older_project(run_dir):
    """Let a run folder name the weights as the older layout did, in a folder that is gone."""
    settings = json.loads((run_dir / 'settings.json').read_text())
    assert settings['weights_path'] == STARTER
    settings['weights_path'] = '/gone/project/sample/starter_weights.npy'
    (run_dir / 'settings.json').write_text(json.dumps(settings))


@pytest.mark.slow
def test_they_replace_missing_weights_and_such_a_run_resumes(flags, tmp_path, capsys):
    status, _, errors = run_main(finetune.main, flags, capsys)
    assert status == 0 and 'could not be downloaded' in errors.splitlines()[0]
    assert_warned_at_start_and_end(errors.splitlines()[1:])
    written = json.loads((tmp_path / 'run' / 'settings.json').read_text())
    assert written['train_layers'] == written['skip_layers'] == list(FC_LAYERS)
    frozen = tf.train.load_checkpoint(str(tmp_path / 'run' / 'checkpoints' / 'frozen'))
    for layer, pair in read_weights(STARTER).items():
        for name, values in zip(('weights', 'biases'), pair, strict=True):
            assert (frozen.get_tensor(f'{layer}/{name}') == values).all()
    move_to_older_project(tmp_path / 'run')
    arguments = ['--resume', tmp_path / 'run', '--num_epochs', 2]
    status, _, errors = run_main(finetune.main, arguments, capsys)
    assert status == 0
    assert_warned_at_start_and_end(errors.splitlines())
    assert [row['epoch'] for row in read_csv(tmp_path / 'run' / 'metrics.csv')] == ['1', '2']


@pytest.mark.parametrize('train_layers, skip_layers, expected', [
    (('fc8',), None, (FC_LAYERS, FC_LAYERS)),
    (('fc8', 'conv5'), (), (('conv5', *FC_LAYERS), FC_LAYERS)),
    (('conv5',), None, (('conv5', *FC_LAYERS), ('conv5', *FC_LAYERS)))])
def test_layers_that_they_lack_are_always_trained(train_layers, skip_layers, expected):
    assert choose_layers(train_layers, skip_layers, STARTER) == expected
    # A resumed run names the layers that it chose, perhaps with another path.
    assert choose_layers(*expected, os.path.relpath(STARTER)) == expected
