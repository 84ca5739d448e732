"""The pretext tasks of pretraining: telling what was drawn, or finding the other view."""

import numpy as np

from runtime.tf1 import tf
from starter_weights.network import EPSILON
from starter_weights.procedural import NUM_NUMBERS

TEMPERATURE = 0.15  # of the softmax over the similarities of views


def drawing_loss(features, classes, numbers, class_counts):
    """Return (loss, metrics) of telling classes and numbers from the features.

    features: float32 [n, units].
    classes: int32 [n, 3], of shape, ground and surface; negative where an image has none.
    numbers: float32 [n, NUM_NUMBERS].
    class_counts: number of classes of each kind.

    loss is a scalar, metrics {column of the log: scalar}. Images without a class count nothing, but
    the sum over the others is divided by the number of all images. The mean over the few that have
    a class would be the largest and noisiest part of the gradient.
    """
    metrics, loss = {}, 0.0
    kinds = zip(('shape', 'ground', 'surface'), tf.unstack(classes, axis=1), class_counts,
                strict=True)
    for name, label, count in kinds:
        logits, present = dense(name, features, count), tf.cast(label >= 0, tf.float32)
        loss += tf.reduce_mean(present * tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.maximum(label, 0), logits=logits))
        correct = tf.equal(tf.argmax(logits, 1, output_type=tf.int32), label)
        correct = tf.reduce_sum(tf.cast(correct, tf.float32))
        metrics[f'{name}_accuracy'] = correct / tf.maximum(tf.reduce_sum(present), 1)
    predicted = dense('numbers', features, NUM_NUMBERS)
    metrics['number_error'] = tf.reduce_mean(tf.squared_difference(predicted, numbers))
    return loss + 2 * metrics['number_error'], metrics


def two_views(images):
    """Return two random crops of each image in changed colours, float32 [2 n, size, size, 3].

    The first n rows are the first views. A crop has 0.6 to 1 of the image's height and width and is
    scaled to its full size; half of the crops are mirror images.
    """
    count, size = 2 * tf.shape(images)[0], int(images.shape[1])
    side = tf.random_uniform([count, 1], 0.6, 1)
    start = tf.random_uniform([count, 2]) * (1 - side)
    boxes = tf.concat([start, start + side], 1)
    mirrored = tf.tile(tf.random_uniform([count, 1]) < 0.5, [1, 4])
    boxes = tf.where(mirrored, tf.gather(boxes, [0, 3, 2, 1], axis=1), boxes)
    views = tf.image.crop_and_resize(images, boxes, crop_size=[size, size],
                                     box_indices=tf.tile(tf.range(count // 2), [2]))
    views *= tf.random_uniform([count, 1, 1, 3], 0.85, 1.15)
    return views * tf.random_uniform([count, 1, 1, 1], 0.7, 1.3)


def pair_loss(features):
    """Return (loss, metrics) of finding each image's other view among all, a contrastive loss.

    features: float32 [2 n, units], as `two_views` orders them. After Chen et al., "A Simple
    Framework for Contrastive Learning of Visual Representations" (2020).
    """
    hidden = tf.nn.relu(standardized(dense('hidden', features, 512)))
    first, second = tf.split(tf.nn.l2_normalize(dense('views', hidden, 128), 1), 2)
    similarity = tf.matmul(first, second, transpose_b=True) / TEMPERATURE
    labels = tf.range(tf.shape(first)[0])
    losses = [tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
              for logits in (similarity, tf.transpose(similarity))]
    correct = tf.equal(tf.argmax(similarity, 1, output_type=tf.int32), labels)
    loss = tf.reduce_mean(sum(losses))
    return loss, {'pair_accuracy': tf.reduce_mean(tf.cast(correct, tf.float32))}


def standardized(x):
    """Return x, float32 [n, units], with mean 0 and variance 1 in each column."""
    mean, variance = tf.nn.moments(x, 0)
    return (x - mean) * tf.rsqrt(variance + EPSILON ** 2)


def dense(name, x, units):
    """Return x times weights plus biases, float32 [n, units]."""
    inputs = int(x.shape[1])
    normal = tf.random_normal_initializer(stddev=0.5 / np.sqrt(inputs))
    weights = tf.get_variable(f'{name}/weights', [inputs, units], initializer=normal)
    product = tf.matmul(x, weights)
    return product + tf.get_variable(f'{name}/biases', [units], initializer=tf.zeros_initializer())
