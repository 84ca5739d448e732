"""Reads lists of images and names of classes, and names what is wrong with them by file and line."""

import os
from collections import Counter
from typing import NamedTuple

import numpy as np

from runtime.files import printable

SHOWN_ERRORS = 20
SKIP_HINT = 'skip_broken leaves out images that are missing or broken'


class ImageList(NamedTuple):
    """The lines of a list file: `paths` [n] str, `labels` int32 [n], `lines` int32 [n], 1-based; `file` its name."""

    file: str
    paths: list
    labels: np.ndarray
    lines: np.ndarray

    def share(self, worker, workers):
        """Return the ImageList of this worker's share: the images whose position, modulo `workers`, is `worker`."""
        return ImageList(self.file, *(part[worker::workers] for part in self[1:]))


class Datasets(NamedTuple):
    """The lists to learn from and to measure with, and the class names in the order of their numbers."""

    train: ImageList
    val: ImageList
    class_names: list


class BrokenImages(ValueError):
    """Listed files that are no whole pictures; `broken` is {path: what is wrong}."""

    def __init__(self, image_lists, broken):
        super().__init__(f'{format_errors(broken_lines(image_lists, broken))}\n{SKIP_HINT}')
        self.broken = broken


def read_data(train_file, val_file, labels_file=None, num_classes=None, find_broken=lambda image_lists: {},
              skip_broken=False):
    """Return the Datasets of two list files, and {path: what is wrong} of the broken images left out of it.

    labels_file: class names; None takes labels.txt in the folder of train_file, if it is there. num_classes: how many
    there are if no file names them; None takes the largest label of both lists. find_broken: function of the lists that
    returns {path: what is wrong} of the files that are no whole pictures. Raises ValueError naming all lines that are
    wrong, of broken files too unless skip_broken is true; OSError for a missing list.
    """
    beside = os.path.join(os.path.dirname(train_file), 'labels.txt')
    labels_file = beside if labels_file is None and os.path.isfile(beside) else labels_file
    class_names = read_class_names(labels_file) if labels_file else None
    if class_names and num_classes not in (None, len(class_names)):
        raise ValueError(f'num_classes {num_classes}, but {labels_file} names {len(class_names)} classes')
    train, train_errors = parse_list(train_file, class_names)
    val, val_errors = parse_list(val_file, class_names)
    if not train.paths or not val.paths:
        raise_errors(train_errors + val_errors)
    count = len(class_names) if class_names else num_classes or 1 + int(max(train.labels.max(), val.labels.max()))
    if count < 2 or not (class_names or num_classes) and count > len(train.paths):
        raise ValueError(f'the labels mean {count} classes for {len(train.paths)} training images: look for a wrong '
                         f'label in {train_file} and {val_file}, or set num_classes')
    broken = find_broken([train, val])
    shown = {} if skip_broken else broken
    raise_errors(sorted(train_errors + label_errors(train, count) + broken_lines([train], shown))
              + sorted(val_errors + label_errors(val, count) + broken_lines([val], shown)), SKIP_HINT if shown else '')
    return drop_images(Datasets(train, val, class_names or [str(number) for number in range(count)]), broken), broken


def read_list(list_file, class_names=None):
    """Return the ImageList of a file with an image a line: path, blanks or tab, label.

    The label is what follows the last blank: a 0-based integer, or one of `class_names`; a name that holds blanks
    follows a tab. UTF-8 with or without BOM, any line end; blank lines and lines that begin with '# ' are skipped;
    relative paths start at the list's folder. Raises ValueError with every line that has no path, or a label that is
    neither; OSError for a missing file.
    """
    image_list, errors = parse_list(list_file, class_names)
    raise_errors(errors)
    return image_list


def parse_list(list_file, class_names):
    """Return the ImageList of a file's lines that are right, and [(line, error)] of the others; see read_list."""
    class_numbers = {name: number for number, name in enumerate(class_names or ())}
    folder = os.path.dirname(list_file)
    paths, labels, lines, errors = [], [], [], []
    for number, line in read_lines(list_file):
        parts = split_line(line, class_numbers)
        label = read_label(parts[1], class_numbers) if len(parts) == 2 else None
        if label is None:
            errors.append((number, f'{list_file}:{number}: {describe_bad_line(parts, class_names)}'))
            continue
        paths.append(os.path.join(folder, parts[0].strip()))
        labels.append(label)
        lines.append(number)
    if not paths and not errors:
        errors.append((0, f'{list_file}: no image is listed; a line is a path, a blank and a label'))
    return ImageList(list_file, paths, np.array(labels, np.int32), np.array(lines, np.int32)), errors


def read_lines(list_file):
    """Yield (number, line) of a list but for blank lines and comments; ValueError for UTF-16 and what is no text."""
    with open(list_file, encoding='utf-8-sig', errors='surrogateescape') as file:
        for number, line in enumerate(file, 1):
            if number == 1 and line[:2] in ('\udcff\udcfe', '\udcfe\udcff'):
                raise ValueError(f'{list_file} is UTF-16 text; save it as UTF-8')
            if '\0' in line:
                raise ValueError(f'{list_file}:{number} holds a zero byte: this is no text file')
            if not line.isspace() and not line.startswith('# '):
                yield number, line


