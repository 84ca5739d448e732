"""Images named on a command line: files, folders, and lists with or without labels."""

import os
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from inputs.class_names import number_classes
from inputs.folders import IMAGE_SUFFIXES, find_images, format_notes
from inputs.lists import (
    check_labels,
    describe_bad_line,
    read_label,
    read_lines,
    read_list,
    split_line,
)
from inputs.text_files import raise_errors
from runtime.files import printable

SUFFIX_AND_MORE = re.compile(rf'({"|".join(map(re.escape, IMAGE_SUFFIXES))})[\s,;]', re.IGNORECASE)


class Inputs(NamedTuple):
    """Images named on a command line."""

    paths: list[str]           # [n]
    error_prefixes: list[str]  # [n], 'list.txt:17: ' for an image of a list, '' for others
    labels: np.ndarray | None  # int32 [n], class numbers


def read_inputs(names: Sequence[str], class_names: Sequence[str]) -> Inputs:
    """Return the Inputs of several images, folders and lists.

    Raises ValueError for a folder without images, for wrong lists, and for a mixture of inputs
    with and without labels.
    """
    parts = [read_input(name, class_names) for name in names]
    labels = [part.labels for part in parts if part.labels is not None]
    if labels and len(labels) < len(parts):
        raise ValueError('some inputs are lists with labels, to be evaluated, and some are not: '
                         'run them one by one')
    return Inputs([path for part in parts for path in part.paths],
                  [prefix for part in parts for prefix in part.error_prefixes],
                  np.concatenate(labels) if labels else None)


def read_input(name, class_names):
    """Return the Inputs of one image, folder or list."""
    if name.lower().endswith('.txt') and not os.path.isdir(name):
        return read_input_list(name, class_names)
    paths = read_folder(name) if os.path.isdir(name) else [name]
    return Inputs(paths, [''] * len(paths), None)


def read_folder(folder):
    """Return the paths of the images in a folder; report what is left out on standard error."""
    notes = defaultdict(list)
    paths = find_images(folder, notes)
    if notes:
        print(f'{printable(folder)}: {"; ".join(format_notes(notes))}', file=sys.stderr)
    return paths


def read_input_list(list_file, class_names):
    """Return the Inputs of a list: read by read_list if any line ends in a label.

    Otherwise each line is a path.
    """
    lines = dict(read_lines(list_file))
    if not lines or has_labels(lines.values(), class_names):
        _, paths, labels, lines = image_list = read_list(list_file, class_names)
        check_labels(image_list, len(class_names))
    else:
        folder, labels = os.path.dirname(list_file), None
        paths = [os.path.join(folder, line.strip()) for line in lines.values()]
        check_no_labels(list_file, lines, paths, class_names)
    return Inputs(paths, [f'{list_file}:{number}: ' for number in lines], labels)


def check_no_labels(list_file, lines, paths, class_names):
    """Raise ValueError naming every line that ends in a label which is none of the run's.

    lines: {line number: line}. paths: of the lines, if they have no labels.
    """
    errors = []
    for (number, line), path in zip(lines.items(), paths, strict=True):
        if ends_in_label(path):
            text = describe_bad_line(split_line(line, {}), class_names)
            errors.append((number, f'{list_file}:{number}: {text}'))
    raise_errors(errors)


def has_labels(lines, class_names):
    """Return whether any line of a list ends in a label."""
    class_numbers = number_classes(class_names)
    for line in lines:
        parts = split_line(line, class_numbers)
        if len(parts) == 2 and read_label(parts[1], class_numbers) is not None:
            return True
    return False


def ends_in_label(path):
    """Return whether a path from a list is none, but seems to be a path and a label."""
    if os.path.lexists(path):
        return False
    if SUFFIX_AND_MORE.search(os.path.basename(path)) and not path.lower().endswith(IMAGE_SUFFIXES):
        return True
    return os.path.isfile(path.rsplit(maxsplit=1)[0])
