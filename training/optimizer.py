"""The loss, the learning rate, and the step of the optimizer."""

import math

import numpy as np

from runtime.tf1 import tf
from training.histograms import subsample

# Caffe's velocity contains the learning rate, v = momentum * v + learning_rate * gradient, so that
# it keeps its size when the rate changes. TensorFlow's optimizers apply their rate to the whole
# velocity: these ones get a loss multiplied by the rate, and the rate 1.
RATE_IN_GRADIENT = ('momentum', 'sgd')


def balanced_weights(labels, num_classes):
    """Return the weight per class with which all classes count the same in the loss.

    labels: int [n], class of each training image.
    Returns float32 [num_classes]: n / (classes with images * images of the class), 0 without
    images. The mean over the images is 1, so that the learning rate keeps its meaning.
    """
    counts = np.bincount(labels, minlength=num_classes)
    divisors = np.count_nonzero(counts) * np.maximum(counts, 1)
    return np.float32(np.where(counts > 0, len(labels) / divisors, 0))


def training_loss(labels, logits, label_smoothing, class_weights, batch_count):
    """Return the loss to minimize, a scalar: the mean weighted cross-entropy of a batch.

    labels: one-hot float32 [n, num_classes]; label smoothing s turns 1 into 1 - s + s / num_classes
        and 0 into s / num_classes (Szegedy et al., 2016).
    logits: float32 [n, num_classes].
    label_smoothing: s, 0 to below 1.
    class_weights: float32 [num_classes].
    batch_count: scalar, images of the whole batch. The n rows may be one replica's part of it: the
        losses of all replicas add up to the loss of the batch.
    """
    smoothed = labels * (1 - label_smoothing) + label_smoothing / int(labels.shape[1])
    losses = tf.nn.softmax_cross_entropy_with_logits_v2(smoothed, logits)
    return tf.reduce_sum(losses * tf.reduce_sum(labels * class_weights, 1)) / batch_count


def learning_rate_at(step, num_steps, learning_rate, lr_schedule):
    """Return the learning rate of a step, a scalar tensor.

    step: an integer tensor, 0 for the first step.
    num_steps: of the whole run.
    learning_rate: of the first step.
    lr_schedule: 'constant'; 'step' divides by 10 after each third of the run, as Caffe's policy
        "step" with gamma 0.1; 'cosine' falls along half a cosine wave to almost 0 (Loshchilov and
        Hutter, 2017).
    """
    if lr_schedule == 'step':
        third = math.ceil(num_steps / 3)
        return tf.train.exponential_decay(learning_rate, step, third, 0.1, staircase=True)
    if lr_schedule == 'cosine':
        return tf.train.cosine_decay(learning_rate, step, num_steps)
    return tf.constant(learning_rate, tf.float32)


def make_train_op(loss, learning_rate, setup, from_scratch, pretrained):
    """Return (operation of one training step, {variable name: sampled gradient} for histograms).

    loss, learning_rate: scalar tensors.
    setup: has optimizer, momentum, weight_decay, and pretrained_lr_mult, the factor on the
        learning rate of the variables `pretrained`.
    from_scratch, pretrained: lists of the variables that the step changes.
    The sampled gradients are of the loss alone, without weight decay.
    """
    variables = from_scratch + pretrained
    scale = learning_rate if setup.optimizer in RATE_IN_GRADIENT else 1.0
    gradients = tf.gradients(scale * loss, variables)
    sampled = {variable.op.name: sample_gradient(gradient, scale)
               for variable, gradient in zip(variables, gradients, strict=True)}
    gradients = wait_for_all(add_weight_decay(gradients, variables, scale, setup.weight_decay))
    return apply_gradients(gradients, learning_rate, setup, from_scratch, pretrained), sampled


def num_replicas():
    """Return the number of devices that share each batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def sample_gradient(gradient, scale):
    """Return sampled values, [n], of the gradient of the loss; scale: factor in `gradient`."""
    return subsample(gradient) / scale * num_replicas()


def add_weight_decay(gradients, variables, scale, weight_decay):
    """Return the gradients with Caffe's L2 penalty added; biases do not decay.

    gradients, variables: lists of the same order.
    scale: the factor that the gradients contain already.
    weight_decay: the setting; 0 adds no operation.
    The optimizer sums the gradients of all replicas, so each replica adds its part of the penalty.
    """
    if not weight_decay:
        return gradients
    factor = scale * weight_decay / num_replicas()
    return [gradient + factor * variable if variable.shape.rank > 1 else gradient
            for gradient, variable in zip(gradients, variables, strict=True)]


def wait_for_all(gradients):
    """Return the gradients, none of which is used before all are computed.

    On a CPU, an update that goes through memory beside a matrix product slows it down by more than
    it gains: a step would take 3 to 6 % longer. Several devices sum the gradients that they have
    while they compute the others.
    """
    if num_replicas() > 1:
        return gradients
    with tf.control_dependencies(gradients):
        return [tf.identity(gradient) for gradient in gradients]


def apply_gradients(gradients, learning_rate, setup, from_scratch, pretrained):
    """Return the operation that updates both lists of variables and counts the step."""
    steps = []
    for lr_mult, variables in ((1.0, from_scratch), (setup.pretrained_lr_mult, pretrained)):
        if variables:
            rate = lr_mult if setup.optimizer in RATE_IN_GRADIENT else learning_rate * lr_mult
            optimizer = make_optimizer(setup.optimizer, rate, setup.momentum)
            with tf.control_dependencies(steps):  # all GPUs must sum gradients in the same order
                pairs = zip(gradients[:len(variables)], variables, strict=True)
                steps.append(optimizer.apply_gradients(list(pairs)))
        gradients = gradients[len(variables):]
    with tf.control_dependencies(steps):
        return tf.assign_add(tf.train.get_or_create_global_step(), 1).op


def make_optimizer(name, learning_rate, momentum):
    """Return TensorFlow's optimizer of a name; Adam takes `momentum` for beta1, as in Caffe.

    learning_rate: for names in RATE_IN_GRADIENT the factor on the rate in the gradients.
    """
    optimizers = {
        'adam': lambda: tf.train.AdamOptimizer(learning_rate, beta1=momentum),
        'momentum': lambda: tf.train.MomentumOptimizer(learning_rate, momentum),
        'sgd': lambda: tf.train.GradientDescentOptimizer(learning_rate)}
    return optimizers[name]()
