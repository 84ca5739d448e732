"""Turns a folder of class folders into train.txt, val.txt and labels.txt: `python make_lists.py FOLDER`."""

import contextlib
import hashlib
import os
from collections import Counter, defaultdict
from typing import NamedTuple

from inputs.images import check_image
from inputs.lists import walk_visible
from inputs.prefetch import prefetch_images
from runtime.command import progress_bar, run_command
from runtime.files import new_file, printable
from runtime.flags import ArgumentParser

LISTS = ('train.txt', 'val.txt', 'labels.txt')
SHOWN = 3  # names that are shown of those with the same fault
HIDDEN = 'hidden files are left out'
BESIDE = 'files and folders beside train and val are left out'
SIDES = {'train', 'training', 'val', 'valid', 'validation', 'test', 'testing'}  # what such folders are often called


class Image(NamedTuple):
    """A file: its path, its name from FOLDER on, with slashes, its class folder, and train, val or '' for its side."""

    path: str
    name: str
    class_name: str
    side: str


def parse_arguments(arguments):
    """Return the flags of the command line; raises ValueError for wrong ones."""
    parser = ArgumentParser(prog='make_lists.py', description='Turn a folder of class folders, or one that holds '
                            'train/ and val/ with class folders in each, into train.txt, val.txt and labels.txt.')
    parser.add_argument('folder', metavar='FOLDER', help='if it is an absolute path, those in the lists are too')
    parser.add_argument('--val', type=float, default=0.2, help='share of images for val.txt, between 0 and 1 [0.2]')
    parser.add_argument('--seed', type=int, default=0, help='another number gives another split [0]')
    parser.add_argument('--output', default='.', help='folder that the lists are written to [.]')
    parser.add_argument('--force', action='store_true', help='replace lists that are there already')
    options = parser.parse_args(arguments)
    if not 0 < options.val < 1:
        raise ValueError(f'--val {options.val} is not between 0 and 1')
    return options


def find_files(folder, notes):
    """Return ([Image] of all files in class folders, the names of these folders); adds what is left out to `notes`."""
    sides = ('train', 'val') if all(os.path.isdir(os.path.join(folder, side)) for side in ('train', 'val')) else ('',)
    if '' not in sides:
        for entry in sorted({*os.listdir(folder)} - {*sides}):
            notes[HIDDEN if entry.startswith('.') else BESIDE].append(entry)
    files, class_names = [], set()
    for side in sides:
        top = os.path.join(folder, side)
        for entry in os.listdir(top):
            path = os.path.join(top, entry)
            if entry.startswith('.'):
                notes[HIDDEN].append(entry)
            elif not os.path.isdir(path):
                notes['files outside the class folders are left out'].append(entry)
            else:
                class_names.add(entry)
                files += [Image(inner, os.path.relpath(inner, folder).replace(os.sep, '/'), entry, side)
                          for inner in class_files(path, notes)]
    return sorted(files), class_names


def class_files(folder, notes):
    """Yield the path of each file in a folder and in the folders in it, but for hidden ones."""
    for inner, names, hidden, links in walk_visible(folder):
        notes[HIDDEN] += hidden
        notes['links to folders are left out'] += links
        yield from (os.path.join(inner, name) for name in names)


def look(files, notes):
    """Return those of [Image] that are whole images, under a progress bar; adds the others to `notes`."""
    images = []
    results = prefetch_images([file.path for file in files], None, 64, check_image)
    for file, error in progress_bar('looking at images')(zip(files, results), len(files)):
        if isinstance(error, ValueError):
            fault = str(error).removeprefix(f'{printable(file.path)}: ')
            notes[f'files are left out: {fault}'].append(file.name)
        elif file.path != file.path.strip() or '\n' in file.path or '\r' in file.path:
            notes['files are left out: a list can not hold their names'].append(file.name)
        else:
            images.append(file)
    return images


def draw(name, seed):
    """Return a number from 0 to below 1 that depends on a file's name and the seed alone."""
    digest = hashlib.blake2b(f'{seed}/{name}'.encode('utf-8', 'surrogateescape'), digest_size=8).digest()
    return int.from_bytes(digest, 'big') / 2**64


def split(images, share, seed):
    """Return (training images, validation images).

    Where FOLDER does not say the side, each image is drawn by itself, so that it stays on its side when others are
    added or removed; the share of each class is then about `share`. A class of 2 or more images has one on each side:
    where all fell on one side, the one nearest to the border changes over, and may go back when others come.
    """
    classes = defaultdict(list)
    for image in images:
        classes[image.class_name, image.side].append(image)
    parts = {'train': [], 'val': []}
    for (_, side), members in classes.items():
        if side:
            parts[side] += members
            continue
        members.sort(key=lambda image: draw(image.name, seed))
        count = sum(draw(image.name, seed) < share for image in members)
        count = min(max(count, 1), len(members) - 1)  # a single image is learnt from
        parts['val'] += members[:count]
        parts['train'] += members[count:]
    return sorted(parts['train']), sorted(parts['val'])


