"""make_lists.py and the names of folders. The shell decides whether a listed file exists."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

import make_lists
from inputs.class_names import read_class_names
from inputs.lists import read_list
from tests.helpers import ROOT, run_main

# Reads lines as people do: the label after the last blank, the path before it.
EXISTING_FILES = '''
while read -r line; do test -f "${line% *}" && echo "${line##* }"; done < train.txt'''


def write_classes(folder, names):
    """Write three images that differ into each of these folders."""
    for n, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            pixels = np.full((8, 8, 3), (n, number, 9), np.uint8)
            (folder / name / f'{number}.png').write_bytes(cv2.imencode('.png', pixels)[1].tobytes())


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Function that runs make_lists.py in tmp_path; (status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_main(make_lists.main, arguments, capsys)


@pytest.mark.parametrize('name', ['# photos', ' photos', '\u00a0photos', '\ufeffphotos', '#', '-x'])
def test_folders_of_any_name_can_be_listed(tmp_path, run, name):
    write_classes(tmp_path / name, ['ants', 'bees'])
    status, shown, _ = run('--', name)
    assert status == 0 and shown == '2 classes, 4 images in train.txt, 2 in val.txt\n'
    done = subprocess.run(['bash', '-c', EXISTING_FILES], capture_output=True, text=True)
    assert sorted(done.stdout.split()) == ['0', '0', '1', '1']
    assert all(map(os.path.isfile, read_list('train.txt').paths + read_list('val.txt').paths))


def test_a_folder_that_no_list_can_hold_is_named(tmp_path, run):
    write_classes(tmp_path / 'a\nb', ['ants', 'bees'])
    for folder in ('a\nb', tmp_path / 'a\nb'):
        status, _, shown = run(folder)
        assert status == 2 and 'a\\nb: a list cannot hold the name of this folder' in shown
    assert os.listdir() == ['a\nb']


@pytest.mark.parametrize('folders', [
    ['train/K\u00e4fer', 'train/ant', 'val/Ka\u0308fer', 'val/ant'],
    ['K\u00e4fer', 'Ka\u0308fer', 'ant']])
def test_one_class_in_two_forms_of_its_name(tmp_path, run, folders):
    """NFC as bytes: UnicodeData.txt composes U+0061 U+0308 to U+00E4, c3 a4 in UTF-8."""
    write_classes(tmp_path / 'photos', folders)
    assert run('photos')[0] == 0
    assert (tmp_path / 'labels.txt').read_bytes() == b'K\xc3\xa4fer\nant\n'
    listed = [read_list(name) for name in ('train.txt', 'val.txt')]
    assert all(os.path.isfile(path) for part in listed for path in part.paths)
    for part in listed:
        for path, label in zip(part.paths, part.labels, strict=True):
            assert ('ant/' in path) == bool(label)


def test_the_order_of_numbers_does_not_follow_the_hash_seed(tmp_path):
    write_classes(tmp_path / 'photos', ['1', '01', '2', '02', '10'])
    for seed in range(4):
        command = [sys.executable, os.path.join(ROOT, 'make_lists.py'), 'photos', '--force']
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True,
                       env={**os.environ, 'PYTHONHASHSEED': str(seed)})
        assert (tmp_path / 'labels.txt').read_text() == '01\n1\n02\n2\n10\n'


def test_letters_of_all_languages_are_legal_class_names(tmp_path, run):
    names = ['a\u00a0b', '\u0645\u06cc\u200c\u062e\u0648', '\U0001f468\u200d\U0001f467']
    write_classes(tmp_path / 'photos', names)
    status, _, shown = run('photos')
    assert status == 0 and shown == ''
    assert read_class_names('labels.txt') == sorted(names)


@pytest.mark.parametrize('name, named', [
    (b'K\xe4fer', r"class folder 'K\udce4fer': the name is not UTF-8 text; rename it"),
    (b'a\x1b[2J', 'the name holds the control character U+001B; rename it'),
    (b'a\tb', 'a tab in the name'), ('a\u202eb'.encode(), 'the control character U+202E'),
    (b'ants ', "class folder 'ants ': a blank at the start or end; rename it"),
    ('\u00a0ants'.encode(), "class folder '\\xa0ants': a blank at the start or end")])
def test_class_folders_of_illegal_names_are_named(tmp_path, run, name, named):
    write_classes(tmp_path / 'photos', ['ants', os.fsdecode(name)])
    status, _, shown = run('photos')
    assert status == 2 and named in shown and shown.count('\n') == 1
    assert os.listdir() == ['photos']


def test_nas_folders_are_counted(tmp_path, run):
    write_classes(tmp_path / 'photos', ['ants', 'bees', 'ants/@eaDir', 'bees/#recycle', '@eaDir'])
    shown = run('photos')[1]
    assert shown.startswith('3 folders of thumbnails or deleted files are left out: @eaDir, ')
    assert '2 classes, 4 images in train.txt, 2 in val.txt\n' in shown
