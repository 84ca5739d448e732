"""AlexNet's convolutions with batch normalisation, for pretraining, folded into plain weights."""

import numpy as np

from alexnet import AlexNet
from inputs.images import IMAGENET_MEAN
from runtime.tf1 import assign_values, open_session, tf

EPSILON = 1e-3  # added to variances
UPDATE_RATE = 0.02  # weight of a batch in the moving averages of mean and variance


class PretrainingNetwork(AlexNet):
    """AlexNet up to pool5 with batch normalisation before each ReLU.

    x: float32 [n, height, width, 3], minus the mean.
    training: True normalises by the moments of the batch, False by their moving averages.

    moments: {layer: (scale, mean, variance)}, variables [channels].
    updates: operations that update the moving averages, to run in each training step.
    """

    def __init__(self, x, training):
        self.training, self.moments, self.updates = training, {}, []
        super().__init__(x, 1.0, 0, ())

    def create(self):
        """Build the convolutions alone."""
        self.create_convolutions()

    def add_biases(self, layer, x, biases):
        """Return x normalised per channel, times the scale, plus the biases."""
        with tf.variable_scope(layer):
            ones, zeros = tf.ones_initializer(), tf.zeros_initializer()
            scale = tf.get_variable('scale', biases.shape, initializer=ones)
            mean = tf.get_variable('mean', biases.shape, initializer=zeros, trainable=False)
            variance = tf.get_variable('variance', biases.shape, initializer=ones, trainable=False)
        self.moments[layer] = scale, mean, variance
        if not self.training:
            return tf.nn.batch_normalization(x, mean, variance, biases, scale, EPSILON)
        x, *batch = tf.nn.fused_batch_norm(x, scale, biases, epsilon=EPSILON)
        self.updates += [tf.assign_add(average, UPDATE_RATE * (new - average))
                         for average, new in zip((mean, variance), batch, strict=True)]
        return x


def gabor(period, angle, phase, width):
    """Return a wave under a Gaussian, float64 [11, 11]; period and width in pixels."""
    y, x = np.mgrid[-5:6, -5:6]
    values = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + phase)
    return values * np.exp(-(x * x + y * y) / (2 * width * width))


def wave_filters():
    """Return initial weights of conv1, float32 [11, 11, 3, 96], each of norm 1, shuffled.

    conv1 learns Gabor functions from photos (Krizhevsky et al., 2012, figure 3). Here 64 are grey,
    in 8 directions, 4 phases and 2 periods, 24 are coloured, and 8 filters are spots.
    """
    y, x = np.mgrid[-5:6, -5:6]
    grey, quarter = np.ones(3), np.pi / 2
    opponents = [np.array(colour, np.float64) for colour in ((0, -1, 1), (2, -1, -1), (-1, 2, -1))]
    waves = [gabor(period, direction * np.pi / 8, phase * quarter, width)
             for period, width in ((4.5, 2.2), (9, 3.2))
             for direction in range(8) for phase in range(4)]
    edges = [gabor(13, direction * np.pi / 4, phase * quarter, 3.2)
             for direction in range(4) for phase in (1, 3)]
    spot = np.exp(-(x * x + y * y) / 18)
    filters = [(wave - wave.mean())[..., None] * grey for wave in waves]
    filters += [edge[..., None] * colour for colour in opponents for edge in edges]
    filters += [sign * spot[..., None] * colour for colour in (*opponents, grey)
                for sign in (1, -1)]
    filters = [values / np.linalg.norm(values) for values in filters]
    # conv2 sees its input in two halves: shuffling puts some of each kind into both.
    order = np.random.default_rng(0).permutation(96)
    return np.float32(np.stack(filters, 3)[..., order])


def folded_layers(session, network):
    """Return {layer: [weights, biases]} that include the normalisation by moving averages.

    Convolutions with these values alone compute what the network computes with training=False.
    """
    layers = {}
    for layer in network.moments:
        (weights, biases), (scale, mean, variance) = session.run(
            (network.variables[layer], network.moments[layer]))
        factor = scale / np.sqrt(variance + EPSILON)
        layers[layer] = [weights * factor, biases - mean * factor]
    return layers


def scaled_to_norm(layers, images, norm):
    """Return the layers with conv5 scaled so that pool5 has this mean L2 norm over images.

    layers: {layer: [weights, biases]} of conv1 to conv5. images: uint8 [n, 227, 227, 3], BGR. ReLU
    and pooling keep a factor, so that nothing else changes.
    """
    with tf.Graph().as_default(), open_session() as session:
        network = AlexNet(tf.constant(images - IMAGENET_MEAN), 1.0, 2, ())
        for layer, values in layers.items():
            assign_values(session, network.variables[layer], values)
        pool5 = session.run(network.outputs['pool5'])
    factor = np.float32(norm / np.linalg.norm(pool5.reshape(len(pool5), -1), axis=1).mean())
    return {**layers, 'conv5': [array * factor for array in layers['conv5']]}
