"""Reads the layers of a .caffemodel, a network that Caffe trained, without Caffe.

The format is protobuf, with the message and field numbers of Caffe 1.0's
src/caffe/proto/caffe.proto.
"""

import math
from typing import BinaryIO

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from runtime.files import printable

FIELD_LIMIT = 100_000  # a file of AlexNet has about 500
AXIS_LIMIT = 32  # Caffe's kMaxBlobAxes
POOL5_SHAPE = (256, 6, 6)  # channels, height, width
# Numbers of V1LayerParameter.LayerType.
V1_TYPES = {4: 'Convolution', 14: 'InnerProduct', 15: 'LRN', 17: 'Pooling'}
VARINT, LENGTH_DELIMITED = 0, 2  # protobuf's wire types
FIXED_SIZES = {1: 8, 5: 4}  # bytes of the other wire types
DAMAGED = 'it is neither a .npy nor a .caffemodel, or it is damaged'

# The part of caffe.proto that is needed: {message: {field: (number, type)}}. Packed floats are
# declared as bytes, which a file stores in the same way, so that NumPy reads them at once. They are
# repeated because a packed field may come in pieces.
MESSAGES = {
    'BlobShape': {'dim': (1, 'repeated int64')},
    'BlobProto': {
        'num': (1, 'int32'), 'channels': (2, 'int32'), 'height': (3, 'int32'),
        'width': (4, 'int32'), 'data': (5, 'repeated bytes'), 'shape': (7, 'BlobShape'),
        'double_data': (8, 'repeated bytes')},
    'LayerParameter': {
        'name': (1, 'string'), 'type': (2, 'string'), 'blobs': (7, 'repeated BlobProto')},
    'V1LayerParameter': {
        'name': (4, 'string'), 'type': (5, 'int32'), 'blobs': (6, 'repeated BlobProto')},
    'NetParameter': {
        'layers': (2, 'repeated V1LayerParameter'), 'layer': (100, 'repeated LayerParameter')}}


def read_caffemodel(file: BinaryIO) -> tuple[dict[str, list[np.ndarray]], list[str]]:
    """Return ({layer: arrays}, types) of an open .caffemodel file.

    types: type of each layer, in the file's order. Layers without arrays are not in the dict.
    arrays: float32 or float64, as stored, in TensorFlow's order: convolution weights (height,
        width, input channels / groups, output channels), fully connected weights (inputs, outputs),
        biases (outputs,). Inputs that are pool5 are ordered by height, width, channel.

    Reads both formats, `layer` and the `layers` used before 2015, and both notations of shapes.
    Raises ValueError for any other content.
    """
    net = parse(file.read())
    layers, types = {}, []
    for layer in [*net.layer, *net.layers]:
        is_v1 = not isinstance(layer.type, str)
        types.append(V1_TYPES.get(layer.type, 'other') if is_v1 else layer.type)
        # The library leaves names that are not UTF-8 as bytes.
        is_text = isinstance(layer.name, str)
        name = layer.name if is_text else layer.name.decode(errors='replace')
        if not layer.blobs:
            continue
        if name in layers:
            raise ValueError(f'it has two layers called {printable(name)}')
        arrays = [blob_array(name, blob) for blob in layer.blobs]
        layers[name] = in_tensorflow_order(arrays, types[-1])
    return layers, types


def parse(content):
    """Return the NetParameter in these bytes; raise ValueError for none, or for too many fields."""
    net_class = make_net_class()
    count_fields(content, 0, len(content), net_class.DESCRIPTOR)
    try:
        return net_class.FromString(content)
    except message.DecodeError as error:
        raise ValueError(DAMAGED) from error


