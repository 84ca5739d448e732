"""Histograms of the trained layers for TensorBoard, as operations of the graph."""

from alexnet import LAYERS
from runtime.tf1 import tf

HISTOGRAM_VALUES = 10_000  # per variable: enough for its shape, cheap for the 38 million of fc6


def step_summaries(model, trained_layers, gradients):
    """Return the serialized summaries of the trained layers, a string tensor.

    The summaries are weights/<layer>/...: histograms of weights, biases and their gradients, and
    dead_relus, the fraction of units (channels of a convolution) that are 0 for the whole batch.
    gradients: {'fc8/weights': float32 [n], sampled values}.
    """
    summaries = []
    for layer in trained_layers:
        for variable in model.variables[layer]:
            name = variable.op.name
            summaries.append(histogram(name, subsample(variable)))
            summaries.append(histogram(f'{name}_gradient', gradients[name]))
        if layer != LAYERS[-1]:
            dead = dead_fraction(model.outputs[layer])
            summaries.append(tf.summary.scalar(f'weights/{layer}/dead_relus', dead))
    return tf.summary.merge(summaries)


def histogram(name, values):
    """Return the summary weights/<name> of values, float32 [n]."""
    # A histogram of NaN would stop the run before it can report that the loss is not finite.
    values = tf.where(tf.is_finite(values), values, tf.zeros_like(values))
    return tf.summary.histogram(f'weights/{name}', values)


def subsample(tensor):
    """Return about HISTOGRAM_VALUES evenly spaced values of a tensor, [n]; all of a small one."""
    # An even stride would show the same few columns of a matrix with 4096 columns.
    stride = tensor.shape.num_elements() // HISTOGRAM_VALUES | 1
    return tf.reshape(tensor, [-1])[::stride]


def dead_fraction(output):
    """Return the fraction of units that are 0 for the whole batch, a scalar tensor.

    output: float32 [n, ..., units], after ReLU.
    """
    largest = tf.reduce_max(output, list(range(output.shape.rank - 1)))
    return tf.reduce_mean(tf.cast(largest <= 0, tf.float32))
