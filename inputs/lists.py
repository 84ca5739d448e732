"""List files and class names: parsed, with every error named by file and line."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from runtime.files import printable

SHOWN_ERRORS = 20
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
    class_names = find_class_names(train_file, labels_file, num_classes)
    train, train_errors = parse_list(train_file, class_names)
    val, val_errors = parse_list(val_file, class_names)
    if not train.paths or not val.paths:
        raise_errors(train_errors + val_errors)
    count = count_classes(train, val, class_names, num_classes)
    broken = find_broken([train, val])
    reported = {} if skip_broken else broken
    train_errors += label_errors(train, count) + broken_lines([train], reported)
    val_errors += label_errors(val, count) + broken_lines([val], reported)
    raise_errors(sorted(train_errors) + sorted(val_errors), SKIP_HINT if reported else '')
    data = Datasets(train, val, class_names or [str(number) for number in range(count)])
    return drop_images(data, broken), broken


def find_class_names(train_file, labels_file, num_classes):
    """Return the class names of labels_file, or of labels.txt beside train_file; None without."""
    beside = os.path.join(os.path.dirname(train_file), 'labels.txt')
    if labels_file is None and os.path.isfile(beside):
        labels_file = beside
    if not labels_file:
        return None
    names = read_class_names(labels_file)
    if num_classes not in (None, len(names)):
        raise ValueError(f'num_classes {num_classes}, but {labels_file} names {len(names)} classes')
    return names


def count_classes(train, val, class_names, num_classes):
    """Return the number of classes; raise ValueError for one class, or for a label too large."""
    known = len(class_names) if class_names else num_classes
    count = known or 1 + int(max(train.labels.max(), val.labels.max()))
    if count < 2 or not known and count > len(train.paths):
        raise ValueError(f'the labels mean {count} classes for {len(train.paths)} training images: '
                         f'look for a wrong label in {train.file} and {val.file}, or set '
                         'num_classes')
    return count


def read_list(list_file: str, class_names: Sequence[str] | None = None) -> ImageList:
    """Return the ImageList of a file with one image per line: path, blanks or tab, label.

    The label follows the last blank: a 0-based number, or one of `class_names`; a name that
    contains blanks follows a tab. UTF-8 with or without BOM, any line end. Blank lines and lines
    that begin with '# ' are skipped. Relative paths start at the folder of the list. Raises
    ValueError naming every line without a path or a legal label; OSError for a missing file.
    """
    image_list, errors = parse_list(list_file, class_names)
    raise_errors(errors)
    return image_list


def parse_list(list_file, class_names):
    """Return (ImageList, errors): the correct lines as read_list has them, the others' errors.

    errors: [(line number, error)].
    """
    class_numbers = {name: number for number, name in enumerate(class_names or ())}
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
    with open(list_file, encoding='utf-8-sig', errors='surrogateescape') as file:
        for number, line in enumerate(file, 1):
            if number == 1 and line[:2] in ('\udcff\udcfe', '\udcfe\udcff'):
                raise ValueError(f'{list_file} is UTF-16 text; save it as UTF-8')
            if '\0' in line:
                raise ValueError(f'{list_file}:{number} holds a zero byte: this is no text file')
            if not line.isspace() and not line.startswith('# '):
                yield number, line


def split_line(line: str, class_numbers: dict[str, int]) -> list[str]:
    """Return [path, label] of a line that is not blank; [path] if the line is a single word."""
    parts = line.strip().rsplit('\t', 1)
    if len(parts) == 2 and parts[1] in class_numbers:  # a name that may contain blanks
        return parts
    return line.rsplit(maxsplit=1)


def read_label(text: str, class_numbers: dict[str, int]) -> int | None:
    """Return the class number that a label means, or None if it means none."""
    if text.isascii() and text.isdigit() and len(text) < 9:
        return int(text)
    return class_numbers.get(text)


def describe_bad_line(parts, class_names):
    """Return the error of a line without a path or a legal label, given its split_line."""
    if len(parts) == 1:
        return f'"{printable(parts[0])}" needs an image path, a blank and a label'
    names = ' or one of the names in labels_file' if class_names else ''
    return f'label "{printable(parts[1])}" is not a 0-based class number{names}'


def format_errors(errors):
    """Return the first SHOWN_ERRORS of [(line number, error)] as text, and how many there are."""
    texts = [text for _, text in errors[:SHOWN_ERRORS]]
    if len(errors) > SHOWN_ERRORS:
        texts.append(f'... {len(errors)} such lines in all')
    return '\n'.join(texts)


def raise_errors(errors, hint=''):
    """Raise ValueError with [(line number, error)] and a hint; return if there is no error."""
    if errors:
        raise ValueError(f'{format_errors(errors)}\n{hint}'.rstrip())


def read_class_names(labels_file: str) -> list[str]:
    """Return the class names of a file with one per line, in the order of their numbers.

    Raises ValueError naming every line that is empty or not printable UTF-8, and repeated names.
    """
    with open(labels_file, encoding='utf-8-sig', errors='surrogateescape') as file:
        names = [line.strip() for line in file]
    while names and not names[-1]:
        names.pop()
    errors = []
    for number, name in enumerate(names, 1):
        if not name or not name.isprintable():
            text = 'the name is not UTF-8 text' if name else 'no name'
            errors.append((number, f'{labels_file}:{number}: {text}'))
    raise_errors(errors)
    if not names:
        raise ValueError(f'{labels_file}: no class name')
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise ValueError(f'{labels_file}: {", ".join(repeated)} more than once')
    return names


def check_labels(image_list: ImageList, num_classes: int) -> None:
    """Raise ValueError naming every line whose label is not below `num_classes`."""
    raise_errors(label_errors(image_list, num_classes))


def label_errors(image_list, num_classes):
    """Return [(line number, error)] of every line whose label is not below `num_classes`."""
    file, labels, lines = image_list.file, image_list.labels, image_list.lines
    known = f'there are {num_classes} classes, 0 to {num_classes - 1}'
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
