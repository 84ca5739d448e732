import json
import os
import signal
import subprocess
import sys

import pytest

from run_folder.folder import FORMAT, LOCK, RunFolder
from runtime.tf1 import tf

# Locks the file that its argument names until it is killed.
HOLDER = '''
import fcntl, sys
file = open(sys.argv[1], 'a')
fcntl.flock(file, fcntl.LOCK_EX)
print('held', flush=True)
sys.stdin.read()
'''
# The settings that are read again.
SETTINGS = {'num_classes': 2, 'image_mean': [104.0, 117.0, 124.0], 'precision': 'float32'}


def begin(path, settings=None):
    """Start a run, which ends at once; return its folder."""
    with RunFolder(path) as folder:
        folder.write(settings or SETTINGS, ['Käfer', 'red ant'])
    return folder.path


def test_each_run_has_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {begin(None) for _ in range(3)}
    assert len(folders) == 3 and all(os.path.dirname(folder) == 'runs' for folder in folders)


def refused(message, path):
    """Check that a run cannot start or resume in a folder."""
    with pytest.raises(ValueError, match=message), RunFolder(str(path)):
        pass


def test_a_folder_with_other_content_is_refused_and_kept(tmp_path):
    (tmp_path / 'precious').write_text('x')
    for path in (tmp_path, tmp_path / 'precious'):
        refused('exists already, and is not a run', path)
    for path in (tmp_path / 'precious' / 'run', tmp_path / 'precious' / 'deep' / 'er'):
        refused('precious is no folder that can be written to', path)
    assert os.listdir(tmp_path) == ['precious']


def test_of_two_runs_that_start_in_a_folder_one_is_refused(tmp_path):
    with RunFolder(str(tmp_path / 'run')) as first, RunFolder(str(tmp_path / 'run')) as second:
        first.write({'seed': 1}, ['a', 'b'])
        with pytest.raises(ValueError, match='in use by another run'):
            second.write({'seed': 2}, ['c', 'd'])
    with pytest.raises(ValueError, match='exists already'):  # nor once the first has ended
        second.write({'seed': 2}, ['c', 'd'])
    assert json.loads((tmp_path / 'run' / 'settings.json').read_text())['seed'] == 1


def test_a_run_killed_at_its_very_start_is_taken_over(tmp_path):
    (tmp_path / LOCK).touch()
    (tmp_path / 'settings.json.part-17').write_text('{"form')
    begin(str(tmp_path))
    with RunFolder(str(tmp_path), must_exist=True) as folder:
        assert folder.settings['format'] == FORMAT


def test_settings_and_class_names(tmp_path):
    begin(str(tmp_path / 'run'), {'seed': 3, 'train_layers': ('fc8',), 'num_classes': 2})
    settings = json.loads((tmp_path / 'run' / 'settings.json').read_text(encoding='utf-8'))
    assert settings['format'] == FORMAT and settings['seed'] == 3
    assert settings['train_layers'] == ['fc8']
    assert settings['versions']['tensorflow'] == tf.__version__
    assert (tmp_path / 'run' / 'labels.txt').read_text(encoding='utf-8') == 'Käfer\nred ant\n'


def test_a_run_is_locked_until_its_process_is_killed(tmp_path):
    path = begin(str(tmp_path / 'run'))
    holder = subprocess.Popen([sys.executable, '-c', HOLDER, os.path.join(path, LOCK)], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == 'held\n'
    refused('in use by another run', path)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with RunFolder(path) as folder:
        assert folder.settings


def test_only_a_run_can_be_resumed(tmp_path):
    with pytest.raises(ValueError, match='nothing to resume'):
        RunFolder(str(tmp_path), must_exist=True)


def test_unfinished_files_of_a_killed_run_are_deleted(tmp_path):
    """A kill while report.html is written leaves a part of it, which nothing else would delete."""
    path = tmp_path / 'run'
    begin(str(path))
    for name in ('report.html.part-17', 'my.part-list', 'report.html'):
        (path / name).touch()
    with RunFolder(str(path), must_exist=True):
        assert set(os.listdir(path)) >= {'my.part-list', 'report.html', 'settings.json'}
        assert not (path / 'report.html.part-17').exists()
