"""What predictions say: confusion matrix, accuracy of each class, the most confident mistakes, signs of trouble."""

import csv
from typing import NamedTuple

import numpy as np


class Predictions(NamedTuple):
    """Of each image of a list, in its order: the predicted class and the probability that the network gave it."""

    labels: np.ndarray         # int32 [n], the true classes
    classes: np.ndarray        # int32 [n]
    probabilities: np.ndarray  # float32 [n], 0..1

    def mistakes(self, count):
        """Return the positions of the `count` most confident mistakes, the most confident first."""
        wrong = np.flatnonzero(self.classes != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong], kind='stable')[:count]]


def confusion_matrix(predictions, num_classes):
    """Return how many images of each class were taken for each, int64 [true, predicted]."""
    pairs = predictions.labels.astype(np.int64) * num_classes + predictions.classes
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_accuracies(matrix):
    """Return the share of each class's images that were recognised, float64 [n]; NaN for a class without images."""
    counts = matrix.sum(1)
    return np.where(counts > 0, matrix.diagonal() / np.maximum(counts, 1), np.nan)


def weakest_classes(matrix, count):
    """Return the numbers of the `count` classes of lowest accuracy, lowest first, those without a mistake left out."""
    accuracies = class_accuracies(matrix)
    order = np.argsort(accuracies, kind='stable')  # NaN comes last
    return [int(number) for number in order[:count] if accuracies[number] < 1]


def taken_for(matrix, number):
    """Return (class that images of class `number` were most often mistaken for, how many times)."""
    row = matrix[number].copy()
    row[number] = 0
    return int(row.argmax()), int(row.max())


def accuracy_of_guessing(train_counts, val_counts):
    """Return the largest class of the training list, and the validation accuracy of always guessing it."""
    largest = int(np.argmax(train_counts))
    return largest, val_counts[largest] / val_counts.sum()


def write_matrix(file, matrix, class_names):
    """Write a confusion matrix as CSV: a row a true class, a column a predicted one, both named."""
    writer = csv.writer(file)
    writer.writerow(['true class', *class_names])
    writer.writerows([name, *row] for name, row in zip(class_names, matrix.tolist()))


def write_predictions(file, paths, predictions, class_names):
    """Write as CSV, for each image, its path, true class, predicted class, and the probability of the latter."""
    writer = csv.writer(file)
    writer.writerow(['path', 'class', 'predicted', 'probability'])
    writer.writerows([path, class_names[label], class_names[predicted], f'{probability:.4f}']
                     for path, label, predicted, probability in zip(paths, *predictions))


def troubles(rows, classes):
    """Return {kind: sentence} for what the numbers of a run so far show to be wrong, in plain words, with what to try.

    rows: the metrics of each epoch. classes: the class predicted for each validation image after the last one. Nothing
    is said of the first epoch, and little before the third: beginnings look like trouble.
    """
    first, last = rows[0], rows[-1]
    found = {}
    if len(rows) >= 2 and len(classes) > 1 and last['val_accuracy'] < 1 and (classes == classes[0]).all():
        found['one class'] = ('every validation image is taken for the same class. Try another learning_rate (a tenth, '
                              'or ten times as much), or class_weights balanced if one class has most of the images')
    if len(rows) >= 3 and last['train_accuracy'] - last['val_accuracy'] > 0.2:
        found['overfitting'] = (
            f'training accuracy ({last["train_accuracy"]:.2f}) is far above validation accuracy '
            f'({last["val_accuracy"]:.2f}): the network learns these images by heart. Try horizontal_flip, random_crop, '
            'weight_decay, fewer train_layers, or more images; and see that both lists show the same kind of picture')
    if len(rows) >= 3 and last['train_accuracy'] < 0.9 and last['train_loss'] > 0.99 * first['train_loss']:
        found['not learning'] = (
            f'the training loss does not fall ({first["train_loss"]:.3f} in epoch 1, {last["train_loss"]:.3f} in epoch '
            f'{len(rows)}). Try another learning_rate (a tenth if it jumps, ten times as much if it stands still), and '
            'see that the labels in the training list are right')
    return found