def make_net_class():
    """Return the class of NetParameter, made from MESSAGES in a descriptor pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name='caffemodel.proto', package='caffe')
    for name, fields in MESSAGES.items():
        entry = file.message_type.add(name=name)
        for field_name, (number, declaration) in fields.items():
            add_field(entry, field_name, number, declaration)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName('caffe.NetParameter'))


def add_field(entry, name, number, declaration):
    """Add a field, such as 'repeated BlobProto', to the descriptor of a message."""
    *repeated, kind = declaration.split()
    field = entry.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind in MESSAGES:
        field.type, field.type_name = field.TYPE_MESSAGE, f'.caffe.{kind}'
    else:
        field.type = field.Type.Value(f'TYPE_{kind.upper()}')


def count_fields(content, start, end, descriptor, count=0):
    """Return `count` plus the number of fields in the message content[start:end] and inside them.

    Counting comes before the library reads the fields: it takes 60 bytes of memory per layer of
    3 bytes, so that a small file could fill the memory. Raises ValueError for more than FIELD_LIMIT
    fields and for broken messages.
    """
    while start < end:
        count += 1
        number, wire_type, size, start = read_field(content, start)
        field, start = descriptor.fields_by_number.get(number), start + size
        if start > end:
            raise ValueError(DAMAGED)
        is_delimited = wire_type == LENGTH_DELIMITED
        if field and field.type == field.TYPE_BYTES and not is_delimited:
            raise ValueError('its numbers are not packed, as every Caffe release packs them')
        if field and field.message_type and is_delimited:
            count = count_fields(content, start - size, start, field.message_type, count)
        elif field and field.type == field.TYPE_INT64:
            count += size  # packed numbers, of one byte or more each
        if count > FIELD_LIMIT:
            raise ValueError(f'it has more than {FIELD_LIMIT} fields')
    return count


def read_field(content, start):
    """Return (field number, wire type, size in bytes, start) of the value of the field at `start`.

    Encoding: https://protobuf.dev/programming-guides/encoding
    """
    key, start = read_varint(content, start)
    wire_type = key & 7
    if wire_type == VARINT:
        return key >> 3, wire_type, 0, read_varint(content, start)[1]
    if wire_type == LENGTH_DELIMITED:
        return key >> 3, wire_type, *read_varint(content, start)
    # The only other wire type is that of groups, which Caffe does not use: larger than the file.
    return key >> 3, wire_type, FIXED_SIZES.get(wire_type, len(content)), start


def read_varint(content, start):
    """Return (number, position after it): 7 bits per byte, lowest first, last byte below 128."""
    number = 0
    for position in range(start, min(start + 10, len(content))):
        number |= (content[position] & 127) << 7 * (position - start)
        if content[position] < 128:
            return number, position + 1
    raise ValueError(DAMAGED)


def blob_array(layer, blob):
    """Return the array of a blob; raise ValueError if it does not fill the shape in the file."""
    is_legacy = any(blob.HasField(name) for name in ('num', 'channels', 'height', 'width'))
    legacy_shape = [blob.num, blob.channels, blob.height, blob.width]
    shape = tuple(legacy_shape if is_legacy else blob.shape.dim[:AXIS_LIMIT + 1])
    dtype = np.dtype('<f8' if blob.double_data else '<f4')
    data = b''.join(blob.double_data or blob.data)
    if (len(shape) > AXIS_LIMIT or min(shape, default=0) < 0
            or math.prod(shape) * dtype.itemsize != len(data)):
        raise ValueError(f'layer {printable(layer)} has an array of shape {shape} '
                         f'in {len(data)} bytes')
    return np.frombuffer(data, dtype).reshape(shape)


def in_tensorflow_order(arrays, kind):
    """Return the weights and biases of a layer of this type, axes in TensorFlow's order.

    Caffe's weights are (outputs, inputs, height, width) and (outputs, inputs). In the older
    notation of shapes, fully connected weights are (1, 1, outputs, inputs), biases
    (1, 1, 1, outputs). Arrays of other layers are returned unchanged.
    """
    weights, biases = arrays[0], [flat_biases(array) for array in arrays[1:]]
    if kind == 'Convolution':
        return [outputs_last(weights, (2, 3, 1)) if weights.ndim == 4 else weights, *biases]
    if kind == 'InnerProduct':
        is_matrix = weights.ndim in (2, 4)
        return [inputs_by_outputs(weights) if is_matrix else weights, *biases]
    return arrays


def flat_biases(array):
    """Return biases of the older notation, (1, 1, 1, outputs), as (outputs,)."""
    return array.reshape(-1) if array.shape[:-1] == (1, 1, 1) else array


def inputs_by_outputs(weights):
    """Return fully connected weights, (outputs, inputs) as the last two axes, as (inputs, outputs).

    Inputs that are pool5 are reordered from channel, height, width to height, width, channel.
    """
    outputs, inputs = weights.shape[-2:]
    if inputs != math.prod(POOL5_SHAPE):
        return outputs_last(weights.reshape(outputs, inputs), (1,))
    weights = outputs_last(weights.reshape(outputs, *POOL5_SHAPE), (2, 3, 1))
    return weights.reshape(inputs, outputs)


def outputs_last(weights, axes):
    """Return a copy of weights with `axes` in this order, then the first axis, the outputs.

    Copies 16 outputs at a time, in a fifth of the time that NumPy needs for a large matrix at once.
    """
    shape = [weights.shape[axis] for axis in axes] + [len(weights)]
    result = np.empty(shape, weights.dtype)
    for start in range(0, len(weights), 16):
        result[..., start:start + 16] = weights[start:start + 16].transpose(*axes, 0)
    return result
