"""List files: parsed, with every error named by file and line."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from inputs.class_names import (
    compose,
    find_labels_file,
    number_classes,
    read_list_class_names,
    show_classes,
)
from inputs.text_files import format_errors, raise_errors, read_text
from runtime.files import printable

SKIP_HINT = 'skip_broken leaves out images that are missing or broken'


class ImageList(NamedTuple):
    """The images of a list file, in its order."""

    file: str           # name of the list file
    paths: list[str]    # [n]
    labels: np.ndarray  # int32 [n], class numbers
    lines: np.ndarray   # int32 [n], line numbers in the list file, from 1

    def shard(self, index: int, count: int) -> 'ImageList':
        """Return the images whose position in the list modulo `count` is `index`."""
        return ImageList(self.file, *(column[index::count] for column in self[1:]))


class Datasets(NamedTuple):
    """The lists of training and validation, and the class names in the order of their numbers."""

    train: ImageList
    val: ImageList
    class_names: list[str]


class BrokenImages(ValueError):
    """Listed files that are not complete images; `broken` is {path: error}."""

    def __init__(self, image_lists, broken):
        super().__init__(f'{format_errors(broken_lines(image_lists, broken))}\n{SKIP_HINT}')
        self.broken = broken


def read_datasets(train_file: str, val_file: str, labels_file: str | None = None,
                  num_classes: int | None = None,
                  find_broken: Callable = lambda image_lists: {},
                  skip_broken: bool = False) -> tuple[Datasets, dict[str, str]]:
    """Return (Datasets, broken): the images of two list files, and {path: error} of those dropped.

    labels_file: class names; None: labels.txt in the folder of train_file, if it exists.
    num_classes: number of classes without a labels_file; None: the largest label of both lists
        decides.
    find_broken: function of [ImageList] that returns {path: error} of files that are not complete
        images.
    skip_broken: drop broken images instead of raising.

    Raises ValueError naming every wrong line, and broken images unless skip_broken; OSError for a
    missing list.
    """
    labels_file = find_labels_file(train_file, labels_file)
    class_names = read_list_class_names(labels_file, num_classes) if labels_file else None
    train, train_errors = parse_list(train_file, class_names)
    val, val_errors = parse_list(val_file, class_names)
    if not train.paths or not val.paths:
        raise_errors(train_errors + val_errors)
    count = count_classes(
        train, val, len(class_names) if class_names else num_classes, train_errors + val_errors)
    broken = find_broken([train, val])
    reported = {} if skip_broken else broken
    train_errors += label_errors(train, count, labels_file) + broken_lines([train], reported)
    val_errors += label_errors(val, count, labels_file) + broken_lines([val], reported)
    raise_errors(sorted(train_errors) + sorted(val_errors), SKIP_HINT if reported else '')
    data = Datasets(train, val, class_names or [str(number) for number in range(count)])
    return drop_images(data, broken), broken


def count_classes(train, val, known, errors):
    """Return the number of classes: `known`, or by the largest label of two lists if that is None.

    Raises ValueError for one class, and for more than there are training images; but if lines are
    wrong, for these `errors`, [(line number, error)], as they may be the reason.
    """
    part = max(train, val, key=lambda part: part.labels.max())
    count = known or 1 + int(part.labels.max())
    if count >= 2 and (known or count <= len(train.paths)):
        return count
    raise_errors(errors)
    line = part.lines[part.labels.argmax()]
    raise ValueError(f'the labels mean {count} classes for {len(train.paths)} training images: '
                     f'look for a wrong label, the largest is in {part.file}:{line}, or set '
                     'num_classes')


def read_list(list_file: str, class_names: Sequence[str] | None = None) -> ImageList:
    """Return the ImageList of a file with one image per line: path, blanks or tab, label.

    The label follows the last blank: a 0-based number, or one of `class_names`, compared in NFC;
    a name that contains blanks follows a tab. UTF-8 with or without BOM, any line end. Blank lines
    and lines that begin with '# ' are skipped. Relative paths start at the folder of the list.
    Raises ValueError naming every line without a path or a legal label; OSError for a missing file.
    """
    image_list, errors = parse_list(list_file, class_names)
    raise_errors(errors)
    return image_list


def parse_list(list_file, class_names):
    """Return (ImageList, errors): the correct lines as read_list has them, the others' errors.

    errors: [(line number, error)].
    """
    class_numbers = number_classes(class_names or ())
    folder = os.path.dirname(list_file)
    paths, labels, lines, errors = [], [], [], []
    for number, line in read_lines(list_file):
        parts = split_line(line, class_numbers)
        label = read_label(parts[1], class_numbers) if len(parts) == 2 else None
        if label is None:
            text = describe_bad_line(parts, class_names)
            errors.append((number, f'{list_file}:{number}: {text}'))
            continue
        paths.append(os.path.join(folder, parts[0].strip()))
        labels.append(label)
        lines.append(number)
    if not paths and not errors:
        text = 'no image is listed; a line is a path, a blank and a label'
        errors.append((0, f'{list_file}: {text}'))
    arrays = np.array(labels, np.int32), np.array(lines, np.int32)
    return ImageList(list_file, paths, *arrays), errors


def read_lines(list_file: str) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of a list file, without blank lines and comments.

    Raises ValueError for UTF-16 and for a file that is not text.
    """
    for number, line in read_text(list_file):
        if not line.isspace() and not line.startswith('# '):
            yield number, line


