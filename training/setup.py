"""What a run trains: data, weight file, layers."""

import dataclasses
import os

from alexnet import LAYERS
from inputs.images import IMAGENET_MEAN
from inputs.lists import Datasets
from training.feature_cache import scale_size
from weight_files.find import find_weights, is_starter


@dataclasses.dataclass(frozen=True)
class TrainingSetup:
    """What is to be learnt: by these settings, from these Datasets, which layers, and from which values on."""

    settings: object
    data: Datasets
    weights_path: str | None  # None for no file
    trained: tuple            # names of the layers that a step changes
    skipped: tuple            # of these, those that begin at random values


def choose_layers(settings, weights_path):
    """Return (layers that are trained, layers of these that start from scratch); all and all without a file.

    The starter weights end at pool5: the layers above it are then always among both.
    """
    if weights_path is None:
        return LAYERS, LAYERS
    missing = ('fc6', 'fc7', 'fc8') if is_starter(weights_path) else ()
    trained = tuple(layer for layer in LAYERS if layer in settings.train_layers + missing)
    skipped = trained if settings.skip_layers is None else settings.skip_layers + missing
    return trained, tuple(layer for layer in trained if layer in skipped)  # each once: named twice, it would step twice


def choose_weights(settings, stored):
    """Return the path of the weight file, or None for no file; `stored`: settings of a run that goes on, or None."""
    if not stored:
        return find_weights(settings.weights_path, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = stored['weights_path'] if settings.weights_path == 'auto' else settings.weights_path
    return None if path == 'none' else path


def effective_settings(plan):
    """Return the settings as a dict, with the weight file and layers that were chosen, and counts of images."""
    data = plan.data
    return {**dataclasses.asdict(plan.settings), 'resume': None, 'num_classes': len(data.class_names),
            'weights_path': plan.weights_path or 'none', 'train_layers': plan.trained, 'skip_layers': plan.skipped,
            'image_mean': IMAGENET_MEAN.tolist(), 'scale_size': scale_size(plan.settings),
            'train_images': len(data.train.paths), 'val_images': len(data.val.paths)}
