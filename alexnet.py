"""AlexNet as Caffe's bvlc_alexnet defines it: a TensorFlow graph, and its weights from a file.

Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks" (2012), in the
variant of Caffe's models/bvlc_alexnet: local response normalisation comes before pooling, and
conv2, conv4 and conv5 have two groups, one per GPU of the paper. Caffe's bvlc_reference_caffenet
pools before it normalises; it is built with architecture='caffenet'.
"""

import math
from collections.abc import Sequence

import numpy as np

from runtime.tf1 import assign_values, tf
from weight_files.architecture import BLOCK_ENDS, resolve_architecture
from weight_files.reader import (
    LAYER_SHAPES,
    check_layers,
    format_names,
    read_weights,
    unknown_layers,
)

LAYERS = tuple(LAYER_SHAPES)  # conv1 to conv5, fc6 to fc8
IMAGE_SIZE = 227  # height and width, in pixels


class AlexNet:
    """The graph from images to logits.

    x: float32 [n, 227, 227, 3], BGR, 0..255 minus the channel mean; or uint8 pixels, from which
        image_mean is subtracted here.
    keep_prob: scalar in (0, 1], the fraction of fc6 and fc7 outputs that dropout keeps; 1 for
        inference.
    num_classes: number of outputs of fc8.
    skip_layer: names of layers that `load_initial_weights` leaves at their random initial values.
    weights_path: weight file; 'DEFAULT' is bvlc_alexnet.npy in the current folder; None: there is
        none, for a graph whose values are restored or random.
    dropout_seed: int64 [2] tensor, which alone determines what dropout drops; None: TensorFlow
        draws anew in each step.
    architecture: 'alexnet' normalises before it pools in blocks 1 and 2, 'caffenet' after it.
    image_mean: BGR; subtracted from uint8 pixels only.

    outputs: {name: tensor} of conv1 norm1 pool1 conv2 norm2 pool2 conv3 conv4 conv5 pool5 fc6 fc7
        fc8, after ReLU and before dropout. Each can be fetched, or fed in place of being computed.
    images: the x that was given. x: float32, minus the mean.
    fc8: the logits, float32 [n, num_classes].
    variables: {layer: (weights, biases)}.
    """

    def __init__(self, x: tf.Tensor, keep_prob: float | tf.Tensor, num_classes: int,
                 skip_layer: Sequence[str], weights_path: str | None = 'DEFAULT', *,
                 dropout_seed: tf.Tensor | None = None, architecture: str = 'alexnet',
                 image_mean: Sequence[float] = (104, 117, 124)):
        unknown = ', '.join(sorted(set(skip_layer) - set(LAYERS)))
        if unknown:
            raise ValueError(f'no layer is called {unknown}; the layers are {" ".join(LAYERS)}')
        if architecture not in BLOCK_ENDS:
            raise ValueError(f'architecture {architecture} is not one of {" ".join(BLOCK_ENDS)}')
        self.architecture = architecture
        self.images, self.x = x, subtract_mean(x, image_mean) if x.dtype == tf.uint8 else x
        self.keep_prob, self.num_classes = keep_prob, num_classes
        self.skip_layer, self.dropout_seed = tuple(skip_layer), dropout_seed
        self.weights_path = 'bvlc_alexnet.npy' if weights_path == 'DEFAULT' else weights_path
        self.outputs, self.variables = {}, {}
        self.create()

    def create(self):
        """Build the graph, one line per layer; comments show the shape of an output."""
        x = self.create_convolutions()
        x = tf.reshape(x, [-1, 6 * 6 * 256])  # 9216
        x = self.fully_connected('fc6', x, 4096, stddev=0.005, bias=0.1)  # 4096
        x = self.dropout('fc6', x)  # 4096
        x = self.fully_connected('fc7', x, 4096, stddev=0.005, bias=0.1)  # 4096
        x = self.dropout('fc7', x)  # 4096
        self.fc8 = self.fully_connected(
            'fc8', x, self.num_classes, stddev=0.01, relu=False)  # num_classes

    def create_convolutions(self):
        """Build conv1 to pool5, which also fit images of other sizes; return pool5."""
        x = self.conv('conv1', self.x, size=11, filters=96, stride=4, padding='VALID')  # 55x55x96
        x = self.norm_and_pool(1, x)  # 27x27x96
        x = self.conv('conv2', x, size=5, filters=256, groups=2)  # 27x27x256
        x = self.norm_and_pool(2, x)  # 13x13x256
        x = self.conv('conv3', x, size=3, filters=384)  # 13x13x384
        x = self.conv('conv4', x, size=3, filters=384, groups=2)  # 13x13x384
        x = self.conv('conv5', x, size=3, filters=256, groups=2)  # 13x13x256
        return self.register_output('pool5', max_pool(x))  # 6x6x256

    def norm_and_pool(self, block, x):
        """Add norm1 and pool1, or norm2 and pool2, in the order of the architecture."""
        functions = {'norm': local_response_norm, 'pool': max_pool}
        for kind in BLOCK_ENDS[self.architecture]:
            x = self.register_output(f'{kind}{block}', functions[kind](x))
        return x

    def conv(self, layer, x, size, filters, stride=1, padding='SAME', groups=1):
        """Add a convolution with biases and ReLU, [n, height, width, filters]."""
        channels = int(x.shape[3]) // groups
        stddev = math.sqrt(2 / (size * size * channels))  # He et al. (2015), for ReLU
        weights, biases = self.make_variables(layer, [size, size, channels, filters], stddev)
        x = self.add_biases(layer, grouped_conv(x, weights, stride, padding, groups), biases)
        return self.register_output(layer, tf.nn.relu(x))

    def add_biases(self, layer, x, biases):
        """Return x + biases, the input of a convolution's ReLU.

        starter_weights/network.py overrides this method to normalise the batch here.
        """
        return tf.nn.bias_add(x, biases)

    def fully_connected(self, layer, x, units, stddev, bias=0.0, relu=True):
        """Add a fully connected layer, [n, units]; relu is False for the logits.

        Standard deviation and bias are those of Caffe's bvlc_alexnet. With He's the loss would
        explode: the norm of pool5 is about 1000.
        """
        weights, biases = self.make_variables(layer, [int(x.shape[1]), units], stddev, bias)
        x = tf.nn.bias_add(matrix_product(x, tf.convert_to_tensor(weights)), biases)
        return self.register_output(layer, tf.nn.relu(x) if relu else x)

    def dropout(self, layer, x):
        """Add the dropout after a layer; each layer folds its own number into the seed."""
        seed = self.dropout_seed
        if seed is not None:
            seed = tf.random.experimental.stateless_fold_in(seed, LAYERS.index(layer))
        return dropout(x, self.keep_prob, seed)

    def make_variables(self, layer, shape, stddev, bias=0.0):
        """Return new weights, uniform with this standard deviation, and biases, all `bias`.

        For 55 million values a uniform distribution takes a fifth of the time of a normal one.
        """
        limit = math.sqrt(3) * stddev
        uniform = tf.random_uniform_initializer(-limit, limit)
        constant = tf.constant_initializer(bias)
        with tf.variable_scope(layer):
            weights = tf.get_variable('weights', shape, initializer=uniform)
            biases = tf.get_variable('biases', shape[-1:], initializer=constant)
        self.variables[layer] = weights, biases
        return weights, biases

    def register_output(self, name, x):
        """Make x reachable as outputs[name] and, in the graph, as '<name>/output:0'; return it."""
        self.outputs[name] = tf.identity(x, f'{name}/output')
        return self.outputs[name]

    def tensor(self, name: str) -> tf.Tensor:
        """Return the tensor to feed or fetch by name: 'images', 'x', or a key of `outputs`."""
        return {'images': self.images, 'x': self.x, **self.outputs}[name]

    def load_initial_weights(self, session: tf.Session) -> None:
        """Give every layer that is not skipped its values from the weight file.

        Architecture, names and shapes are compared first: a ValueError names every difference, and
        then no variable has changed. Layers of the file that are skipped are ignored. Layers that
        AlexNet does not have are ignored too, and named on the screen.
        """
        if self.weights_path is None:
            raise ValueError('weights_path is None: there are no weights to load')
        resolve_architecture(self.architecture, self.weights_path)
        pretrained = read_weights(self.weights_path)
        loaded = [layer for layer in LAYERS if layer not in self.skip_layer]
        check_layers(self.weights_path, pretrained,
                     {layer: tuple(self.variables[layer][0].shape.as_list()) for layer in loaded})
        if unknown := unknown_layers(pretrained):
            print(f'{self.weights_path}: AlexNet has no {format_names(unknown)}; ignored')
        for layer in loaded:
            assign_values(session, self.variables[layer], pretrained[layer])


