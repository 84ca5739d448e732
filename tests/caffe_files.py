"""Writes .caffemodel files byte by byte, without Caffe and without the library that reads them.

Field numbers are those of Caffe 1.0's caffe.proto. Only NumPy is needed: tests/reference runs this
file with Caffe's Python 3.8 too.
"""

import numpy as np

# Numbers of V1LayerParameter.LayerType.
KINDS = {'Convolution': 4, 'Pooling': 17, 'LRN': 15, 'InnerProduct': 14}
# Caffe's order: outputs, inputs, height, width.
SHAPES = {'conv1': (96, 3, 11, 11), 'conv2': (256, 48, 5, 5), 'conv3': (384, 256, 3, 3),
          'conv4': (384, 192, 3, 3), 'conv5': (256, 192, 3, 3), 'fc6': (4096, 9216),
          'fc7': (4096, 4096), 'fc8': (1000, 4096)}


def drawn_layers():
    """Return {layer: [weights, biases]} of AlexNet in Caffe's order, float32, uniform values.

    Weights have He's (2015) variance, 2 / inputs; a range of uniform values has range ** 2 / 12.
    """
    random, layers = np.random.RandomState(6), {}
    for layer, shape in SHAPES.items():
        weights = (random.rand(*shape) - 0.5) * np.sqrt(24 / np.prod(shape[1:]))
        layers[layer] = [np.float32(weights), np.float32(random.rand(shape[0]) - 0.5)]
    return layers


def drawn_images():
    """Return 2 images, float32 [2, 3, 227, 227], about as pixels are after subtracting the mean."""
    return np.float32(np.random.RandomState(7).rand(2, 3, 227, 227) * 255 - 115)


def varint(number):
    """Return protobuf's encoding of a number: 7 bits a byte, lowest first."""
    head = b''
    while number > 127:
        head += bytes([number & 127 | 128])
        number >>= 7
    return head + bytes([number])


def field(number, value):
    """Return a field of a message.

    value: a whole number (wire type 0), or a text, bytes or a message (wire type 2).
    """
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(array, old_shape=False, raw_type=None):
    """Return a BlobProto with the array's float or double values.

    old_shape: gives the shape as num, channels, height and width instead of a list.
    raw_type: raw_data_type of NVIDIA's Caffe, which stores the values as raw_data; numbers as in
        OpenCV's opencv-caffe.proto: 0 double, 1 float, 2 half, 3 int, 4 unsigned int.
    """
    if old_shape:
        dims = (1,) * (4 - array.ndim) + array.shape
        head = b''.join(field(number, dim) for number, dim in enumerate(dims, 1))
    else:
        head = field(7, field(1, b''.join(map(varint, array.shape))))
    if raw_type is not None:
        return head + field(10, raw_type) + field(12, array.tobytes())
    return head + field(8 if array.dtype == np.float64 else 5, array.tobytes())


def layer(name, kind, blobs, v1=False):
    """Return the field of NetParameter that holds a layer: `layer`, or the older `layers`."""
    if v1:
        fields = [field(4, name), field(5, KINDS[kind]), *(field(6, one) for one in blobs)]
        return field(2, b''.join(fields))
    fields = [field(1, name), field(2, kind), *(field(7, one) for one in blobs)]
    return field(100, b''.join(fields))


def caffemodel(layers, v1=False, old_shape=False, ends=()):
    """Return the file of {layer: arrays in Caffe's order}; weights with 4 axes are convolutions.

    ends: types of the layers that follow conv1, and conv2, in their order.
    """
    content = field(1, 'AlexNet')
    for name, arrays in layers.items():
        kind = 'Convolution' if arrays[0].ndim == 4 else 'InnerProduct'
        content += layer(name, kind, [blob(array, old_shape) for array in arrays], v1)
        if name in ('conv1', 'conv2'):
            content += b''.join(layer(f'{end}_{name}', end, [], v1) for end in ends)
    return content


def in_caffe_order(layers):
    """Return {layer: [weights, biases]} of AlexNet, in TensorFlow's order, in Caffe's order."""
    result = {}
    for name, (weights, biases) in layers.items():
        if weights.ndim == 4:
            weights = weights.transpose(3, 2, 0, 1)
        elif name == 'fc6':
            weights = weights.reshape(6, 6, 256, -1).transpose(3, 2, 0, 1).reshape(-1, 9216)
        else:
            weights = weights.T
        result[name] = [np.ascontiguousarray(weights), biases]
    return result
