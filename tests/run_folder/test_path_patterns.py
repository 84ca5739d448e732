"""Run folders whose path TensorFlow takes for a pattern; a plain path gives the right values."""

import os
import shutil

import pytest

import export
import finetune
import predict
from run_folder.checkpoint_files import tensorflow_path
from runtime.tf1 import tf
from tests.helpers import run_main

NAMES = ['run [1]', 'a*', 'b?', 'c\\d', '[', ']', '{x,y}', '[!a]', 'ü [ß]']


def save(folder, value):
    """Write a checkpoint x of one variable."""
    with tf.Graph().as_default(), tf.Session() as session:
        saver = tf.train.Saver([tf.Variable(value, name='value')])
        session.run(tf.global_variables_initializer())
        with tensorflow_path(f'{folder}/x') as path:
            saver.save(session, path, write_meta_graph=False, write_state=False)


def read(folder):
    """Return the value of the variable, restored and read."""
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.Variable(0.0, name='value')
        with tensorflow_path(f'{folder}/x') as path:
            tf.train.Saver([variable]).restore(session, path)
            return (session.run(variable),
                    tf.train.NewCheckpointReader(path).get_tensor('value'))


@pytest.mark.parametrize('has_proc', [True, False])
@pytest.mark.parametrize('name', NAMES)
def test_a_checkpoint_is_written_and_read(name, has_proc, tmp_path, monkeypatch):
    isdir = os.path.isdir
    if not has_proc:  # as on macOS
        monkeypatch.setattr(os.path, 'isdir', lambda path: path != '/proc/self/fd' and isdir(path))
    folders = [tmp_path / name, tmp_path / 'plain', tmp_path / 'run 1']  # [1] matches 1
    for number, folder in enumerate(folders, 1):
        folder.mkdir()
        save(folder, float(number))
    assert [read(folder) for folder in folders] == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
    assert {file.name for file in folders[0].iterdir()} == {
        file.name for file in folders[1].iterdir()}


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, tensorflow_path(f'{tmp_path}/[x]/y'):
        pass
    assert caught.value.filename == f'{tmp_path}/[x]'


def test_no_descriptor_stays_open(tmp_path):
    (tmp_path / '[x]').mkdir()
    before = len(os.listdir('/proc/self/fd'))
    for _ in range(5):
        with tensorflow_path(f'{tmp_path}/[x]/y') as path:
            assert os.path.samefile(os.path.dirname(path), tmp_path / '[x]')
    assert len(os.listdir('/proc/self/fd')) == before


@pytest.fixture
def strange_run(run_copy, tmp_path):
    """A finished run in a folder whose name is a pattern."""
    (tmp_path / 'of [me] *?').mkdir()
    return shutil.move(run_copy, tmp_path / 'of [me] *?' / 'run\\1')


@pytest.mark.slow
@pytest.mark.cpu
def test_every_command_takes_the_run(finished_run, strange_run, tmp_path, monkeypatch, capsys):
    lists = finished_run.parent / 'val.txt'
    _, wanted, _ = run_main(predict.main, [finished_run, lists], capsys)
    status, out, errors = run_main(predict.main, [strange_run, lists], capsys)
    assert (status, out) == (0, wanted), errors
    monkeypatch.chdir(strange_run)  # the path becomes absolute
    status, out, errors = run_main(predict.main, ['checkpoints/best-2', lists], capsys)
    assert status == 0 and out, errors
    status, _, errors = run_main(
        export.main, [strange_run, '--saved_model', tmp_path / 'model'], capsys)
    assert status == 0, errors
    status, out, errors = run_main(
        finetune.main, ['--resume', strange_run, '--num_epochs', '3'], capsys)
    assert status == 0 and '3/3' in out, errors


@pytest.mark.slow
def test_a_broken_checkpoint_is_named_by_its_own_path(strange_run, capsys):
    index = os.path.join(strange_run, 'checkpoints', 'frozen.index')
    with open(index, 'r+b') as file:
        file.truncate(20)
    for main, words in ((predict.main, [strange_run, 'x.jpg']),
                        (finetune.main, ['--resume', strange_run, '--num_epochs', '3'])):
        status, _, errors = run_main(main, words, capsys)
        assert status == 2 and f'{strange_run}/checkpoints/frozen' in errors, errors
