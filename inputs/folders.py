"""Folders of images, and folders of class folders."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from inputs.class_names import compose
from inputs.image_headers import find_reader, read_header
from inputs.images import check_image, open_file
from inputs.prefetch import load_images
from runtime.command import progress_bar
from runtime.files import printable

HIDDEN = 'hidden files are left out'
SYSTEM = 'folders of thumbnails or deleted files are left out'
LINKS = 'links to folders are left out'
BESIDE = 'files and folders beside train and val are left out'
SHOWN_NAMES = 3  # names shown per note
IMAGE_SUFFIXES = (
    '.bmp', '.gif', '.jfif', '.jpe', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
# Folders that NAS devices, file systems and zip programs add, in small letters.
SYSTEM_FOLDERS = {
    '@eadir', '#recycle', '#snapshot', '@recycle', '@recently-snapshot', '@__thumb', '@tmp',
    '~snapshot', '__macosx', '$recycle.bin', 'recycler', 'recycled', 'system volume information',
    'lost+found', 'found.000', 'network trash folder', 'temporary items'}


class Image(NamedTuple):
    """An image file in a class folder."""

    path: str
    name: str        # path from the top folder on, with slashes
    class_name: str  # in NFC
    subset: str      # 'train' or 'val' if the top folder has these, else ''


def folder_note(path: str) -> str | None:
    """Return why a folder is left out, or None."""
    name = os.path.basename(path)
    if name.startswith('.'):
        return HIDDEN
    return SYSTEM if name.lower() in SYSTEM_FOLDERS else None


def walk_files(folder: str, notes: dict[str, list]) -> Iterator[str]:
    """Yield the path of each file in a folder and the folders in it; add the rest to `notes`.

    Hidden files and folders and SYSTEM_FOLDERS are left out, and links to folders, which may lead
    in a circle. Raises OSError for a folder that cannot be read.
    """
    def stop(error):
        raise error
    for parent, folders, names in os.walk(folder, onerror=stop):
        kept = []
        for name in sorted(folders):
            path = os.path.join(parent, name)
            note = folder_note(path) or (LINKS if os.path.islink(path) else None)
            (notes[note] if note else kept).append(name)
        folders[:] = kept
        for name in sorted(names):
            if name.startswith('.'):
                notes[HIDDEN].append(name)
            else:
                yield os.path.join(parent, name)


def find_images(folder: str, notes: dict[str, list]) -> list[str]:
    """Return the sorted paths of the images in a folder, known by content or by IMAGE_SUFFIXES.

    A file with such a suffix counts even if its content is broken, so that it is reported.
    notes: defaultdict {note: [name]} that receives the names that are left out.
    Raises ValueError if there is no image, OSError if a folder cannot be read.
    """
    paths = []
    for path in walk_files(folder, notes):
        if path.lower().endswith(IMAGE_SUFFIXES) or may_be_image(path):
            paths.append(path)
        else:
            notes['files are left out, which are no images'].append(os.path.basename(path))
    if not paths:
        left_out = '; '.join(format_notes(notes))
        raise ValueError(f'{folder} holds no image{left_out and ": "}{left_out}')
    return sorted(paths)


def may_be_image(path: str) -> bool:
    """Return whether a file begins as an image, or cannot be opened: loading it says why."""
    try:
        with open_file(path) as file:
            start = file.read(12)
            find_reader(start)
            if start.startswith(b'BM'):  # as a text may begin, too
                read_header(file)
    except ValueError:
        return False
    except OSError:
        pass
    return True


def format_notes(notes: dict[str, list]) -> list[str]:
    """Return a line per note: how many names it has, and the first ones."""
    lines = []
    for note, names in notes.items():
        if names:
            more = ', ...' if len(names) > SHOWN_NAMES else ''
            shown = ', '.join(map(printable, names[:SHOWN_NAMES]))
            lines.append(f'{len(names):,} {note}: {shown}{more}')
    return lines


def find_files(folder: str, notes: dict[str, list]) -> tuple[list[Image], set[str]]:
    """Return (files, class folders): [Image] of all files in class folders, and {class name}.

    Folders whose names are equal in NFC are one class.
    folder: holds class folders, or train/ and val/ with class folders in each.
    notes: defaultdict {note: [name]} that receives the names that are left out.
    """
    has_subsets = all(os.path.isdir(os.path.join(folder, name)) for name in ('train', 'val'))
    if has_subsets:
        for entry in sorted(set(os.listdir(folder)) - {'train', 'val'}):
            notes[folder_note(entry) or BESIDE].append(entry)
    files, class_folders = [], set()
    for subset in ('train', 'val') if has_subsets else ('',):
        for class_name in find_class_folders(os.path.join(folder, subset), notes):
            class_folders.add(compose(class_name))
            for path in walk_files(os.path.join(folder, subset, class_name), notes):
                name = os.path.relpath(path, folder).replace(os.sep, '/')
                files.append(Image(path, name, compose(class_name), subset))
    return sorted(files), class_folders


def find_class_folders(folder, notes):
    """Yield the names of the folders in a folder; add what else it contains to `notes`."""
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        if note := folder_note(path):
            notes[note].append(entry)
        elif not os.path.isdir(path):
            notes['files outside the class folders are left out'].append(entry)
        else:
            yield entry


def check_images(files: list[Image], notes: dict[str, list]) -> list[Image]:
    """Return the complete images among [Image] whose name fits a list; add the rest to `notes`."""
    errors, images = {}, []
    for position, _ in load_images([file.path for file in files], check_image, errors,
                                   progress=progress_bar('checking images')):
        name = files[position].name
        if name != name.rstrip() or '\n' in name or '\r' in name:
            notes['files are left out: a list cannot hold their names'].append(name)
        else:
            images.append(files[position])
    for position, error in errors.items():
        error = error.removeprefix(f'{printable(files[position].path)}: ')
        notes[f'files are left out: {error}'].append(files[position].name)
    return images
