"""Lines for the screen, at most 80 letters wide and without control characters: tables, a line an epoch, the end."""

import datetime
import shlex

import numpy as np

from alexnet import LAYERS
from reports.evaluation import class_accuracies, majority_accuracy, most_confused_with, weakest_classes
from runtime.files import printable

MOST_CLASSES = 20  # of which all are shown
HEADER = '  epoch  train loss  accuracy  val loss  accuracy      rate  images/s  time left'


def layer_table(model, trained, pretrained):
    """Return lines that say, for each layer, where its values come from, whether they change, and their number."""
    lines = [f'{"layer":7}{"values":15}{"":9}{"parameters":>12}']
    for layer in LAYERS:
        count = sum(variable.shape.num_elements() for variable in model.variables[layer])
        source = 'pretrained' if layer in pretrained else 'from scratch'
        lines.append(f'{layer:7}{source:15}{"trained" if layer in trained else "frozen":9}{count:12,}')
    return lines


def class_counts(data):
    """Return how many images of each class the training and the validation list have, two int arrays [classes]."""
    return tuple(np.bincount(part.labels, minlength=len(data.class_names)) for part in (data.train, data.val))


def class_table(data):
    """Return lines that say what the classes are and how many images each has; of many classes, the smallest ones."""
    train, val = class_counts(data)
    names = [printable(name, 36) for name in data.class_names]
    shown = range(len(names)) if len(names) <= MOST_CLASSES else np.argsort(train, kind='stable')[:5]
    lines = [f'{"class":38}{"training":>10}{"validation":>12}']
    lines += [f'{names[number]:38}{train[number]:10,}{val[number]:12,}' for number in shown]
    if len(shown) < len(names):
        lines.append(f'... these are the smallest; the largest class has {train.max():,} training images')
    largest, accuracy = majority_accuracy(train, val)
    return lines + [f'{f"{len(names):,} classes":38}{train.sum():10,}{val.sum():12,}',
                    f'always guessing {names[largest]} gives val_accuracy {accuracy:.4f}']


def epoch_line(metrics, num_epochs, seconds_left):
    """Return a line about an epoch that fits under HEADER; metrics: a row of metrics.csv as a dict."""
    train_loss, val_loss = (f'{loss:.4f}' if loss < 1e4 else f'{loss:.3g}'
                            for loss in (metrics['train_loss'], metrics['val_loss']))
    count = f'{metrics["epoch"]}/{num_epochs}'
    return (f'{count:>7}{train_loss:>12}{metrics["train_accuracy"]:10.4f}{val_loss:>10}'
            f'{metrics["val_accuracy"]:10.4f}{metrics["learning_rate"]:10.3g}{metrics["images_per_second"]:10.0f}'
            f'{datetime.timedelta(seconds=round(seconds_left))!s:>11}')


def closing_lines(best, guessing, matrix, class_names, run_dir):
    """Return lines about a run that has ended: its best epoch, the weakest classes, where to look.

    best: metrics of the best epoch. guessing: accuracy of always guessing the largest class. matrix: the best epoch's
    confusion matrix, or None.
    """
    lines = [f'best epoch {best["epoch"]}: val_loss {best["val_loss"]:.4f}, val_accuracy {best["val_accuracy"]:.4f}; '
             f'guessing: {guessing:.4f}']
    for number in weakest_classes(matrix, 3) if matrix is not None else ():
        other, times = most_confused_with(matrix, number)
        lines.append(f'weak: {printable(class_names[number], 24)}, {class_accuracies(matrix)[number]:.2f} recognised, '
                     f'{times} taken for {printable(class_names[other], 24)}')
    return lines + [f'to look at: {run_dir}/report.html, or tensorboard --logdir {shlex.quote(run_dir)}']
