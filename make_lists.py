"""Write train.txt, val.txt and labels.txt for a folder of class folders: `make_lists.py FOLDER`."""

import contextlib
import dataclasses
import hashlib
import os
from collections import Counter, defaultdict

from inputs.class_names import describe_bad_name, show_classes, sort_classes
from inputs.folders import check_images, find_files, format_notes
from runtime.command import run_command
from runtime.files import new_file, printable
from runtime.flags import CheckedSettings, flag, parse_settings, positional

LISTS = ('train.txt', 'val.txt', 'labels.txt')
# What a list takes for a comment or for a byte order mark where a line begins with it.
UNLIKE_PATHS = ('# ', '\ufeff')
# Common names of folders that hold subsets, not classes.
SUBSET_NAMES = {'train', 'training', 'val', 'valid', 'validation', 'test', 'testing'}


@dataclasses.dataclass(frozen=True)
class Settings(CheckedSettings):
    """Write train.txt, val.txt and labels.txt for a folder of class folders.

    The folder may also hold train/ and val/ with class folders in each.
    """

    folder: str = positional(
        'folder of class folders; lists have absolute paths if this is one', is_path=True)
    val: float = flag(0.2, 'fraction of the images for val.txt', above=0, below=1)
    seed: int = flag(0, 'another number gives another split')
    output: str = flag('.', 'folder that the lists are written to', is_path=True)
    force: bool = flag(False, 'replace lists that exist')


def hash_fraction(name, seed):
    """Return a number from 0 to below 1 that depends on a file's name and the seed alone."""
    content = f'{seed}/{name}'.encode('utf-8', 'surrogateescape')
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), 'big') / 2**64


def split(images, val_fraction, seed):
    """Return (training images, validation images), [Image] each.

    Without train/ and val/, a hash of its name decides where an image goes, so that adding others
    does not move it. A class with two or more images gets one in each list: if all hashes fall on
    one side, the image nearest to the threshold is moved.
    """
    classes = defaultdict(list)
    for image in images:
        classes[image.class_name, image.subset].append(image)
    subsets = {'train': [], 'val': []}
    for (_, subset), members in classes.items():
        if subset:
            subsets[subset] += members
        else:
            train, val = split_class(members, val_fraction, seed)
            subsets['train'] += train
            subsets['val'] += val
    return sorted(subsets['train']), sorted(subsets['val'])


def split_class(images, val_fraction, seed):
    """Return (training images, validation images) of a class; a single image is for training."""
    images = sorted(images, key=lambda image: hash_fraction(image.name, seed))
    count = sum(hash_fraction(image.name, seed) < val_fraction for image in images)
    count = min(max(count, 1), len(images) - 1)
    return images[count:], images[:count]


def note_classes(train, val, class_folders, notes):
    """Add to `notes` the classes with no image, with one, and with none in one of the lists."""
    counts = {name: Counter(image.class_name for image in part)
              for name, part in (('train', train), ('val', val))}
    for class_name in sorted(class_folders):
        total = sum(count[class_name] for count in counts.values())
        if not total:
            notes['class folders hold no image and are left out'].append(class_name)
            continue
        if total == 1:
            notes['classes have a single image'].append(class_name)
        for name, count in counts.items():
            if not count[class_name]:
                notes[f'classes have no image in {name}.txt'].append(class_name)


def note_duplicates(train, val, notes):
    """Add to `notes` the validation images whose file equals that of a training image."""
    known = {content_hash(image): image.name for image in same_size(train, val)}
    for image in same_size(val, train):
        original = known.get(content_hash(image))
        if original:
            note = 'validation images are the same as a training image'
            notes[note].append(f'{image.name} = {original}')


def same_size(images, others):
    """Return the images that have as many bytes as one of the others."""
    sizes = {os.path.getsize(image.path) for image in others}
    return [image for image in images if os.path.getsize(image.path) in sizes]


