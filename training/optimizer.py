"""The loss, the learning rate, and the step of the optimizer."""

import numpy as np

from runtime.tf1 import tf
from training.histograms import subsample


def balanced_weights(labels, num_classes):
    """Return what an image of each class counts in the loss so that every class counts the same.

    labels: int [n]. Returns float32 [num_classes], n / (classes with images * images of the class): 1 on average over
    the images, so that the learning rate means the same; a class without an image gets 0.
    """
    counts = np.bincount(labels, minlength=num_classes)
    return np.float32(np.where(counts > 0, len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0))


def training_loss(labels, logits, label_smoothing, class_weights, batch_count):
    """Return what training makes smaller: the mean cross-entropy of the batch, each image times its class's weight.

    batch_count: scalar, images of the batch, of which these are all or a part; the losses of its parts add up to its
    own. labels: one-hot float32 [n, num_classes]; with label_smoothing s, 1 becomes 1 - s + s / num_classes, and 0
    becomes s / num_classes (Szegedy et al., 2016). class_weights: float32 [num_classes].
    """
    smoothed = labels * (1 - label_smoothing) + label_smoothing / int(labels.shape[1])
    losses = tf.nn.softmax_cross_entropy_with_logits_v2(smoothed, logits)
    return tf.reduce_sum(losses * tf.reduce_sum(labels * class_weights, 1)) / batch_count


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
    """Return (operation of one training step, which changes the variables of two lists, {variable name: gradient}).

    The gradients are those of the loss, thinned for histograms; it costs nothing unless they are fetched.
    learning_rate: scalar tensor. Of `settings`: optimizer, momentum, weight_decay, and pretrained_lr_mult, the share
    of the learning rate that `pretrained` take. As in Caffe's solvers, the learning rate goes into the velocity,
    v = momentum * v + learning_rate * (gradient + weight_decay * w), w -= v, so that what was gathered before a change
    of the rate keeps its size: TensorFlow's optimizer applies its rate to the whole velocity, hence is given the loss
    times the rate, and 1. Adam is as in Caffe, with `momentum` for beta1. Biases do not decay. In a replica, the
    optimizer adds the gradients of all replicas, so the loss is a part of the whole, and so is each one's decay.
    """
    adam, replicas = settings.optimizer == 'adam', tf.distribute.get_strategy().num_replicas_in_sync
    scale = 1.0 if adam else learning_rate
    gradients = tf.gradients(scale * loss, fresh + pretrained)
    shown = {variable.op.name: subsample(gradient) / scale * replicas
             for variable, gradient in zip(fresh + pretrained, gradients)}
    if settings.weight_decay:
        decay = settings.weight_decay / replicas
        gradients = [gradient + scale * decay * variable if variable.shape.rank > 1 else gradient
                     for gradient, variable in zip(gradients, fresh + pretrained)]
    steps = []
    for share, variables in ((1.0, fresh), (settings.pretrained_lr_mult, pretrained)):
        if variables:
            optimizer = make_optimizer(settings, learning_rate * share if adam else share)
            with tf.control_dependencies(steps):  # GPUs must all add up the same gradients at the same time
                steps.append(optimizer.apply_gradients(list(zip(gradients, variables))))
        gradients = gradients[len(variables):]
    with tf.control_dependencies(steps):
        return tf.assign_add(tf.train.get_or_create_global_step(), 1).op, shown


def make_optimizer(settings, learning_rate):
    """Return TensorFlow's optimizer of that name."""
    if settings.optimizer == 'adam':
        return tf.train.AdamOptimizer(learning_rate, beta1=settings.momentum)
    if settings.optimizer == 'momentum':
        return tf.train.MomentumOptimizer(learning_rate, settings.momentum)
    return tf.train.GradientDescentOptimizer(learning_rate)
