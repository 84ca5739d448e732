"""Scores of predictions: accuracy, recall per class, confusion matrix, mistakes."""

import csv
from collections.abc import Sequence
from typing import NamedTuple, TextIO

import numpy as np

from runtime.files import printable
from runtime.tables import format_table

SHOWN_MISTAKES = 20
LONGEST_NAME = 40   # letters of a class name on the screen
WIDEST_MATRIX = 40  # classes of a confusion matrix that is still readable as text
MOST_CLASSES = 1000  # of a confusion matrix in a run folder; a larger one takes many megabytes


class Predictions(NamedTuple):
    """The predicted class of each image of a list, and the probability that it was given."""

    labels: np.ndarray         # int32 [n], the true classes
    classes: np.ndarray        # int32 [n]
    probabilities: np.ndarray  # float32 [n], 0..1

    def mistakes(self, count: int) -> np.ndarray:
        """Return the positions of the `count` most confident mistakes, most confident first."""
        wrong = np.flatnonzero(self.classes != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong], kind='stable')[:count]]

    def confusion_matrix(self, num_classes: int) -> np.ndarray | None:
        """Return int64 [true class, predicted class], or None for more than MOST_CLASSES."""
        if num_classes > MOST_CLASSES:
            return None
        return confusion_matrix(self.labels, self.classes, num_classes)


def confusion_matrix(labels, predicted, num_classes: int) -> np.ndarray:
    """Return the number of images as int64 [true class, predicted class].

    labels, predicted: class numbers, int [n].
    """
    pairs = np.asarray(labels, np.int64) * num_classes + predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def row_fractions(matrix: np.ndarray) -> np.ndarray:
    """Return each count of a confusion matrix as a fraction of the images of its true class.

    float64 [true class, predicted class], 0..1; zeros for a class without images.
    """
    return matrix / np.maximum(matrix.sum(1, keepdims=True), 1)


