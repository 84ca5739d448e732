"""Writes .caffemodel files byte by byte, for tests: by neither Caffe nor the library that reads them in the project."""

import numpy as np

KINDS = {'Convolution': 4, 'Pooling': 17, 'LRN': 15, 'InnerProduct': 14}  # numbers of V1LayerParameter.LayerType
SHAPES = {'conv1': (96, 3, 11, 11), 'conv2': (256, 48, 5, 5), 'conv3': (384, 256, 3, 3), 'conv4': (384, 192, 3, 3),
          'conv5': (256, 192, 3, 3), 'fc6': (4096, 9216), 'fc7': (4096, 4096), 'fc8': (1000, 4096)}  # Caffe's order


def drawn_layers():
    """Return {layer: [weights, biases]} of AlexNet in Caffe's order, float32, evenly drawn (He et al., 2015)."""
    random = np.random.RandomState(6)
    return {layer: [np.float32((random.rand(*shape) - 0.5) * np.sqrt(24 / np.prod(shape[1:]))),
                    np.float32(random.rand(shape[0]) - 0.5)] for layer, shape in SHAPES.items()}


def drawn_images():
    """Return 2 images, float32 [2, 3, 227, 227], about what is left of pixels after subtracting the mean."""
    return np.float32(np.random.RandomState(7).rand(2, 3, 227, 227) * 255 - 115)


def varint(number):
    """Return protobuf's encoding of a number: 7 bits a byte, lowest first."""
    head = b''
    while number > 127:
        head += bytes([number & 127 | 128])
        number >>= 7
    return head + bytes([number])


def field(number, value):
    """Return a field whose value is a whole number (wire type 0), or a text, bytes or message (wire type 2)."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(array, old_shape=False):
    """Return a BlobProto: float or double data as the array is, shape as {dim} or as num, channels, height, width."""
    if old_shape:
        dims = (1,) * (4 - array.ndim) + array.shape
        head = b''.join(field(number, dim) for number, dim in enumerate(dims, 1))
    else:
        head = field(7, field(1, b''.join(map(varint, array.shape))))
    return head + field(8 if array.dtype == np.float64 else 5, array.tobytes())


def layer(name, kind, blobs, v1=False):
    """Return the field of NetParameter that holds a layer: `layer`, or the older `layers`."""
    if v1:
        return field(2, field(4, name) + field(5, KINDS[kind]) + b''.join(field(6, one) for one in blobs))
    return field(100, field(1, name) + field(2, kind) + b''.join(field(7, one) for one in blobs))


def caffemodel(layers, v1=False, old_shape=False):
    """Return the file of {layer: arrays in Caffe's order}; weights with 4 axes are convolutions."""
    return field(1, 'AlexNet') + b''.join(
        layer(name, 'Convolution' if arrays[0].ndim == 4 else 'InnerProduct', [blob(a, old_shape) for a in arrays], v1)
        for name, arrays in layers.items())
