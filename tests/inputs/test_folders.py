"""Folders of images. Which files are images is decided by Pillow, which wrote them."""

import os
from collections import defaultdict

import pytest
from PIL import Image

from inputs.folders import SYSTEM_FOLDERS, find_files, find_images, format_notes, walk_files

NAS_FOLDERS = ['@eaDir', '#recycle', '__MACOSX', '$RECYCLE.BIN', 'lost+found', '@Recycle',
               '#snapshot', 'System Volume Information', 'Network Trash Folder', 'RECYCLER']


def write_image(path, kind='JPEG'):
    """Write a small image by Pillow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8)).save(path, kind)


def is_image(path):
    """Return whether Pillow opens a file."""
    try:
        Image.open(path).close()
    except OSError:
        return False
    return True


def test_images_are_known_by_content(tmp_path):
    for name, kind in (('a.jfif', 'JPEG'), ('b.JPE', 'JPEG'), ('c', 'PNG'), ('d.jpg', 'JPEG'),
                       ('IMG_0001.jpg-large', 'WEBP'), ('f.photo', 'TIFF'), ('g.', 'BMP'),
                       ('h.dat', 'GIF'), ('i.jpg.1', 'JPEG')):
        write_image(tmp_path / 'in' / name, kind)
    for name, content in (
            ('notes.doc', 'no picture'), ('x', ''), ('R.I', 'RIFF1234AVI '),
            ('BM', 'BMW, 1.8 litres, dark green, 2004, with winter tyres')):
        (tmp_path / name).write_text(content)
    notes = defaultdict(list)
    found = find_images(str(tmp_path), notes)
    files = [os.path.join(parent, name) for parent, _, names in os.walk(tmp_path) for name in names]
    assert found == sorted(filter(is_image, files)) and len(found) == 9
    assert format_notes(notes) == [
        '4 files are left out, which are no images: BM, R.I, notes.doc, ...']


def test_broken_images_count_by_their_suffix(tmp_path):
    """So that predict.py reports them, as it did before contents were looked at."""
    for name in ('empty.jpg', 'page.JPEG'):
        (tmp_path / name).write_text('<html>' * (name != 'empty.jpg'))
    (tmp_path / 'gone').symlink_to(tmp_path / 'nowhere')
    assert len(find_images(str(tmp_path), defaultdict(list))) == 3


def test_a_pipe_in_a_folder_does_not_block(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    write_image(tmp_path / 'a')
    notes = defaultdict(list)
    assert find_images(str(tmp_path), notes) == [str(tmp_path / 'a')]
    assert list(notes.values()) == [['pipe']]


@pytest.mark.parametrize('name', [*NAS_FOLDERS, '@EADIR', 'Lost+Found'])
def test_thumbnails_and_deleted_files_are_left_out(tmp_path, name):
    for folder in ('', 'ants', f'ants/{name}/1.jpg', 'ants/deep', f'ants/deep/{name}', name):
        write_image(tmp_path / folder / '1.jpg')
    notes = defaultdict(list)
    kept = [str(tmp_path / folder / '1.jpg') for folder in ('', 'ants', 'ants/deep')]
    assert sorted(walk_files(str(tmp_path), notes)) == sorted(kept)
    assert dict(notes) == {'folders of thumbnails or deleted files are left out': [name] * 3}


@pytest.mark.parametrize('name', NAS_FOLDERS)
@pytest.mark.parametrize('parts', [('',), ('train', 'val')])
def test_system_folders_are_no_classes(tmp_path, name, parts):
    for part in parts:
        for folder in ('ants', f'ants/{name}', 'bees', name):
            write_image(tmp_path / part / folder / '1.jpg')
    write_image(tmp_path / name / 'train' / '1.jpg')
    files, class_folders = find_files(str(tmp_path), notes := defaultdict(list))
    assert class_folders == {'ants', 'bees'} and len(files) == 2 * len(parts)
    count = len(parts) * 2 + (len(parts) == 2)
    assert [len(names) for names in notes.values()] == [count]


@pytest.mark.parametrize('name', ['@home', '#1', '$5', 'eaDir', 'lost', 'trash', '__init__'])
def test_names_that_only_resemble_system_folders_count(tmp_path, name):
    assert name.lower() not in SYSTEM_FOLDERS
    write_image(tmp_path / name / '1.jpg')
    assert find_files(str(tmp_path), defaultdict(list))[1] == {name}


def test_a_system_folder_can_be_named_itself(tmp_path):
    write_image(tmp_path / 'lost+found' / '#123')
    assert len(find_images(str(tmp_path / 'lost+found'), defaultdict(list))) == 1


@pytest.mark.parametrize('name, folders', [
    ('K\u00e4fer', ('train/Ka\u0308fer', 'val/K\u00e4fer')),
    ('K\u00e4fer', ('K\u00e4fer', 'Ka\u0308fer')),
    ('\uac15', ('train/\u1100\u1161\u11bc', 'val/\uac15'))])
def test_folders_of_one_name_in_two_forms_are_one_class(tmp_path, name, folders):
    """Composed and decomposed by UnicodeData.txt and section 3.12 of the Unicode standard."""
    for folder in folders:
        write_image(tmp_path / folder / '1.jpg')
    files, class_folders = find_files(str(tmp_path), defaultdict(list))
    assert class_folders == {name} and [file.class_name for file in files] == [name, name]
    assert {file.path for file in files} == {str(tmp_path / folder / '1.jpg') for folder in folders}
