"""Folders of images."""

import os
from collections.abc import Iterator

IMAGE_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


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
