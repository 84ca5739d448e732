import functools
import os

import cv2
import numpy as np
import pytest

from inputs.checks import find_broken, image_key, list_warnings, read_checked_datasets
from inputs.images import check_image, load_image
from inputs.lists import read_datasets, read_list
from tests.helpers import png_file, write_list


@pytest.fixture
def photos(tmp_path):
    """List of four JPEG files: 0 and 3 are complete, 1 is cut off, 2 is missing."""
    pixels = np.random.RandomState(0).randint(0, 256, (60, 70, 3)).astype(np.uint8)
    content = cv2.imencode('.jpg', pixels)[1].tobytes()
    for n, size in ((0, None), (1, 1000), (3, None)):
        (tmp_path / f'{n}.jpg').write_bytes(content[:size])
    return read_list(write_list(tmp_path / 'list.txt', [f'{n}.jpg 0' for n in range(4)]))


def find_and_record(photos, check, folder):
    """Return (find_broken's result, sorted names of the files that it checked)."""
    checked = []

    @functools.wraps(check)  # find_broken names its memory after the check
    def recorded(path):
        checked.append(os.path.basename(path))
        return check(path)
    broken = find_broken([photos, photos], recorded, str(folder))
    return broken, sorted(checked)


@pytest.mark.parametrize('check', [check_image, load_image])
def test_broken_files_are_found_and_others_remembered(photos, tmp_path, check):
    names = [f'{n}.jpg' for n in range(4)]
    broken, checked = find_and_record(photos, check, tmp_path / 'cache')
    assert list(broken) == photos.paths[1:3] and checked == names
    assert 'cut off' in broken[photos.paths[1]]
    assert 'No such file' in broken[photos.paths[2]]
    assert find_and_record(photos, check, tmp_path / 'cache') == (broken, names[1:3])


@pytest.mark.parametrize('check', [check_image, load_image])
def test_changed_files_are_checked_again(photos, tmp_path, check):
    find_and_record(photos, check, tmp_path / 'cache')
    content = (tmp_path / '0.jpg').read_bytes()
    (tmp_path / '0.jpg').write_bytes(b'')
    (tmp_path / '1.jpg').write_bytes(content)
    broken, checked = find_and_record(photos, check, tmp_path / 'cache')
    assert list(broken) == [photos.paths[0], photos.paths[2]]
    assert checked == ['0.jpg', '1.jpg', '2.jpg']
    assert find_and_record(photos, check, tmp_path / 'cache') == (broken, ['0.jpg', '2.jpg'])


def test_a_careful_replacement_changes_the_key(photos):
    """The same size and time of modification, which `touch` can set."""
    path, state = photos.paths[0], os.stat(photos.paths[0])
    key = image_key(path)
    with open(path, 'r+b') as file:
        file.write(b'other')
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert os.stat(path).st_size == state.st_size and image_key(path) != key


@pytest.mark.parametrize('harm', [
    lambda path: path.write_bytes(b'any other bytes' * 99), lambda path: os.truncate(path, 5),
    lambda path: (path.unlink(), path.mkdir()), lambda path: path.unlink()])
def test_a_harmed_memory_is_checked_again(photos, tmp_path, harm):
    broken, checked = find_and_record(photos, check_image, tmp_path / 'cache')
    memory, = (tmp_path / 'cache').iterdir()
    harm(memory)
    assert find_and_record(photos, check_image, tmp_path / 'cache') == (broken, checked)


def test_a_memory_with_a_partial_key_heals(photos, tmp_path):
    """What a full disk leaves of a key must not shift the keys that are written after it."""
    find_and_record(photos, check_image, tmp_path / 'cache')
    [memory] = (tmp_path / 'cache').iterdir()
    memory.write_bytes(memory.read_bytes() + b'abc')
    (tmp_path / '2.jpg').write_bytes((tmp_path / '0.jpg').read_bytes())
    find_and_record(photos, check_image, tmp_path / 'cache')
    assert memory.stat().st_size == 3 * 16
    assert find_and_record(photos, check_image, tmp_path / 'cache')[1] == ['1.jpg']