def split_line(line: str, class_numbers: dict[str, int]) -> list[str]:
    """Return [path, label] of a line that is not blank; [path] if the line is a single word.

    A class name after a tab may contain blanks, and one after a blank U+00A0 and its like, where
    rsplit would cut it.
    """
    for separator in '\t ' if class_numbers else '':
        path, found, label = line.strip().rpartition(separator)
        if found and compose(label) in class_numbers:
            return [path, label]
    return line.rsplit(maxsplit=1)


def read_label(text: str, class_numbers: dict[str, int]) -> int | None:
    """Return the class number that a label means, or None if it means none."""
    if text.isascii() and text.isdigit() and len(text) < 9:
        return int(text)
    return class_numbers.get(compose(text))


def describe_bad_line(parts, class_names):
    """Return the error of a line without a path or a legal label, given its split_line."""
    if len(parts) == 1:
        return f'"{printable(parts[0])}" needs an image path, a blank and a label'
    names = f' or a class name ({show_classes(class_names)})' if class_names else ''
    return f'label "{printable(parts[1])}" is not a 0-based class number{names}'


def check_labels(image_list: ImageList, num_classes: int) -> None:
    """Raise ValueError naming every line whose label is not below `num_classes`."""
    raise_errors(label_errors(image_list, num_classes))


def label_errors(image_list, num_classes, labels_file=None):
    """Return [(line number, error)] of every line whose label is not below `num_classes`.

    labels_file: names the classes; None: none does.
    """
    file, labels, lines = image_list.file, image_list.labels, image_list.lines
    source = f', in {labels_file}' if labels_file else ''
    known = f'there are {num_classes} classes, 0 to {num_classes - 1}{source}'
    return [(lines[i], f'{file}:{lines[i]}: label {labels[i]}, but {known}')
            for i in np.flatnonzero(labels >= num_classes)]


def broken_lines(image_lists, broken):
    """Return [(line number, error)] of every line with a file of `broken`, {path: error}."""
    errors = []
    for image_list in image_lists if broken else ():
        for path, line in zip(image_list.paths, image_list.lines, strict=True):
            if path in broken:
                errors.append((line, f'{image_list.file}:{line}: {broken[path]}'))
    return errors


def drop_images(data, broken):
    """Return the Datasets without the files of `broken`; raise ValueError if a list gets empty."""
    lists = []
    for part in (data.train, data.val):
        kept = [i for i, path in enumerate(part.paths) if path not in broken]
        if not kept:
            raise ValueError(f'{part.file}: no image is left, all are broken')
        paths = [part.paths[i] for i in kept]
        lists.append(ImageList(part.file, paths, part.labels[kept], part.lines[kept]))
    return Datasets(*lists, data.class_names)
