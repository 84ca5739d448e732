import numpy as np
import pytest

from evaluation import Tally, class_scores, confusion_matrix, evaluation_lines

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
    tally = Tally([f'{n}.jpg' for n in range(len(labels))], np.array(labels), names)
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
