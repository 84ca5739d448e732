"""Problems that the metrics of a run show, with what to try."""

from collections.abc import Sequence

import numpy as np

ONE_CLASS = (
    'every validation image is taken for the same class. Try another learning_rate (a tenth, or '
    'ten times as much), or class_weights balanced if one class has most of the images')
OVERFITTING = (
    'the network overfits: training accuracy ({train_accuracy:.2f}) is far above validation '
    'accuracy ({val_accuracy:.2f}). Try horizontal_flip, views crops, weight_decay, fewer '
    'train_layers, or more images; and check that both lists show the same kind of picture')
NOT_LEARNING = (
    'the training loss does not fall ({first_loss:.3f} in epoch 1, {train_loss:.3f} in epoch '
    '{epochs}). Try another learning_rate (a tenth if it jumps, ten times as much if it stands '
    'still), and check that the labels in the training list are right')


def diagnose(rows: Sequence[dict], classes: np.ndarray) -> dict[str, str]:
    """Return {problem: advice} for problems that the metrics show.

    The problems are one predicted class, which needs 2 epochs, overfitting and no learning, which
    need 3: every run looks bad at its beginning.

    rows: the rows of metrics.csv so far.
    classes: predicted class of each validation image after the last epoch, int [n].
    """
    last, advice = rows[-1], {}
    if predicts_one_class(rows, classes):
        advice['one class'] = ONE_CLASS
    if len(rows) >= 3 and last['train_accuracy'] - last['val_accuracy'] > 0.2:
        advice['overfitting'] = OVERFITTING.format(**last)
    if stands_still(rows):
        first_loss = rows[0]['train_loss']
        advice['not learning'] = NOT_LEARNING.format(
            **last, first_loss=first_loss, epochs=len(rows))
    return advice


def predicts_one_class(rows, classes):
    """Return whether all validation images are given one class, some of them wrongly."""
    return (len(rows) >= 2 and len(classes) > 1 and rows[-1]['val_accuracy'] < 1
            and bool((classes == classes[0]).all()))


def stands_still(rows):
    """Return whether the training loss is where it began although there is more to learn."""
    first, last = rows[0], rows[-1]
    return (len(rows) >= 3 and last['train_accuracy'] < 0.9
            and last['train_loss'] > 0.99 * first['train_loss'])
