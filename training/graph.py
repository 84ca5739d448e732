"""The graph of a training run: network, loss, training step, on one device or several."""

import dataclasses
from typing import NamedTuple

import numpy as np

from alexnet import IMAGE_SIZE, LAYERS, AlexNet, mean_log_probabilities
from runtime.tf1 import assign_values, tf
from training.devices import Devices
from training.histograms import step_summaries
from training.optimizer import learning_rate_at, make_train_op, num_replicas, training_loss
from training.setup import TrainingSetup
from training.strategy import for_each_replica


@dataclasses.dataclass(frozen=True)
class Replica:
    """The network on one device, with the tensors and operations for its rows of a batch."""

    model: AlexNet
    labels: tf.Tensor         # float32 [n, num_classes], one-hot
    keep_prob: tf.Tensor      # scalar, 1 unless fed
    batch_count: tf.Tensor    # scalar, images of the batch on all devices; n unless fed
    learning_rate: tf.Tensor  # scalar, of the next step
    # Of the mean probabilities over the views of each image:
    loss_sum: tf.Tensor       # scalar, cross-entropy summed over the images, nats
    correct: tf.Tensor        # scalar float, images whose label has the largest probability
    predictions: tuple        # int32 [n], class of the largest probability; float32 [n], that one
    train_op: tf.Operation
    summaries: tf.Tensor      # serialized histograms of the trained layers


class TrainingGraph(NamedTuple):
    """The tensors and operations that the loop feeds and fetches."""

    replicas: tuple           # one Replica per device of this machine
    learning_rate: tf.Tensor  # scalar, of the next step
    loss_sum: tf.Tensor       # scalar, summed over the batch on all devices
    correct: tf.Tensor        # scalar, summed over the batch on all devices
    predictions: tuple        # one pair per replica; its last rows can be padding of `feed`
    train_op: tf.Operation
    summaries: tf.Tensor      # of the first replica
    step: tf.Tensor           # scalar int64, training steps done

    @property
    def model(self) -> AlexNet:
        """The network of the first replica."""
        return self.replicas[0].model

    def feed(self, input_name: str, values: np.ndarray, labels: np.ndarray, batch_count: int,
             keep_prob: float = 1.0) -> dict:
        """Return the feed_dict for this machine's rows of a batch, split over its replicas.

        input_name: 'images' for pixels, 'x' for images minus the mean, or the layer whose output
            `values` replace.
        values: [n * views, ...], uint8 for 'images', else float32; training takes one view.
        labels: one-hot float32 [n, num_classes].
        batch_count: images of the whole batch, on all machines.
        keep_prob: fraction of outputs that dropout keeps, above 0 to 1.
        """
        values, labels = pad_rows(values, labels, len(self.replicas))
        num_views, feed = len(values) // len(labels), {}
        for number, replica in enumerate(self.replicas):
            start, stop = (len(labels) * n // len(self.replicas) for n in (number, number + 1))
            part = values[start * num_views:stop * num_views]
            feed.update({replica.model.tensor(input_name): part,
                         replica.labels: labels[start:stop],
                         replica.batch_count: batch_count, replica.keep_prob: keep_prob})
        return feed


def pad_rows(values, labels, count):
    """Return values and labels of at least `count` images; rows of zeros are appended.

    TensorFlow cannot pool and split a batch without rows. A row whose label is all zeros adds
    nothing to the loss and to the correct rows.
    """
    missing = count - len(labels)
    if missing <= 0:
        return values, labels
    num_views = len(values) // len(labels) if len(labels) else 1
    return append_zeros(values, missing * num_views), append_zeros(labels, missing)


def append_zeros(array, count):
    """Return an array with `count` more rows of zeros."""
    return np.concatenate([array, np.zeros((count, *array.shape[1:]), array.dtype)])


def build_training_graph(setup: TrainingSetup, devices: Devices) -> TrainingGraph:
    """Add network, loss and training step to the graph, after setting its random seed."""
    tf.set_random_seed(setup.seed)
    if devices.strategy is None:
        with devices.scope():
            return build_on_one_device(setup)
    return build_on_all_devices(setup, devices.strategy)


def build_on_one_device(setup):
    """Add the graph of one device to the current graph; return the TrainingGraph."""
    replica = build_replica(setup)
    return TrainingGraph(
        (replica,), replica.learning_rate, replica.loss_sum, replica.correct,
        (replica.predictions,), replica.train_op, replica.summaries, tf.train.get_global_step())


def build_on_all_devices(setup, strategy):
    """Add the graph of all devices of a tf.distribute strategy; return the TrainingGraph."""
    parts = for_each_replica(strategy, lambda: build_replica(setup))
    sums = for_each_replica(
        strategy, lambda replica: tf.stack([replica.loss_sum, replica.correct]), parts)
    with strategy.scope():
        total = strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)
        loss_sum, correct = tf.unstack(strategy.experimental_local_results(total)[0])
        replicas = strategy.experimental_local_results(parts)
        train_op = tf.group(*[replica.train_op for replica in replicas])
    return TrainingGraph(replicas, replicas[0].learning_rate, loss_sum, correct,
                         tuple(replica.predictions for replica in replicas), train_op,
                         replicas[0].summaries, tf.train.get_global_step())