def split_line(line, class_numbers):
    """Return [path, label] of a line that is not blank; only one of them, if that is all there is."""
    parts = line.strip().rsplit('\t', 1)
    if len(parts) == 2 and parts[1] in class_numbers:  # a name that may hold blanks
        return parts
    return line.rsplit(maxsplit=1)


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


def format_errors(errors):
    """Return the first of [(line, error)] and the count of all as one text."""
    texts = [text for _, text in errors[:SHOWN_ERRORS]]
    return '\n'.join(texts + [f'... {len(errors)} such lines in all'] * (len(errors) > SHOWN_ERRORS))


def raise_errors(errors, hint=''):
    """Raise one ValueError with the first of [(line, error)], the count of all, and a hint; do nothing without any."""
    if errors:
        raise ValueError(f'{format_errors(errors)}\n{hint}'.rstrip())


def read_class_names(labels_file):
    """Return the class names of a file with one a line, in the order of their numbers; raises ValueError if wrong."""
    with open(labels_file, encoding='utf-8-sig', errors='surrogateescape') as file:
        names = [line.strip() for line in file]
    while names and not names[-1]:
        names.pop()
    raise_errors([(number, f'{labels_file}:{number}: ' + ('the name is not UTF-8 text' if name else 'no name'))
               for number, name in enumerate(names, 1) if not (name and name.isprintable())])
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if not names or repeated:
        raise ValueError(f'{labels_file}: ' + (f'{", ".join(repeated)} more than once' if names else 'no class name'))
    return names


def check_labels(image_list, num_classes):
    """Raise ValueError naming every line whose label is not below `num_classes`."""
    raise_errors(label_errors(image_list, num_classes))


def label_errors(image_list, num_classes):
    """Return [(line, error)] of every line whose label is not below `num_classes`."""
    file, labels, lines = image_list.file, image_list.labels, image_list.lines
    known = f'there are {num_classes} classes, 0 to {num_classes - 1}'
    return [(lines[i], f'{file}:{lines[i]}: label {labels[i]}, but {known}')
            for i in np.flatnonzero(labels >= num_classes)]


def broken_lines(image_lists, broken):
    """Return [(line, error)] of every line with a file of `broken`, {path: what is wrong}."""
    return [(line, f'{part.file}:{line}: {broken[path]}') for part in image_lists
            for path, line in zip(part.paths, part.lines) if path in broken] if broken else []


def drop_images(data, broken):
    """Return the Datasets without the lines of `broken` files; ValueError if nothing is left of a list."""
    lists = []
    for part in (data.train, data.val):
        kept = [i for i, path in enumerate(part.paths) if path not in broken]
        if not kept:
            raise ValueError(f'{part.file}: no image is left, all are broken')
        lists.append(ImageList(part.file, [part.paths[i] for i in kept], part.labels[kept], part.lines[kept]))
    return data._replace(train=lists[0], val=lists[1])


def list_warnings(data):
    """Return lines about what is legal in lists, but may not be meant."""
    warnings = []
    absolute = {os.path.abspath(path) for path in data.train.paths}
    shared = [line for path, line in zip(data.val.paths, data.val.lines) if os.path.abspath(path) in absolute]
    if shared:
        warnings.append(f'{len(shared):,} files of {data.val.file} are in {data.train.file} too, the first in line '
                        f'{shared[0]}: they measure what was learnt by heart')
    for part in (data.train, data.val):
        labels = dict(zip(part.paths, part.labels))
        other = [line for path, label, line in zip(*part[1:]) if labels[path] != label]
        if other:
            warnings.append(f'{len(other):,} lines of {part.file} give a file another label than a later line does, the '
                            f'first is line {other[0]}')
        missing = [data.class_names[n] for n in np.setdiff1d(np.arange(len(data.class_names)), part.labels)]
        if missing:
            more = ', ...' if len(missing) > SHOWN_ERRORS else ''
            warnings.append(f'{len(missing)} of {len(data.class_names)} classes have no image in {part.file}: '
                            f'{", ".join(missing[:SHOWN_ERRORS])}{more}')
    if any(name.isdigit() and name != str(number) for number, name in enumerate(data.class_names)):
        warnings.append('some classes have numbers as names; a number in a list means the position of a class, from 0')
    return warnings


def walk_visible(folder):
    """Yield (path, names of files, hidden names, names of links to folders) of a folder and the folders in it.

    Hidden files are not among the names, hidden folders and links, which may lead in a circle, are not entered. Raises
    OSError for a folder that can't be read.
    """
    def stop(error):
        raise error
    for parent, folders, names in os.walk(folder, onerror=stop):
        hidden = [name for name in folders + names if name.startswith('.')]
        folders[:] = [name for name in folders if name not in hidden]
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield parent, [name for name in names if name not in hidden], hidden, links
