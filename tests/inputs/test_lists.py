import subprocess
import sys

import pytest

from inputs.lists import (
    BrokenImages,
    ImageList,
    check_labels,
    drop_images,
    read_datasets,
    read_list,
)
from tests.helpers import ROOT, write_list


def test_read_list_gives_paths_labels_and_line_numbers(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_bytes(b'\xef\xbb\xbfa b.jpg 0\r\n\r\n# a comment 3\r\n/abs/c.jpg\t2\r\n  \r\n'
                     b'\xc3\xa9 \t d.jpg   1')
    got = read_list(str(path))
    paths = [str(tmp_path / 'a b.jpg'), '/abs/c.jpg', str(tmp_path / 'é \t d.jpg')]
    assert got.paths == paths
    assert got.labels.tolist() == [0, 2, 1] and got.lines.tolist() == [1, 4, 6]


def test_read_list_takes_class_names(tmp_path):
    path = write_list(tmp_path / 'list.txt', ['a.jpg bee', 'b.jpg 0', 'c.jpg ant'])
    assert read_list(path, ['ant', 'bee']).labels.tolist() == [1, 0, 0]


def test_shards_share_out_the_list(tmp_path):
    lines = [f'{n}.jpg {n}' for n in range(7)]
    whole = read_list(write_list(tmp_path / 'list.txt', lines))
    for index, numbers in ((0, [0, 3, 6]), (1, [1, 4]), (2, [2, 5])):
        part = whole.shard(index, 3)
        assert part.file == whole.file and part.labels.tolist() == numbers
        assert part.paths == [str(tmp_path / f'{n}.jpg') for n in numbers]
        assert part.lines.tolist() == [n + 1 for n in numbers]
    assert isinstance(whole.shard(0, 9), ImageList) and whole.shard(8, 9).paths == []


def test_read_list_names_all_bad_lines_up_to_20(tmp_path):
    lines = ['a.jpg 0', 'alone.jpg', 'b.jpg -1', 'c.jpg 1.5', 'd.jpg wasp']
    path = write_list(tmp_path / 'list.txt', lines)
    with pytest.raises(ValueError) as error:
        read_list(path)
    lines = str(error.value).splitlines()
    assert [line.split(': ')[0] for line in lines] == [f'{path}:{n}' for n in (2, 3, 4, 5)]
    with pytest.raises(ValueError) as error:
        read_list(write_list(tmp_path / 'long.txt', ['x'] * 50))
    assert len(str(error.value).splitlines()) == 21 and '50 such lines' in str(error.value)


@pytest.mark.parametrize('content', [b'', b'\n\n', b'# nothing\n'])
def test_a_list_without_images_is_an_error(tmp_path, content):
    (tmp_path / 'list.txt').write_bytes(content)
    with pytest.raises(ValueError, match='no image is listed'):
        read_list(str(tmp_path / 'list.txt'))


def test_class_names(tmp_path):
    (tmp_path / 'labels.txt').write_bytes('\ufeffred ant\r\nbee\r\n\r\n'.encode())
    assert read_class_names(str(tmp_path / 'labels.txt')) == ['red ant', 'bee']


@pytest.mark.parametrize('content, message', [
    ('', 'no class name'), ('a\nb\na\n', 'a more than once'), ('a\n\nb\n', ':2: no name'),
    ('a\nK\udce4fer\n', ':2: the name is not UTF-8')])
def test_wrong_class_names_are_named(tmp_path, content, message):
    (tmp_path / 'labels.txt').write_text(content, errors='surrogateescape')
    with pytest.raises(ValueError, match=message):
        read_class_names(str(tmp_path / 'labels.txt'))


def test_labels_outside_the_classes_are_named_with_their_lines(tmp_path):
    lines = ['a.jpg 0', '', 'b.jpg 2', 'c.jpg 1', 'd.jpg 7']
    image_list = read_list(write_list(tmp_path / 'list.txt', lines))
    with pytest.raises(ValueError) as error:
        check_labels(image_list, 2)
    assert ':3: label 2' in str(error.value) and ':5: label 7' in str(error.value)


MEMORY_TRIAL = '''
import resource, sys
from inputs.lists import read_list
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image_list = read_list(sys.argv[1])
print(len(image_list.paths), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
'''


def test_a_million_lines_are_read_without_exploding(tmp_path):
    with open(tmp_path / 'list.txt', 'w') as file:
        file.writelines(f'folder/picture {n}.jpg {n % 10}\n' for n in range(1_000_000))
    done = subprocess.run([sys.executable, '-c', MEMORY_TRIAL, tmp_path / 'list.txt'], cwd=ROOT,
                          capture_output=True, text=True)
    count, kilobytes = map(int, done.stdout.split())
    assert count == 1_000_000 and kilobytes < 400_000


def test_names_may_be_more_than_the_images_of_a_trial(tmp_path):
    write_list(tmp_path / 'labels.txt', [f'class {n}' for n in range(17)])
    path = write_list(tmp_path / 'list.txt', ['a.jpg 16', 'b.jpg 3'])
    assert len(read_datasets(path, path)[0].class_names) == 17


@pytest.mark.parametrize('lines, num_classes, message', [
    (['a.jpg 0', 'b.jpg 0'], None, 'the labels mean 1 classes for 2 training images'),
    (['a.jpg 0', 'b.jpg 7'], None, 'the labels mean 8 classes for 2 training images'),
    (['a.jpg 0', 'b.jpg 7'], 4, 'label 7, but there are 4 classes')])
def test_implausible_numbers_of_classes_are_refused(tmp_path, lines, num_classes, message):
    path = write_list(tmp_path / 'list.txt', lines)
    with pytest.raises(ValueError, match=message):
        read_datasets(path, path, num_classes=num_classes)


def test_num_classes_and_class_names_must_agree(tmp_path):
    write_list(tmp_path / 'labels.txt', ['ant', 'bee'])
    path = write_list(tmp_path / 'list.txt', ['a.jpg ant', 'b.jpg bee'])
    assert read_datasets(path, path, num_classes=2)[0].class_names == ['ant', 'bee']
    with pytest.raises(ValueError, match='num_classes 3, but .*labels.txt names 2 classes'):
        read_datasets(path, path, num_classes=3)


@pytest.mark.parametrize('content', [
    b'\xef\xbb\xbfa b.jpg 0\nc.jpg 1\n', b'a b.jpg 0\r\nc.jpg 1\r\n', b'a b.jpg\t0\nc.jpg\t1',
    b'a b.jpg 0\rc.jpg 1\r', b'\n\na b.jpg 0\n \t\n# c\nc.jpg   1  ',
    b'a b.jpg zero\nc.jpg one', b'a b.jpg \t zero\nc.jpg\tone'])
def test_every_oddity_of_lists_gives_the_same(tmp_path, content):
    (tmp_path / 'list.txt').write_bytes(content)
    got = read_list(str(tmp_path / 'list.txt'), ['zero', 'one'])
    assert got.paths == [str(tmp_path / 'a b.jpg'), str(tmp_path / 'c.jpg')]
    assert got.labels.tolist() == [0, 1]


def test_names_with_blanks_follow_a_tab(tmp_path):
    path = write_list(tmp_path / 'list.txt', ['a b.jpg\tred ant', 'c\td.jpg ant'])
    got = read_list(path, ['ant', 'red ant'])
    assert got.labels.tolist() == [1, 0] and got.paths[1] == str(tmp_path / 'c\td.jpg')


def test_utf_16_is_named(tmp_path):
    for order in ('le', 'be'):
        (tmp_path / 'list.txt').write_bytes('\ufeffa.jpg 0\n'.encode(f'utf-16-{order}'))
        with pytest.raises(ValueError, match='list.txt is UTF-16 text; save it as UTF-8'):
            read_list(str(tmp_path / 'list.txt'))


def test_a_file_that_is_no_text_is_named_by_its_first_such_line(tmp_path):
    (tmp_path / 'list.txt').write_bytes(b'a.jpg 0\nb\0.jpg 0\n\0')
    message = '^[^\n]*list.txt:2 holds a zero byte: this is no text file$'
    with pytest.raises(ValueError, match=message):
        read_list(str(tmp_path / 'list.txt'))


@pytest.fixture
def wrong_lists(tmp_path):
    """(train list, val list, find_broken): with a broken image and wrong labels in both lists."""
    (tmp_path / 'broken.jpg').write_text('')
    train = write_list(tmp_path / 'train.txt', ['a.jpg 0', 'broken.jpg 1', 'b.jpg x',
                                                *['a.jpg 0'] * 6, 'c.jpg 7'])
    val = write_list(tmp_path / 'val.txt', ['broken.jpg 0', 'alone', 'a.jpg 1'])
    return train, val, lambda image_lists: {str(tmp_path / 'broken.jpg'): 'broken.jpg: empty'}


def check_error(wrong_lists, skip_broken, starts):
    """Assert that reading the lists fails with lines that start like this, in this order."""
    train, val, find_broken = wrong_lists
    with pytest.raises(ValueError) as error:
        read_datasets(train, val, num_classes=2, find_broken=find_broken, skip_broken=skip_broken)
    lines = str(error.value).splitlines()
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_all_errors_of_both_lists_are_one_message_in_order(wrong_lists):
    train, val, _ = wrong_lists
    check_error(wrong_lists, False, [
        f'{train}:2: broken.jpg: empty', f'{train}:3', f'{train}:10', f'{val}:1', f'{val}:2',
        'skip_broken leaves out'])


def test_wrong_labels_are_never_skipped(wrong_lists):
    train, val, _ = wrong_lists
    check_error(wrong_lists, True, [
        f'{train}:3: label "x"', f'{train}:10: label 7', f'{val}:2: "alone"'])


def test_broken_files_are_left_out_on_request(tmp_path):
    path = write_list(tmp_path / 'list.txt', ['a.jpg 0', 'b.jpg 1', 'c.jpg 1'])
    broken = {str(tmp_path / 'b.jpg'): 'b.jpg: empty'}
    data, dropped = read_datasets(path, path, find_broken=lambda image_lists: broken,
                                  skip_broken=True)
    paths = [str(tmp_path / name) for name in ('a.jpg', 'c.jpg')]
    assert dropped == broken and data.train.paths == data.val.paths == paths
    assert data.train.labels.tolist() == [0, 1] and data.train.lines.tolist() == [1, 3]
    with pytest.raises(ValueError, match='no image is left'):
        drop_images(data, dict.fromkeys(paths, 'gone'))


def test_broken_images_are_named_by_line(tmp_path):
    image_list = read_list(write_list(tmp_path / 'list.txt', ['a.jpg 0', '', 'c.jpg 1']))
    shown = str(BrokenImages([image_list], {image_list.paths[1]: 'c.jpg: empty'}))
    assert shown.splitlines() == [f'{image_list.file}:3: c.jpg: empty',
                                  'skip_broken leaves out images that are missing or broken']
