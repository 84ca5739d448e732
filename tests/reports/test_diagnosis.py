import numpy as np
import pytest

from reports.diagnosis import diagnose


@pytest.mark.parametrize('train_loss, train_accuracy, val_accuracy, classes, expected', [
    ([2.0, 1.0, 0.5], 0.8, 0.75, [0, 1], set()),
    ([2.0, 1.0, 0.5], 0.8, 0.50, [1, 1], {'one class', 'overfitting'}),
    ([2.0, 1.9, 2.1], 0.5, 0.45, [0, 1], {'not learning'}),
    ([0.1, 0.1, 0.1], 1.0, 1.00, [0, 1], set()),   # nothing left to learn
    ([2.0, 2.0, 2.0], 1.0, 1.00, [1, 1], set()),   # all images are of one class
    ([2.0], 0.1, 0.1, [1, 1], set()),              # one epoch shows nothing yet
    ([2.0, 2.0], 0.9, 0.1, [1, 1], {'one class'}),
    ([2.0, 2.0], 0.1, 0.1, [1], set())])           # one image
def test_known_problems_are_found_and_no_others(train_loss, train_accuracy, val_accuracy, classes,
                                                expected):
    rows = [{'train_loss': loss, 'train_accuracy': train_accuracy, 'val_accuracy': val_accuracy}
            for loss in train_loss]
    advice = diagnose(rows, np.array(classes))
    assert set(advice) == expected and all('Try' in sentence for sentence in advice.values())


def test_the_advice_has_the_numbers():
    rows = [{'train_loss': loss, 'train_accuracy': 0.75, 'val_accuracy': 0.5}
            for loss in (2.0, 1.5, 2.25)]
    advice = diagnose(rows, np.array([0, 1]))
    assert 'accuracy (0.75) is far above validation accuracy (0.50)' in advice['overfitting']
    assert '(2.000 in epoch 1, 2.250 in epoch 3)' in advice['not learning']
