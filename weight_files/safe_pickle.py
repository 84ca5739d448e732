"""Reads the arrays in a pickle without running it: pickles are programs, and weight files come from strangers."""

import math
import pickletools

import numpy as np

OPERATION_LIMIT = 100_000  # a file of AlexNet weights has about 500
DTYPES = ('f2', 'f4', 'f8')
AXIS_LIMIT = 32


def read_pickle(content):
    """Return the arrays, dicts, lists, tuples, strings and numbers that a pickle describes.

    content: an mmap at the pickle's first byte; any protocol, from Python 2 or 3. pickletools, which only disassembles,
    finds the operations; those in OPERATIONS are carried out on a stack as the `pickle` module documents them, every
    other one is refused. The name of a function stays a name: nothing is imported or called. Arrays (`PickledArray`)
    keep their value in `.value`. Raises ValueError, or what Python raises for a stack, memo or text that does not hold
    what an operation needs.
    """
    reader = PickleReader(len(content))
    for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if count > OPERATION_LIMIT:
            raise ValueError(f'its pickle has more than {OPERATION_LIMIT} operations')
        if operation.name not in OPERATIONS:
            raise ValueError(f'its pickle has the operation {operation.name}, which no array needs')
        OPERATIONS[operation.name](reader, argument)
    return reader.stack[-1]


class Name(str):
    """The dotted name of a class or function that a pickle mentions."""


class PickledDtype:
    """A NumPy dtype in a pickle: `numpy.dtype('f4', ...)`, then its state with the byte order."""

    def __init__(self, code):
        self.code, self.byte_order = code, '='

    def build(self, state):
        self.byte_order = text(state[1])

    def dtype(self):
        if self.code not in DTYPES or self.byte_order not in ('<', '>', '=', '|'):
            raise ValueError(f'its arrays have the type {self.byte_order}{self.code}, not floating point numbers')
        return np.dtype(self.byte_order + self.code)


class PickledArray:
    """A NumPy array in a pickle: made empty, then given (version, shape, dtype, in Fortran order, content)."""

    value = None

    def build(self, state):
        _, shape, dtype, fortran_order, content = state
        if dtype.code.startswith('O'):
            if shape != () or len(content) != 1:
                raise ValueError('its array of objects is not one dictionary')
            self.value = content[0]
        else:
            self.fill(content, dtype, shape, 'F' if fortran_order else 'C')

    def fill(self, content, dtype, shape, order):
        # Products of other things than a few whole numbers can take hours or fill the memory.
        if type(shape) is not tuple or len(shape) > AXIS_LIMIT or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError('the shape of an array is not a few whole numbers')
        if math.prod(shape) * dtype.dtype().itemsize != len(content):
            raise ValueError(f'an array of shape {shape} has {len(content)} bytes')
        self.value = np.frombuffer(content, dtype.dtype()).reshape(shape, order=order)


def text(value):
    """Return a str for what Python 2 and 3 keep as str or as bytes."""
    return value.decode('latin-1') if isinstance(value, bytes) else value


