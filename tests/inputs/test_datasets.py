"""Both lists and the class names of a run: read_datasets of inputs/lists.py."""

import pytest

from inputs.lists import BrokenImages, drop_images, read_datasets, read_list
from tests.helpers import write_list


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


@pytest.mark.parametrize('lines, named', [
    (['a.jpg 0', 'b.jpg wasp', 'c.jpg 0'], ['list.txt:2: label "wasp"']),
    (['a.jpg 0', 'b.jpg 77777', 'alone'], ['list.txt:3: "alone"']),
    (['a.jpg 1', 'b.jpg -1', 'c.jpg 9', 'd'], ['list.txt:2: label "-1"', 'list.txt:4: "d"'])])
def test_wrong_lines_are_said_before_the_number_of_classes(tmp_path, lines, named):
    path = write_list(tmp_path / 'list.txt', lines)
    with pytest.raises(ValueError) as error:
        read_datasets(path, path)
    shown = str(error.value).splitlines()
    for line, start in zip(shown, named * 2, strict=True):
        assert line.startswith(str(tmp_path / start))


def test_the_largest_label_is_named_by_its_line(tmp_path):
    train = write_list(tmp_path / 'train.txt', ['a.jpg 0', 'b.jpg 1', 'c.jpg 6'])
    val = write_list(tmp_path / 'val.txt', ['a.jpg 0', '', 'b.jpg 77777', 'c.jpg 1'])
    with pytest.raises(ValueError, match=f'mean 77778 classes .* the largest is in {val}:3,'):
        read_datasets(train, val)
    with pytest.raises(ValueError, match=f'mean 7 classes .* the largest is in {train}:3,'):
        read_datasets(train, train)


@pytest.mark.parametrize('line', ['ant,bee', 'ant bee', 'ant;bee', '["ant", "bee"]'])
def test_class_names_on_one_line_are_blamed_on_their_file(tmp_path, line):
    names = write_list(tmp_path / 'labels.txt', [line])
    path = write_list(tmp_path / 'list.txt', ['a.jpg ant', 'b.jpg bee'])
    for num_classes in (None, 2):
        with pytest.raises(ValueError) as error:
            read_datasets(path, path, num_classes=num_classes)
        assert str(error.value) == (f'{names} names a single class, "{line}": write two or more, '
                                    'one per line')


def test_a_label_beyond_the_names_names_their_file(tmp_path):
    """Two of three names are on one line: the list is not to blame alone."""
    names = write_list(tmp_path / 'labels.txt', ['ant,bee', 'wasp'])
    path = write_list(tmp_path / 'list.txt', ['a.jpg 2', 'b.jpg 1'])
    with pytest.raises(ValueError, match=f'label 2, but there are 2 classes, 0 to 1, in {names}'):
        read_datasets(path, path)
    path = write_list(tmp_path / 'list.txt', ['a.jpg ant', 'b.jpg wasp'])
    with pytest.raises(ValueError, match=r'"ant" is not .* or a class name \(ant,bee, wasp\)'):
        read_datasets(path, path)


def test_num_classes_and_class_names_must_agree(tmp_path):
    write_list(tmp_path / 'labels.txt', ['ant', 'bee'])
    path = write_list(tmp_path / 'list.txt', ['a.jpg ant', 'b.jpg bee'])
    assert read_datasets(path, path, num_classes=2)[0].class_names == ['ant', 'bee']
    with pytest.raises(ValueError, match='num_classes 3, but .*labels.txt names 2 classes'):
        read_datasets(path, path, num_classes=3)


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
