import subprocess
import sys

import pytest
from conftest import ROOT, write_list

from lists import check_labels, read_class_names, read_data, read_list


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
    code = ('import resource, sys\nfrom lists import read_list\n'
            'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nimage_list = read_list(sys.argv[1])\n'
            'print(len(image_list.paths), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)')
    done = subprocess.run([sys.executable, '-c', code, tmp_path / 'list.txt'], cwd=ROOT, capture_output=True, text=True)
    count, kilobytes = map(int, done.stdout.split())
    assert count == 1_000_000 and kilobytes < 400_000


def test_names_may_be_more_than_the_images_of_a_trial(tmp_path):
    write_list(tmp_path / 'labels.txt', [f'class {n}' for n in range(17)])
    path = write_list(tmp_path / 'list.txt', ['a.jpg 16', 'b.jpg 3'])
    assert len(read_data(path, path)[0].class_names) == 17
