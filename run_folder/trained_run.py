"""Reading a run folder: its classes, and the network of one of its checkpoints."""

import os
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from alexnet import LAYERS, AlexNet
from inputs.class_names import read_class_names
from inputs.views import central_view, evaluation_views
from run_folder.checkpoint_files import tensorflow_path
from run_folder.folder import check_small_file, is_run, read_settings
from runtime.files import printable
from runtime.tf1 import error_line, tf


class TrainedRun(NamedTuple):
    """A trained network as its run folder describes it."""

    class_names: list[str]
    views: tuple              # of an image, over which validation averaged
    horizontal_flip: bool     # whether mirror images are views, too
    image_mean: np.ndarray    # float32 [3], blue, green, red
    precision: str            # of matrix products, 'float32', 'tensorfloat32' or 'bfloat16'
    architecture: str         # 'alexnet' or 'caffenet'
    checkpoints: tuple        # path prefixes: the chosen checkpoint, and `frozen` if it exists


def read_run(path: str, checkpoint: str | None = None) -> TrainedRun:
    """Return the TrainedRun of a run folder, or of one of its checkpoints: x/checkpoints/best-7.

    x/checkpoints/best and x/checkpoints/last, the text files, name a checkpoint as well.
    checkpoint: 'best', 'last', or the number of an epoch that has a checkpoint; None: 'best'.
    The folder may be a stranger's: its files are only data, and none makes another file be read.
    Raises ValueError, in one line, for anything but a run in the current format.
    """
    folder, name = split_run_path(path)
    if name and checkpoint:
        raise ValueError(f'{path} is a checkpoint already: leave out --checkpoint {checkpoint}')
    try:
        settings, class_names = read_description(folder)
        if not name or name in ('best', 'last'):
            name = find_checkpoint(folder, name or checkpoint or 'best')
        names = [name]
        has_frozen = os.path.exists(os.path.join(folder, 'checkpoints', 'frozen.index'))
        if has_frozen and name != 'frozen':
            names.append('frozen')
    except (OSError, ValueError) as error:
        text = str(error).splitlines()[0]
        if isinstance(error, OSError):
            text = f'{os.path.basename(error.filename or "")}: {error.strerror}'
        raise ValueError(f'{printable(path)} cannot be used: {text}') from error
    return TrainedRun(
        class_names, stored_views(settings), settings.get('horizontal_flip', True),
        np.array(settings['image_mean'], np.float32),
        settings['precision'], settings['architecture'],
        tuple(os.path.join(folder, 'checkpoints', name) for name in names))


def stored_views(settings):
    """Return the views that settings.json names; older ones had one, by its scale_size."""
    if settings.get('views'):
        return evaluation_views(settings['views'], settings['horizontal_flip'])
    return (central_view(settings['scale_size']),)


def read_description(folder):
    """Return (dict of settings.json, class names) of a run folder.

    Raises ValueError if their numbers of classes differ.
    """
    settings = read_settings(os.path.join(folder, 'settings.json'))
    labels_file = os.path.join(folder, 'labels.txt')
    check_small_file(labels_file)
    class_names, num_classes = read_class_names(labels_file), settings['num_classes']
    if num_classes != len(class_names) or num_classes < 2:
        raise ValueError(f'labels.txt names {len(class_names)} classes, settings.json '
                         f'{num_classes!r:.99}')
    return settings, class_names


def split_run_path(path):
    """Return (run folder, name of the checkpoint) of a path to a checkpoint or one of its files.

    The name may be that of the text file `best` or `last`. For the path of a run folder, or of
    the folder checkpoints in it, the name is None.
    """
    parent, name = os.path.split(os.path.abspath(path))
    if os.path.isdir(path):
        is_inner = name == 'checkpoints' and is_run(parent) and not is_run(path)
        return (parent if is_inner else path), None
    if os.path.basename(parent) == 'checkpoints':
        return os.path.dirname(parent), re.sub(r'\.(index|data-[-\w]+)$', '', name)
    return path, None


