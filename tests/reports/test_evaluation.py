import csv
import io

import numpy as np
import pytest

from reports.evaluation import (
    Evaluation,
    Predictions,
    class_accuracies,
    class_scores,
    confusion_matrix,
    diagnose,
    evaluation_lines,
    majority_accuracy,
    most_confused_with,
    weakest_classes,
    write_matrix,
    write_predictions,
)

LABELS = np.array([0, 0, 0, 1, 2])
PREDICTED = [0, 0, 1, 1, 1]


def test_confusion_matrix_has_a_row_a_true_class():
    np.testing.assert_array_equal(confusion_matrix(LABELS, PREDICTED, 4),
                                  [[2, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])


def test_scores_of_each_class():
    """By hand from the definitions; 0 where a class was never predicted, or never there."""
    precision, recall, f1 = class_scores(confusion_matrix(LABELS, PREDICTED, 4))
    np.testing.assert_allclose(precision, [1, 1 / 3, 0, 0])
    np.testing.assert_allclose(recall, [2 / 3, 1, 0, 0])
    np.testing.assert_allclose(f1, [0.8, 0.5, 0, 0])


def evaluate(labels, logits, names):
    """Evaluate in two batches, the second of one image."""
    tally = Evaluation([f'{n}.jpg' for n in range(len(labels))], np.array(labels), names)
    for positions in (np.arange(len(labels) - 1), np.array([len(labels) - 1])):
        tally.add(positions, np.float32(logits)[positions])
    return tally.evaluate()


def test_means_are_over_images_and_mistakes_begin_with_the_surest():
    logits = np.log([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]])  # the logarithms of what softmax gives back
    evaluation = evaluate([0, 1, 2], logits + [[0], [50], [-50]], ['a', 'b', 'c'])
    assert evaluation['images'] == 3 and evaluation['accuracy'] == pytest.approx(1 / 3)
    assert evaluation['loss'] == pytest.approx(-np.log([0.7, 0.3, 0.1]).mean(), abs=1e-5)
    assert 'top5_accuracy' not in evaluation
    assert [(mistake['path'], mistake['true_class'], mistake['predicted_class']) for mistake in evaluation['mistakes']
            ] == [('2.jpg', 'c', 'b'), ('1.jpg', 'b', 'a')]
    assert [mistake['probability'] for mistake in evaluation['mistakes']] == pytest.approx([0.8, 0.6], abs=1e-5)


def test_top5_accuracy():
    names, logits = list('abcdefg'), np.tile(np.arange(7, 0, -1.), (4, 1))
    evaluation = evaluate([0, 4, 5, 6], logits, names)
    assert evaluation['top5_accuracy'] == 0.5 and evaluation['accuracy'] == 0.25


def test_text_has_every_number_once_and_no_unreadable_matrix():
    few = evaluate([0, 1, 2], np.eye(3), ['a', 'b', 'c'])
    text = '\n'.join(evaluation_lines(few))
    assert 'accuracy       1.0000' in text and 'confusion matrix' in text and 'mistakes' not in text
    many = evaluate([0, 1], np.eye(50)[:2], [str(n) for n in range(50)])
    assert 'confusion matrix' not in '\n'.join(evaluation_lines(many)) and len(many['confusion_matrix']) == 50


def test_long_names_of_classes_do_not_move_the_columns():
    lines = evaluation_lines(evaluate([0, 1], np.eye(2)[::-1], ['a' * 99, 'b']))
    assert max(map(len, lines)) < 100 and lines[-1].index('1.jpg') == lines[-2].index('0.jpg')


PREDICTIONS = Predictions(np.array([0, 0, 0, 2, 2], np.int32), np.array([0, 2, 1, 2, 0], np.int32),
                          np.array([0.9, 0.8, 0.95, 0.6, 0.8], np.float32))


def test_confusion_matrix_and_what_follows_from_it():
    """Counted by hand: class 1 has no image."""
    matrix = confusion_matrix(PREDICTIONS.labels, PREDICTIONS.classes, 3)
    assert matrix.tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 1]]
    np.testing.assert_allclose(class_accuracies(matrix), [1 / 3, np.nan, 1 / 2])
    assert weakest_classes(matrix, 5) == [0, 2] and weakest_classes(matrix, 1) == [0]
    assert weakest_classes(np.eye(2), 2) == []
    assert most_confused_with(matrix, 2) == (0, 1)


def test_mistakes_come_most_confident_first():
    assert PREDICTIONS.mistakes(9).tolist() == [2, 1, 4] and PREDICTIONS.mistakes(2).tolist() == [2, 1]


def test_guessing_takes_the_largest_class_of_training():
    assert majority_accuracy(np.array([5, 9]), np.array([3, 1])) == (1, 0.25)


def test_tables_name_classes_and_hold_any_path():
    matrix_file, list_file = io.StringIO(), io.StringIO()
    write_matrix(matrix_file, np.array([[1, 2], [3, 4]]), ['a,b', 'c'])
    write_predictions(list_file, ['x,"y".jpg', 'z'], Predictions([0, 1], [1, 1], [0.5, 0.25]), ['a,b', 'c'])
    assert list(csv.reader(matrix_file.getvalue().splitlines())) == [['true class', 'a,b', 'c'], ['a,b', '1', '2'],
                                                                     ['c', '3', '4']]
    assert list(csv.reader(list_file.getvalue().splitlines()))[1:] == [['x,"y".jpg', 'a,b', 'c', '0.5000'],
                                                                       ['z', 'c', 'c', '0.2500']]


@pytest.mark.parametrize('train_loss, train_accuracy, val_accuracy, classes, expected', [
    ([2.0, 1.0, 0.5], 0.8, 0.75, [0, 1], set()),
    ([2.0, 1.0, 0.5], 0.8, 0.50, [1, 1], {'one class', 'overfitting'}),
    ([2.0, 1.9, 2.1], 0.5, 0.45, [0, 1], {'not learning'}),
    ([0.1, 0.1, 0.1], 1.0, 1.00, [0, 1], set()),   # nothing left to learn
    ([2.0], 0.1, 0.1, [1, 1], set()),              # one epoch says nothing yet
    ([2.0, 2.0], 0.1, 0.1, [1, 1], {'one class'})])
def test_known_troubles_are_seen_and_nothing_else(train_loss, train_accuracy, val_accuracy, classes, expected):
    rows = [{'train_loss': loss, 'train_accuracy': train_accuracy, 'val_accuracy': val_accuracy} for loss in train_loss]
    found = diagnose(rows, np.array(classes))
    assert set(found) == expected and all('Try' in sentence for sentence in found.values())