class PickleReader:
    """The stack, the marks on it and the memo; one method an operation, or a family of them."""

    def __init__(self, encode_budget):
        self.stack, self.marks, self.memo = [], [], {}
        self.encode_budget = encode_budget  # characters that may still be made into bytes

    def ignore(self, argument):
        pass

    def push(self, argument):
        self.stack.append(argument)

    def push_bytes(self, argument):
        self.stack.append(argument.encode('latin-1'))

    def pop(self, argument):
        self.stack.pop()

    def mark(self, argument):
        self.marks.append(len(self.stack))

    def pop_to_mark(self):
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def put(self, argument):
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]

    def get(self, argument):
        self.stack.append(self.memo[argument])

    def append(self, argument):
        self.extend_top([self.stack.pop()])

    def append_items(self, argument):
        self.extend_top(self.pop_to_mark())

    def set_item(self, argument):
        value, key = self.stack.pop(), self.stack.pop()
        self.extend_top([key, value])

    def extend_top(self, items):
        top = self.stack[-1]
        if isinstance(top, list):
            top.extend(items)
        else:
            for key, value in zip(items[::2], items[1::2]):
                if not isinstance(key, (str, bytes)):
                    raise ValueError('a key of its dictionaries is not a name')
                top[text(key)] = value

    def make_tuple(self, argument, length=None):
        items = self.pop_to_mark() if length is None else [self.stack.pop() for _ in range(length)][::-1]
        self.stack.append(tuple(items))

    def make_list(self, argument):
        self.stack.append(self.pop_to_mark())

    def make_dict(self, argument):
        items = self.pop_to_mark()
        self.stack.append({})
        self.extend_top(items)

    def name(self, argument):
        if argument is None:  # STACK_GLOBAL
            attribute, module = self.stack.pop(), self.stack.pop()
            argument = f'{module} {attribute}'
        self.stack.append(Name(argument.replace(' ', '.')))

    def call(self, argument):
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name):
            raise ValueError('its pickle calls something that has no name')
        self.stack.append(self.encode(*arguments) if function == '_codecs.encode' else stand_in(function, arguments))

    def encode(self, string, encoding):
        """Return bytes, as protocol 2 of Python 3 writes them; the same text again and again would fill the memory."""
        self.encode_budget -= len(string)
        if encoding != 'latin1' or self.encode_budget < 0:
            raise ValueError('its pickle encodes text as no array needs')
        return string.encode('latin-1')

    def build(self, argument):
        state = self.stack.pop()
        self.stack[-1].build(state)


def stand_in(function, arguments):
    """Return what NumPy's own pickling functions would make; any other function is refused by name."""
    if function == 'numpy.dtype':
        return PickledDtype(text(arguments[0]))
    for package in ('numpy.core.', 'numpy._core.'):
        if function == package + 'multiarray._reconstruct':
            return PickledArray()
        if function == package + 'numeric._frombuffer':
            array = PickledArray()
            array.fill(*arguments[:4])
            return array
    raise ValueError(f'its pickle calls {function}; only NumPy arrays, containers, strings and numbers are read')


OPERATIONS = {
    **dict.fromkeys(('PROTO', 'FRAME', 'STOP'), PickleReader.ignore),
    **dict.fromkeys(('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'FLOAT', 'BINFLOAT'), PickleReader.push),
    **dict.fromkeys(('UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8'), PickleReader.push),
    **dict.fromkeys(('BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8'), PickleReader.push),
    **dict.fromkeys(('STRING', 'BINSTRING', 'SHORT_BINSTRING'), PickleReader.push_bytes),  # Python 2's str is bytes
    'NONE': lambda reader, _: reader.push(None),
    'NEWTRUE': lambda reader, _: reader.push(True),
    'NEWFALSE': lambda reader, _: reader.push(False),
    'EMPTY_TUPLE': lambda reader, _: reader.push(()),
    'EMPTY_LIST': lambda reader, _: reader.push([]),
    'EMPTY_DICT': lambda reader, _: reader.push({}),
    'POP': PickleReader.pop,
    'MARK': PickleReader.mark,
    **dict.fromkeys(('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'), PickleReader.put),
    **dict.fromkeys(('GET', 'BINGET', 'LONG_BINGET'), PickleReader.get),
    'TUPLE': PickleReader.make_tuple,
    'TUPLE1': lambda reader, argument: reader.make_tuple(argument, 1),
    'TUPLE2': lambda reader, argument: reader.make_tuple(argument, 2),
    'TUPLE3': lambda reader, argument: reader.make_tuple(argument, 3),
    'LIST': PickleReader.make_list,
    'DICT': PickleReader.make_dict,
    'APPEND': PickleReader.append,
    'APPENDS': PickleReader.append_items,
    'SETITEM': PickleReader.set_item,
    'SETITEMS': PickleReader.append_items,
    **dict.fromkeys(('GLOBAL', 'STACK_GLOBAL'), PickleReader.name),
    'REDUCE': PickleReader.call,
    'BUILD': PickleReader.build,
}
