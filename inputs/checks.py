"""Checks before training: every listed file is a complete image; what may be wrong is reported.

Files that passed are remembered, so that the next start is quick.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable

import numpy as np

from inputs.images import check_image, decoder_fingerprint, load_image
from inputs.lists import Datasets, ImageList, read_datasets
from inputs.prefetch import load_images
from inputs.text_files import SHOWN_ERRORS
from runtime.command import progress_bar
from runtime.files import new_file, printable

KEY_BYTES = 16


def read_checked_datasets(
        train_file: str, val_file: str, labels_file: str | None, num_classes: int | None, *,
        skip_broken: bool, cache_dir: str, num_threads: int | None,
        distribute: Callable = lambda check_images, image_lists: check_images(image_lists),
) -> Datasets:
    """Return the Datasets of two list files after a check of every listed file.

    Dropped images and list_warnings are reported on standard error.

    train_file, val_file, labels_file, num_classes: as in read_datasets.
    skip_broken: drop broken images instead of raising. All files are then decoded, because the
        graph needs the number of images before training decodes them.
    cache_dir: folder that remembers the files that passed.
    num_threads: threads that check; None: one per core.
    distribute: function of (check_images, [ImageList]) that returns check_images([ImageList]);
        with several workers each one checks a shard.

    Raises ValueError naming every wrong line and, unless skip_broken, every broken image.
    """
    check = load_image if skip_broken else check_image

    def check_images(image_lists):
        return find_broken(image_lists, check, cache_dir, num_threads,
                           progress_bar('checking images'))
    data, broken = read_datasets(
        train_file, val_file, labels_file, num_classes,
        lambda image_lists: distribute(check_images, image_lists), skip_broken)
    if broken:
        lines = [f'skip_broken: {len(broken):,} images are left out', *broken.values()]
        print('\n'.join(lines[:1 + SHOWN_ERRORS]), file=sys.stderr)
    for line in list_warnings(data):
        print(f'warning: {line}', file=sys.stderr)
    return data


def find_broken(image_lists: Iterable[ImageList], check: Callable, folder: str,
                num_threads: int | None = None,
                progress: Callable = lambda results, count: results) -> dict[str, str]:
    """Return {path: error} of the listed files that `check` refuses with a ValueError.

    check: images.check_image or images.load_image.
    folder: remembers the files that passed; they are not checked again until they change.
    num_threads: threads that check; None: one per core.
    progress: wraps an iterable of `count` results and shows how far it is.
    """
    memory = os.path.join(folder, f'{check.__name__}-{decoder_fingerprint()}')
    known = read_keys(memory)
    keys = {path: key_or_none(path) for part in image_lists for path in part.paths}
    unknown = [path for path, key in keys.items() if key not in known]
    errors, passed = {}, []
    try:
        for position, _ in load_images(unknown, check, errors, num_threads, progress=progress):
            passed.append(keys[unknown[position]])
    finally:  # also after Ctrl-C
        new = [key for key in passed if key]  # None: the file has appeared since
        if new:
            write_keys(memory, [*known, *new])
    return {unknown[position]: error for position, error in errors.items()}


def gather_broken(workers, image_lists: list[ImageList], broken: dict[str, str]) -> dict[str, str]:
    """Return {path: error} of all workers.

    image_lists: whole lists, which must be the same on all workers. broken: of this worker.
    """
    if workers.size == 1:
        return broken
    paths = [path for part in image_lists for path in part.paths]
    positions = workers.all_gather_object([n for n, path in enumerate(paths) if path in broken])
    others = {}
    for rank, found in enumerate(positions):
        for n in found:
            others[paths[n]] = f'{printable(paths[n])}: broken or missing on worker {rank}'
    return {**others, **broken}


def list_fingerprint(image_list: ImageList) -> str:
    """Return text that differs for other labels or other names of images, in whatever folder."""
    names = [os.path.basename(path) for path in image_list.paths]
    content = json.dumps([names, image_list.labels.tolist()])
    return f'{len(names)} images ({hashlib.sha256(content.encode()).hexdigest()[:8]})'


def image_key(path: str) -> bytes:
    """Return 16 bytes that differ per file, and per change of the file.

    Raises OSError for a missing file.
    """
    state = os.stat(path)
    # `touch` cannot set back the time of the last change of the inode, so that this sees even a
    # careful replacement.
    identity = '\0'.join(map(str, (os.path.abspath(path), state.st_size, state.st_mtime_ns,
                                   state.st_ctime_ns)))
    content = identity.encode('utf-8', 'surrogateescape')
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()


def key_or_none(path):
    """Return the image_key of a file, or None if it is missing: the check says why."""
    try:
        return image_key(path)
    except (OSError, ValueError):
        return None


def read_keys(memory):
    """Return the set of keys in a file; empty without a file. A partial last key is ignored."""
    try:
        with open(memory, 'rb') as file:
            content = file.read()
    except OSError:
        return set()
    count = len(content) // KEY_BYTES
    return {content[n * KEY_BYTES:(n + 1) * KEY_BYTES] for n in range(count)}


def write_keys(memory, keys):
    """Replace a file of keys in one step; without write access, the next start takes longer."""
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(memory), exist_ok=True)
        with new_file(memory, 'wb', replace=True) as file:
            file.write(b''.join(keys))


def list_warnings(data: Datasets) -> list[str]:
    """Return lines about lists that are legal but probably not meant."""
    warnings = overlap_warnings(data.train, data.val)
    for image_list in (data.train, data.val):
        warnings += contradiction_warnings(image_list)
        warnings += missing_class_warnings(image_list, data.class_names)
    numbered = [name for number, name in enumerate(data.class_names)
                if name.isdigit() and name != str(number)]
    if numbered:
        warnings.append('some classes have numbers as names; a number in a list means the position '
                        'of a class, from 0')
    return warnings


def overlap_warnings(train, val):
    """Return a list with a line about files that are in both lists, or an empty list."""
    known = {os.path.abspath(path) for path in train.paths}
    both = [line for path, line in zip(val.paths, val.lines, strict=True)
            if os.path.abspath(path) in known]
    if not both:
        return []
    return [f'{len(both):,} files of {val.file} are in {train.file} too, the first in line '
            f'{both[0]}: on these, a network that overfits looks right']


def contradiction_warnings(image_list):
    """Return a list with a line about files with two labels, or an empty list."""
    last_labels = dict(zip(image_list.paths, image_list.labels, strict=True))
    lines = [line for path, label, line in zip(*image_list[1:], strict=True)
             if last_labels[path] != label]
    if not lines:
        return []
    return [f'{len(lines):,} lines of {image_list.file} give a file another label than a later '
            f'line does, the first is line {lines[0]}']


def missing_class_warnings(image_list, class_names):
    """Return a list with a line about classes without images, or an empty list."""
    numbers = np.setdiff1d(np.arange(len(class_names)), image_list.labels)
    if not len(numbers):
        return []
    shown = [class_names[number] for number in numbers[:SHOWN_ERRORS]]
    if len(numbers) > SHOWN_ERRORS:
        shown.append('...')
    return [f'{len(numbers)} of {len(class_names)} classes have no image in {image_list.file}: '
            f'{", ".join(shown)}']
