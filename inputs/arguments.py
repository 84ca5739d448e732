"""Images named on a command line: files, folders, and lists with or without labels."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from inputs.folders import find_images
from inputs.lists import check_labels, read_label, read_lines, read_list, split_line


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
    paths = find_images(name) if os.path.isdir(name) else [name]
    return Inputs(paths, [''] * len(paths), None)


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
    return Inputs(paths, [f'{list_file}:{number}: ' for number in lines], labels)


def has_labels(lines, class_names):
    """Return whether any line of a list ends in a label."""
    class_numbers = {name: number for number, name in enumerate(class_names)}
    for line in lines:
        parts = split_line(line.strip(), class_numbers)
        if len(parts) == 2 and read_label(parts[1], class_numbers) is not None:
            return True
    return False