def note_oddities(train, val, class_names, notes):
    """Add to `notes` what may not be meant: classes without images, or on one side only, and files on both sides."""
    counts = {side: Counter(image.class_name for image in part) for side, part in (('train', train), ('val', val))}
    for name in sorted(class_names):
        total = sum(count[name] for count in counts.values())
        if total < 2:
            fault = 'classes have a single image' if total else 'class folders hold no image and are left out'
            notes[fault].append(name)
        for side, count in counts.items():
            if total and not count[name]:
                notes[f'classes have no image in {side}.txt'].append(name)
    known = {content_key(image): image.name for image in same_size(train, val)}
    for image in same_size(val, train):
        if (key := content_key(image)) in known:
            notes['validation images are the same as a training image'].append(f'{image.name} = {known[key]}')


def same_size(images, others):
    """Return the images of the same number of bytes as one of the others."""
    sizes = {os.path.getsize(image.path) for image in others}
    return [image for image in images if os.path.getsize(image.path) in sizes]


def content_key(image):
    """Return bytes that are the same for files of the same content."""
    with open(image.path, 'rb') as file:
        return hashlib.blake2b(file.read()).digest()


def class_order(names):
    """Return the names of classes in their order: that of the numbers if they are numbers, else alphabetical."""
    return sorted(names, key=int) if all(name.isascii() and name.isdigit() for name in names) else sorted(names)


def list_lines(images, folder, output, class_names):
    """Return the lines of a list in the folder `output`; paths start there unless `folder` is an absolute path."""
    if not os.path.isabs(folder):
        folder = os.path.relpath(os.path.abspath(folder), os.path.realpath(output))
    numbers = {name: number for number, name in enumerate(class_names)}
    return [f'{os.path.join(folder, image.name)} {numbers[image.class_name]}' for image in images]


def write_lists(folder, contents):
    """Write {file name: lines} into a folder: all files, or none if one can't be written."""
    with contextlib.ExitStack() as files:
        for name, lines in contents.items():
            file = files.enter_context(new_file(os.path.join(folder, name), replace=True, encoding='utf-8',
                                                errors='surrogateescape'))
            file.writelines(f'{line}\n' for line in lines)
            file.flush()


def main(arguments):
    """Run the command line; returns the exit status."""
    options = parse_arguments(arguments)
    if not os.path.isdir(options.output):
        raise ValueError(f'--output {options.output} is no folder: make it first')
    if not os.path.isdir(options.folder):
        raise ValueError(f'{options.folder} is no folder')
    folders = [name for name in LISTS if os.path.isdir(os.path.join(options.output, name))]
    if folders:
        raise ValueError(f'{", ".join(folders)} in {options.output}: a folder has this name; rename it')
    there = [name for name in LISTS if os.path.lexists(os.path.join(options.output, name))]
    if there and not options.force:
        raise ValueError(f'{", ".join(there)} in {options.output} would be replaced: add --force, or write elsewhere '
                         'with --output FOLDER')
    notes = defaultdict(list)
    files, class_folders = find_files(options.folder, notes)
    images = look(files, notes)
    class_names = class_order({image.class_name for image in images})
    if len(class_names) < 2 or any(name != name.strip() or not name.isprintable() for name in class_names):
        raise ValueError(f'{options.folder} should hold two or more class folders with images, and printable names; '
                         f'found: {", ".join(map(ascii, class_names)) or "none"}')
    if SIDES.issuperset(name.lower() for name in class_names):
        raise ValueError(f'{options.folder} holds {" and ".join(class_names)}, which are no classes: call them train '
                         'and val, or name the one with the class folders')
    train, val = split(images, options.val, options.seed)
    if not train or not val:
        raise ValueError(f'{options.folder}: no image is left for {"val" if train else "train"}.txt; each class needs '
                         'two images or more')
    note_oddities(train, val, class_folders, notes)
    lists = [list_lines(part, options.folder, options.output, class_names) for part in (train, val)]
    write_lists(options.output, dict(zip(LISTS, [*lists, class_names])))
    for note, names in notes.items():
        if names:
            more = ', ...' if len(names) > SHOWN else ''
            print(f'{len(names):,} {note}: {", ".join(map(printable, names[:SHOWN]))}{more}')
    print(f'{len(class_names)} classes, {len(train):,} images in train.txt, {len(val):,} in val.txt')
    return 0


if __name__ == '__main__':
    run_command(main)
