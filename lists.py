"""Reads lists of images and names of classes, and names what is wrong with them by file and line."""

import os
from typing import NamedTuple

import numpy as np

from console import printable

SHOWN_ERRORS = 20


class ImageList(NamedTuple):
    """The lines of a list file: `paths` [n] str, `labels` int32 [n], `lines` int32 [n], 1-based; `file` its name."""

    file: str
    paths: list
    labels: np.ndarray
    lines: np.ndarray


class Data(NamedTuple):
    """The lists to learn from and to measure with, and the class names in the order of their numbers."""

    train: ImageList
    val: ImageList
    class_names: list


def read_data(train_file, val_file, labels_file=None, num_classes=None):
    """Return the Data of two list files.

    labels_file: class names; None takes labels.txt in the folder of train_file, if it is there. num_classes: how many
    there are if no file names them; None takes the largest label of both lists. Raises ValueError naming all lines that
    are wrong, OSError for a missing file.
    """
    beside = os.path.join(os.path.dirname(train_file), 'labels.txt')
    labels_file = beside if labels_file is None and os.path.isfile(beside) else labels_file
    class_names = read_class_names(labels_file) if labels_file else None
    lists = [read_list(list_file, class_names) for list_file in (train_file, val_file)]
    if class_names and num_classes not in (None, len(class_names)):
        raise ValueError(f'num_classes {num_classes}, but {labels_file} names {len(class_names)} classes')
    count = len(class_names) if class_names else num_classes or 1 + max(int(part.labels.max()) for part in lists)
    if count < 2 or not (class_names or num_classes) and count > len(lists[0].paths):
        raise ValueError(f'the labels mean {count} classes for {len(lists[0].paths)} training images: look for a wrong '
                         f'label in {train_file} and {val_file}, or set num_classes')
    for image_list in lists:
        check_labels(image_list, count)
    return Data(*lists, class_names or [str(number) for number in range(count)])


def read_list(list_file, class_names=None):
    """Return the ImageList of a file with an image a line: path, blanks or tab, label.

    The label is what follows the last blank: a 0-based integer, or one of `class_names`. UTF-8 with or without BOM,
    any line end; blank lines and lines that begin with '# ' are skipped; relative paths start at the list's folder.
    Raises ValueError with every line that has no path, or a label that is neither; OSError for a missing file.
    """
    class_numbers = {name: number for number, name in enumerate(class_names or ())}
    folder = os.path.dirname(list_file)
    paths, labels, lines, errors = [], [], [], []
    with open(list_file, encoding='utf-8-sig', errors='surrogateescape') as file:
        for number, line in enumerate(file, 1):
            parts = line.rsplit(maxsplit=1)
            if not parts or line.startswith('# '):
                continue
            label = read_label(parts[1], class_numbers) if len(parts) == 2 else None
            if label is None:
                errors.append(f'{list_file}:{number}: {describe_bad_line(parts, class_names)}')
                continue
            paths.append(os.path.join(folder, parts[0].strip()))
            labels.append(label)
            lines.append(number)
    if not paths and not errors:
        errors.append(f'{list_file}: no image is listed; a line is a path, a blank and a label')
    raise_all(errors)
    return ImageList(list_file, paths, np.array(labels, np.int32), np.array(lines, np.int32))


def read_label(text, class_numbers):
    """Return the class number that `text` means, or None."""
    if text.isascii() and text.isdigit() and len(text) < 9:
        return int(text)
    return class_numbers.get(text)


def describe_bad_line(parts, class_names):
    """Return what is wrong with a line of a list that has no path, or no label."""
    if len(parts) == 1:
        return f'"{printable(parts[0])}" needs an image path, a blank and a label'
    known = 'a 0-based class number' + (' or one of the names in labels_file' if class_names else '')
    return f'label "{printable(parts[1])}" is not {known}'


def raise_all(errors):
    """Raise one ValueError with the first errors and the count of all; do nothing if there are none."""
    if len(errors) > SHOWN_ERRORS:
        errors = errors[:SHOWN_ERRORS] + [f'... {len(errors)} such lines in all']
    if errors:
        raise ValueError('\n'.join(errors))


def read_class_names(labels_file):
    """Return the class names of a file with one a line, in the order of their numbers; raises ValueError if empty."""
    with open(labels_file, encoding='utf-8-sig', errors='surrogateescape') as file:
        names = [line.strip() for line in file]
    raise_all([f'{labels_file}:{number}: the name is not UTF-8 text' for number, name in enumerate(names, 1)
               if not name.isprintable()])
    while names and not names[-1]:
        names.pop()
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not names or repeated:
        raise ValueError(f'{labels_file}: ' + (f'{", ".join(repeated)} more than once' if names else 'no class name'))
    return names


def check_labels(image_list, num_classes):
    """Raise ValueError naming every line whose label is not below `num_classes`."""
    wrong = np.flatnonzero(image_list.labels >= num_classes)
    raise_all([f'{image_list.file}:{image_list.lines[i]}: label {image_list.labels[i]}, but there are {num_classes} '
               f'classes, 0 to {num_classes - 1}' for i in wrong])


def first_places(image_lists):
    """Return {path: 'list:line'} of the first line that names each file."""
    places = {}
    for image_list in image_lists:
        for path, line in zip(image_list.paths, image_list.lines):
            places.setdefault(path, f'{image_list.file}:{line}')
    return places
