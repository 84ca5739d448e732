"""The graph of a training run: network, loss, learning rate, and the optimizer's step."""

from typing import NamedTuple

import numpy as np

from alexnet import IMAGE_SIZE, AlexNet, tf
from summaries import step_summaries, thin


class Network(NamedTuple):
    """The tensors and operations that the loop feeds and fetches."""

    model: AlexNet
    labels: tf.Tensor         # float32 [n, num_classes], one-hot
    keep_prob: tf.Tensor      # scalar, 1 unless fed
    learning_rate: tf.Tensor  # scalar, of the coming step
    loss_sum: tf.Tensor       # scalar, cross-entropy summed over the batch, nats
    correct: tf.Tensor        # scalar int, images of the batch whose largest logit is their label's
    predictions: tuple        # int32 [n], the class of each image's largest logit; float32 [n], its probability
    train_op: tf.Operation
    summaries: tf.Tensor      # serialized, of the state of the trained layers


def build_network(settings, data, trained, skipped, weights_path):
    """Add the network, its loss and its training step to the graph; return the Network.

    A step changes the variables of the layers `trained` alone. Those also in `skipped` begin at random values; the
    others keep their pretrained values and take smaller steps. data: the Data to be trained on.
    """
    images = tf.placeholder(tf.float32, [None, IMAGE_SIZE, IMAGE_SIZE, 3], 'images')
    labels = tf.placeholder(tf.float32, [None, len(data.class_names)], 'labels')
    keep_prob = tf.placeholder_with_default(1.0, [], 'keep_prob')
    step = tf.train.get_or_create_global_step()
    model = AlexNet(images, keep_prob, len(data.class_names), skipped, weights_path,
                    dropout_seed=tf.stack([tf.constant(settings.seed, tf.int64), step]))
    losses = tf.nn.softmax_cross_entropy_with_logits_v2(labels, model.fc8)
    classes = tf.argmax(model.fc8, 1, output_type=tf.int32)
    correct = tf.equal(classes, tf.argmax(labels, 1, output_type=tf.int32))
    num_steps = settings.num_epochs * -(-len(data.train.paths) // settings.batch_size)
    learning_rate = learning_rate_at(step, num_steps, settings.learning_rate, settings.lr_schedule)
    balanced = settings.class_weights == 'balanced'
    weights = balanced_weights(data.train.labels, len(data.class_names)) if balanced else 1.0
    fresh = [variable for layer in skipped for variable in model.variables[layer]]
    pretrained = [variable for layer in trained if layer not in skipped for variable in model.variables[layer]]
    loss = training_loss(labels, model.fc8, settings.label_smoothing, weights)
    train_op, gradients = minimize(loss, learning_rate, settings, fresh, pretrained)
    return Network(model, labels, keep_prob, learning_rate, tf.reduce_sum(losses),
                   tf.reduce_sum(tf.cast(correct, tf.int32)), (classes, tf.reduce_max(tf.nn.softmax(model.fc8), 1)),
                   train_op, step_summaries(model, trained, gradients))


def balanced_weights(labels, num_classes):
    """Return what an image of each class counts in the loss so that every class counts the same.

    labels: int [n]. Returns float32 [num_classes], n / (classes with images * images of the class): 1 on average over
    the images, so that the learning rate means the same; a class without an image gets 0.
    """
    counts = np.bincount(labels, minlength=num_classes)
    return np.float32(np.where(counts > 0, len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0))


def training_loss(labels, logits, label_smoothing, class_weights):
    """Return what training makes smaller: the mean cross-entropy of the batch, each image times its class's weight.

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
    """Return (operation of one training step, which changes the variables of two lists, {variable name: gradient}).

    The gradients are those of the loss, thinned for histograms; it costs nothing unless they are fetched.
    learning_rate: scalar tensor. Of `settings`: optimizer, momentum, weight_decay, and pretrained_lr_share, the share
    of the learning rate that `pretrained` take. As in Caffe's solvers, the learning rate goes into the velocity,
    v = momentum * v + learning_rate * (gradient + weight_decay * w), w -= v, so that what was gathered before a change
    of the rate keeps its size: TensorFlow's optimizer applies its rate to the whole velocity, hence is given the loss
    times the rate, and 1. Adam is as in Caffe, with `momentum` for beta1. Biases do not decay.
    """
    adam = settings.optimizer == 'adam'
    scale = 1.0 if adam else learning_rate
    gradients = tf.gradients(scale * loss, fresh + pretrained)
    shown = {variable.op.name: thin(gradient) / scale for variable, gradient in zip(fresh + pretrained, gradients)}
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
        return tf.assign_add(tf.train.get_or_create_global_step(), 1).op, shown


def make_optimizer(settings, learning_rate):
    """Return TensorFlow's optimizer of that name."""
    if settings.optimizer == 'adam':
        return tf.train.AdamOptimizer(learning_rate, beta1=settings.momentum)
    if settings.optimizer == 'momentum':
        return tf.train.MomentumOptimizer(learning_rate, settings.momentum)
    return tf.train.GradientDescentOptimizer(learning_rate)
