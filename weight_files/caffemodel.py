"""Reads .caffemodel files, networks that Caffe trained, without Caffe: names, types and arrays of their layers.

The format is protobuf; message and field numbers are those of Caffe 1.0's src/caffe/proto/caffe.proto.
"""

import math

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from runtime.files import printable

FIELD_LIMIT = 100_000  # a file of AlexNet has about 500
AXIS_LIMIT = 32  # Caffe's kMaxBlobAxes
POOL5_SHAPE = (256, 6, 6)  # channels, height, width
V1_TYPES = {4: 'Convolution', 14: 'InnerProduct', 15: 'LRN', 17: 'Pooling'}  # of V1LayerParameter.LayerType
VARINT, LENGTH_DELIMITED, FIXED_SIZES = 0, 2, {1: 8, 5: 4}  # protobuf's wire types; sizes in bytes
DAMAGED = 'it is neither a .npy nor a .caffemodel, or it is damaged'

# The part of caffe.proto that is needed: {message: {field: (number, type)}}. Packed floats are declared as bytes, which
# are the same in a file: NumPy then reads them at once. They are repeated because a packed field may come in pieces.
MESSAGES = {
    'BlobShape': {'dim': (1, 'repeated int64')},
    'BlobProto': {'num': (1, 'int32'), 'channels': (2, 'int32'), 'height': (3, 'int32'), 'width': (4, 'int32'),
                  'data': (5, 'repeated bytes'), 'shape': (7, 'BlobShape'), 'double_data': (8, 'repeated bytes')},
    'LayerParameter': {'name': (1, 'string'), 'type': (2, 'string'), 'blobs': (7, 'repeated BlobProto')},
    'V1LayerParameter': {'name': (4, 'string'), 'type': (5, 'int32'), 'blobs': (6, 'repeated BlobProto')},
    'NetParameter': {'layers': (2, 'repeated V1LayerParameter'), 'layer': (100, 'repeated LayerParameter')}}


def read_caffemodel(file):
    """Return ({layer: arrays}, [type of each layer, in the file's order]) of an open .caffemodel.

    Both formats are read, `layer` and the `layers` of before 2015, and both notations of shapes. Layers without arrays
    are not in the dict. Weights come in TensorFlow's order: of convolutions (height, width, input channels / groups,
    output channels), of fully connected layers (inputs, outputs), where inputs that are pool5 are ordered by height,
    width, channel; biases are (outputs,). float32 or float64, as stored. Raises ValueError for any other content.
    """
    net = parse(file.read())
    layers, types = {}, []
    for layer in [*net.layer, *net.layers]:
        kind = layer.type if isinstance(layer.type, str) else V1_TYPES.get(layer.type, 'other')
        types.append(kind)
        # The library leaves names that are not UTF-8 as bytes.
        name = layer.name if isinstance(layer.name, str) else layer.name.decode(errors='replace')
        if layer.blobs and name in layers:
            raise ValueError(f'it has two layers called {printable(name)}')
        if layer.blobs:
            layers[name] = in_tensorflow_order([blob_array(name, blob) for blob in layer.blobs], kind)
    return layers, types


def parse(content):
    """Return the NetParameter in these bytes; raises ValueError if there is none or if it has too many fields."""
    net_class = make_net_class()
    count_fields(content, 0, len(content), net_class.DESCRIPTOR)
    try:
        return net_class.FromString(content)
    except message.DecodeError as error:
        raise ValueError(DAMAGED) from error


