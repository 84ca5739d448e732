"""The graph of a training run: network, first values, loss, learning rate, and the optimizer's step."""

import dataclasses
from typing import NamedTuple

import numpy as np

from alexnet import IMAGE_SIZE, LAYERS, AlexNet
from runtime.tf1 import open_session, tf
from training.histograms import step_summaries
from training.optimizer import balanced_weights, learning_rate_at, minimize, training_loss
from training.strategy import for_each_replica


@dataclasses.dataclass(frozen=True)
class Replica:
    """The network on one device, with the tensors and operations for its rows of a batch."""

    model: AlexNet
    labels: tf.Tensor         # float32 [n, num_classes], one-hot
    keep_prob: tf.Tensor      # scalar, 1 unless fed
    batch_count: tf.Tensor    # scalar, images of the whole batch, on all devices; n unless fed
    learning_rate: tf.Tensor  # scalar, of the coming step
    loss_sum: tf.Tensor       # scalar, cross-entropy summed over the rows, nats
    correct: tf.Tensor        # scalar float, rows whose largest logit is their label's
    predictions: tuple        # int32 [n], the class of each row's largest logit; float32 [n], its probability
    train_op: tf.Operation
    summaries: tf.Tensor      # serialized, of the state of the trained layers


class TrainingGraph(NamedTuple):
    """The tensors and operations that the loop feeds and fetches."""

    replicas: tuple           # a Replica a device of this machine
    learning_rate: tf.Tensor  # scalar, of the coming step
    loss_sum: tf.Tensor       # scalar, cross-entropy summed over the batch, on whatever devices, nats
    correct: tf.Tensor        # scalar float, images of the batch whose largest logit is their label's
    predictions: list         # of each replica, as there; the last rows can be those of `feed`
    train_op: tf.Operation
    summaries: tf.Tensor      # of the first replica

    @property
    def model(self):
        return self.replicas[0].model

    @property
    def labels(self):
        return self.replicas[0].labels

    def feed(self, inputs, values, labels, batch_count, keep_prob=1.0):
        """Return what to feed for this machine's share of a batch, whose rows are dealt out to the replicas.

        inputs: the tensor of `model` that takes the values: x, or one of outputs. batch_count: images of the whole
        batch. A replica without a row gets one of zeros, whose label is no class, so that it has no
        loss and can't be right: TensorFlow can't pool and split a batch of no rows.
        """
        feed, count = {}, len(self.replicas)
        if len(labels) < count:
            values, labels = (np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), np.float32)])
                              for rows in (values, labels))
        for number, replica in enumerate(self.replicas):
            rows = slice(number * len(labels) // count, (number + 1) * len(labels) // count)
            feed.update({replica.model.counterpart(inputs, self.model): values[rows], replica.labels: labels[rows],
                         replica.batch_count: batch_count, replica.keep_prob: keep_prob})
        return feed


def build_network(plan):
    """Add the network, its loss and its training step to the graph; return the TrainingGraph.

    A step changes the variables of the layers plan.trained alone; those that are not in plan.skipped go on from their
    pretrained values and take smaller steps. In the scope of a tf.distribute strategy, there is a replica on each of
    its devices, and a step is that of all their rows.
    """
    strategy = tf.distribute.get_strategy()
    parts, local = for_each_replica(build_replica, plan), strategy.experimental_local_results
    sums = for_each_replica(lambda replica: tf.stack([replica.loss_sum, replica.correct]), parts)
    loss_sum, correct = tf.unstack(local(strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None))[0])
    replicas = local(parts)
    return TrainingGraph(replicas, replicas[0].learning_rate, loss_sum, correct,
                   [replica.predictions for replica in replicas],
                   tf.group(*[replica.train_op for replica in replicas]), replicas[0].summaries)


def initialize(session, model):
    """Give every variable its first value: the weight file's, or for skipped layers and optimizer slots a fresh one."""
    loaded = {variable.name for layer in LAYERS if layer not in model.skip_layer
              for variable in model.variables[layer]}
    variables = session.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    session.run([variable.initializer for variable in variables if variable.name not in loaded])
    if loaded:
        model.load_initial_weights(session)


def initial_values(plan):
    """Return {name of variable: first value} on one device.

    What is random follows from an operation's place among the random ones of the graph: where several devices have each
    its own, all get what one would.
    """
    settings = plan.settings
    with tf.Graph().as_default(), open_session(settings.precision, settings.num_threads) as session:
        tf.set_random_seed(settings.seed)
        initialize(session, build_network(plan).model)
        return session.run({variable.op.name: variable for variable in tf.global_variables()})


def build_replica(plan):
    """Add the network, its loss and its training step to the graph on one device; return the Replica."""
    settings, data = plan.settings, plan.data
    images = tf.placeholder(tf.float32, [None, IMAGE_SIZE, IMAGE_SIZE, 3], 'images')
    labels = tf.placeholder(tf.float32, [None, len(data.class_names)], 'labels')
    keep_prob = tf.placeholder_with_default(1.0, [], 'keep_prob')
    step = tf.train.get_or_create_global_step()
    model = AlexNet(images, keep_prob, len(data.class_names), plan.skipped, plan.weights_path,
                    dropout_seed=dropout_seed(settings.seed, step))
    losses = tf.nn.softmax_cross_entropy_with_logits_v2(labels, model.fc8)
    classes = tf.argmax(model.fc8, 1, output_type=tf.int32)
    correct = tf.reduce_sum(labels * tf.one_hot(classes, len(data.class_names)))
    num_steps = settings.num_epochs * -(-len(data.train.paths) // settings.batch_size)
    learning_rate = learning_rate_at(step, num_steps, settings.learning_rate, settings.lr_schedule)
    balanced = settings.class_weights == 'balanced'
    weights = balanced_weights(data.train.labels, len(data.class_names)) if balanced else 1.0
    fresh = [variable for layer in plan.skipped for variable in model.variables[layer]]
    pretrained = [variable for layer in plan.trained if layer not in plan.skipped
                  for variable in model.variables[layer]]
    batch_count = tf.placeholder_with_default(tf.cast(tf.shape(labels)[0], tf.float32), [], 'batch_count')
    loss = training_loss(labels, model.fc8, settings.label_smoothing, weights, batch_count)
    train_op, gradients = minimize(loss, learning_rate, settings, fresh, pretrained)
    return Replica(model, labels, keep_prob, batch_count, learning_rate, tf.reduce_sum(losses), correct,
                   (classes, tf.reduce_max(tf.nn.softmax(model.fc8), 1)), train_op,
                   step_summaries(model, plan.trained, gradients))


def dropout_seed(seed, step):
    """Return the int64 [2] tensor that what is dropped in a step follows from: on each replica other units are."""
    pair = tf.stack([tf.constant(seed, tf.int64), step])
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return pair
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.random.experimental.stateless_fold_in(pair, replica)


