"""Looks at every listed file before training, and remembers which were whole, so that the next start is quick."""

import contextlib
import hashlib
import os
import sys

from inputs.images import check_image, decoder_fingerprint, load_image
from inputs.lists import SHOWN_ERRORS, list_warnings, read_data
from inputs.prefetch import prefetch_images
from runtime.command import progress_bar
from runtime.files import new_file

KEY_BYTES = 16


def read_lists(settings, shared=lambda look, image_lists: look(image_lists)):
    """Return the Datasets of the lists, once every listed file has been looked at; says what is left out, or odd.

    With skip_broken every file is decoded: what only that shows must be known before the number of images goes into the
    graph. shared: function that returns what look(image_lists) does, and leaves a part of the lists to other workers.
    """
    check = load_image if settings.skip_broken else check_image

    def look(image_lists):
        return find_broken(image_lists, check, settings.cache_dir, settings.num_threads,
                           progress_bar('looking at images'))
    data, broken = read_data(settings.train_file, settings.val_file, settings.labels_file, settings.num_classes,
                             lambda image_lists: shared(look, image_lists), settings.skip_broken)
    if broken:
        print('\n'.join([f'skip_broken: {len(broken):,} images are left out', *list(broken.values())[:SHOWN_ERRORS]]),
              file=sys.stderr)
    for line in list_warnings(data):
        print(f'warning: {line}', file=sys.stderr)
    return data


def image_key(path, flipped=False):
    """Return 16 bytes that differ for another file, a changed file, and the mirrored image; OSError if it is gone."""
    state = os.stat(path)
    # The time of the last change of the inode, which `touch` can't set back, sees even a careful replacement.
    identity = f'{os.path.abspath(path)}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}\0{flipped}'
    return hashlib.blake2b(identity.encode('utf-8', 'surrogateescape'), digest_size=KEY_BYTES).digest()


def find_broken(image_lists, check, folder, num_threads=None, progress=lambda images, count: images):
    """Return {path: what is wrong} of the listed files that `check` refuses with a ValueError.

    check: images.check_image or images.load_image. Files that passed are remembered in `folder`, and not looked at
    again until they change. progress: wraps an iterable of a given length and shows how far it is.
    """
    memory = os.path.join(folder, f'{check.__name__}-{decoder_fingerprint()}')
    whole, passed, broken = read_keys(memory), [], {}
    keys = {path: key_or_none(path) for part in image_lists for path in part.paths}
    new = [path for path, key in keys.items() if key not in whole]
    try:
        for path, result in zip(new, progress(prefetch_images(new, num_threads, 64, check), len(new))):
            if isinstance(result, ValueError):
                broken[path] = str(result)
            elif keys[path]:
                passed.append(keys[path])
    finally:  # also after Ctrl-C
        if passed:
            write_keys(memory, b''.join([*whole, *passed]))
    return broken


def key_or_none(path):
    """Return image_key, or None for a file that can't be looked up: the check will say why."""
    try:
        return image_key(path)
    except (OSError, ValueError):
        return None


def read_keys(memory):
    """Return the set of keys in a file; empty without one. Of other content, no key is one of an image."""
    try:
        with open(memory, 'rb') as file:
            content = file.read()
    except OSError:
        return set()
    return {content[start:start + KEY_BYTES] for start in range(0, len(content), KEY_BYTES)}


def write_keys(memory, content):
    """Replace a file of keys in one step; where that is not possible, the next start takes longer, and no more."""
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(memory), exist_ok=True)
        with new_file(memory, 'wb', replace=True) as file:
            file.write(content)