def make_net_class():
    """Return the class of NetParameter, made from MESSAGES in a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name='caffemodel.proto', package='caffe')
    for name, fields in MESSAGES.items():
        entry = file.message_type.add(name=name)
        for field_name, (number, declared) in fields.items():
            *repeated, kind = declared.split()
            field = entry.field.add(name=field_name, number=number)
            field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            field.type = field.TYPE_MESSAGE if kind in MESSAGES else field.Type.Value(f'TYPE_{kind.upper()}')
            if kind in MESSAGES:
                field.type_name = f'.caffe.{kind}'
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName('caffe.NetParameter'))


def count_fields(content, start, end, descriptor, count=0):
    """Return `count` plus the number of fields of the message content[start:end] and of those inside it.

    This comes before the library reads them: it takes 60 bytes of memory for a layer of 3 bytes in a file, so that a
    small file could fill the memory. Raises ValueError for more than FIELD_LIMIT and for broken messages.
    Encoding: https://protobuf.dev/programming-guides/encoding
    """
    fields = descriptor.fields_by_number
    while start < end:
        count += 1
        key, start = read_varint(content, start)
        field, wire_type = fields.get(key >> 3), key & 7
        if wire_type == VARINT:
            size, start = 0, read_varint(content, start)[1]
        elif wire_type == LENGTH_DELIMITED:
            size, start = read_varint(content, start)
        else:
            size = FIXED_SIZES.get(wire_type, len(content))  # groups are long dead, and Caffe has none
        start += size
        if start > end:
            raise ValueError(DAMAGED)
        if field and field.type == field.TYPE_BYTES and wire_type != LENGTH_DELIMITED:
            raise ValueError('its numbers are not packed, as those of every Caffe release are')
        if field and field.message_type and wire_type == LENGTH_DELIMITED:
            count = count_fields(content, start - size, start, field.message_type, count)
        elif field and field.type == field.TYPE_INT64:
            count += size  # packed numbers, a byte or more each
        if count > FIELD_LIMIT:
            raise ValueError(f'it has more than {FIELD_LIMIT} fields')
    return count


def read_varint(content, start):
    """Return (number, position after it): 7 bits a byte, lowest first; the highest bit says that more come."""
    number = 0
    for position in range(start, min(start + 10, len(content))):
        number |= (content[position] & 127) << 7 * (position - start)
        if content[position] < 128:
            return number, position + 1
    raise ValueError(DAMAGED)


def blob_array(layer, blob):
    """Return the array of a blob in the shape that the file gives it; ValueError if it has more or fewer values."""
    legacy = [blob.num, blob.channels, blob.height, blob.width]
    shape = legacy if any(blob.HasField(name) for name in ('num', 'channels', 'height', 'width')) else blob.shape.dim
    data, dtype = (blob.double_data, '<f8') if blob.double_data else (blob.data, '<f4')
    data = b''.join(data)
    shape, size = tuple(shape[:AXIS_LIMIT + 1]), np.dtype(dtype).itemsize
    if len(shape) > AXIS_LIMIT or min(shape, default=0) < 0 or math.prod(shape) * size != len(data):
        raise ValueError(f'layer {printable(layer)} has an array of shape {shape} in {len(data)} bytes')
    return np.frombuffer(data, dtype).reshape(shape)


def in_tensorflow_order(arrays, kind):
    """Return the weights and biases of a layer of this type with their axes in TensorFlow's order.

    Caffe's are (outputs, inputs, height, width) and (outputs, inputs); in the older notation of shapes, fully connected
    weights are (1, 1, outputs, inputs) and biases (1, 1, 1, outputs). Arrays of other layers are left as they are.
    """
    if kind not in ('Convolution', 'InnerProduct'):
        return arrays
    weights, biases = arrays[0], [array.reshape(-1) if array.shape[:-1] == (1, 1, 1) else array for array in arrays[1:]]
    if kind == 'Convolution' and weights.ndim == 4:
        weights = outputs_last(weights, (2, 3, 1))
    elif kind == 'InnerProduct' and weights.ndim in (2, 4):
        outputs, inputs = weights.shape[-2:]
        if inputs == math.prod(POOL5_SHAPE):
            weights = outputs_last(weights.reshape(outputs, *POOL5_SHAPE), (2, 3, 1)).reshape(inputs, outputs)
        else:
            weights = outputs_last(weights.reshape(outputs, inputs), (1,))
    return [weights, *biases]


def outputs_last(weights, axes):
    """Return a copy of weights whose first axis, the outputs, comes last, after `axes` in this order.

    16 outputs at a time, which takes a fifth of the time that NumPy needs for a large matrix at once.
    """
    result = np.empty([weights.shape[axis] for axis in axes] + [len(weights)], weights.dtype)
    for start in range(0, len(weights), 16):
        result[..., start:start + 16] = weights[start:start + 16].transpose(*axes, 0)
    return result
