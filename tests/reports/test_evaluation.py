import csv
import io

import numpy as np
import pytest

from reports.evaluation import (
    Evaluation,
    Predictions,
    class_recall,
    class_scores,
    confusion_matrix,
    evaluation_lines,
    majority_accuracy,
    most_confused_with,
    weakest_classes,
    write_matrix,
    write_predictions,
)

LABELS = np.array([0, 0, 0, 1, 2])
PREDICTED = [0, 0, 1, 1, 1]


def test_confusion_matrix_has_a_row_per_true_class():
    np.testing.assert_array_equal(confusion_matrix(LABELS, PREDICTED, 4),
                                  [[2, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])


def test_scores_per_class():
    """By hand from the definitions; 0 where a class was never predicted, or never there."""
    images, precision, recall, f1 = class_scores(LABELS, PREDICTED, 4)
    assert images.tolist() == [3, 1, 1, 0]
    np.testing.assert_allclose(precision, [1, 1 / 3, 0, 0])
    np.testing.assert_allclose(recall, [2 / 3, 1, 0, 0])
    np.testing.assert_allclose(f1, [0.8, 0.5, 0, 0])


def evaluate(labels, log_probabilities, names):
    """Evaluate in two batches, the second of one image."""
    evaluation = Evaluation([f'{n}.jpg' for n in range(len(labels))], np.array(labels), names)
    for positions in (np.arange(len(labels) - 1), np.array([len(labels) - 1])):
        evaluation.add(positions, np.float32(log_probabilities)[positions])
    return evaluation.evaluate()


def test_many_classes_are_evaluated_without_a_matrix():
    """5,000 classes are legal in a run folder; their matrix would take 200 MB."""
    names = [str(number) for number in range(5_000)]
    evaluation = evaluate([7, 9], np.eye(5_000, dtype=np.float32)[[7, 8]], names)
    assert evaluation['accuracy'] == 0.5 and evaluation['confusion_matrix'] is None
    assert evaluation['classes'][7]['recall'] == 1 and evaluation['classes'][9]['recall'] == 0


def test_means_are_over_images_and_mistakes_begin_with_the_surest():
    log_probabilities = np.log([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]])
    evaluation = evaluate([0, 1, 2], log_probabilities, ['a', 'b', 'c'])
    assert evaluation['images'] == 3 and evaluation['accuracy'] == pytest.approx(1 / 3)
    assert evaluation['loss'] == pytest.approx(-np.log([0.7, 0.3, 0.1]).mean(), abs=1e-5)
    assert 'top5_accuracy' not in evaluation
    first, second = evaluation['mistakes']
    assert [first.pop('probability'), second.pop('probability')] == pytest.approx(
        [0.8, 0.6], abs=1e-5)
    assert first == {'path': '2.jpg', 'true_class': 'c', 'predicted_class': 'b'}
    assert second == {'path': '1.jpg', 'true_class': 'b', 'predicted_class': 'a'}


def test_top5_accuracy():
    names, logits = list('abcdefg'), np.tile(np.arange(7, 0, -1.), (4, 1))
    evaluation = evaluate([0, 4, 5, 6], logits, names)
    assert evaluation['top5_accuracy'] == 0.5 and evaluation['accuracy'] == 0.25


def test_the_screen_shows_scores_confusion_matrix_and_mistakes():
    logits = np.log([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]])
    assert evaluation_lines(evaluate([0, 1, 2], logits, ['a', 'bee', 'c'])) == [
        'images         3',
        'accuracy       0.3333',
        'loss           1.2877',  # -(ln 0.7 + ln 0.3 + ln 0.1) / 3
        '',
        'class  images  precision  recall      f1',
        'a           1     0.5000  1.0000  0.6667',
        'bee         1     0.0000  0.0000  0.0000',
        'c           1     0.0000  0.0000  0.0000',
        '',
        'confusion matrix: a row per true class, a column per predicted class, in the order above',
        'a    1  0  0',
        'bee  1  0  0',
        'c    0  1  0',
        '',
        'most confident mistakes: probability, predicted class, true class, image',
        '0.8000  bee  c    2.jpg',
        '0.6000  a    bee  1.jpg']


def test_parts_that_say_nothing_are_not_on_the_screen():
    right = evaluation_lines(evaluate([0, 1, 2], np.eye(3), ['a', 'b', 'c']))
    assert not any('mistakes' in line for line in right)
    many = evaluate([0, 1], np.eye(50)[:2], [str(n) for n in range(50)])
    assert 'confusion matrix' not in '\n'.join(evaluation_lines(many))
    assert len(many['confusion_matrix']) == 50


def test_long_names_of_classes_do_not_move_the_columns():
    lines = evaluation_lines(evaluate([0, 1], np.eye(2)[::-1], ['a' * 99, 'b']))
    assert max(map(len, lines)) < 100 and lines[-1].index('1.jpg') == lines[-2].index('0.jpg')


PREDICTIONS = Predictions(np.array([0, 0, 0, 2, 2], np.int32), np.array([0, 2, 1, 2, 0], np.int32),
                          np.array([0.9, 0.8, 0.95, 0.6, 0.8], np.float32))


def test_confusion_matrix_and_what_follows_from_it():
    """Counted by hand: class 1 has no image."""
    matrix = PREDICTIONS.confusion_matrix(3)
    assert matrix.tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 1]]
    np.testing.assert_allclose(class_recall(matrix), [1 / 3, np.nan, 1 / 2])
    assert weakest_classes(matrix, 5) == [0, 2] and weakest_classes(matrix, 1) == [0]
    assert weakest_classes(np.eye(2), 2) == []
    assert most_confused_with(matrix, 2) == (0, 1)


def test_mistakes_come_most_confident_first():
    assert PREDICTIONS.mistakes(9).tolist() == [2, 1, 4]
    assert PREDICTIONS.mistakes(2).tolist() == [2, 1]


def test_a_run_with_too_many_classes_has_no_confusion_matrix():
    assert PREDICTIONS.confusion_matrix(1000).shape == (1000, 1000)
    assert PREDICTIONS.confusion_matrix(1001) is None


def test_guessing_takes_the_largest_class_of_training():
    assert majority_accuracy(np.array([5, 9]), np.array([3, 1])) == (1, 0.25)


def test_tables_name_classes_and_hold_any_path():
    names, file = ['a,b', 'c'], io.StringIO()
    write_matrix(file, np.array([[1, 2], [3, 4]]), names)
    assert list(csv.reader(file.getvalue().splitlines())) == [
        ['true class', 'a,b', 'c'], ['a,b', '1', '2'], ['c', '3', '4']]
    file = io.StringIO()
    write_predictions(file, ['x,"y".jpg', 'z'], Predictions([0, 1], [1, 1], [0.5, 0.25]), names)
    assert list(csv.reader(file.getvalue().splitlines())) == [
        ['path', 'class', 'predicted', 'probability'], ['x,"y".jpg', 'a,b', 'c', '0.5000'],
        ['z', 'c', 'c', '0.2500']]
