"""The training graph on two devices; the rest of it runs in tests/test_finetune.py."""

import numpy as np
import pytest

from alexnet import LAYERS
from runtime.tf1 import tf


def test_images_go_through_all_layers_of_each_device(two_devices):
    """Two images, one per device, and one or none, where a device gets a padding row."""
    session, graph = two_devices
    image = np.random.default_rng(0).random((1, 227, 227, 3), np.float32)
    label = np.float32([[1, 0, 0]])

    def loss_of(images, labels, batch_count):
        return session.run(graph.loss_sum, graph.feed('x', images, labels, batch_count))
    one = loss_of(image, label, 1)
    two = loss_of(np.repeat(image, 2, 0), np.repeat(label, 2, 0), 2)
    none = loss_of(image[:0], label[:0], 1)
    assert 2 * one == pytest.approx(two, rel=1e-5) and none == 0


@pytest.mark.parametrize('count', [1, 2, 3])
def test_views_of_an_image_count_by_their_mean_probability(two_devices, count):
    """By NumPy from the logits of single views; devices get whole images, one of them none."""
    session, graph = two_devices
    features = np.random.default_rng(0).random((count * 4, 4096), np.float32)
    labels = np.eye(3, dtype=np.float32)[np.arange(count)]
    logits = np.concatenate([
        session.run(graph.model.fc8, {graph.model.tensor('fc7'): row[None]}) for row in features])
    exponentials = np.exp(np.float64(logits))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    expected = probabilities.reshape(count, 4, 3).mean(1)
    loss, correct, replicas = session.run(
        [graph.loss_sum, graph.correct, graph.predictions],
        graph.feed('fc7', features, labels, count))
    classes, found = (np.concatenate(parts)[:count] for parts in zip(*replicas, strict=True))
    rows = np.arange(count)
    assert loss == pytest.approx(-np.log(expected[rows, rows]).sum(), rel=1e-5)
    assert correct == (expected.argmax(1) == rows).sum()
    assert classes.tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(found, expected.max(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize('keep_prob, is_equal', [(1.0, True), (0.5, False)])
def test_devices_drop_different_units(two_devices, keep_prob, is_equal):
    """Two equal rows, one per device: without dropout their logits are equal."""
    session, graph = two_devices
    features, labels = np.ones((2, 4096), np.float32), np.eye(3, dtype=np.float32)[:2]
    feed = graph.feed('fc7', features, labels, 2, keep_prob)
    first, second = session.run([replica.model.fc8 for replica in graph.replicas], feed)
    assert (np.abs(first - second).max() < 1e-5) == is_equal


def test_variables_have_the_same_names_on_two_devices(two_devices):
    session, _ = two_devices
    variables = session.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    names = {f'{layer}/{kind}' for layer in LAYERS for kind in ('weights', 'biases')}
    assert {variable.op.name for variable in variables} == {'global_step', *names}


def test_the_sampled_gradient_is_that_of_the_whole_batch(two_devices):
    """Two equal rows, one per device: the gradient of the mean cross-entropy by fc8's biases."""
    session, graph = two_devices
    features, labels = np.ones((2, 4096), np.float32), np.float32([[1, 0, 0]] * 2)
    feed = graph.feed('fc7', features, labels, 2)
    content, logits = session.run([graph.summaries, graph.model.fc8], feed)
    histograms = {value.tag: value.histo for value in tf.Summary.FromString(content).value}
    probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum()
    expected = [probabilities[0] - 1, probabilities[1:].max()]
    found = histograms['weights/fc8/biases_gradient']
    assert [found.min, found.max] == pytest.approx(expected, rel=1e-4)
