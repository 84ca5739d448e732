import os

import numpy as np
import pytest

from finetune import Settings
from runtime.tf1 import open_session, tf
from tests.helpers import ROOT
from training.optimizer import balanced_weights, learning_rate_at, make_train_op, training_loss

# Losses of Caffe's own solver on a small network; tests/reference/make_caffe_solver.py wrote them.
REFERENCE = os.path.join(ROOT, 'tests', 'reference', 'caffe_solver.npz')


def build_solver_network(settings, reference, num_steps):
    """Add the network of make_caffe_solver.py to the graph; return (loss, train_op)."""
    names = 'hidden_weights', 'hidden_biases', 'out_weights', 'out_biases'
    variables = [tf.get_variable(name, initializer=reference[name]) for name in names]
    hidden = tf.nn.relu(reference['data'] @ variables[0] + variables[1])
    logits = hidden @ variables[2] + variables[3]
    labels = tf.one_hot(reference['label'].astype(int), 3)
    loss = training_loss(labels, logits, 0.0, tf.ones([3]), 12)
    step = tf.train.get_or_create_global_step()
    rate = learning_rate_at(step, num_steps, settings.learning_rate, settings.lr_schedule)
    train_op, _ = make_train_op(loss, rate, settings, variables[2:], variables[:2])
    return loss, train_op


def losses_of_steps(settings, reference, num_steps=20):
    """Return the losses before each step, and after the last one."""
    with tf.Graph().as_default(), open_session() as session:
        loss, train_op = build_solver_network(settings, reference, num_steps)
        session.run(tf.global_variables_initializer())
        losses = []
        for _ in range(num_steps):
            losses.append(session.run(loss))
            session.run(train_op)
        assert session.run(tf.train.get_global_step()) == num_steps
        return np.array([*losses, session.run(loss)])


@pytest.mark.parametrize('lr_mult', [1, 0.1])
@pytest.mark.parametrize('optimizer, learning_rate', [
    ('momentum', 0.1), ('sgd', 0.1), ('adam', 0.01)])
def test_steps_equal_those_of_caffes_solver(optimizer, learning_rate, lr_mult):
    """Momentum, weight decay on weights only, step schedule, a smaller step for the first layer."""
    reference = np.load(REFERENCE)
    settings = Settings(optimizer=optimizer, learning_rate=learning_rate, lr_schedule='step',
                        momentum=0.9, weight_decay=0.05, pretrained_lr_mult=lr_mult)
    np.testing.assert_allclose(losses_of_steps(settings, reference),
                               reference[f'{optimizer}_{lr_mult}'], rtol=1e-4)


@pytest.mark.parametrize('optimizer', ['momentum', 'adam'])
def test_sampled_gradients_are_those_of_the_loss_alone(optimizer):
    """Without learning rate and weight decay: d(3 a + b b) / da = 3, / db = 2 b."""
    settings = Settings(optimizer=optimizer, weight_decay=0.5)
    with tf.Graph().as_default(), open_session() as session:
        a, b = (tf.get_variable(name, initializer=[[0.25]]) for name in 'ab')
        loss = tf.reduce_sum(3 * a + b * b)
        _, gradients = make_train_op(loss, tf.constant(0.1), settings, [a], [b])
        session.run(tf.global_variables_initializer())
        sampled = session.run(gradients)
    assert sampled['a'] == pytest.approx(3) and sampled['b'] == pytest.approx(0.5)


def test_the_loss_is_a_weighted_mean_of_smoothed_cross_entropies():
    random = np.random.RandomState(0)
    logits, numbers = random.randn(6, 3).astype(np.float32), np.array([0, 0, 0, 1, 1, 2])
    labels, weights = np.eye(3, dtype=np.float32)[numbers], balanced_weights(numbers, 3)
    np.testing.assert_allclose(weights, [6 / 9, 6 / 6, 6 / 3], rtol=1e-6)
    with tf.Graph().as_default(), open_session() as session:
        loss = session.run(training_loss(tf.constant(labels), tf.constant(logits), 0.3, weights, 6))
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))  # by NumPy
    losses = -((0.7 * labels + 0.1) * log_probabilities).sum(1)
    np.testing.assert_allclose(loss, (weights[numbers] * losses).mean(), rtol=1e-5)


def test_a_class_without_images_weighs_nothing():
    """The weights of the others are 1 on average over the images."""
    weights = balanced_weights(np.array([0, 0, 2, 0]), 300)
    assert weights[:4].tolist() == pytest.approx([4 / 6, 0, 4 / 2, 0])


@pytest.mark.parametrize('lr_schedule, expected', [
    ('constant', [2, 2, 2, 2]), ('step', [2, 0.2, 0.02, 0.02]),
    ('cosine', [2, 1.5, 0.5, 2 * (1 + np.cos(np.pi * 8 / 9)) / 2])])
def test_learning_rate_of_the_schedules(lr_schedule, expected):
    with tf.Graph().as_default(), open_session() as session:
        rates = session.run([learning_rate_at(tf.constant(step), 9, 2.0, lr_schedule)
                             for step in (0, 3, 6, 8)])
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
