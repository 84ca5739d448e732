"""Class names: which are legal, when two are the same, and the file that has one per line."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from inputs.text_files import raise_errors, read_text
from runtime.files import is_harmless, printable

SHOWN_CLASSES = 5


def compose(name: str) -> str:
    """Return a class name in NFC, in which names are compared and written.

    macOS and what it zips write a letter and its accent apart (Unicode Standard Annex 15).
    """
    return unicodedata.normalize('NFC', name)


def number_classes(class_names: Iterable[str]) -> dict[str, int]:
    """Return {class name in NFC: its number}."""
    return {compose(name): number for number, name in enumerate(class_names)}


def sort_classes(names: Iterable[str]) -> list[str]:
    """Return class names by number if all of them are numbers, else alphabetically.

    Names of the same number, such as 1 and 01, are in alphabetical order.
    """
    names = sorted(names)
    if all(name.isascii() and name.isdigit() for name in names):
        names.sort(key=int)
    return names


def describe_bad_name(name: str) -> str | None:
    """Return what is wrong with a class name, or None for a legal one.

    A name may hold any letter, also invisible ones as Persian, Hindi and emoji do, but nothing
    that controls a screen or breaks a line.
    """
    if not name.strip():
        return 'no name'
    if '\t' in name:
        return 'a tab in the name: write one name per line, without a number'
    for letter in name:
        if '\ud800' <= letter <= '\udfff':  # surrogateescape
            return 'the name is not UTF-8 text'
        if not is_harmless(letter):
            return f'the name holds the control character U+{ord(letter):04X}'
    return None


def show_classes(class_names: Sequence[str]) -> str:
    """Return the first class names as text for a message."""
    names = [printable(name, 40) for name in class_names[:SHOWN_CLASSES]]
    if len(class_names) > SHOWN_CLASSES:
        names.append('...')
    return ', '.join(names)


def read_class_names(labels_file: str) -> list[str]:
    """Return the class names of a file with one per line, in NFC, in the order of their numbers.

    Names that are equal in NFC are returned as they are: older runs may have them.
    Raises ValueError naming every line without a legal name, and repeated names.
    """
    lines = [(number, line.strip()) for number, line in read_text(labels_file)]
    while lines and not lines[-1][1]:
        lines.pop()
    raise_errors([(number, f'{labels_file}:{number}: {describe_bad_name(name)}')
                  for number, name in lines if describe_bad_name(name)])
    if not lines:
        raise ValueError(f'{labels_file}: no class name')
    names = [name for _, name in lines]
    check_repeated(labels_file, names)
    composed = [compose(name) for name in names]
    return composed if len(set(composed)) == len(names) else names


def check_repeated(labels_file, names):
    """Raise ValueError if a class name is repeated."""
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise ValueError(f'{labels_file}: {", ".join(repeated)} more than once')


def find_labels_file(train_file: str, labels_file: str | None) -> str | None:
    """Return labels_file, or labels.txt beside train_file; None if there is neither."""
    beside = os.path.join(os.path.dirname(train_file), 'labels.txt')
    if labels_file is None and os.path.isfile(beside):
        return beside
    return labels_file or None


def read_list_class_names(labels_file: str, num_classes: int | None) -> list[str]:
    """Return the class names of a file that belongs to lists: two or more, which differ in NFC.

    num_classes: how many there must be; None: any number. Raises ValueError as read_class_names.
    """
    names = read_class_names(labels_file)
    check_repeated(labels_file, [compose(name) for name in names])
    if len(names) < 2:
        raise ValueError(f'{labels_file} names a single class, "{printable(names[0], 99)}": '
                         'write two or more, one per line')
    if num_classes not in (None, len(names)):
        raise ValueError(f'num_classes {num_classes}, but {labels_file} names {len(names)} classes')
    return names
