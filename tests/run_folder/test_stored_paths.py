"""Runs that are resumed from elsewhere; realpath of the shell says which file a path means."""

import json
import os
import shutil
import subprocess

import pytest

import finetune
from finetune import Settings
from run_folder.folder import RunFolder, read_run_settings
from run_folder.resume import parse_run_settings
from run_folder.stored_paths import STORED_PATHS
from tests.helpers import run_main, write_list

SETTINGS = {'num_classes': 2, 'image_mean': [104.0, 117.0, 124.0], 'precision': 'float32'}
PATHS = {'train_file': 'lists/train.txt', 'val_file': '../val.txt', 'labels_file': None,
         'weights_path': 'w.npy', 'cache_dir': './cache'}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The current folder, a/project, with lists; ../val.txt is beside it."""
    folder = tmp_path / 'a' / 'project'
    (folder / 'lists').mkdir(parents=True)
    for path in (folder / 'lists' / 'train.txt', folder.parent / 'val.txt'):
        write_list(path, ['x.png 0', 'y.png 1'])
    monkeypatch.chdir(folder)
    return folder


def begin(run_dir, **settings):
    """Write the settings.json of a run that starts here."""
    with RunFolder(str(run_dir)) as folder:
        folder.write({**SETTINGS, **PATHS, **settings}, ['ant', 'bee'])


def files_of(run_dir):
    """Return {setting: file} of a run as the shell finds the files from here."""
    settings = read_run_settings(str(run_dir))
    return {name: subprocess.run(['realpath', '-m', settings[name]], capture_output=True,
                                 text=True).stdout.strip()
            for name in STORED_PATHS if settings.get(name) is not None}


def expected(project):
    """Return {setting: file} of PATHS in a project."""
    return {name: os.path.normpath(os.path.join(project, path))
            for name, path in PATHS.items() if path}


def test_the_paths_are_those_that_finetune_declares():
    declared = {name for name, field in Settings.__dataclass_fields__.items()
                if field.metadata['is_path']}
    assert declared - {'run_dir', 'resume'} == set(STORED_PATHS)


@pytest.mark.parametrize('run_dir', ['runs/x', './runs//x/', '../runs/x', 'ABSOLUTE'])
def test_paths_are_found_from_anywhere(run_dir, project, tmp_path, monkeypatch):
    run_dir = str(tmp_path / 'else' / 'x') if run_dir == 'ABSOLUTE' else run_dir
    begin(run_dir)
    assert read_run_settings(run_dir)['train_file'] == 'lists/train.txt'  # as it was given
    absolute = os.path.abspath(run_dir)
    monkeypatch.chdir(tmp_path)
    assert files_of(os.path.relpath(absolute)) == expected(project)
    monkeypatch.chdir('/')
    assert files_of(absolute) == expected(project)


def test_a_project_that_is_moved_takes_its_paths_along(project, tmp_path, monkeypatch):
    begin('runs/x')
    monkeypatch.chdir('/')
    (tmp_path / 'a').rename(tmp_path / 'b')
    assert files_of(tmp_path / 'b/project/runs/x') == expected(tmp_path / 'b/project')


def test_a_copied_project_uses_its_own_lists(project, tmp_path, monkeypatch):
    begin('runs/x')
    shutil.copytree(tmp_path / 'a', tmp_path / 'b')
    monkeypatch.chdir(tmp_path / 'b' / 'project')
    assert files_of('runs/x') == expected(tmp_path / 'b/project')
    monkeypatch.chdir('/')
    assert files_of(tmp_path / 'b/project/runs/x') == expected(tmp_path / 'b/project')


@pytest.mark.parametrize('target', ['x', 'archive/runs/x'])
def test_a_run_that_is_moved_alone_finds_its_lists(target, project, tmp_path, monkeypatch):
    begin('runs/x')
    (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.move('runs/x', tmp_path / target)
    monkeypatch.chdir(tmp_path)
    assert files_of(target) == expected(project)


def test_other_lists_of_the_same_name_are_not_taken(project, tmp_path, monkeypatch):
    begin(tmp_path / 'x')
    shutil.copytree(tmp_path / 'a', tmp_path / 'b')
    monkeypatch.chdir(tmp_path / 'b' / 'project')
    assert files_of(tmp_path / 'x') == expected(project)


@pytest.mark.parametrize('run_dir', ['runs/x', 'ABSOLUTE'])
def test_an_older_run_is_found_from_its_folder(run_dir, project, tmp_path, monkeypatch):
    run_dir = str(tmp_path / 'x') if run_dir == 'ABSOLUTE' else run_dir
    begin(run_dir)
    change(run_dir, working_dir=None)
    assert files_of(run_dir) == expected(project)
    if run_dir == 'runs/x':  # its place in the project is known
        monkeypatch.chdir('/')
        assert files_of(project / run_dir) == expected(project)


def change(run_dir, /, **values):
    """Change settings.json; None takes a value out."""
    path = os.path.join(run_dir, 'settings.json')
    with open(path) as file:
        settings = {**json.load(file), **values}
    with open(path, 'w') as file:
        json.dump({name: value for name, value in settings.items() if value is not None}, file)


@pytest.mark.parametrize('value', [7, '', 'relative', 'gone\0', ['a'], '/no/such/folder', {}])
def test_a_wrong_working_dir_is_ignored(value, project):
    begin('runs/x')
    change('runs/x', working_dir=value, run_dir=value)
    assert files_of('runs/x') == expected(project)


def test_words_and_absolute_paths_stay(project, tmp_path, monkeypatch):
    begin('runs/x', weights_path='none', cache_dir='/cache')
    monkeypatch.chdir('/')
    settings = read_run_settings(str(project / 'runs/x'))
    assert settings['weights_path'] == 'none' and settings['cache_dir'] == '/cache'
    assert settings['labels_file'] is None


def test_flags_start_where_they_are_given(project, tmp_path, monkeypatch):
    begin('runs/x')
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    settings = parse_run_settings(
        Settings, ['--resume', '../a/project/runs/x', '--val_file', 'v.txt', '--cache_dir', 'c'])
    assert (settings.val_file, settings.cache_dir) == ('v.txt', 'c')
    assert os.path.samefile(settings.train_file, project / 'lists' / 'train.txt')


def test_a_run_of_a_deleted_folder_can_start(tmp_path, monkeypatch):
    (tmp_path / 'gone').mkdir()
    monkeypatch.chdir(tmp_path / 'gone')
    (tmp_path / 'gone').rmdir()
    begin(tmp_path / 'run')
    monkeypatch.chdir('/')
    assert json.loads((tmp_path / 'run' / 'settings.json').read_text())['working_dir'] is None


@pytest.mark.slow
def test_a_run_is_resumed_twice_from_elsewhere(finished_run, run_copy, monkeypatch, capsys):
    """The weight file is named by a relative path; each time, the run starts at another folder."""
    folder = finished_run.parent
    with open(run_copy / 'settings.json') as file:
        weights = json.load(file)['weights_path']
    change(run_copy, train_file='train.txt', val_file='val.txt', cache_dir='cache',
           weights_path=os.path.relpath(weights, folder), working_dir=str(folder))
    for number, start in enumerate(('/', run_copy.parent), 3):
        monkeypatch.chdir(start)
        words = ['--resume', os.path.relpath(run_copy), '--num_epochs', number]
        words += ['--weights_path', os.path.relpath(weights)] if number == 4 else []
        status, out, errors = run_main(finetune.main, words, capsys)
        assert status == 0 and 'best val_accuracy' in out, errors
    assert not os.path.exists(run_copy.parent / 'cache')
