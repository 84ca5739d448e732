"""How the trained layers learn: the loss that is made smaller, the learning rate of each step, and the optimizer."""

import numpy as np

from alexnet import tf


def balanced_weights(labels, num_classes):
    """Return what an image of each class counts in the loss so that every class counts the same.

    labels: int [n]. Returns float32 [num_classes], n / (num_classes * images of the class): 1 on average over the
    images; a class without an image gets 0.
    """
    counts = np.bincount(labels, minlength=num_classes)
    return np.float32(np.where(counts > 0, len(labels) / (num_classes * np.maximum(counts, 1)), 0))


def training_loss(labels, logits, label_smoothing, class_weights):
    """Return the scalar that training makes smaller: the batch's mean cross-entropy, each image times its class's weight.

    labels: one-hot float32 [n, num_classes]; with label_smoothing s, 1 becomes 1 - s + s / num_classes, and 0 becomes
    s / num_classes (Szegedy et al., 2016). class_weights: float32 [num_classes].
    """
    smoothed = labels * (1 - label_smoothing) + label_smoothing / int(labels.shape[1])
    losses = tf.nn.softmax_cross_entropy_with_logits_v2(smoothed, logits)
    return tf.reduce_mean(losses * tf.reduce_sum(labels * class_weights, 1))


def learning_rate_at(step, num_steps, learning_rate, lr_schedule):
    """Return the learning rate of a step, a scalar tensor; step: an integer tensor, 0 at the first of `num_steps`.

    constant: always `learning_rate`. step: a tenth of it after each third of the run, Caffe's policy "step" with gamma
    0.1. cosine: half a cosine wave from `learning_rate` to almost 0 (Loshchilov and Hutter, 2017).
    """
    if lr_schedule == 'step':
        return tf.train.exponential_decay(learning_rate, step, -(-num_steps // 3), 0.1, staircase=True)
    if lr_schedule == 'cosine':
        return tf.train.cosine_decay(learning_rate, step, num_steps)
    return tf.constant(learning_rate, tf.float32)


def minimize(loss, learning_rate, settings, fresh, pretrained):
    """Return the operation of one training step, which changes the variables of two lists.

    learning_rate: scalar tensor. Of `settings`: optimizer, momentum, weight_decay, and pretrained_lr_share, the share
    of the learning rate that `pretrained` take. As in Caffe's solvers, the learning rate goes into the velocity,
    v = momentum * v + learning_rate * (gradient + weight_decay * w), w -= v, so that what was gathered before a change
    of the rate keeps its size: TensorFlow's optimizer applies its rate to the whole velocity, hence is given the loss
    times the rate, and 1. Adam is as in Caffe, with `momentum` for beta1. Biases do not decay.
    """
    adam = settings.optimizer == 'adam'
    scale = 1.0 if adam else learning_rate
    gradients = tf.gradients(scale * loss, fresh + pretrained)
    if settings.weight_decay:
        gradients = [gradient + scale * settings.weight_decay * variable if variable.shape.rank > 1 else gradient
                     for gradient, variable in zip(gradients, fresh + pretrained)]
    steps = []
    for share, variables in ((1.0, fresh), (settings.pretrained_lr_share, pretrained)):
        if variables:
            optimizer = make_optimizer(settings, learning_rate * share if adam else share)
            steps.append(optimizer.apply_gradients(list(zip(gradients, variables))))
        gradients = gradients[len(variables):]
    with tf.control_dependencies(steps):
        return tf.assign_add(tf.train.get_or_create_global_step(), 1).op


def make_optimizer(settings, learning_rate):
    """Return TensorFlow's optimizer of that name."""
    if settings.optimizer == 'adam':
        return tf.train.AdamOptimizer(learning_rate, beta1=settings.momentum)
    if settings.optimizer == 'momentum':
        return tf.train.MomentumOptimizer(learning_rate, settings.momentum)
    return tf.train.GradientDescentOptimizer(learning_rate)
