import pytest

from inputs.arguments import read_input_list, read_inputs
from tests.helpers import write_list


def test_folders_are_searched_for_images(tmp_path, capsys):
    for name in ('b/c/2.JPG', 'b/1.png', 'a.jpeg', 'notes.txt', 'b/labels.csv', '.git/d.jpg',
                 'b/._1.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('')
    inputs = read_inputs([str(tmp_path), 'x'], ['a', 'b'])
    found = [str(tmp_path / name) for name in ('a.jpeg', 'b/1.png', 'b/c/2.JPG')]
    assert inputs.paths == [*found, 'x']
    assert inputs.labels is None and inputs.error_prefixes == [''] * 4
    assert capsys.readouterr().err == (
        f'{tmp_path}: 2 hidden files are left out: .git, ._1.png; '
        '2 files are left out, which are no images: notes.txt, labels.csv\n')


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


@pytest.mark.parametrize('line, named', [
    ('x.jpg -1', 'label "-1" is not a 0-based class number or a class name (ant, bee)'),
    ('x.jpg\twasps', 'label "wasps" is not'), ('photo 1.JPEG  ants', 'label "ants" is not'),
    ('gone.jpg wasp', 'label "wasp" is not'), ('plain 1.5', 'label "1.5" is not'),
    ('x.jpg,0', '"x.jpg,0" needs an image path, a blank and a label'),
    ('x.jpg;bee', '"x.jpg;bee" needs an image path, a blank and a label')])
def test_labels_that_the_run_does_not_know_are_named(tmp_path, line, named):
    """x.jpg and plain exist, the other lines are paths without labels."""
    for name in ('x.jpg', 'plain'):
        (tmp_path / name).write_text('')
    path = write_list(tmp_path / 'list.txt', ['# which', 'x.jpg', line, line, 'gone 2.jpg'])
    with pytest.raises(ValueError) as error:
        read_inputs([path], ['ant', 'bee'])
    first, second = str(error.value).splitlines()
    assert first.startswith(f'{path}:3: {named}') and second.startswith(f'{path}:4: {named}')


@pytest.mark.parametrize('name', [
    'my photo 1.jpg', 'x.jpg copy', 'a,b.png', 'holiday x.jpg', 'no suffix at all',
    'a.jpg files/b', 'gone.jpg (2).jpg'])
def test_paths_that_resemble_labels_are_paths(tmp_path, name):
    """The first two exist, the others are reported when they are read."""
    for existing in ('my photo 1.jpg', 'x.jpg', 'x.jpg copy'):
        (tmp_path / existing).write_text('')
    inputs = read_input_list(write_list(tmp_path / 'list.txt', [name]), ['ant', 'bee'])
    assert inputs.labels is None and inputs.paths == [str(tmp_path / name)]