def class_scores(labels, predicted, num_classes: int) -> tuple:
    """Return (images int64, precision, recall, F1 float64) per class, [num_classes]; 0 for 0 / 0.

    labels, predicted: class numbers, int [n].
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    hits, predicted, true = (np.bincount(numbers, minlength=num_classes) for numbers in (
        labels[labels == predicted], predicted, labels))
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(true, 1)
    f1 = 2 * hits / np.maximum(predicted + true, 1)  # the harmonic mean of precision and recall
    return true, precision, recall, f1


class Evaluation:
    """Scores of labelled images, collected batch by batch: a few numbers are kept per image.

    paths: the files of a list, [n]. labels: int32 [n]. class_names: in the order of the numbers.
    """

    def __init__(self, paths: Sequence[str], labels: np.ndarray, class_names: Sequence[str]):
        self.paths, self.labels, self.class_names = paths, labels, class_names
        self.batches = []

    def add(self, positions: np.ndarray, log_probabilities: np.ndarray):
        """Add a batch: positions in the list, int [n], and values of float32 [n, classes]."""
        labels, rows = self.labels[positions], np.arange(len(positions))
        predicted = log_probabilities.argmax(1)
        # Of equal probabilities the first counts, as in argmax.
        top5 = np.argsort(-log_probabilities, 1, kind='stable')[:, :5]
        log_probabilities = np.float64(log_probabilities)
        self.batches.append((
            positions, predicted, np.exp(log_probabilities[rows, predicted]),
            -log_probabilities[rows, labels], (top5 == labels[:, None]).any(1)))

    def evaluate(self) -> dict:
        """Return the scores of all images that were added, at least one, as a dict fit for JSON.

        Means are over images: accuracy, top5_accuracy if there are more than 5 classes, loss
        (cross-entropy in nats). confusion_matrix is None for more than MOST_CLASSES. mistakes
        are the most confident ones.
        """
        positions, predicted, probabilities, losses, in_top5 = map(
            np.concatenate, zip(*self.batches, strict=True))
        predictions = Predictions(self.labels[positions], predicted, probabilities)
        matrix = predictions.confusion_matrix(len(self.class_names))
        scores = {'images': len(positions),
                  'accuracy': float((predicted == predictions.labels).mean())}
        if len(self.class_names) > 5:
            scores['top5_accuracy'] = float(in_top5.mean())
        return scores | {
            'loss': float(losses.mean()), 'classes': self.class_records(predictions),
            'confusion_matrix': None if matrix is None else matrix.tolist(),
            'mistakes': self.mistake_records(positions, predictions)}

    def class_records(self, predictions):
        """Return [{name, images, precision, recall, f1} per class] of Predictions."""
        scores = class_scores(predictions.labels, predictions.classes, len(self.class_names))
        columns = (column.tolist() for column in scores)
        keys = 'name', 'images', 'precision', 'recall', 'f1'
        return [dict(zip(keys, values, strict=True))
                for values in zip(self.class_names, *columns, strict=True)]

    def mistake_records(self, positions, predictions):
        """Return [{path, true_class, predicted_class, probability}], most confident first."""
        return [{'path': self.paths[positions[n]],
                 'true_class': self.class_names[predictions.labels[n]],
                 'predicted_class': self.class_names[predictions.classes[n]],
                 'probability': float(predictions.probabilities[n])}
                for n in predictions.mistakes(SHOWN_MISTAKES)]


def evaluation_lines(evaluation: dict) -> list[str]:
    """Return lines for the screen about the result of Evaluation.evaluate."""
    classes = evaluation['classes']
    lines = [f'{"images":15}{evaluation["images"]}']
    for name in ('accuracy', 'top5_accuracy', 'loss'):
        if name in evaluation:
            lines.append(f'{name.replace("_", " "):15}{evaluation[name]:.4f}')
    lines += ['', *format_table(
        [('class', 'images', 'precision', 'recall', 'f1')]
        + [(shorten(part['name']), str(part['images']), f'{part["precision"]:.4f}',
            f'{part["recall"]:.4f}', f'{part["f1"]:.4f}') for part in classes], 'lrrrr')]
    if len(classes) <= WIDEST_MATRIX:
        lines += ['', 'confusion matrix: a row per true class, a column per predicted class, in '
                  'the order above', *matrix_lines(evaluation)]
    if evaluation['mistakes']:
        lines += ['', 'most confident mistakes: probability, predicted class, true class, image',
                  *mistake_lines(evaluation['mistakes'])]
    return lines


def matrix_lines(evaluation):
    """Return the lines of a confusion matrix; all columns of counts are of one width."""
    rows = [[str(count) for count in row] for row in evaluation['confusion_matrix']]
    width = max(len(cell) for row in rows for cell in row)
    names = [shorten(part['name']) for part in evaluation['classes']]
    return format_table([[name, *row] for name, row in zip(names, rows, strict=True)],
                        'l' + 'r' * len(rows), [0] + [width] * len(rows))


def mistake_lines(mistakes):
    """Return a line per mistake: probability, predicted class, true class, path."""
    return format_table([
        (f'{mistake["probability"]:.4f}', shorten(mistake['predicted_class']),
         shorten(mistake['true_class']), printable(mistake['path'], 4096))
        for mistake in mistakes])


def shorten(class_name):
    """Return a class name that fits into a column of the screen."""
    return printable(class_name, LONGEST_NAME)


def class_recall(matrix: np.ndarray) -> np.ndarray:
    """Return the recall of each class, float64 [n], 0..1; NaN for a class without images."""
    return np.where(matrix.sum(1) > 0, np.diag(row_fractions(matrix)), np.nan)


def weakest_classes(matrix: np.ndarray, count: int) -> list[int]:
    """Return the numbers of the `count` classes of lowest recall below 1, lowest first."""
    recall = class_recall(matrix)
    order = np.argsort(recall, kind='stable')  # NaN comes last
    return [int(number) for number in order[:count] if recall[number] < 1]


def most_confused_with(matrix: np.ndarray, number: int) -> tuple[int, int]:
    """Return (the class that images of class `number` were most often taken for, how often)."""
    row = matrix[number].copy()
    row[number] = 0
    return int(row.argmax()), int(row.max())


def majority_accuracy(train_counts: np.ndarray, val_counts: np.ndarray) -> tuple[int, float]:
    """Return (the largest training class, the validation accuracy of always predicting it).

    train_counts, val_counts: images per class, int [n].
    """
    largest = int(np.argmax(train_counts))
    return largest, val_counts[largest] / val_counts.sum()


def write_matrix(file: TextIO, matrix: np.ndarray, class_names: Sequence[str]):
    """Write a confusion matrix as CSV: a named row per true class, a column per predicted one."""
    writer = csv.writer(file)
    writer.writerow(['true class', *class_names])
    for name, row in zip(class_names, matrix.tolist(), strict=True):
        writer.writerow([name, *row])


def write_predictions(file: TextIO, paths: Sequence[str], predictions: Predictions,
                      class_names: Sequence[str]):
    """Write as CSV per image: path, true class, predicted class and its probability."""
    writer = csv.writer(file)
    writer.writerow(['path', 'class', 'predicted', 'probability'])
    for path, label, predicted, probability in zip(paths, *predictions, strict=True):
        writer.writerow([path, class_names[label], class_names[predicted], f'{probability:.4f}'])
