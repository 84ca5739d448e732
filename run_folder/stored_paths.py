"""The paths in settings.json, which may start at the folder in which the run was started."""

import os

# The settings that are resolved; a path that is None or 'none' names nothing.
STORED_PATHS = ('train_file', 'val_file', 'labels_file', 'weights_path', 'cache_dir')


def resolve_paths(settings: dict, run_dir: str) -> dict:
    """Return the dict of settings.json with paths that lead to the same files from here.

    run_dir: the folder that it was read from.
    """
    start = find_start(settings, run_dir)
    if start is None or start == working_dir():
        return settings
    relative = {name: settings[name] for name in STORED_PATHS
                if is_relative(settings.get(name)) and settings[name] != 'none'}
    return {**settings, **{name: os.path.join(start, path) for name, path in relative.items()}}


def find_start(settings, run_dir):
    """Return the folder at which the relative paths of a run start; None: where this process is.

    It is the first one that has the lists: the folder in which run_dir has the path that the run
    knows, so that a project may be moved or copied as a whole; the folder in which the run was
    started; the one in which this process is.
    """
    lists = [settings[name] for name in ('train_file', 'val_file')
             if is_relative(settings.get(name))]
    stored, started = settings.get('run_dir'), settings.get('working_dir')
    started = started if isinstance(started, str) and os.path.isdir(started) else None
    for folder in (folder_above(run_dir, stored), started, os.curdir):
        if folder and all(os.path.exists(os.path.join(folder, path)) for path in lists):
            return folder if folder != os.curdir else None
    return started


def folder_above(run_dir, stored):
    """Return the folder in which run_dir has the relative path `stored`, None if there is none."""
    if not is_relative(stored):
        return None
    actual, stored = os.path.abspath(run_dir), os.sep + os.path.normpath(stored)
    return (actual.removesuffix(stored) or os.sep) if actual.endswith(stored) else None


def is_relative(path):
    """Return whether a value of settings.json is the text of a relative path."""
    return isinstance(path, str) and not os.path.isabs(path)


def working_dir() -> str | None:
    """Return the folder in which this process is, None if it is deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None