def find_checkpoint(folder, wanted):
    """Return the name of a checkpoint; wanted: 'best', 'last' or the number of an epoch."""
    if wanted in ('best', 'last'):
        return read_name(os.path.join(folder, 'checkpoints', wanted), wanted)
    names = sorted(name.removesuffix('.index')
                   for name in os.listdir(os.path.join(folder, 'checkpoints'))
                   if re.fullmatch(r'(best|last)-[0-9]{1,9}\.index', name))
    for name in names:
        if name.split('-')[1] == wanted:
            return name
    raise ValueError(f'it has no checkpoint {printable(wanted, 99)}, but '
                     f'{" ".join(names) or "none at all"}')


def read_name(path, kind):
    """Return the name of the checkpoint that the text file `best` or `last` holds."""
    if not os.path.exists(path):
        raise ValueError(f'it has no checkpoint "{kind}": none is written yet')
    check_small_file(path)
    with open(path, encoding='utf-8') as file:
        name = file.read().strip()
    if not re.fullmatch(f'{kind}-[0-9]{{1,9}}(-[0-9]{{1,9}})?', name):
        raise ValueError(f'the file checkpoints/{kind} says {printable(name, 99)!r}')
    return name


def rebuild_network(run: TrainedRun,
                    images: tf.Tensor) -> tuple[AlexNet, Callable[[tf.Session], None]]:
    """Add a run's network, without dropout, to the graph.

    images: uint8 [n, 227, 227, 3], or float32 minus the mean.
    Returns (AlexNet, function of a session that restores its variables). Both raise ValueError if a
    checkpoint is broken or belongs to another network: names, types, shapes and the sizes of the
    files are compared first.
    """
    # An exported graph should hold no operations of random initial values.
    def get_zeros(getter, *arguments, initializer, **options):
        return getter(*arguments, initializer=tf.zeros_initializer(), **options)
    with tf.variable_scope('', custom_getter=get_zeros):
        model = AlexNet(images, 1.0, len(run.class_names), LAYERS,
                        architecture=run.architecture, image_mean=run.image_mean)
    missing = {variable.op.name: variable
               for pair in model.variables.values() for variable in pair}
    savers = {}
    for path in run.checkpoints:
        found = find_variables(path, missing)
        missing = {name: variable for name, variable in missing.items() if name not in found}
        if found:
            savers[path] = tf.train.Saver(found)
    if missing:
        raise ValueError(f'{" and ".join(run.checkpoints)} lack {" ".join(missing)}')
    return model, lambda session: restore(session, savers)


def restore(session, savers):
    """Restore variables; savers: {path prefix: Saver}. ValueError if a checkpoint is broken."""
    for path, saver in savers.items():
        try:
            with tensorflow_path(path) as readable:
                saver.restore(session, readable)
        except tf.errors.OpError as error:
            raise ValueError(f'{path} is broken: {error_line(error)}') from error


def find_variables(path, variables):
    """Return the part of {name: variable} that a checkpoint holds.

    Raises ValueError if its values are not float32 of the variables' shapes, or are incomplete.
    """
    try:
        check_small_file(f'{path}.index')
        with tensorflow_path(path) as readable:
            reader = tf.train.NewCheckpointReader(readable)
        shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        size = os.stat(f'{path}.data-00000-of-00001').st_size
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = getattr(error, 'strerror', None) or error_line(error)
        raise ValueError(f'{path} is not a checkpoint: {reason}') from error
    found = {name: variable for name, variable in variables.items() if name in shapes}
    for name, variable in found.items():
        expected = variable.shape.as_list()
        if shapes[name] != expected or types[name] != tf.float32:
            raise ValueError(f'{path}: {name} is {types[name].name} {shapes[name]}, and should be '
                             f'float32 {expected}')
    if size < 4 * sum(variable.shape.num_elements() for variable in found.values()):
        raise ValueError(f'{path} is broken: its data has only {size} bytes')
    return found
