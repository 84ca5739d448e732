"""Resuming a run: its settings, its progress, and its metrics so far."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from inputs.class_names import read_class_names
from run_folder.checkpoint_files import Progress, read_progress
from run_folder.folder import RunFolder, is_run, read_run_settings
from run_folder.metrics import read_rows
from runtime.flags import flag_text, parse_settings

# Settings that cannot change when a run is resumed.
UNCHANGEABLE_SETTINGS = (
    'num_classes', 'weights_path', 'architecture', 'train_layers', 'skip_layers', 'optimizer',
    'batch_size', 'seed', 'views', 'horizontal_flip', 'precision', 'train_images', 'val_images')
# Older names of settings in settings.json, and the values of what it did not have.
OLDER_NAMES = {'pretrained_lr_share': 'pretrained_lr_mult'}
OLDER_VALUES = {'views': 'whole'}


def parse_run_settings(settings_class: type, arguments: Sequence[str]) -> Any:
    """Return an instance of a dataclass of settings, as parse_settings does.

    If --resume or --run_dir names a run, its settings replace the defaults. Relative paths among
    them start where the run was started; those that flags give start here.
    """
    settings = parse_settings(settings_class, arguments)
    check_one_folder(settings)
    run_dir = settings.resume or settings.run_dir
    if not run_dir or not is_run(run_dir):
        return settings
    try:
        stored = read_run_settings(run_dir)
    except ValueError as error:
        raise ValueError(f'the run in {run_dir} cannot be resumed: {error}') from error
    stored = {OLDER_NAMES.get(name, name): value for name, value in stored.items()}
    names = {field.name for field in dataclasses.fields(settings_class)}
    names.discard('devices')  # they belong to the machine, not to the run
    # Older versions could store an empty path.
    stored = {name: value for name, value in stored.items() if name in names and value != ''}
    settings = parse_settings(settings_class, arguments, stored)
    return dataclasses.replace(settings, resume=None, run_dir=run_dir)


def check_one_folder(settings):
    """Raise ValueError if --resume and --run_dir name two folders."""
    if settings.resume and settings.run_dir and (
            os.path.realpath(settings.resume) != os.path.realpath(settings.run_dir)):
        raise ValueError(f'resume names {settings.resume}, and run_dir {settings.run_dir}: a run '
                         'is resumed in its own folder; leave out run_dir')


def read_resume_state(workers, folder: RunFolder, stored_settings: dict[str, Any],
                      class_names: list[str]) -> tuple[Progress, list[dict]]:
    """Return (Progress, metrics of each finished epoch) of the run in a RunFolder, on all workers.

    workers: SingleWorker or WorkerGroup.
    folder: holds the run to resume; for a new run, the result is (Progress(), []).
    stored_settings: the dict for settings.json.
    Raises ValueError if the run in the folder has other classes or UNCHANGEABLE_SETTINGS.
    """
    def read():
        if not folder.settings:
            return {}, []
        check_unchanged(folder, stored_settings, class_names)
        progress = read_progress(folder.path)
        if not progress:
            return {}, []
        return dataclasses.asdict(progress), read_rows(folder.path, progress.epochs)
    progress, rows = workers.broadcast(read)
    return Progress(**progress), rows


def check_unchanged(folder, stored_settings, class_names):
    """Raise ValueError naming all UNCHANGEABLE_SETTINGS that differ from the run in a RunFolder."""
    def as_text(value):
        return flag_text(sorted(value) if isinstance(value, (tuple, list)) else value)
    changed = []
    if folder.settings.get('random_crop'):
        changed.append('random_crop was on, and there are views in its place')
    for name in UNCHANGEABLE_SETTINGS:
        before = as_text(folder.settings.get(name, OLDER_VALUES.get(name)))
        now = as_text(stored_settings[name])
        if before != now and not (name == 'weights_path' and is_same_file(before, now)):
            changed.append(f'{name} was {before}, not {now}')
    if changed:
        raise ValueError(f'the run in {folder.path} cannot be resumed: {"; ".join(changed)}. '
                         'Name another run_dir to start a new run')
    labels_file = os.path.join(folder.path, 'labels.txt')
    if os.path.exists(labels_file) and read_class_names(labels_file) != class_names:
        raise ValueError(f'the run in {folder.path} cannot be resumed: the classes are not those '
                         'of its labels.txt')


def is_same_file(path, other):
    """Return whether two values of weights_path name the same file."""
    return 'none' not in (path, other) and os.path.realpath(path) == os.path.realpath(other)
