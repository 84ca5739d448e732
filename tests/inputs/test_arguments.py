import pytest

from inputs.arguments import read_input_list, read_inputs
from tests.helpers import write_list


def test_folders_are_searched_for_images(tmp_path):
    for name in ('b/c/2.JPG', 'b/1.png', 'a.jpeg', 'notes.txt', 'b/labels.csv', '.git/d.jpg',
                 'b/._1.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('')
    inputs = read_inputs([str(tmp_path), 'x'], ['a', 'b'])
    found = [str(tmp_path / name) for name in ('a.jpeg', 'b/1.png', 'b/c/2.JPG')]
    assert inputs.paths == [*found, 'x']
    assert inputs.labels is None and inputs.error_prefixes == [''] * 4


def test_lists_without_labels(tmp_path):
    lines = ['# which ones', 'my photo 1.jpg', '', '/abs/b.jpg', 'c.jpg']
    plain = write_list(tmp_path / 'plain.txt', lines)
    inputs = read_input_list(plain, ['a', 'b'])
    assert inputs.paths == [str(tmp_path / 'my photo 1.jpg'), '/abs/b.jpg', str(tmp_path / 'c.jpg')]
    assert inputs.labels is None
    assert inputs.error_prefixes == [f'{plain}:{number}: ' for number in (2, 4, 5)]
    with pytest.raises(ValueError, match='no image is listed'):
        read_input_list(write_list(tmp_path / 'empty.txt', ['# nothing']), ['a', 'b'])


def test_lists_with_labels(tmp_path):
    labelled = write_list(tmp_path / 'labelled.txt', ['my photo 1.jpg b', 'c.jpg 0'])
    inputs = read_inputs([labelled, labelled], ['a', 'b'])
    assert inputs.labels.tolist() == [1, 0, 1, 0]
    assert inputs.error_prefixes[1] == f'{labelled}:2: '
    assert inputs.paths[0] == str(tmp_path / 'my photo 1.jpg')
    named = write_list(tmp_path / 'named.txt', ['my photo 1.jpg\tred fox', 'c.jpg\tblue whale'])
    assert read_input_list(named, ['blue whale', 'red fox']).labels.tolist() == [1, 0]
