"""Folders of images, and folders of class folders."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from inputs.images import check_image
from inputs.prefetch import load_images
from runtime.command import progress_bar
from runtime.files import printable

HIDDEN = 'hidden files are left out'
BESIDE = 'files and folders beside train and val are left out'
IMAGE_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


class Image(NamedTuple):
    """An image file in a class folder."""

    path: str
    name: str        # path from the top folder on, with slashes
    class_name: str
    subset: str      # 'train' or 'val' if the top folder has these, else ''


def walk_visible(folder: str) -> Iterator[tuple[str, list, list, list]]:
    """Yield (path, file names, hidden names, link names) of a folder and the folders in it.

    Hidden files are not among the file names. Hidden folders are not entered, nor are links to
    folders, which may lead in a circle. Raises OSError for a folder that cannot be read.
    """
    def stop(error):
        raise error
    for parent, folders, names in os.walk(folder, onerror=stop):
        hidden = [name for name in folders + names if name.startswith('.')]
        folders[:] = [name for name in folders if name not in hidden]
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield parent, [name for name in names if name not in hidden], hidden, links


def find_images(folder: str) -> list[str]:
    """Return the sorted paths of all files in a folder whose suffix is that of an image.

    Hidden ones are skipped. Raises ValueError if there is none, OSError if a folder cannot be read.
    """
    paths = []
    for parent, names, _, _ in walk_visible(folder):
        paths += [os.path.join(parent, name) for name in names
                  if name.lower().endswith(IMAGE_SUFFIXES)]
    if not paths:
        raise ValueError(f'{folder} holds no file that ends in {" ".join(IMAGE_SUFFIXES)}')
    return sorted(paths)


def find_files(folder: str, notes: dict[str, list]) -> tuple[list[Image], set[str]]:
    """Return (files, class folders): [Image] of all files in class folders, and {folder name}.

    folder: holds class folders, or train/ and val/ with class folders in each.
    notes: defaultdict {note: [name]} that receives the names that are left out.
    """
    has_subsets = all(os.path.isdir(os.path.join(folder, name)) for name in ('train', 'val'))
    if has_subsets:
        for entry in sorted(set(os.listdir(folder)) - {'train', 'val'}):
            notes[HIDDEN if entry.startswith('.') else BESIDE].append(entry)
    files, class_folders = [], set()
    for subset in ('train', 'val') if has_subsets else ('',):
        for class_name in find_class_folders(os.path.join(folder, subset), notes):
            class_folders.add(class_name)
            for path in class_files(os.path.join(folder, subset, class_name), notes):
                name = os.path.relpath(path, folder).replace(os.sep, '/')
                files.append(Image(path, name, class_name, subset))
    return sorted(files), class_folders


def find_class_folders(folder, notes):
    """Yield the names of the folders in a folder; add what else it contains to `notes`."""
    for entry in os.listdir(folder):
        if entry.startswith('.'):
            notes[HIDDEN].append(entry)
        elif not os.path.isdir(os.path.join(folder, entry)):
            notes['files outside the class folders are left out'].append(entry)
        else:
            yield entry


def class_files(folder, notes):
    """Yield the path of each file in a class folder and the folders in it, but for hidden ones."""
    for parent, names, hidden, links in walk_visible(folder):
        notes[HIDDEN] += hidden
        notes['links to folders are left out'] += links
        yield from (os.path.join(parent, name) for name in names)


def check_images(files: list[Image], notes: dict[str, list]) -> list[Image]:
    """Return the complete images among [Image] whose path fits a list; add the rest to `notes`."""
    errors, images = {}, []
    for position, _ in load_images([file.path for file in files], check_image, errors,
                                   progress=progress_bar('checking images')):
        path = files[position].path
        if path != path.strip() or '\n' in path or '\r' in path:
            notes['files are left out: a list cannot hold their names'].append(files[position].name)
        else:
            images.append(files[position])
    for position, error in errors.items():
        error = error.removeprefix(f'{printable(files[position].path)}: ')
        notes[f'files are left out: {error}'].append(files[position].name)
    return images