def test_a_folder_that_cannot_be_written_is_no_error(photos, tmp_path):
    (tmp_path / 'cache').write_text('a file')
    assert len(find_broken([photos], check_image, str(tmp_path / 'cache'))) == 2


def test_files_checked_before_an_interruption_are_remembered(photos, tmp_path):
    def interrupted(results, count):
        for _, result in zip(range(3), results, strict=False):
            yield result
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        find_broken([photos], check_image, str(tmp_path / 'cache'), progress=interrupted)
    assert '0.jpg' not in find_and_record(photos, check_image, tmp_path / 'cache')[1]


@pytest.fixture
def read(photos, tmp_path):
    """Function of skip_broken, and more options, that reads the list of `photos` twice."""
    def read(skip_broken, **options):
        return read_checked_datasets(photos.file, photos.file, None, 2, skip_broken=skip_broken,
                                     cache_dir=str(tmp_path / 'cache'), num_threads=1, **options)
    return read


def test_broken_images_stop_by_file_and_line(photos, read):
    with pytest.raises(ValueError) as error:
        read(False)
    lines = str(error.value).splitlines()
    places = [line.split(': ')[0] for line in lines[:-1]]
    assert places == [f'{photos.file}:{n}' for n in (2, 3)] * 2


def test_skip_broken_drops_and_reports_images(photos, read, capsys):
    data = read(True)
    assert data.train.paths == data.val.paths == [photos.paths[0], photos.paths[3]]
    skipped, *warnings = capsys.readouterr().err.split('skip_broken: ')[1].splitlines()
    assert skipped == '2 images are left out'
    assert '1.jpg' in warnings[0] and '2.jpg' in warnings[1]
    assert all(line.startswith('warning: ') for line in warnings[2:])


def test_skip_broken_decodes_every_image(photos, read, tmp_path, capsys):
    """A PNG file of right structure and checksums, but without most of its pixels."""
    (tmp_path / '0.jpg').write_bytes(png_file(300, 300))
    check_image(photos.paths[0])
    assert read(True).train.paths == [photos.paths[3]]


def test_distribute_decides_which_images_are_checked(photos, read):
    """As with several workers: one that checks the first image alone finds no broken one."""
    calls = []

    def distribute(check_images, image_lists):
        calls.append([part.paths for part in image_lists])
        return check_images([part.shard(0, 4) for part in image_lists])
    assert read(False, distribute=distribute).train.paths == photos.paths
    assert calls == [[photos.paths, photos.paths]]


def test_contradicting_labels_are_reported(tmp_path):
    lines = ['a.jpg 0', 'b.jpg 0', 'c.jpg 1', 'b.jpg 1', 'c.jpg 1']
    train = write_list(tmp_path / 'train.txt', lines)
    val = write_list(tmp_path / 'val.txt', ['d.jpg 0', 'e.jpg 1'])
    assert list_warnings(read_datasets(train, val)[0]) == [
        f'1 lines of {train} give a file another label than a later line does, the first is line 2']


def test_what_may_not_be_meant_is_reported_with_counts(tmp_path):
    train = write_list(tmp_path / 'train.txt', ['a.jpg 0', 'b.jpg 1', 'c.jpg 2'])
    (tmp_path / 'v').mkdir()
    val = write_list(tmp_path / 'v' / 'val.txt',
                     ['d.jpg 0', '../b.jpg 1', f'{tmp_path}/./a.jpg 0'])
    write_list(tmp_path / 'labels.txt', ['1', '0', 'x', 'y'])
    in_both, missing_in_train, missing_in_val, numbers = list_warnings(
        read_datasets(train, val)[0])
    assert in_both.startswith(f'2 files of {val} are in {train} too, the first in line 2')
    assert missing_in_train == f'1 of 4 classes have no image in {train}: y'
    assert missing_in_val == f'2 of 4 classes have no image in {val}: x, y'
    assert 'position' in numbers
    write_list(tmp_path / 'labels.txt', ['0', '1', 'x'])
    assert list_warnings(read_datasets(train, train)[0])[1:] == []
