import json
import os
import signal
import subprocess
import sys

import pytest

from run_folder.folder import FORMAT, LOCK, RunFolder
from runtime.tf1 import tf
from tests.helpers import ROOT

# Holds the folder that its argument names until it is killed.
HOLDER = '''
import sys; sys.path.insert(0, sys.argv[1])
from filelock import FileLock
lock = FileLock(sys.argv[2])
lock.acquire()
print('held', flush=True); sys.stdin.read()
'''


SETTINGS = {'num_classes': 2, 'image_mean': [104.0, 117.0, 124.0], 'precision': 'float32'}  # that are read again


def begin(path, settings=None):
    with RunFolder(path) as folder:
        folder.write(settings or SETTINGS, ['Käfer', 'red ant'])
    return folder.path


def test_a_new_folder_each_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {begin(None) for _ in range(3)}
    assert len(folders) == 3 and all(os.path.dirname(folder) == 'runs' for folder in folders)


def test_a_folder_with_other_content_is_refused_and_kept(tmp_path):
    (tmp_path / 'precious').write_text('x')
    for path in (tmp_path, tmp_path / 'precious'):
        with pytest.raises(ValueError, match='exists already, and is not a run'), RunFolder(str(path)):
            pass
    for path in (tmp_path / 'precious' / 'run', tmp_path / 'precious' / 'deep' / 'er'):
        with pytest.raises(ValueError, match='precious is no folder that can be written to'), RunFolder(str(path)):
            pass
    assert os.listdir(tmp_path) == ['precious']


def test_of_two_runs_that_begin_in_one_folder_the_second_is_refused(tmp_path):
    with RunFolder(str(tmp_path / 'run')) as first, RunFolder(str(tmp_path / 'run')) as second:
        first.write({'seed': 1}, ['a', 'b'])
        with pytest.raises(ValueError, match='in use by another run'):
            second.write({'seed': 2}, ['c', 'd'])
    with pytest.raises(ValueError, match='exists already'):  # nor once the first has ended
        second.write({'seed': 2}, ['c', 'd'])
    assert json.loads((tmp_path / 'run' / 'settings.json').read_text())['seed'] == 1


def test_what_is_left_of_a_run_killed_while_it_began_is_taken_over(tmp_path):
    (tmp_path / LOCK).touch()
    (tmp_path / 'settings.json.part-17').write_text('{"form')
    begin(str(tmp_path))
    with RunFolder(str(tmp_path), must_exist=True) as folder:
        assert folder.settings['format'] == FORMAT


def test_settings_and_class_names(tmp_path):
    begin(str(tmp_path / 'run'), {'seed': 3, 'train_layers': ('fc8',), 'num_classes': 2})
    settings = json.loads((tmp_path / 'run' / 'settings.json').read_text(encoding='utf-8'))
    assert settings['format'] == FORMAT and settings['seed'] == 3 and settings['train_layers'] == ['fc8']
    assert settings['versions']['tensorflow'] == tf.__version__
    assert (tmp_path / 'run' / 'labels.txt').read_text(encoding='utf-8') == 'Käfer\nred ant\n'


def test_a_run_that_is_held_is_refused_at_once_and_free_when_its_process_is_killed(tmp_path):
    path = begin(str(tmp_path / 'run'))
    holder = subprocess.Popen([sys.executable, '-c', HOLDER, ROOT, os.path.join(path, LOCK)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == 'held\n'
    with pytest.raises(ValueError, match='in use by another run'), RunFolder(path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with RunFolder(path) as folder:
        assert folder.settings


def test_to_go_on_there_must_be_a_run(tmp_path):
    with pytest.raises(ValueError, match='nothing to go on with'):
        RunFolder(str(tmp_path), must_exist=True)
