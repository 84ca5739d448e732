import subprocess
import sys

import pytest

from inputs.lists import ImageList, check_labels, read_list
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


def test_labels_are_compared_in_nfc_and_paths_are_kept(tmp_path):
    """The forms of UnicodeData.txt: U+00E4 is U+0061 U+0308."""
    lines = ['Ka\u0308fer/1.jpg K\u00e4fer', 'K\u00e4fer/2.jpg Ka\u0308fer', 'a.jpg\tred a\u0308nt']
    path = write_list(tmp_path / 'list.txt', lines)
    for names in (['K\u00e4fer', 'red \u00e4nt'], ['Ka\u0308fer', 'red a\u0308nt']):
        got = read_list(path, names)
        assert got.labels.tolist() == [0, 0, 1]
        assert got.paths[0] == str(tmp_path / 'Ka\u0308fer' / '1.jpg')
        assert got.paths[1] == str(tmp_path / 'K\u00e4fer' / '2.jpg')


@pytest.mark.parametrize('name', [
    '\u0645\u06cc\u200c\u062e\u0648', '\U0001f468\u200d\U0001f467', 'a\u00a0b', 'a\u3000b',
    'a\u2009b'])
@pytest.mark.parametrize('blank', [' ', '\t', '  ', '\u00a0'])
def test_labels_may_hold_joiners_and_other_blanks(tmp_path, name, blank):
    names = ['b', name]
    path = write_list(tmp_path / 'list.txt', [f'my a.jpg {name}', f'my\u00a0b.jpg{blank}1'])
    got = read_list(path, names)
    assert got.labels.tolist() == [1, 1]
    assert got.paths == [str(tmp_path / 'my a.jpg'), str(tmp_path / 'my\u00a0b.jpg')]


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
