"""AlexNet as Caffe's bvlc_alexnet defines it, as a TensorFlow graph, with weights loaded layer by layer.

Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks" (2012). The variant is the one of
Caffe's models/bvlc_alexnet: local response normalisation comes before pooling (CaffeNet has it after), and conv2,
conv4 and conv5 see their input in two groups, as the paper's two GPUs did.
"""

import math

import numpy as np

from runtime.tf1 import assign_values, tf
from weight_files.reader import LAYER_SHAPES, check_layers, format_names, read_weights, unknown_layers

LAYERS = tuple(LAYER_SHAPES)  # conv1 to conv5, fc6 to fc8
IMAGE_SIZE = 227  # height and width, in pixels


class AlexNet:
    """The graph from images to logits.

    x: float32 [n, 227, 227, 3], BGR, 0..255 minus the channel mean (104, 117, 124).
    keep_prob: scalar, the share of fc6 and fc7 outputs that dropout keeps, in (0, 1]; 1 for inference.
    num_classes: number of outputs of fc8.
    skip_layer: names of layers that `load_initial_weights` leaves at their random initial values.
    weights_path: weight file; 'DEFAULT' is bvlc_alexnet.npy in the current folder.
    dropout_seed: int64 [2] tensor from which alone follows what is dropped; None: TensorFlow draws on and on.

    outputs: {name: tensor} of conv1 norm1 pool1 conv2 norm2 pool2 conv3 conv4 conv5 pool5 fc6 fc7 fc8, after ReLU
    and before dropout. Any of them can be fetched, or fed in place of being computed. fc8, the logits, float32
    [n, num_classes], is an attribute too. variables: {layer: (weights, biases)}.
    """

    def __init__(self, x, keep_prob, num_classes, skip_layer, weights_path='DEFAULT', *, dropout_seed=None):
        unknown = sorted(set(skip_layer) - set(LAYERS))
        if unknown:
            raise ValueError(f'no layer is called {", ".join(unknown)}; the layers are {" ".join(LAYERS)}')
        self.x, self.keep_prob, self.num_classes = x, keep_prob, num_classes
        self.skip_layer, self.dropout_seed = tuple(skip_layer), dropout_seed
        self.weights_path = 'bvlc_alexnet.npy' if weights_path == 'DEFAULT' else weights_path
        self.outputs, self.variables = {}, {}
        self.create()

    def create(self):
        """Build the graph; one line a layer."""
        x = self.create_convolutions()
        x = self.fully_connected('fc6', tf.reshape(x, [-1, 6 * 6 * 256]), 4096, stddev=0.005, bias=0.1)
        x = self.fully_connected('fc7', self.dropout('fc6', x), 4096, stddev=0.005, bias=0.1)
        self.fc8 = self.fully_connected('fc8', self.dropout('fc7', x), self.num_classes, stddev=0.01, relu=False)

    def create_convolutions(self):
        """Build conv1 to pool5, which fit images of other sizes too; return pool5."""
        x = self.conv('conv1', self.x, size=11, filters=96, stride=4, padding='VALID')
        x = self.max_pool('pool1', self.local_response_norm('norm1', x))
        x = self.conv('conv2', x, size=5, filters=256, groups=2)
        x = self.max_pool('pool2', self.local_response_norm('norm2', x))
        x = self.conv('conv3', x, size=3, filters=384)
        x = self.conv('conv4', x, size=3, filters=384, groups=2)
        x = self.conv('conv5', x, size=3, filters=256, groups=2)
        return self.max_pool('pool5', x)

    def conv(self, name, x, size, filters, stride=1, padding='SAME', groups=1):
        """Convolution, in groups of input and output channels, and ReLU.

        A convolution a group, not TensorFlow's kernel for groups: that one is 6 to 10 % faster with oneDNN, and fails
        on CPUs without it (benchmarks/layers.py).
        """
        channels = int(x.shape[3]) // groups
        stddev = math.sqrt(2 / (size * size * channels))  # He et al. (2015), for layers followed by ReLU
        weights, biases = self.make_variables(name, [size, size, channels, filters], stddev)
        pairs = zip(tf.split(x, groups, 3), tf.split(weights, groups, 3)) if groups > 1 else [(x, weights)]
        parts = [tf.nn.conv2d(part, kernel, stride, padding) for part, kernel in pairs]
        x = tf.concat(parts, 3) if groups > 1 else parts[0]
        return self.register_output(name, tf.nn.relu(self.add_biases(name, x, biases)))

    def add_biases(self, name, x, biases):
        """Return the sums that a convolution's ReLU is applied to; starter_weights/network.py normalises them."""
        return tf.nn.bias_add(x, biases)

    def fully_connected(self, name, x, units, stddev, bias=0.0, relu=True):
        """Matrix product, and ReLU unless the values are the logits.

        First values are those of Caffe's bvlc_alexnet: pool5 has a norm of about 1000, with He's the loss explodes.
        """
        weights, biases = self.make_variables(name, [int(x.shape[1]), units], stddev, bias)
        x = tf.nn.bias_add(matrix_product(x, tf.convert_to_tensor(weights)), biases)
        return self.register_output(name, tf.nn.relu(x) if relu else x)

    def local_response_norm(self, name, x):
        """x / (1 + alpha / 5 * sum of squares over 5 channels) ** 0.75, alpha 1e-4: Caffe's across-channel LRN.

        The sum is a product with a band matrix, and the power is made of roots: a third faster, forward, than
        TensorFlow's kernel with depth_radius=2, bias=1, alpha=2e-5, beta=0.75, and equal to 1e-6
        (benchmarks/layers.py).
        """
        channels = int(x.shape[3])
        distance = np.abs(np.arange(channels)[:, None] - np.arange(channels))
        band = tf.constant(np.where(distance <= 2, 1e-4 / 5, 0), tf.float32)
        squares = tf.reshape(x * x, [-1, channels])
        root = tf.rsqrt(tf.nn.bias_add(tf.matmul(squares, band), tf.ones([channels])))
        return self.register_output(name, x * tf.reshape(root * tf.sqrt(root), tf.shape(x)))

    def max_pool(self, name, x):
        """Largest of 3x3, every 2; sizes fit, so that Caffe's rounding up plays no part."""
        return self.register_output(name, tf.nn.max_pool(x, 3, 2, 'VALID'))

    def dropout(self, layer, x):
        """Dropout after a layer, which scales what it keeps by 1 / keep_prob, as Caffe's does."""
        if self.dropout_seed is None:
            return tf.nn.dropout(x, rate=1 - self.keep_prob)
        seed = tf.random.experimental.stateless_fold_in(self.dropout_seed, LAYERS.index(layer))
        return tf.nn.experimental.stateless_dropout(x, rate=1 - self.keep_prob, seed=seed)

    def make_variables(self, layer, shape, stddev, bias=0.0):
        """Return new weights, drawn evenly with this standard deviation, and biases, all `bias`.

        For 55 million values an even distribution is drawn in a fifth of the time that a normal one takes.
        """
        limit = math.sqrt(3) * stddev
        with tf.variable_scope(layer):
            weights = tf.get_variable('weights', shape, initializer=tf.random_uniform_initializer(-limit, limit))
            biases = tf.get_variable('biases', shape[-1:], initializer=tf.constant_initializer(bias))
        self.variables[layer] = weights, biases
        return weights, biases

    def register_output(self, name, x):
        """Make a tensor reachable as outputs[name] and, in the graph, as '<name>/output:0'."""
        self.outputs[name] = tf.identity(x, f'{name}/output')
        return self.outputs[name]

    def twin(self, tensor, other):
        """Return what x, or an output, of another AlexNet is in this one; a tensor of its own is itself."""
        if other is self:
            return tensor
        [name] = [name for name, output in {'x': other.x, **other.outputs}.items() if output is tensor]
        return self.outputs.get(name, self.x)

    def load_initial_weights(self, session):
        """Give all layers but the skipped ones the values of the weight file.

        Names and shapes are compared first. Raises ValueError with every difference, and then changes nothing.
        Layers of the file that are skipped are left aside; so are those that AlexNet does not have, which are named.
        """
        pretrained = read_weights(self.weights_path)
        loaded = [layer for layer in LAYERS if layer not in self.skip_layer]
        check_layers(self.weights_path, pretrained,
                     {layer: tuple(self.variables[layer][0].shape.as_list()) for layer in loaded})
        if unknown := unknown_layers(pretrained):
            print(f'{self.weights_path}: AlexNet has no {format_names(unknown)}; left aside')
        for layer in loaded:
            assign_values(session, self.variables[layer], pretrained[layer])


@tf.custom_gradient
def matrix_product(x, weights):
    """Return x · weights, float32 [n, inputs] · [inputs, units].

    The gradient of x is computed as weights · upstreamᵀ, transposed: TensorFlow's own order, upstream · weightsᵀ,
    takes twice as long on CPUs, and a step of training a tenth longer (benchmarks/layers.py).
    """
    def gradient(upstream):
        return tf.einsum('iu,nu->ni', weights, upstream), tf.matmul(x, upstream, transpose_a=True)
    return tf.matmul(x, weights), gradient