def build_replica(setup):
    """Add network, loss and training step of one device to the graph; return the Replica."""
    images = tf.placeholder(tf.uint8, [None, IMAGE_SIZE, IMAGE_SIZE, 3], 'images')
    labels = tf.placeholder(tf.float32, [None, setup.num_classes], 'labels')
    keep_prob = tf.placeholder_with_default(1.0, [], 'keep_prob')
    step = tf.train.get_or_create_global_step()
    model = AlexNet(images, keep_prob, setup.num_classes, setup.scratch_layers, setup.weights_path,
                    dropout_seed=dropout_seed(setup.seed, step), architecture=setup.architecture)
    loss_sum, correct, predictions = measure(labels, model.fc8)
    batch_count = tf.placeholder_with_default(
        tf.cast(tf.shape(labels)[0], tf.float32), [], 'batch_count')
    loss = training_loss(
        labels, model.fc8, setup.label_smoothing, setup.class_weights, batch_count)
    learning_rate = learning_rate_at(step, setup.num_steps, setup.learning_rate, setup.lr_schedule)
    train_op, gradients = make_train_op(
        loss, learning_rate, setup, *trained_variables(model, setup))
    summaries = step_summaries(model, setup.trained_layers, gradients)
    return Replica(model, labels, keep_prob, batch_count, learning_rate, loss_sum, correct,
                   predictions, train_op, summaries)


def trained_variables(model, setup):
    """Return (trained variables with random initial values, trained ones of the weight file)."""
    scratch, pretrained = [], []
    for layer in setup.trained_layers:
        target = scratch if layer in setup.scratch_layers else pretrained
        target += model.variables[layer]
    return scratch, pretrained


def measure(labels, logits):
    """Return (loss_sum, correct, predictions) of a Replica.

    labels: [n, num_classes]. logits: [n * views, num_classes].
    """
    log_probabilities = mean_log_probabilities(logits, tf.shape(labels)[0])
    losses = -tf.reduce_sum(labels * log_probabilities, 1)
    classes = tf.argmax(log_probabilities, 1, output_type=tf.int32)
    correct = tf.reduce_sum(labels * tf.one_hot(classes, int(labels.shape[1])))
    probabilities = tf.exp(tf.reduce_max(log_probabilities, 1))
    return tf.reduce_sum(losses), correct, (classes, probabilities)


def dropout_seed(seed, step):
    """Return the seed of a step's dropout, an int64 [2] tensor that differs per replica."""
    pair = tf.stack([tf.constant(seed, tf.int64), step])
    if num_replicas() == 1:
        return pair
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.random.experimental.stateless_fold_in(pair, replica)


def initialize_variables(session: tf.Session, model: AlexNet, setup: TrainingSetup,
                         devices: Devices):
    """Assign all variables their initial values; on a cluster, the chief alone does."""
    if devices.strategy is None:
        initialize(session, model)
    elif devices.workers.rank == 0:
        initialize_replicas(session, setup, devices)


def initialize(session, model):
    """Assign every variable its initial value: from the weight file, or by its initializer."""
    loaded = {variable.name for layer in LAYERS if layer not in model.skip_layer
              for variable in model.variables[layer]}
    variables = session.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    session.run([variable.initializer for variable in variables if variable.name not in loaded])
    if loaded:
        model.load_initial_weights(session)


def initialize_replicas(session, setup, devices):
    """Assign the variables, on all devices of this machine, the initial values of one device.

    TensorFlow seeds a random operation by its position in the graph. Drawing the values in a
    one-device graph gives the same ones for any number of devices.
    """
    values = initial_values(setup, devices)
    for variable in session.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES):
        copies = devices.strategy.experimental_local_results(variable)
        assign_values(session, copies, [values[variable.op.name]] * len(copies))


def initial_values(setup, devices):
    """Return {name of variable: initial value}, drawn in a one-device graph of its own."""
    with tf.Graph().as_default(), tf.Session(config=devices.local_config()) as session:
        tf.set_random_seed(setup.seed)
        initialize(session, build_on_one_device(setup).model)
        return session.run({variable.op.name: variable for variable in tf.global_variables()})
