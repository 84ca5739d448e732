"""AlexNet's convolutions with batch normalisation, for pretraining, and how they become plain weights."""

import numpy as np

from alexnet import AlexNet
from inputs.images import IMAGENET_MEAN
from runtime.tf1 import assign_values, open_session, tf

EPSILON = 1e-3  # added to variances


class PretrainingNetwork(AlexNet):
    """AlexNet up to pool5 with batch normalisation before each ReLU: by the batch's moments, or by their averages."""

    def __init__(self, x, training):
        self.training, self.moments, self.updates = training, {}, []
        super().__init__(x, 1.0, 0, ())

    def create(self):
        """Build the graph."""
        self.create_convolutions()

    def add_biases(self, layer, x, biases):
        """Normalise each channel, then scale it and add the bias; in training, also note how to average the moments."""
        with tf.variable_scope(layer):
            ones, zeros = tf.ones_initializer(), tf.zeros_initializer()
            scale = tf.get_variable('scale', biases.shape, initializer=ones)
            mean = tf.get_variable('mean', biases.shape, initializer=zeros, trainable=False)
            variance = tf.get_variable('variance', biases.shape, initializer=ones, trainable=False)
        self.moments[layer] = scale, mean, variance
        if not self.training:
            return tf.nn.batch_normalization(x, mean, variance, biases, scale, EPSILON)
        x, *batch = tf.nn.fused_batch_norm(x, scale, biases, epsilon=EPSILON)
        self.updates += [tf.assign_add(average, 0.02 * (new - average))
                         for average, new in zip((mean, variance), batch)]
        return x


def wave_filters():
    """Return first weights of conv1, float32 [11, 11, 3, 96]: waves and spots, each of norm 1 and in random order.

    Gabor's functions are what conv1 learns from photos (Krizhevsky et al., 2012, figure 3): 64 grey ones in 8
    directions, 4 phases and 2 periods, 24 coloured ones, and 8 spots.
    """
    y, x = np.mgrid[-5:6, -5:6]
    grey = np.ones(3)
    opponents = [np.array(colour, np.float64) for colour in ((0, -1, 1), (2, -1, -1), (-1, 2, -1))]

    def wave(period, angle, phase, width):
        values = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + phase)
        return values * np.exp(-(x * x + y * y) / (2 * width * width))
    quarter = np.pi / 2
    waves = [wave(period, direction * np.pi / 8, phase * quarter, width)
             for period, width in ((4.5, 2.2), (9, 3.2)) for direction in range(8) for phase in range(4)]
    edges = [wave(13, direction * np.pi / 4, phase * quarter, 3.2) for direction in range(4) for phase in (1, 3)]
    spot = np.exp(-(x * x + y * y) / 18)
    filters = [(values - values.mean())[..., None] * grey for values in waves]
    filters += [values[..., None] * colour for colour in opponents for values in edges]
    filters += [sign * spot[..., None] * colour for colour in (*opponents, grey) for sign in (1, -1)]
    filters = [values / np.linalg.norm(values) for values in filters]
    order = np.random.default_rng(0).permutation(96)  # conv2 sees its input in two halves: some of each in both
    return np.float32(np.stack(filters, 3)[..., order])


def folded_layers(session, network):
    """Return {layer: [weights, biases]} of convolutions that alone give what the network does with averaged moments."""
    layers = {}
    for layer in network.moments:
        (weights, biases), (scale, mean, variance) = session.run((network.variables[layer], network.moments[layer]))
        factor = scale / np.sqrt(variance + EPSILON)
        layers[layer] = [weights * factor, biases - mean * factor]
    return layers


def scaled_to_norm(layers, pictures, norm):
    """Return the layers with conv5 times a factor that gives pool5 this mean L2 norm on pictures, uint8 BGR at 227x227.

    It changes nothing else: ReLU and pooling keep factors.
    """
    with tf.Graph().as_default(), open_session() as session:
        network = AlexNet(tf.constant(pictures - IMAGENET_MEAN), 1.0, 2, ())
        for layer, values in layers.items():
            assign_values(session, network.variables[layer], values)
        pool5 = session.run(network.outputs['pool5'])
    factor = np.float32(norm / np.linalg.norm(pool5.reshape(len(pool5), -1), axis=1).mean())
    return {**layers, 'conv5': [array * factor for array in layers['conv5']]}
