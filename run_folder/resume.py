"""Going on with a run: which of its settings hold and which may change, how far it is, and what it gave so far."""

import dataclasses
import os
from typing import NamedTuple

from inputs.lists import read_class_names
from run_folder.checkpoints import Progress, read_progress
from run_folder.folder import is_run, read_settings
from run_folder.metrics import read_rows
from runtime.flags import flag_text, flag_words, parse_settings

# What a run that goes on keeps; with others, it would be another run.
UNCHANGEABLE_SETTINGS = ('num_classes', 'weights_path', 'train_layers', 'skip_layers', 'optimizer', 'batch_size', 'seed', 'random_crop',
         'precision', 'train_images', 'val_images')


class ResumeState(NamedTuple):
    """What a run gave so far: its Progress, None at the start, and the rows of metrics.csv up to it."""

    progress: Progress | None
    rows: list


def parse_run_settings(settings_class, arguments):
    """Return what flags mean, as parse_settings does; where --resume or --run_dir names a run, they change it."""
    settings = parse_settings(settings_class, arguments)
    if settings.resume and settings.run_dir and os.path.realpath(settings.resume) != os.path.realpath(
            settings.run_dir):
        raise ValueError(f'resume names {settings.resume}, and run_dir {settings.run_dir}: a run goes on in its own '
                         'folder; leave out run_dir')
    run_dir = settings.resume or settings.run_dir
    if run_dir and is_run(run_dir):
        try:
            stored = read_settings(os.path.join(run_dir, 'settings.json'))
        except ValueError as error:
            raise ValueError(f'the run in {run_dir} can not go on: {error}') from error
        words = [word for field in dataclasses.fields(settings_class) if field.name in stored
                 and field.name != 'devices'  # which are the machine's, not the run's
                 for word in flag_words(field.name, stored[field.name])]
        settings = dataclasses.replace(parse_settings(settings_class, words + arguments), resume=None, run_dir=run_dir)
    return settings


def read_earlier(folder, effective, class_names):
    """Return what the run in a RunFolder gave so far; of a new one, nothing.

    effective: the settings, as settings.json has them. Raises ValueError if these, or the class names, make it another.
    """
    if not folder.settings:
        return ResumeState(None, [])
    check_unchanged(folder, effective)
    labels_file = os.path.join(folder.path, 'labels.txt')
    if os.path.exists(labels_file) and read_class_names(labels_file) != class_names:
        raise ValueError(f'the run in {folder.path} can not go on: the classes are not those of its labels.txt')
    progress = read_progress(folder.path)
    return ResumeState(progress, read_rows(folder.path, progress.epochs) if progress else [])


def read_shared_earlier(distribution, *arguments):
    """Return on all workers of the Distribution what read_earlier returns on the chief, who has the run folder."""
    def read():
        progress, rows = read_earlier(*arguments)
        return progress and dataclasses.asdict(progress), rows
    progress, rows = distribution.broadcast_from_chief(read)
    return ResumeState(progress and Progress(**progress), rows)


def check_unchanged(folder, effective):
    """Raise ValueError with every setting of UNCHANGEABLE_SETTINGS that differs from those of the run in a RunFolder."""
    def as_text(value):
        return flag_text(sorted(value) if isinstance(value, (tuple, list)) else value)
    changed = [f'{name} was {as_text(folder.settings.get(name))}, not {as_text(effective[name])}' for name in UNCHANGEABLE_SETTINGS
               if as_text(effective[name]) != as_text(folder.settings.get(name))]
    if changed:
        raise ValueError(f'the run in {folder.path} can not go on: {"; ".join(changed)}. '
                         'Name another run_dir to begin anew')
