"""Paths and texts in the settings of every command; the shell says what `~` means."""

import dataclasses
import pathlib
import subprocess

import pytest

import convert_weights
import export
import finetune
import make_lists
import predict
from runtime.flags import parse_settings
from runtime.legal_values import value_type
from starter_weights import pretrain
from tests.helpers import run_main

COMMANDS = [finetune, predict, export, make_lists, convert_weights, pretrain]
TEXTS = {'features', 'checkpoint'}  # the settings of text that name no file
REQUIRED = {'run': 'r', 'inputs': 'i', 'folder': 'f', 'file': 'f'}


def text_fields():
    """Return [(Settings, field)] of all commands' settings of free text."""
    return [(command.Settings, field) for command in COMMANDS
            for field in dataclasses.fields(command.Settings)
            if value_type(field)[0] in (str, tuple[str, ...]) and not field.metadata['choices']]


def path_settings():
    """Return test parameters (Settings, name) of the settings that are paths."""
    return [pytest.param(settings, field.name, id=f'{settings.__module__}-{field.name}')
            for settings, field in text_fields() if field.metadata['is_path']]


def read(settings, name, value):
    """Return the value of a setting that was given to the class."""
    fields = {field.name for field in dataclasses.fields(settings)}
    values = {key: text for key, text in REQUIRED.items() if key in fields}
    value = getattr(settings(**{**values, name: value}), name)
    return value[0] if isinstance(value, tuple) else value


def test_every_setting_of_text_is_declared_a_path():
    names = {field.name for _, field in text_fields() if not field.metadata['is_path']}
    assert names == TEXTS | {'devices'}
    assert len(path_settings()) >= 19


@pytest.mark.parametrize('settings, name', path_settings())
def test_a_home_folder_is_the_one_of_the_shell(settings, name, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    for path in ('~/x y', '~root/x', './~/x', 'a~b', '~'):
        quoted = path.replace('x y', 'x\\ y')
        shell = subprocess.run(['bash', '-c', f'printf %s {quoted}'], capture_output=True,
                               text=True).stdout
        assert read(settings, name, path) == shell
    assert read(settings, name, pathlib.Path('~') / 'x') == f'{tmp_path}/x'


@pytest.mark.parametrize('settings, name', path_settings())
@pytest.mark.parametrize('value', ['', ' ', '\t\n'])
def test_an_empty_path_is_refused_by_name(settings, name, value):
    with pytest.raises(ValueError, match=f'^{name} is empty'):
        read(settings, name, value)


@pytest.mark.parametrize('settings, name', path_settings())
@pytest.mark.parametrize('value', [
    's3://bucket/x', 'gs://bucket', 'https://host/x.npy', 'file:///tmp/x', 'hdfs:/x', 'dbfs:/x',
    'me@host:/x', pathlib.PurePosixPath('s3://bucket/x')])
def test_an_address_is_refused_by_name(settings, name, value):
    with pytest.raises(ValueError, match=f'^{name} .* is an address'):
        read(settings, name, value)


@pytest.mark.parametrize('path', ['C:/photos', 'C:\\photos', 'a:b', './s3:/x', '12:30/x', '/a:/b'])
def test_other_colons_are_parts_of_names(path):
    assert finetune.Settings(run_dir=path).run_dir == path


@pytest.mark.parametrize('settings, name', path_settings())
def test_a_zero_byte_and_an_unknown_home_are_refused(settings, name):
    with pytest.raises(ValueError, match=f'^{name} .* holds a zero byte'):
        read(settings, name, 'a\0b')
    with pytest.raises(ValueError, match=f'^{name} ~nobody-here/x: ~nobody-here is no home'):
        read(settings, name, '~nobody-here/x')


def test_a_name_that_begins_with_a_tilde_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / '~draft.jpg').touch()
    assert predict.Settings('run', '~draft.jpg').inputs == ('~draft.jpg',)


@pytest.mark.parametrize('name', sorted(TEXTS))
def test_an_empty_text_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f'^{name} is empty'):
        parse_settings(predict.Settings, ['run', 'x.jpg', f'--{name}', ''])


def test_none_is_no_path_but_where_it_means_nothing():
    with pytest.raises(ValueError, match='^cache_dir cannot be None'):
        parse_settings(finetune.Settings, ['--cache_dir', 'None'])
    assert parse_settings(finetune.Settings, ['--run_dir', 'None']).run_dir is None
    assert finetune.Settings(run_dir='None').run_dir is None  # as the flag


@pytest.mark.parametrize('flags, word', [
    (['--resume', ''], 'resume is empty'), (['--cache_dir', ''], 'cache_dir is empty'),
    (['--run_dir', 's3://bucket/x'], 'run_dir s3://bucket/x is an address'),
    (['--resume=', '--cache_dir=gs://x'], 'cache_dir gs://x is an address')])
def test_wrong_paths_end_at_once_in_one_line(flags, word, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, out, errors = run_main(finetune.main, flags, capsys)
    assert (status, out, errors.count('\n')) == (2, '', 1) and word in errors
    assert list(tmp_path.iterdir()) == []


def test_a_home_folder_is_read_and_written(tmp_path, monkeypatch, capsys, picture_folder):
    (tmp_path / 'home').mkdir()
    for name in ('ants', 'bees'):
        (tmp_path / 'home' / 'photos' / name).mkdir(parents=True)
        for n in range(2):
            content = (picture_folder / f'{n:02d}.png').read_bytes()
            (tmp_path / 'home' / 'photos' / name / f'{n}.png').write_bytes(content)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path)
    status, _, _ = run_main(make_lists.main, ['~/photos', '--output=~'], capsys)
    assert status == 0 and (tmp_path / 'home' / 'labels.txt').read_text() == 'ants\nbees\n'
    assert [path.name for path in tmp_path.iterdir()] == ['home']
