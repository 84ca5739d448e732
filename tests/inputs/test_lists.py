import re
import subprocess
import sys

import numpy as np
import pytest

from inputs.lists import BrokenImages, check_labels, drop_images, list_warnings, read_class_names, read_data, read_list
from tests.helpers import ROOT, write_list


def test_read_list_gives_paths_from_its_folder_labels_and_line_numbers(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_bytes(b'\xef\xbb\xbfa b.jpg 0\r\n\r\n# a comment 3\r\n/abs/c.jpg\t2\r\n  \r\n\xc3\xa9 \t d.jpg   1')
    got = read_list(str(path))
    assert got.paths == [str(tmp_path / 'a b.jpg'), '/abs/c.jpg', str(tmp_path / 'é \t d.jpg')]
    assert got.labels.tolist() == [0, 2, 1] and got.lines.tolist() == [1, 4, 6]


def test_read_list_takes_class_names(tmp_path):
    got = read_list(write_list(tmp_path / 'list.txt', ['a.jpg bee', 'b.jpg 0', 'c.jpg ant']), ['ant', 'bee'])
    assert got.labels.tolist() == [1, 0, 0]


def test_read_list_names_all_bad_lines_the_first_20_in_full(tmp_path):
    path = write_list(tmp_path / 'list.txt', ['a.jpg 0', 'alone.jpg', 'b.jpg -1', 'c.jpg 1.5', 'd.jpg wasp'])
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
    for content, message in (('', 'no class name'), ('a\nb\na\n', 'a more than once'), ('a\nK\udce4fer\n', ':2: the name is not UTF-8')):
        (tmp_path / 'labels.txt').write_text(content, errors='surrogateescape')
        with pytest.raises(ValueError, match=message):
            read_class_names(str(tmp_path / 'labels.txt'))


def test_labels_outside_the_classes_are_named_with_their_lines(tmp_path):
    image_list = read_list(write_list(tmp_path / 'list.txt', ['a.jpg 0', '', 'b.jpg 2', 'c.jpg 1', 'd.jpg 7']))
    with pytest.raises(ValueError) as error:
        check_labels(image_list, 2)
    assert ':3: label 2' in str(error.value) and ':5: label 7' in str(error.value)


def test_a_million_lines_are_read_without_exploding(tmp_path):
    with open(tmp_path / 'list.txt', 'w') as file:
        file.writelines(f'folder/picture {n}.jpg {n % 10}\n' for n in range(1_000_000))
    code = ('import resource, sys\nfrom inputs.lists import read_list\n'
            'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nimage_list = read_list(sys.argv[1])\n'
            'print(len(image_list.paths), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)')
    done = subprocess.run([sys.executable, '-c', code, tmp_path / 'list.txt'], cwd=ROOT, capture_output=True, text=True)
    count, kilobytes = map(int, done.stdout.split())
    assert count == 1_000_000 and kilobytes < 400_000


def test_names_may_be_more_than_the_images_of_a_trial(tmp_path):
    write_list(tmp_path / 'labels.txt', [f'class {n}' for n in range(17)])
    path = write_list(tmp_path / 'list.txt', ['a.jpg 16', 'b.jpg 3'])
    assert len(read_data(path, path)[0].class_names) == 17


@pytest.mark.parametrize('content', [
    b'\xef\xbb\xbfa b.jpg 0\nc.jpg 1\n', b'a b.jpg 0\r\nc.jpg 1\r\n', b'a b.jpg\t0\nc.jpg\t1', b'a b.jpg 0\rc.jpg 1\r',
    b'\n\na b.jpg 0\n \t\n# c\nc.jpg   1  ', b'a b.jpg zero\nc.jpg one', b'a b.jpg \t zero\nc.jpg\tone'])
def test_every_oddity_of_lists_gives_the_same(tmp_path, content):
    (tmp_path / 'list.txt').write_bytes(content)
    got = read_list(str(tmp_path / 'list.txt'), ['zero', 'one'])
    assert got.paths == [str(tmp_path / 'a b.jpg'), str(tmp_path / 'c.jpg')] and got.labels.tolist() == [0, 1]


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
    with pytest.raises(ValueError, match='^[^\n]*list.txt:2 holds a zero byte: this is no text file$'):
        read_list(str(tmp_path / 'list.txt'))


def test_a_file_of_two_classes_is_said(tmp_path):
    train = write_list(tmp_path / 'train.txt', ['a.jpg 0', 'b.jpg 0', 'c.jpg 1', 'b.jpg 1', 'c.jpg 1'])
    val = write_list(tmp_path / 'val.txt', ['d.jpg 0', 'e.jpg 1'])
    assert list_warnings(read_data(train, val)[0]) == [
        f'1 lines of {train} give a file another label than a later line does, the first is line 2']


def test_all_that_is_wrong_with_both_lists_is_one_message_in_order(tmp_path):
    train = write_list(tmp_path / 'train.txt', ['a.jpg 0', 'broken.jpg 1', 'b.jpg x'] + ['a.jpg 0'] * 6 + ['c.jpg 7'])
    val = write_list(tmp_path / 'val.txt', ['broken.jpg 0', 'alone', 'a.jpg 1'])

    def find_broken(image_lists):
        return {str(tmp_path / 'broken.jpg'): 'broken.jpg: empty'}
    for skip, lines in ((False, [f'{train}:2: broken.jpg: empty', f'{train}:3', f'{train}:10', f'{val}:1', f'{val}:2',
                                'skip_broken leaves out']),
                        (True, [f'{train}:3: label "x"', f'{train}:10: label 7', f'{val}:2: "alone"'])):
        with pytest.raises(ValueError) as error:  # wrong labels are never skipped
            read_data(train, val, num_classes=2, find_broken=find_broken, skip_broken=skip)
        shown = str(error.value).splitlines()
        assert len(shown) == len(lines) and all(line.startswith(start) for line, start in zip(shown, lines)), shown


def test_broken_files_are_left_out_on_request(tmp_path):
    path = write_list(tmp_path / 'list.txt', ['a.jpg 0', 'b.jpg 1', 'c.jpg 1'])
    broken = {str(tmp_path / 'b.jpg'): 'b.jpg: empty'}
    data, left_out = read_data(path, path, find_broken=lambda image_lists: broken, skip_broken=True)
    assert left_out == broken and data.train.paths == data.val.paths == [str(tmp_path / f'{name}.jpg') for name in 'ac']
    assert data.train.labels.tolist() == [0, 1] and data.train.lines.tolist() == [1, 3]
    with pytest.raises(ValueError, match='no image is left'):
        drop_images(data, dict.fromkeys(data.train.paths, 'gone'))
    shown = str(BrokenImages([data.train], {data.train.paths[1]: 'c.jpg: empty'}))
    assert shown.splitlines() == [f'{path}:3: c.jpg: empty', 'skip_broken leaves out images that are missing or broken']


def test_what_may_not_be_meant_is_said_with_counts(tmp_path):
    train = write_list(tmp_path / 'train.txt', ['a.jpg 0', 'b.jpg 1', 'c.jpg 2'])
    (tmp_path / 'v').mkdir()
    val = write_list(tmp_path / 'v' / 'val.txt', ['d.jpg 0', '../b.jpg 1', f'{tmp_path}/./a.jpg 0'])
    write_list(tmp_path / 'labels.txt', ['1', '0', 'x', 'y'])
    twice, missing_in_train, missing_in_val, numbers = list_warnings(read_data(train, val)[0])
    assert twice.startswith(f'2 files of {val} are in {train} too, the first in line 2')
    assert missing_in_train == f'1 of 4 classes have no image in {train}: y'
    assert missing_in_val == f'2 of 4 classes have no image in {val}: x, y' and 'position' in numbers
    write_list(tmp_path / 'labels.txt', ['0', '1', 'x'])
    assert list_warnings(read_data(train, train)[0])[1:] == []


def test_mutated_lists_are_read_right_or_refused(tmp_path):
    """2,000 lists with random changes: each label that is read stands at the end of its line, and no line is lost."""
    random, path, refused = np.random.RandomState(0), tmp_path / 'list.txt', 0
    whole = 'a b.jpg 0\nc.jpg\tred bee\r\n# no\n\nö.png ant\nd 2\n'.encode() * 2
    pieces = [b' ', b'\t', b'\n', b'\r', b'\0', b'\xff', b'-1', b'3', b'9' * 11, b'\xef\xbb\xbf', b'# ', '\u0663'.encode()]
    endings = {0: r'\s0+|\sant', 1: r'\s0*1|\tred bee'}
    for _ in range(2000):
        content = whole
        for _ in range(random.randint(1, 6)):
            start, stop = sorted(random.randint(0, len(content) + 1, 2))
            piece = pieces[random.randint(len(pieces))] if random.rand() < 0.7 else random.bytes(3)
            content = content[:start] + piece + content[stop if random.rand() < 0.3 else start:]
        path.write_bytes(content)
        try:
            got = read_list(str(path), ['ant', 'red bee'])
        except ValueError as error:
            refused += 1
            assert str(error).startswith(str(path))
            continue
        text = content.removeprefix(b'\xef\xbb\xbf').decode(errors='surrogateescape')
        lines = re.split('\r\n|\r|\n', text)
        for line, label in zip(got.lines, got.labels):
            ending = endings.get(label, rf'\s0*{label}')
            assert re.search(rf'\S.*(?:{ending})\s*$', lines[line - 1]), content
        assert len(got.paths) == sum(bool(line.strip()) and not line.startswith('# ') for line in lines)
    assert 200 < refused < 1900
