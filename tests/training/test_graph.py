import os

import numpy as np
import pytest

from finetune import Settings
from runtime.tf1 import tf
from training.optimizer import balanced_weights, learning_rate_at, minimize, training_loss

REFERENCE = os.path.join(os.path.dirname(os.path.dirname(__file__)), 'reference', 'caffe_solver.npz')


def losses_of_steps(settings, reference, num_steps=20):
    """Return the losses before each of 20 steps of the network of reference/make_caffe_solver.py, and after the last."""
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {name: tf.get_variable(name, initializer=reference[name]) for name in
                     ('hidden_weights', 'hidden_biases', 'out_weights', 'out_biases')}
        hidden = tf.nn.relu(reference['data'] @ variables['hidden_weights'] + variables['hidden_biases'])
        logits = hidden @ variables['out_weights'] + variables['out_biases']
        labels = tf.one_hot(reference['label'].astype(int), 3)
        loss = training_loss(labels, logits, 0.0, tf.ones([3]), 12)
        rate = learning_rate_at(tf.train.get_or_create_global_step(), num_steps, settings.learning_rate, settings.lr_schedule)
        step, _ = minimize(loss, rate, settings, [variables['out_weights'], variables['out_biases']],
                           [variables['hidden_weights'], variables['hidden_biases']])
        session.run(tf.global_variables_initializer())
        losses = []
        for _ in range(20):
            losses.append(session.run(loss))
            session.run(step)
        assert session.run(tf.train.get_global_step()) == 20
        return np.array(losses + [session.run(loss)])


@pytest.mark.parametrize('share', [1, 0.1])
@pytest.mark.parametrize('optimizer, learning_rate', [('momentum', 0.1), ('sgd', 0.1), ('adam', 0.01)])
def test_steps_equal_those_of_caffes_solver(optimizer, learning_rate, share):
    """Momentum, weight decay on weights only, step schedule, a smaller step for the first layer; Caffe's own losses."""
    reference = np.load(REFERENCE)
    settings = Settings(optimizer=optimizer, learning_rate=learning_rate, lr_schedule='step', momentum=0.9,
                        weight_decay=0.05, pretrained_lr_mult=share)
    np.testing.assert_allclose(losses_of_steps(settings, reference), reference[f'{optimizer}_{share}'], rtol=1e-4)


@pytest.mark.parametrize('optimizer', ['momentum', 'adam'])
def test_the_gradients_to_be_shown_are_those_of_the_loss_alone(optimizer):
    """Without learning rate and weight decay: d(3 a + b b) / da = 3, / db = 2 b."""
    settings = Settings(optimizer=optimizer, weight_decay=0.5)
    with tf.Graph().as_default(), tf.Session() as session:
        a, b = (tf.get_variable(name, initializer=[[0.25]]) for name in 'ab')
        _, gradients = minimize(tf.reduce_sum(3 * a + b * b), tf.constant(0.1), settings, [a], [b])
        session.run(tf.global_variables_initializer())
        shown = session.run(gradients)
    assert shown['a'] == pytest.approx(3) and shown['b'] == pytest.approx(0.5)


def test_the_loss_is_a_weighted_mean_of_smoothed_cross_entropies():
    random = np.random.RandomState(0)
    logits, numbers = random.randn(6, 3).astype(np.float32), np.array([0, 0, 0, 1, 1, 2])
    labels, weights = np.eye(3, dtype=np.float32)[numbers], balanced_weights(numbers, 3)
    np.testing.assert_allclose(weights, [6 / 9, 6 / 6, 6 / 3], rtol=1e-6)
    with tf.Graph().as_default(), tf.Session() as session:
        loss = session.run(training_loss(tf.constant(labels), tf.constant(logits), 0.3, weights, 6))
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))  # by NumPy
    each = -((0.7 * labels + 0.1) * log_probabilities).sum(1)
    np.testing.assert_allclose(loss, (weights[numbers] * each).mean(), rtol=1e-5)


def test_a_class_without_training_images_weighs_nothing_and_the_others_1_on_average():
    assert balanced_weights(np.array([0, 0, 2, 0]), 300)[:4].tolist() == pytest.approx([4 / 6, 0, 4 / 2, 0])


@pytest.mark.parametrize('lr_schedule, expected', [('constant', [2, 2, 2, 2]), ('step', [2, 0.2, 0.02, 0.02]),
                                                   ('cosine', [2, 1.5, 0.5, 2 * (1 + np.cos(np.pi * 8 / 9)) / 2])])
def test_learning_rate_of_the_schedules(lr_schedule, expected):
    with tf.Graph().as_default(), tf.Session() as session:
        rates = session.run([learning_rate_at(tf.constant(step), 9, 2.0, lr_schedule) for step in (0, 3, 6, 8)])
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
