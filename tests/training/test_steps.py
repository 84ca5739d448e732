"""Epochs and evaluations on two devices against NumPy; tests/test_finetune.py has whole runs."""

import numpy as np
import pytest

from datagenerator import ImageDataGenerator
from inputs.lists import ImageList
from inputs.views import views_of
from reports.run_log import NoLog
from run_folder.checkpoint_files import Progress
from training.feature_cache import StoredBatches
from training.sources import BatchSource
from training.steps import evaluate, has_ended, train_epoch
from training.workers import SingleWorker

BATCH_SIZE = 4
LEARNING_RATE = 0.001  # of the fixture two_devices


def softmax(logits):
    """Return the probabilities of logits, [n, classes], by NumPy."""
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def random_features(count):
    """Return (random fc7 outputs, labels of 3 classes, BatchSource that yields them in order)."""
    random = np.random.default_rng(count)
    features, labels = random.random((count, 4096), np.float32), random.integers(3, size=count)
    generator = ImageDataGenerator(ImageList('', ['-'] * count, labels, labels), nb_classes=3)
    rows = np.array([np.arange(count)] * 2)
    return features, labels, BatchSource('fc7', StoredBatches(generator, features, rows))


@pytest.fixture
def fc8_values(two_devices):
    """The weights and biases of fc8 before a test, float64."""
    session, graph = two_devices
    return [np.float64(value) for value in session.run(graph.model.variables['fc8'])]


@pytest.mark.parametrize('count', [1, 2, 3, 4, 5, 7, 8, 9])
def test_evaluation_counts_every_row_once(two_devices, fc8_values, count):
    session, graph = two_devices
    features, labels, source = random_features(count)
    result = evaluate(session, graph, source, SingleWorker(), BATCH_SIZE)
    logits = features @ fc8_values[0] + fc8_values[1]
    probabilities, (classes, highest) = softmax(logits), result.predictions
    assert classes.tolist() == logits.argmax(1).tolist()
    assert result.accuracy == (classes == labels).mean()
    np.testing.assert_allclose(highest, probabilities.max(1), rtol=1e-5)
    losses = -np.log(probabilities[range(count), labels])
    np.testing.assert_allclose(result.loss, losses.mean(), rtol=1e-5)


def test_evaluation_averages_the_views_of_an_image(two_devices, fc8_values):
    """Two batches of 204 and 96 images: 1,024 rows are 204 images with 5 views. By NumPy."""
    session, graph = two_devices
    random, batches = np.random.default_rng(0), []
    features, labels = random.random((1500, 4096), np.float32), random.integers(3, size=300)
    generator = ImageDataGenerator(ImageList('', ['-'] * 300, labels, labels), nb_classes=3,
                                   views=views_of('crops', False), all_views=True)
    rows = np.arange(1500).reshape(300, 5).T
    source = BatchSource('fc7', StoredBatches(generator, features, rows))
    result = evaluate(session, graph, source, SingleWorker(), BATCH_SIZE,
                      lambda: batches.append(None))
    views = softmax(features @ fc8_values[0] + fc8_values[1])
    probabilities, (classes, highest) = views.reshape(300, 5, 3).mean(1), result.predictions
    assert len(batches) == 2 and classes.tolist() == probabilities.argmax(1).tolist()
    np.testing.assert_allclose(highest, probabilities.max(1), rtol=1e-5)
    losses = -np.log(probabilities[range(300), labels])
    np.testing.assert_allclose(result.loss, losses.mean(), rtol=1e-5)


@pytest.mark.parametrize('count', [1, 2, 3, 4, 5, 7, 8, 9])
def test_a_training_epoch_counts_every_row_once(two_devices, fc8_values, count):
    """Steps of gradient descent without dropout, on the mean cross-entropy of a batch, by NumPy."""
    session, graph = two_devices
    (weights, biases), progress = fc8_values, Progress()
    features, labels, source = random_features(count)
    train_epoch(session, graph, source, progress, NoLog(), lambda: None, BATCH_SIZE, dropout_rate=0)
    loss_sum = correct = 0
    for start in range(0, count, BATCH_SIZE):
        rows, classes = features[start:start + BATCH_SIZE], labels[start:start + BATCH_SIZE]
        probabilities = softmax(rows @ weights + biases)
        loss_sum -= np.log(probabilities[range(len(rows)), classes]).sum()
        correct += (probabilities.argmax(1) == classes).sum()
        error = (probabilities - np.eye(3)[classes]) / len(rows)
        weights = weights - LEARNING_RATE * rows.T @ error
        biases = biases - LEARNING_RATE * error.sum(0)
    trained_weights, trained_biases = session.run(graph.model.variables['fc8'])
    np.testing.assert_allclose(trained_weights, weights, atol=1e-7)
    np.testing.assert_allclose(trained_biases, biases, atol=1e-7)
    np.testing.assert_allclose(progress.loss_sum, loss_sum, rtol=1e-5)
    assert progress.correct == correct and progress.steps == len(range(0, count, BATCH_SIZE))


def test_a_resumed_epoch_trains_on_the_rest_alone(two_devices):
    """After 2 of 3 steps, the last step takes 1 of the 9 rows, and is added to the sums."""
    session, graph = two_devices
    _, _, source = random_features(9)
    progress, calls = Progress(steps=2, loss_sum=5.0, correct=8, learning_rate=LEARNING_RATE), []
    step_before = session.run(graph.step)
    train_epoch(session, graph, source, progress, NoLog(), lambda: calls.append(1), BATCH_SIZE, 0)
    assert progress.steps == 3 and len(calls) == 1 and session.run(graph.step) == step_before + 1
    assert 5 < progress.loss_sum < 5 + 5 and progress.correct in (8, 9)


@pytest.mark.parametrize('accuracies, num_epochs, patience, expected', [
    ([], 3, 1, False), ([0.5, 0.6], 3, None, False), ([0.5, 0.6, 0.7], 3, None, True),
    ([0.6, 0.5], 9, 1, True), ([0.6, 0.5], 9, 2, False), ([0.6, 0.5, 0.6], 9, 2, True)])
def test_a_run_ends_without_epochs_or_patience(accuracies, num_epochs, patience, expected):
    history = [{'epoch': number, 'val_accuracy': accuracy, 'val_loss': 1.0}
               for number, accuracy in enumerate(accuracies, 1)]
    assert has_ended(history, num_epochs, patience) == expected
