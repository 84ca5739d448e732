"""What predictions say: accuracy, scores of each class, confusion matrix, the worst mistakes, signs of trouble."""

import csv
from typing import NamedTuple

import numpy as np

from runtime.files import printable

SHOWN_MISTAKES = 20
LONGEST_NAME = 40   # letters of a class name on the screen
WIDEST_MATRIX = 40  # classes of a confusion matrix that is still readable as text


class Predictions(NamedTuple):
    """Of each image of a list, in its order: the predicted class and the probability that the network gave it."""

    labels: np.ndarray         # int32 [n], the true classes
    classes: np.ndarray        # int32 [n]
    probabilities: np.ndarray  # float32 [n], 0..1

    def mistakes(self, count):
        """Return the positions of the `count` most confident mistakes, the most confident first."""
        wrong = np.flatnonzero(self.classes != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong], kind='stable')[:count]]


def confusion_matrix(labels, predicted, num_classes):
    """Return int64 [true class, predicted class]: the number of images, from class numbers, two int arrays [n]."""
    pairs = np.asarray(labels, np.int64) * num_classes + predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_scores(matrix):
    """Return float64 arrays (precision, recall, f1), a value a class, of a confusion matrix; 0 where it is 0 / 0."""
    hits, predicted, true = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    return tuple(part / np.maximum(whole, 1) for part, whole in (
        (hits, predicted), (hits, true), (2 * hits, predicted + true)))  # F1, the harmonic mean of the two


def log_softmax(logits):
    """Return the logarithms of the probabilities that logits, float32 [n, classes], mean; float64."""
    shifted = np.float64(logits) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


class Evaluation:
    """What the network said of labelled images, batch after batch: a few numbers an image, not their probabilities."""

    def __init__(self, paths, labels, class_names):
        self.paths, self.labels, self.class_names = paths, labels, class_names
        self.batches = []

    def add(self, positions, logits):
        """Count images at these positions of the list, int [n], and their logits, float32 [n, classes]."""
        labels, rows = self.labels[positions], np.arange(len(positions))
        log_probabilities = log_softmax(logits)
        predicted = logits.argmax(1)
        top5 = np.argsort(-logits, 1, kind='stable')[:, :5]  # of equal ones the first counts, as argmax has it
        self.batches.append((positions, predicted, np.exp(log_probabilities[rows, predicted]),
                             -log_probabilities[rows, labels], (top5 == labels[:, None]).any(1)))

    def evaluate(self):
        """Return what is known of all images that were added, at least one, as a dict fit for JSON.

        Means are over images: accuracy, top5_accuracy if there are more than 5 classes, loss (cross-entropy, nats).
        mistakes: those with the highest probability of a wrong class.
        """
        positions, predicted, probabilities, losses, in_top5 = (np.concatenate(part) for part in zip(*self.batches))
        labels, names = self.labels[positions], self.class_names
        matrix = confusion_matrix(labels, predicted, len(names))
        worst = Predictions(labels, predicted, probabilities).mistakes(SHOWN_MISTAKES)
        return {
            'images': len(labels), 'accuracy': float((predicted == labels).mean()),
            **({'top5_accuracy': float(in_top5.mean())} if len(names) > 5 else {}), 'loss': float(losses.mean()),
            'classes': [{'name': name, 'images': int(images), 'precision': precision, 'recall': recall, 'f1': f1}
                        for name, images, precision, recall, f1 in zip(
                            names, matrix.sum(1), *(scores.tolist() for scores in class_scores(matrix)))],
            'confusion_matrix': matrix.tolist(),
            'mistakes': [{'path': self.paths[positions[n]], 'true_class': names[labels[n]],
                          'predicted_class': names[predicted[n]], 'probability': float(probabilities[n])}
                         for n in worst]}


def evaluation_lines(evaluation):
    """Return lines for the screen about what Evaluation.evaluate returned."""
    classes, matrix = evaluation['classes'], evaluation['confusion_matrix']
    width = min(max(len(part['name']) for part in classes), LONGEST_NAME)
    lines = [f'{"images":15}{evaluation["images"]}']
    lines += [f'{name.replace("_", " "):15}{evaluation[name]:.4f}' for name in ('accuracy', 'top5_accuracy', 'loss')
              if name in evaluation]
    lines += ['', f'{"class":{width}}  images  precision  recall      f1']
    lines += [f'{part["name"][:width]:{width}}  {part["images"]:6}  {part["precision"]:9.4f}  {part["recall"]:.4f}  '
              f'{part["f1"]:.4f}' for part in classes]
    if len(classes) <= WIDEST_MATRIX:
        cell = max(len(str(count)) for row in matrix for count in row) + 2
        lines += ['', 'confusion matrix: a row a true class, a column a predicted one, in the order above']
        lines += [f'{part["name"][:width]:{width}}' + ''.join(f'{count:{cell}}' for count in row)
                  for part, row in zip(classes, matrix)]
    if evaluation['mistakes']:
        lines += ['', 'worst mistakes: probability and predicted class, true class, image']
        lines += [f'{wrong["probability"]:.4f} {wrong["predicted_class"][:width]:{width}}  '
                  f'{wrong["true_class"][:width]:{width}}  {printable(wrong["path"], 4096)}'
                  for wrong in evaluation['mistakes']]
    return lines


def class_accuracies(matrix):
    """Return the share of each class's images that were recognised, float64 [n]; NaN for a class without images."""
    counts = matrix.sum(1)
    return np.where(counts > 0, matrix.diagonal() / np.maximum(counts, 1), np.nan)


def weakest_classes(matrix, count):
    """Return the numbers of the `count` classes of lowest accuracy, lowest first, those without a mistake left out."""
    accuracies = class_accuracies(matrix)
    order = np.argsort(accuracies, kind='stable')  # NaN comes last
    return [int(number) for number in order[:count] if accuracies[number] < 1]


def most_confused_with(matrix, number):
    """Return (class that images of class `number` were most often mistaken for, how many times)."""
    row = matrix[number].copy()
    row[number] = 0
    return int(row.argmax()), int(row.max())


def majority_accuracy(train_counts, val_counts):
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


def diagnose(rows, classes):
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
            f'({last["val_accuracy"]:.2f}): the network learns these images by heart. Try horizontal_flip, '
            'random_crop, weight_decay, fewer train_layers, or more images; and see that both lists show the same '
            'kind of picture')
    if len(rows) >= 3 and last['train_accuracy'] < 0.9 and last['train_loss'] > 0.99 * first['train_loss']:
        found['not learning'] = (
            f'the training loss does not fall ({first["train_loss"]:.3f} in epoch 1, {last["train_loss"]:.3f} in epoch '
            f'{len(rows)}). Try another learning_rate (a tenth if it jumps, ten times as much if it stands still), and '
            'see that the labels in the training list are right')
    return found
