"""Walks through the fields of a protobuf message without building objects.

Encoding: https://protobuf.dev/programming-guides/encoding
"""

import mmap
from collections.abc import Iterator

FIELD_LIMIT = 100_000  # a file of AlexNet has about 500
VARINT, LENGTH_DELIMITED = 0, 2  # wire types
FIXED_SIZES = {1: 8, 5: 4}  # bytes of the other wire types
DAMAGED = 'it is neither a .npy nor a .caffemodel, or it is damaged'


def count_fields(content: bytes | mmap.mmap, start: int, end: int, descriptor,
                 count: int = 0) -> int:
    """Return `count` plus the number of fields in the message content[start:end] and inside them.

    Fields are counted before the library reads them: the library takes 60 bytes of memory for a
    layer of 3 bytes, so that a small file could fill the memory. Raises ValueError for more than
    FIELD_LIMIT fields and for broken messages.
    """
    for number, wire_type, value_start, value_end in read_fields(content, start, end):
        count += 1
        field = descriptor.fields_by_number.get(number)
        is_delimited = wire_type == LENGTH_DELIMITED
        if field and field.type == field.TYPE_BYTES and not is_delimited:
            raise ValueError('its numbers are not packed, as every Caffe release packs them')
        if field and field.message_type and is_delimited:
            count = count_fields(content, value_start, value_end, field.message_type, count)
        elif field and field.type == field.TYPE_INT64 and is_delimited:
            count += value_end - value_start  # packed numbers, of one byte or more each
        if count > FIELD_LIMIT:
            raise ValueError(f'it has more than {FIELD_LIMIT} fields')
    return count


def read_fields(content: bytes | mmap.mmap, start: int,
                end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field number, wire type, start, end) of each value in the message content[start:end].

    Raises ValueError if a value ends after the message.
    """
    while start < end:
        key, start = read_varint(content, start)
        number, wire_type = key >> 3, key & 7
        if wire_type == VARINT:
            stop = read_varint(content, start)[1]
        elif wire_type == LENGTH_DELIMITED:
            size, start = read_varint(content, start)
            stop = start + size
        else:
            # Groups are the only other wire type, and Caffe has none: no value fits the file.
            stop = start + FIXED_SIZES.get(wire_type, len(content))
        if stop > end:
            raise ValueError(DAMAGED)
        yield number, wire_type, start, stop
        start = stop


def read_varint(content: bytes | mmap.mmap, start: int) -> tuple[int, int]:
    """Return (number, position after it): 7 bits per byte, lowest first, last byte below 128."""
    number = 0
    for position in range(start, min(start + 10, len(content))):
        number |= (content[position] & 127) << 7 * (position - start)
        if content[position] < 128:
            return number, position + 1
    raise ValueError(DAMAGED)
