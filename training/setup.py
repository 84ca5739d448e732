"""The setup of a run, from its settings, data and weight file, and its agreement on all workers."""

import math
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from alexnet import LAYERS
from inputs.checks import gather_broken, list_fingerprint
from inputs.images import IMAGENET_MEAN
from inputs.lists import Datasets, ImageList
from inputs.views import views_of
from runtime.flags import flag_text
from training.optimizer import balanced_weights
from training.workers import Workers
from weight_files.architecture import resolve_architecture
from weight_files.find import PUBLIC_ARCHITECTURES, PUBLIC_FILES, find_weights, is_starter

# Settings that may differ between workers; the lists are compared by content.
MAY_DIFFER_BETWEEN_WORKERS = (
    'run_dir', 'resume', 'train_file', 'val_file', 'labels_file', 'weights_path', 'cache_dir',
    'num_threads', 'display_step', 'peer_timeout')


class TrainingSetup(NamedTuple):
    """The values from which the graph of a run is built."""

    num_classes: int
    weights_path: str | None      # None: no file
    trained_layers: tuple         # layers that a step changes
    scratch_layers: tuple         # trained layers that start from random values
    optimizer: str                # 'adam', 'momentum' or 'sgd'
    learning_rate: float
    lr_schedule: str              # 'constant', 'step' or 'cosine'
    num_steps: int                # of the whole run
    momentum: float
    weight_decay: float
    pretrained_lr_mult: float     # factor on the learning rate of the other trained layers
    label_smoothing: float
    class_weights: np.ndarray     # float32 [num_classes], weight in the loss of a class's images
    seed: int
    architecture: str             # 'alexnet' or 'caffenet'
    batch_size: int               # images per step, of all devices

    @property
    def pretrained_layers(self) -> tuple[str, ...]:
        """Layers that start from the values of the weight file."""
        return tuple(layer for layer in LAYERS if layer not in self.scratch_layers)


def make_setup(settings, datasets: Datasets, weights_path: str | None,
               architecture: str = 'alexnet') -> TrainingSetup:
    """Return the TrainingSetup of a run."""
    num_classes, train = len(datasets.class_names), datasets.train
    trained, scratch = choose_layers(settings.train_layers, settings.skip_layers, weights_path)
    is_balanced = settings.class_weights == 'balanced'
    weights = balanced_weights(train.labels, num_classes) if is_balanced else np.ones(num_classes)
    batch_size = settings.batch_size or default_batch_size(len(train.paths), settings.views)
    num_steps = settings.num_epochs * math.ceil(len(train.paths) / batch_size)
    return TrainingSetup(
        num_classes, weights_path, trained, scratch, settings.optimizer, settings.learning_rate,
        settings.lr_schedule, num_steps, settings.momentum, settings.weight_decay,
        settings.pretrained_lr_mult, settings.label_smoothing, np.float32(weights), settings.seed,
        architecture, batch_size)


def default_batch_size(num_images: int, views: str) -> int:
    """Return the batch size for a number of training images, and the setting `views`.

    Half as many updates of the weights are a fifth less time, and leave enough of them in an epoch
    of 1,000 whole pictures, but neither in one of 200 nor for crops (docs/accuracy.md).
    """
    return 128 if num_images >= 1000 and views == 'whole' else 64


def choose_weights(weights_path: str, architecture: str, stored: dict | None,
                   folder: str) -> tuple[str | None, str]:
    """Return (path of the weight file, None for no file; architecture of the network).

    weights_path, architecture: the settings.
    stored: settings.json of the run that is resumed, None for a new run.
    folder: of the public weight files, which are downloaded to it.
    Raises ValueError if there is no such file, or if it has another architecture.
    """
    if stored is None:
        published = PUBLIC_ARCHITECTURES.get(weights_path, architecture)
        if architecture not in ('auto', published):
            raise ValueError(f'weights_path {weights_path} is {published}, and architecture is '
                             f'{architecture}: change one of the two')
        path = find_weights(weights_path, folder)
        return path, resolve_architecture(architecture, path)
    path = resumed_path(weights_path, stored['weights_path'])
    return (None if path == 'none' else path,
            stored['architecture'] if architecture == 'auto' else architecture)


def resumed_path(weights_path, stored_path):
    """Return the path of a resumed run's weight file: for a public one, where it was found."""
    names = [public.name for public in PUBLIC_FILES.get(weights_path, ())]
    is_same = weights_path == 'auto' or os.path.basename(stored_path) in names
    return stored_path if is_same else weights_path


def choose_layers(train_layers, skip_layers, weights_path):
    """Return (trained layers, trained layers that start from random values), in network order.

    Without a weight file, both are all layers. The starter weights end at pool5, so with them, both
    contain fc6, fc7 and fc8. Raises ValueError for a skipped layer that is not trained.
    """
    if not set(skip_layers or ()) <= set(train_layers):
        raise ValueError('skip_layers names layers that train_layers does not: they would keep '
                         'their random values')
    if weights_path is None:
        return LAYERS, LAYERS
    missing = ('fc6', 'fc7', 'fc8') if is_starter(weights_path) else ()
    trained = tuple(layer for layer in LAYERS if layer in train_layers + missing)
    skipped = trained if skip_layers is None else skip_layers + missing
    return trained, tuple(layer for layer in trained if layer in skipped)


def settings_to_store(settings: dict, setup: TrainingSetup, datasets: Datasets) -> dict:
    """Return the dict for settings.json: the settings, with the choices for `auto` and None."""
    first_view = views_of(settings['views'], settings['horizontal_flip'])[0]
    return {**settings, 'resume': None, 'num_classes': setup.num_classes,
            'weights_path': setup.weights_path or 'none', 'architecture': setup.architecture,
            'train_layers': setup.trained_layers, 'skip_layers': setup.scratch_layers,
            'batch_size': setup.batch_size, 'image_mean': IMAGENET_MEAN.tolist(),
            'scale_size': first_view.scale_size,
            'train_images': len(datasets.train.paths), 'val_images': len(datasets.val.paths)}


def check_agreement(workers: Workers, values: dict):
    """Raise ValueError on all workers if {name: value} of a worker differs from the chief's."""
    texts = {name: flag_text(value) for name, value in values.items()
             if name not in MAY_DIFFER_BETWEEN_WORKERS}
    chief, *others = workers.all_gather_object(texts)
    for rank, theirs in enumerate(others, 1):
        different = [f'{name} {value}, not {chief.get(name)}' for name, value in theirs.items()
                     if value != chief.get(name)]
        if different:
            raise ValueError(f'worker {rank} differs from the chief: {"; ".join(different)}. '
                             'Give all workers the same lists and settings')


def find_broken_on_all(workers: Workers, check_images: Callable,
                       image_lists: Sequence[ImageList]) -> dict[str, str]:
    """Return {path: error} of broken images; each worker checks a shard of the lists.

    check_images: function of image lists that returns {path: error}.
    image_lists: of training and validation. Raises ValueError if they differ between workers.
    """
    names = 'the training list', 'the validation list'
    fingerprints = [list_fingerprint(image_list) for image_list in image_lists]
    check_agreement(workers, dict(zip(names, fingerprints, strict=True)))
    with workers.barrier():
        broken = check_images([part.shard(workers.rank, workers.size) for part in image_lists])
    return gather_broken(workers, image_lists, broken)
