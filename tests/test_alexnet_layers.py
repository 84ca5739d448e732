"""The layer arithmetic of alexnet.py, without a network."""

import numpy as np
import pytest

from alexnet import (
    dropout,
    grouped_conv,
    local_response_norm,
    matrix_product,
    max_pool,
    subtract_mean,
)
from runtime.tf1 import open_session, tf


def test_a_grouped_convolution_is_one_per_group_side_by_side():
    """Each output channel of a 1x1 convolution sees its own group of inputs alone, by NumPy."""
    random = np.random.RandomState(0)
    x, weights = random.rand(2, 3, 3, 4).astype('f4'), random.rand(1, 1, 2, 6).astype('f4')
    with tf.Graph().as_default(), open_session() as session:
        value = session.run(grouped_conv(tf.constant(x), tf.constant(weights), 1, 'SAME', 2))
    first, second = x[..., :2] @ weights[0, 0, :, :3], x[..., 2:] @ weights[0, 0, :, 3:]
    np.testing.assert_allclose(value, np.concatenate([first, second], 3), rtol=1e-5)


def test_pooling_takes_the_largest_of_3x3_every_2():
    x = np.random.RandomState(0).uniform(-9, 9, (2, 7, 5, 3)).astype(np.float32)
    with tf.Graph().as_default(), open_session() as session:
        value = session.run(max_pool(tf.constant(x)))
    assert value.shape == (2, 3, 2, 3)
    for row, column in np.ndindex(3, 2):
        window = x[:, 2 * row:2 * row + 3, 2 * column:2 * column + 3]
        np.testing.assert_array_equal(value[:, row, column], window.max((1, 2)))


def test_normalisation_is_one_with_tensorflows_kernel():
    x = np.random.RandomState(0).uniform(-99, 99, (2, 5, 6, 48)).astype(np.float32)
    with tf.Graph().as_default(), open_session() as session:
        kernel = tf.nn.local_response_normalization(x, 2, bias=1, alpha=2e-5, beta=0.75)
        ours, theirs = session.run([local_response_norm(tf.constant(x)), kernel])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize('seed', [None, (1, 2)])
def test_dropout_keeps_a_fraction_and_scales_it(seed):
    with tf.Graph().as_default(), open_session() as session:
        dropped = dropout(tf.ones([100, 100]), 0.8, seed if seed is None else tf.constant(seed))
        first, second = session.run(dropped), session.run(dropped)
    kept = first[first != 0]
    np.testing.assert_allclose(kept, 1 / 0.8, rtol=1e-6)
    assert 0.78 < kept.size / first.size < 0.82  # 5 standard deviations
    assert (first == second).all() == (seed is not None)  # a seed alone determines the values


def test_the_gradients_of_a_product_are_those_by_hand():
    random = np.random.default_rng(0)
    x, weights, upstream = (np.float32(random.normal(size=size))
                            for size in ((3, 5), (5, 4), (3, 4)))
    with tf.Graph().as_default(), open_session() as session:
        tensors = tf.constant(x), tf.constant(weights)
        product = matrix_product(*tensors)
        values = session.run([product, *tf.gradients(product, tensors, tf.constant(upstream))])
    expected = x @ weights, upstream @ weights.T, x.T @ upstream  # by NumPy
    for value, right in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('mean', [(104, 117, 124), (0, 10.5, 255)])
def test_the_mean_is_subtracted_from_pixels_exactly(mean):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    with tf.Graph().as_default(), open_session() as session:
        got = session.run(subtract_mean(tf.constant(pixels), mean))
    assert got.dtype == np.float32 and (got == pixels - np.float64(mean)).all()