def subtract_mean(pixels, mean):
    """Return uint8 pixels minus the mean, float32: exact, and a quarter of the bytes are fed."""
    row = np.tile(np.float32(mean), pixels.shape[2])  # a third of the time of 3 values
    rows = tf.reshape(tf.cast(pixels, tf.float32), [-1, len(row)])
    return tf.reshape(rows - tf.constant(row), tf.shape(pixels))


def grouped_conv(x, weights, stride, padding, groups):
    """Return the convolution of x with weights, in groups of input and output channels.

    x: float32 [n, height, width, channels]. weights: [size, size, channels / groups, filters].

    Each group is a convolution of its own. TensorFlow's kernel for groups is 6 to 10 % faster with
    oneDNN, but fails on CPUs without it (benchmarks/layers.py).
    """
    if groups == 1:
        return tf.nn.conv2d(x, weights, stride, padding)
    pairs = zip(tf.split(x, groups, 3), tf.split(weights, groups, 3), strict=True)
    return tf.concat([tf.nn.conv2d(part, kernel, stride, padding) for part, kernel in pairs], 3)


def local_response_norm(x):
    """Return x / (1 + alpha / 5 * sum of squares over 5 channels) ** 0.75, with alpha 1e-4.

    x: float32 [n, height, width, channels], channels a multiple of 16. The definition is Caffe's,
    for LRN across channels.

    The sum is a convolution along blocks of 16 channels, and the power is made of roots: that takes
    half of the time of TensorFlow's kernel with depth_radius=2, bias=1, alpha=2e-5, beta=0.75, and
    is equal to 1e-6 (benchmarks/layers.py).
    """
    _, height, width, channels = x.shape.as_list()
    distance = np.abs(np.arange(48)[:, None] - np.arange(16, 32))  # from the block in the middle
    kernel = tf.constant(np.where(distance <= 2, 1e-4 / 5, 0).reshape(1, 3, 16, 16), tf.float32)
    squares = tf.reshape(x * x, [-1, height * width, channels // 16, 16])
    sums = tf.nn.bias_add(tf.nn.conv2d(squares, kernel, 1, 'SAME'), tf.ones([16]))
    return x * tf.reshape(tf.rsqrt(sums * tf.sqrt(sums)), tf.shape(x))


def max_pool(x):
    """Return the maxima of 3x3 windows with stride 2; of odd sizes, Caffe rounds up to the same."""
    return tf.nn.max_pool(x, 3, 2, 'VALID')


def dropout(x, keep_prob, seed=None):
    """Return x with a fraction keep_prob of its values, scaled by 1 / keep_prob, and else zeros.

    seed: int64 [2] tensor that determines which values are kept; None: TensorFlow's own.
    """
    if seed is None:
        return tf.nn.dropout(x, rate=1 - keep_prob)
    return tf.nn.experimental.stateless_dropout(x, rate=1 - keep_prob, seed=seed)


def mean_log_probabilities(logits: tf.Tensor, num_images: int | tf.Tensor) -> tf.Tensor:
    """Return the logarithm of the mean probabilities over the views of each image.

    logits: float32 [num_images * views, num_classes], the views of an image one after the other.
    Returns float32 [num_images, num_classes]. Krizhevsky et al. (2012), section 4.1, average ten.
    """
    log_probabilities = tf.reshape(
        tf.nn.log_softmax(logits), [num_images, -1, int(logits.shape[1])])
    num_views = tf.cast(tf.shape(log_probabilities)[1], tf.float32)
    return tf.reduce_logsumexp(log_probabilities, 1) - tf.math.log(num_views)


@tf.custom_gradient
def matrix_product(x, weights):
    """Return x · weights, float32 [n, inputs] · [inputs, units].

    The gradient of x is computed as weights · upstreamᵀ, transposed. TensorFlow's own order,
    upstream · weightsᵀ, takes twice as long on CPUs, which makes a training step a tenth longer
    (benchmarks/layers.py).
    """
    def gradient(upstream):
        x_gradient = tf.einsum('iu,nu->ni', weights, upstream)
        return x_gradient, tf.matmul(x, upstream, transpose_a=True)
    return tf.matmul(x, weights), gradient