def content_hash(image):
    """Return the BLAKE2 hash of a file's content, 64 bytes."""
    with open(image.path, 'rb') as file:
        return hashlib.blake2b(file.read()).digest()


def list_lines(images, folder, output, class_names):
    """Return the lines of a list in the folder `output`.

    Paths are relative to it unless `folder` is an absolute path. Raises ValueError for a folder
    whose name a list cannot hold.
    """
    if not os.path.isabs(folder):
        folder = os.path.relpath(os.path.abspath(folder), os.path.realpath(output))
    if folder[0].isspace() or folder.startswith(UNLIKE_PATHS):
        folder = os.path.join('.', folder)
    if '\n' in folder or '\r' in folder:
        raise ValueError(f'{printable(folder)}: a list cannot hold the name of this folder')
    numbers = {name: number for number, name in enumerate(class_names)}
    return [f'{os.path.join(folder, image.name)} {numbers[image.class_name]}' for image in images]


def write_lists(folder, contents):
    """Write {file name: lines} into a folder: all files, or none if one cannot be written."""
    with contextlib.ExitStack() as stack:
        for name, lines in contents.items():
            file = stack.enter_context(new_file(os.path.join(folder, name), replace=True,
                                                encoding='utf-8', errors='surrogateescape'))
            file.writelines(f'{line}\n' for line in lines)
            file.flush()


def check_folders(settings):
    """Raise ValueError unless both folders exist and the lists can be written."""
    folder, output = settings.folder, settings.output
    if not os.path.isdir(output):
        raise ValueError(f'--output {output} is no folder: make it first')
    if not os.path.isdir(folder):
        raise ValueError(f'{folder} is no folder')
    folders = [name for name in LISTS if os.path.isdir(os.path.join(output, name))]
    if folders:
        raise ValueError(f'{", ".join(folders)} in {output}: a folder has this name; rename it')
    existing = [name for name in LISTS if os.path.lexists(os.path.join(output, name))]
    if existing and not settings.force:
        raise ValueError(f'{", ".join(existing)} in {output} would be replaced: add --force, or '
                         'write elsewhere with --output FOLDER')


def check_class_names(folder, names):
    """Raise ValueError unless there are two or more legal names that are not subsets'."""
    for name in names:
        problem = describe_bad_name(name)
        if problem or name != name.strip():
            raise ValueError(f'{folder}: class folder {ascii(name)}: '
                             f'{problem or "a blank at the start or end"}; rename it')
    if len(names) < 2:
        raise ValueError(f'{folder} should hold two or more class folders with images; found: '
                         f'{show_classes(names) or "none"}')
    if SUBSET_NAMES.issuperset(name.lower() for name in names):
        raise ValueError(f'{folder} holds {" and ".join(names)}, which are no classes: call them '
                         'train and val, or name the one with the class folders')


def make_lists(settings):
    """Write the lists that the settings ask for, and print what may not be meant.

    Raises ValueError, before anything is written, for settings and folders that do not work.
    """
    check_folders(settings)
    notes = defaultdict(list)
    files, class_folders = find_files(settings.folder, notes)
    images = check_images(files, notes)
    class_names = sort_classes({image.class_name for image in images})
    check_class_names(settings.folder, class_names)
    train, val = split(images, settings.val, settings.seed)
    if not train or not val:
        raise ValueError(f'{settings.folder}: no image is left for {"val" if train else "train"}'
                         '.txt; each class needs two images or more')
    note_classes(train, val, class_folders, notes)
    note_duplicates(train, val, notes)
    lists = [list_lines(part, settings.folder, settings.output, class_names)
             for part in (train, val)]
    write_lists(settings.output, dict(zip(LISTS, [*lists, class_names], strict=True)))
    for line in format_notes(notes):
        print(line)
    print(f'{len(class_names)} classes, {len(train):,} images in train.txt, '
          f'{len(val):,} in val.txt')


def main(arguments):
    """Run the command line; return the exit status."""
    make_lists(parse_settings(Settings, arguments))
    return 0


if __name__ == '__main__':
    run_command(main)
