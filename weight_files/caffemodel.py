"""Reads the layers of a .caffemodel, a network that Caffe trained, without Caffe.

The format is protobuf, with the message and field numbers of Caffe 1.0's
src/caffe/proto/caffe.proto.
"""

import math
import mmap
from typing import BinaryIO

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from runtime.files import printable
from weight_files.protobuf import (
    DAMAGED,
    LENGTH_DELIMITED,
    count_fields,
    read_fields,
    read_varint,
)

AXIS_LIMIT = 32  # Caffe's kMaxBlobAxes
POOL5_SHAPE = (256, 6, 6)  # channels, height, width
# Numbers of V1LayerParameter.LayerType; other layers count as 'other'.
V1_TYPES = {4: 'Convolution', 14: 'InnerProduct', 15: 'LRN', 17: 'Pooling'}
# raw_data_type of BlobProto in NVIDIA's Caffe, as in OpenCV's opencv-caffe.proto.
RAW_TYPES = {0: '<f8', 1: '<f4', 2: '<f2'}
V0_FORMAT = 'it has the format of 2013: convert it with upgrade_net_proto_binary of Caffe 1.0'

# The part of caffe.proto that is needed: {message: {field: (number, type)}}. Packed floats are
# declared as bytes, which a file stores in the same way, so that NumPy reads them at once. They are
# repeated because a packed field may come in pieces.
MESSAGES = {
    'BlobShape': {'dim': (1, 'repeated int64')},
    'BlobProto': {
        'num': (1, 'int32'), 'channels': (2, 'int32'), 'height': (3, 'int32'),
        'width': (4, 'int32'), 'data': (5, 'repeated bytes'), 'shape': (7, 'BlobShape'),
        'double_data': (8, 'repeated bytes'),
        'raw_data_type': (10, 'int32'), 'raw_data': (12, 'bytes')},
    'LayerParameter': {
        'name': (1, 'string'), 'type': (2, 'string'), 'blobs': (7, 'repeated BlobProto')},
    'V1LayerParameter': {
        'layer': (1, 'bytes'),  # a V0LayerParameter
        'name': (4, 'string'), 'type': (5, 'int32'), 'blobs': (6, 'repeated BlobProto')},
    'NetParameter': {
        'layers': (2, 'repeated V1LayerParameter'), 'layer': (100, 'repeated LayerParameter')}}


def read_caffemodel(file: BinaryIO) -> dict[str, list[np.ndarray]]:
    """Return {layer: arrays} of an open .caffemodel file; layers without arrays are left out.

    arrays: float16, float32 or float64, as stored, in TensorFlow's order: convolution weights
        (height, width, input channels / groups, output channels), fully connected weights (inputs,
        outputs), biases (outputs,). Inputs that are pool5 are ordered by height, width, channel.

    Reads both formats, `layer` and the `layers` used before 2015, both notations of shapes, and the
    raw data of NVIDIA's Caffe. Raises ValueError for any other content.
    """
    net, layers = parse(file.read()), {}
    for layer in [*net.layer, *net.layers]:
        name, kind = layer_name(layer.name), layer_type(layer.type)
        if not layer.blobs:
            continue
        if name in layers:
            raise ValueError(f'it has two layers called {printable(name)}')
        arrays = [blob_array(name, blob) for blob in layer.blobs]
        layers[name] = in_tensorflow_order(arrays, kind)
    return layers


def read_layer_types(content: bytes | mmap.mmap) -> list[tuple[str, str]]:
    """Return (name, type) of each layer of a .caffemodel, in the file's order.

    No array is read, so that a large file takes no longer than a small one. Raises ValueError as
    read_caffemodel does, except for broken arrays.
    """
    net = make_net_class().DESCRIPTOR
    count_fields(content, 0, len(content), net)
    types = []
    for number, wire_type, start, end in read_fields(content, 0, len(content)):
        declared = net.fields_by_number.get(number)
        if declared and wire_type == LENGTH_DELIMITED:
            types.append(name_and_type(content, start, end, declared.message_type))
    return types


def name_and_type(content, start, end, descriptor):
    """Return (name, type) of the layer in the message content[start:end]."""
    fields = {field.number: field for field in descriptor.fields if not field.message_type}
    values = {'name': b'', 'type': b'\0'}
    for number, _, value_start, value_end in read_fields(content, start, end):
        if number in fields:
            values[fields[number].name] = content[value_start:value_end]
    if 'layer' in values:
        raise ValueError(V0_FORMAT)
    kind, field = values['type'], descriptor.fields_by_name['type']
    is_number = field.type == field.TYPE_INT32
    kind = read_varint(kind, 0)[0] if is_number else kind.decode(errors='replace')
    return layer_name(values['name']), layer_type(kind)


def layer_name(name):
    """Return a name as text; the library, too, leaves names that are not UTF-8 as bytes."""
    return name if isinstance(name, str) else name.decode(errors='replace')


def layer_type(kind):
    """Return the type of a layer as today's format has it; `layers` have numbers."""
    return kind if isinstance(kind, str) else V1_TYPES.get(kind, 'other')


def parse(content):
    """Return the NetParameter in these bytes; raise ValueError for none, or for too many fields."""
    net_class = make_net_class()
    count_fields(content, 0, len(content), net_class.DESCRIPTOR)
    try:
        net = net_class.FromString(content)
    except message.DecodeError as error:
        raise ValueError(DAMAGED) from error
    if any(layer.HasField('layer') for layer in net.layers):
        raise ValueError(V0_FORMAT)
    return net


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


def blob_array(layer, blob):
    """Return the array of a blob; raise ValueError if it does not fill the shape in the file."""
    is_legacy = any(blob.HasField(name) for name in ('num', 'channels', 'height', 'width'))
    legacy_shape = [blob.num, blob.channels, blob.height, blob.width]
    shape = tuple(legacy_shape if is_legacy else blob.shape.dim[:AXIS_LIMIT + 1])
    dtype, data = blob_data(layer, blob)
    if (len(shape) > AXIS_LIMIT or min(shape, default=0) < 0
            or math.prod(shape) * dtype.itemsize != len(data)):
        raise ValueError(f'layer {printable(layer)} has an array of shape {shape} '
                         f'in {len(data)} bytes')
    return np.frombuffer(data, dtype).reshape(shape)


def blob_data(layer, blob):
    """Return (dtype, bytes) of the values of a blob; ValueError for whole numbers."""
    if not blob.HasField('raw_data'):
        return np.dtype('<f8' if blob.double_data else '<f4'), b''.join(
            blob.double_data or blob.data)
    if blob.raw_data_type not in RAW_TYPES:
        raise ValueError(f'layer {printable(layer)} has raw_data_type {blob.raw_data_type}, which '
                         'is no floating point number')
    return np.dtype(RAW_TYPES[blob.raw_data_type]), blob.raw_data


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
