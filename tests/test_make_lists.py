import hashlib
import os
import shutil
from collections import Counter

import cv2
import numpy as np
import pytest

import make_lists
from inputs.checks import read_checked_datasets
from inputs.class_names import read_class_names
from inputs.lists import read_list
from make_lists import hash_fraction
from tests.helpers import run_main, shared


def picture(path, colour):
    """Write a small picture that differs for each colour number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 8, 3), (colour % 256, colour // 256, 9), np.uint8))


@pytest.fixture
def photos(tmp_path):
    """A folder photos/ with 100 pictures of ants and 50 of bees in class folders."""
    for n in range(150):
        picture(tmp_path / 'photos' / ('ant', 'bee')[n // 100] / f'{n:03d} é.png', n)
    return tmp_path / 'photos'


@pytest.fixture
def run(capsys):
    """Function that runs make_lists.py; (exit status, standard output, standard error)."""
    return lambda *arguments: run_main(make_lists.main, arguments, capsys)


def lists_of(folder):
    """Return {path of an image below photos/: 'train' or 'val'}, after a check of the labels."""
    names, subsets = read_class_names(str(folder / 'labels.txt')), {}
    for subset in ('train', 'val'):
        image_list = read_list(str(folder / f'{subset}.txt'))
        for path, label in zip(image_list.paths, image_list.labels, strict=True):
            assert os.path.isfile(path) and f'/{names[label]}/' in path
            subsets[path.split('photos/')[1]] = subset
    return subsets


def test_class_folders_are_split_by_class(photos, tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, shown, _ = run('photos')
    subsets = lists_of(tmp_path)
    assert status == 0 and len(subsets) == 150 and read_class_names('labels.txt') == ['ant', 'bee']
    for name, count in (('ant', 100), ('bee', 50)):
        val = [path for path, subset in subsets.items()
               if path.startswith(name) and subset == 'val']
        assert 0.1 < len(val) / count < 0.3
    count = Counter(subsets.values())
    assert shown == (f'2 classes, {count["train"]} images in train.txt, '
                     f'{count["val"]} in val.txt\n')
    assert not any(map(os.path.isabs, (tmp_path / 'train.txt').read_text().splitlines()))


def test_an_image_stays_in_its_subset(photos, tmp_path, run):
    run(photos, '--output', tmp_path)
    before = lists_of(tmp_path)
    for n in range(200, 500):
        picture(photos / ('ant', 'bee', 'wasp')[n % 3] / f'{n}.png', n)
    run(photos, '--output', tmp_path, '--force')
    after = lists_of(tmp_path)
    assert len(after) == 450 and {path: after[path] for path in before} == before
    (tmp_path / 'elsewhere').mkdir()
    shutil.move(photos, tmp_path / 'elsewhere' / 'photos')
    run(tmp_path / 'elsewhere' / 'photos', '--output', tmp_path, '--force')
    assert lists_of(tmp_path) == after
    run(tmp_path / 'elsewhere' / 'photos', '--output', tmp_path, '--force', '--seed', 1)
    assert lists_of(tmp_path) != after


def test_train_and_val_folders_are_kept(tmp_path, run):
    for n in range(8):
        folder = tmp_path / 'photos' / ('train', 'val')[n % 2] / ('x', 'y')[n // 4]
        picture(folder / 'deeper' / f'{n}.png', n)
    assert run(tmp_path / 'photos', '--output', tmp_path)[0] == 0
    subsets = lists_of(tmp_path)
    assert len(subsets) == 8 and all(path.startswith(subset) for path, subset in subsets.items())


@pytest.fixture
def odd_folder(tmp_path):
    """A folder photos/ with train/ and val/ that holds one or more of every oddity."""
    photos = tmp_path / 'photos'
    for n in range(8):
        picture(photos / ('train', 'val')[n % 2] / ('ant', 'bee')[n // 4] / f'{n}.png', n)
    picture(photos / 'train' / 'single' / 'one.png', 8)
    picture(photos / 'val' / 'lonely' / '1.png', 9)
    picture(photos / 'val' / 'lonely' / '2.png', 10)
    picture(photos / 'val' / 'ant' / 'copy.png', 0)  # of train/ant/0.png
    picture(photos / 'val' / 'ant' / '.hidden.png', 11)
    picture(photos / 'train' / '.thumbnails' / 'x.png', 12)
    picture(photos / 'train' / 'ant' / '.trash' / 'y.png', 13)
    (photos / 'train' / 'empty').mkdir()
    (photos / 'train' / 'ant' / 'Thumbs.db').write_bytes(b'\xd0\xcf\x11\xe0')
    (photos / 'train' / 'ant' / 'notes.jpg').write_text('text')
    content = (photos / 'train' / 'ant' / '0.png').read_bytes()
    (photos / 'train' / 'ant' / 'cut.png').write_bytes(content[:50])
    (photos / 'train' / 'readme.txt').write_text('text')
    picture(photos / 'test' / 'ant' / 'x.png', 14)
    (photos / 'train' / 'ant' / 'link').symlink_to(photos / 'test')
    return photos


def test_what_is_left_out_or_odd_is_reported(odd_folder, tmp_path, run):
    status, shown, _ = run(odd_folder, '--output', tmp_path)
    assert status == 0 and len(lists_of(tmp_path)) == 12
    assert read_class_names(str(tmp_path / 'labels.txt')) == ['ant', 'bee', 'lonely', 'single']
    for line in ('3 hidden files are left out: ',
                 '1 files outside the class folders are left out: readme.txt',
                 '1 links to folders are left out: link',
                 '1 files and folders beside train and val are left out: test',
                 '2 files are left out: not a JPEG, PNG, WebP, GIF, BMP or TIFF picture: '
                 'train/ant/Thumbs.db, train/ant/notes.jpg',
                 '1 files are left out: the PNG file is cut off: train/ant/cut.png',
                 '1 class folders hold no image and are left out: empty',
                 '1 classes have a single image: single',
                 '1 classes have no image in train.txt: lonely',
                 '1 classes have no image in val.txt: single',
                 '1 validation images are the same as a training image: '
                 'val/ant/copy.png = train/ant/0.png'):
        assert any(row.startswith(line) for row in shown.splitlines()), shown


def test_a_class_of_two_has_one_in_each_list(tmp_path, run):
    for n in range(40):
        picture(tmp_path / 'photos' / f'{n // 2}' / f'{n}.png', n)
    run(tmp_path / 'photos', '--output', tmp_path)
    for name in ('train.txt', 'val.txt'):
        assert np.bincount(read_list(str(tmp_path / name)).labels).tolist() == [1] * 20
    names = read_class_names(str(tmp_path / 'labels.txt'))
    assert names == [str(n) for n in range(20)]  # not 0, 1, 10, 11


def test_a_list_is_never_empty(tmp_path, run):
    for name in ('ant', 'bee'):
        picture(tmp_path / 'photos' / name / '0.png', len(name))
    status, _, shown = run(tmp_path / 'photos', '--output', tmp_path)
    assert status == 2 and 'no image is left for val.txt' in shown
    assert os.listdir(tmp_path) == ['photos']


def test_hash_fraction_is_even_and_follows_from_name_and_seed():
    fractions = [hash_fraction(f'ant/{n}.jpg', 0) for n in range(10000)]
    assert np.histogram(fractions, 10, (0, 1))[0].min() > 900
    assert hash_fraction('ant/0.jpg', 1) != fractions[0]
    digest = hashlib.blake2b(b'0/a', digest_size=8).digest()
    assert hash_fraction('a', 0) == int.from_bytes(digest, 'big') / 2**64


def test_existing_lists_are_only_replaced_with_force(photos, tmp_path, run):
    (tmp_path / 'val.txt').write_text('precious')
    status, _, shown = run(photos, '--output', tmp_path)
    assert status == 2 and shown.count('\n') == 1 and 'val.txt in' in shown and '--force' in shown
    assert sorted(os.listdir(tmp_path)) == ['photos', 'val.txt']
    assert (tmp_path / 'val.txt').read_text() == 'precious'
    assert run(photos, '--output', tmp_path, '--force')[0] == 0
    assert len(lists_of(tmp_path)) == 150


def test_all_lists_are_written_or_none(photos, tmp_path, run):
    (tmp_path / 'other' / 'val.txt').mkdir(parents=True)  # no file can replace it
    status, _, shown = run(photos, '--output', tmp_path / 'other', '--force')
    assert status == 2 and 'val.txt in' in shown
    assert os.listdir(tmp_path / 'other') == ['val.txt']
    in_the_way = f'labels.txt.part-{os.getpid()}'  # the third list cannot be written
    (tmp_path / 'lists' / in_the_way).mkdir(parents=True)
    assert run(photos, '--output', tmp_path / 'lists')[0] == 2
    assert os.listdir(tmp_path / 'lists') == [in_the_way]


@pytest.mark.parametrize('arguments, named', [
    (['gone'], 'gone is no folder'), (['.'], 'two or more class folders'),
    ([], 'required: folder'), (['photos', '--val', '1'], 'val 1.0 is not a number, above 0'),
    (['photos', '--val', '0'], 'val 0.0 is not'), (['photos', '--val', 'nan'], 'val nan is not'),
    (['gone', '--output', 'nowhere'], '--output nowhere is no folder')])
def test_wrong_arguments_end_in_a_line(photos, tmp_path, run, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    status, _, shown = run(*arguments)
    assert status == 2 and named in shown and shown.count('\n') == 1
    assert os.listdir(tmp_path) == ['photos']


@pytest.mark.parametrize('subsets', [('train', 'test'), ('Train', 'Validation', 'Test')])
def test_train_and_test_are_no_classes(tmp_path, run, subsets):
    for n in range(12):
        folder = tmp_path / 'photos' / subsets[n % len(subsets)] / ('x', 'y')[n // 6]
        picture(folder / f'{n}.png', n)
    status, _, shown = run(tmp_path / 'photos', '--output', tmp_path)
    assert status == 2 and 'are no classes' in shown and shown.count('\n') == 1
    assert os.listdir(tmp_path) == ['photos']


def test_names_that_a_list_cannot_hold_are_left_out(photos, tmp_path, run):
    picture(photos / 'ant' / 'line\nbreak.png', 1)
    picture(photos / 'ant' / 'tab\there.png', 200)
    os.rename(photos / 'ant' / '000 é.png', os.fsencode(photos / 'ant') + b'/latin \xe9.png')
    shown = run(photos, '--output', tmp_path)[1]
    assert '1 files are left out: a list cannot hold their names: ant/line\\nbreak.png' in shown
    assert len(lists_of(tmp_path)) == 151


def test_photos_need_no_other_preparation(tmp_path, run, capsys):
    """Hymenoptera, with its stray GIF: finetune.py's own reading of the lists, files and all."""
    photos = shared('data', 'hymenoptera')
    assert run(photos, '--output', tmp_path)[0] == 0
    data = read_checked_datasets(
        str(tmp_path / 'train.txt'), str(tmp_path / 'val.txt'), None, None, skip_broken=False,
        cache_dir=str(tmp_path / 'cache'), num_threads=None)
    assert data.class_names == ['ants', 'bees'] and capsys.readouterr().err == ''
    count = sum(not name.startswith('.') for _, _, names in os.walk(photos) for name in names)
    listed = len(data.train.paths) + len(data.val.paths)
    assert count - listed in (0, 1)  # the GIF, if this OpenCV does not read GIF
