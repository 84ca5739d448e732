"""Histograms of trained layers, as operations of the graph."""

from alexnet import LAYERS
from runtime.tf1 import tf

HISTOGRAM_VALUES = 10_000  # of a variable; enough for its shape, and cheap for the 38 million of fc6


def step_summaries(model, trained, gradients):
    """Return one operation that gives the state of the layers `trained` at a step, as serialized summaries.

    They are weights/<layer>/...: histograms of weights, biases and their gradients, and dead_relus, the share of units
    (channels of a convolution) that are 0 for every image of the batch. gradients: {'fc8/weights': thinned values}.
    """
    summaries = []
    for layer in trained:
        for variable in model.variables[layer]:
            name = variable.op.name
            for tag, values in ((name, subsample(variable)), (f'{name}_gradient', gradients[name])):
                # A histogram of NaN would stop the run before it can say that the loss is not finite.
                values = tf.where(tf.is_finite(values), values, tf.zeros_like(values))
                summaries.append(tf.summary.histogram(f'weights/{tag}', values))
        if layer != LAYERS[-1]:
            summaries.append(tf.summary.scalar(f'weights/{layer}/dead_relus', dead_fraction(model.outputs[layer])))
    return tf.summary.merge(summaries)


def subsample(tensor):
    """Return about HISTOGRAM_VALUES of a tensor's values, evenly spread, [n]; all of a small one's."""
    # An odd stride: with an even one, a matrix of 4096 columns would show the same few columns only.
    stride = tensor.shape.num_elements() // HISTOGRAM_VALUES | 1
    return tf.reshape(tensor, [-1])[::stride]


def dead_fraction(output):
    """Return the share of the last axis' units whose output, after ReLU, is 0 everywhere in the batch; a scalar."""
    largest = tf.reduce_max(output, list(range(output.shape.rank - 1)))
    return tf.reduce_mean(tf.cast(largest <= 0, tf.float32))
