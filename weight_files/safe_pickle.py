"""Reads the arrays in a pickle without running it: a pickle is a program, perhaps a stranger's."""

import math
import pickletools
from mmap import mmap

import numpy as np

OPERATION_LIMIT = 100_000  # a file of AlexNet weights has about 500
DTYPES = ('f2', 'f4', 'f8')
AXIS_LIMIT = 32


def read_pickle(content: mmap):
    """Return the arrays, dicts, lists, tuples, strings and numbers that a pickle describes.

    content: an mmap at the first byte of a pickle of any protocol, from Python 2 or 3. Arrays come
    as `PickledArray`, with their value in `.value`.

    pickletools, which only disassembles, finds the operations. Those in OPERATIONS are carried out
    on a stack as the `pickle` module documents them; any other one is refused. The name of a
    function stays a name: nothing is imported or called.

    Raises ValueError, or what Python raises for a stack, memo or text that does not hold what an
    operation needs.
    """
    reader = PickleReader(len(content))
    for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if count > OPERATION_LIMIT:
            raise ValueError(f'its pickle has more than {OPERATION_LIMIT} operations')
        if operation.name not in OPERATIONS:
            raise ValueError(f'its pickle has the operation {operation.name}, '
                             'which no array needs')
        OPERATIONS[operation.name](reader, argument)
    return reader.stack[-1]


class Name(str):
    """The dotted name of a class or function that a pickle mentions."""


class PickledDtype:
    """A NumPy dtype in a pickle: `numpy.dtype('f4', ...)`, then its state with the byte order."""

    def __init__(self, code):
        self.code, self.byte_order = code, '='

    def build(self, state):
        """Take the byte order from the state that the pickle gives."""
        self.byte_order = text(state[1])

    def dtype(self):
        """Return the NumPy dtype; raise ValueError for any other than a floating point number."""
        if self.code not in DTYPES or self.byte_order not in ('<', '>', '=', '|'):
            raise ValueError(f'its arrays have the type {self.byte_order}{self.code}, '
                             'not floating point numbers')
        return np.dtype(self.byte_order + self.code)


class PickledArray:
    """A NumPy array in a pickle: made empty, then given its state."""

    value = None

    def build(self, state):
        """Take the value from the state (version, shape, dtype, in Fortran order, content)."""
        _, shape, dtype, fortran_order, content = state
        if dtype.code.startswith('O'):
            if shape != () or len(content) != 1:
                raise ValueError('its array of objects is not one dictionary')
            self.value = content[0]
        else:
            self.fill(content, dtype, shape, 'F' if fortran_order else 'C')

    def fill(self, content, dtype, shape, order):
        """Make the value from bytes; raise ValueError if they are not as many as the shape says."""
        # The product of other things than a few whole numbers can take hours or fill the memory.
        if (type(shape) is not tuple or len(shape) > AXIS_LIMIT
                or not all(type(n) is int and n >= 0 for n in shape)):
            raise ValueError('the shape of an array is not a few whole numbers')
        if math.prod(shape) * dtype.dtype().itemsize != len(content):
            raise ValueError(f'an array of shape {shape} has {len(content)} bytes')
        self.value = np.frombuffer(content, dtype.dtype()).reshape(shape, order=order)


def text(value):
    """Return as str a text that Python 2 pickles as bytes, and Python 3 as either."""
    return value.decode('latin-1') if isinstance(value, bytes) else value


class PickleReader:
    """The stack, the marks on it and the memo of a pickle, with a method per kind of operation.

    encode_budget: number of characters that may be encoded as bytes.
    """

    def __init__(self, encode_budget):
        self.stack, self.marks, self.memo = [], [], {}
        self.encode_budget = encode_budget

    def ignore(self, argument):
        """Do nothing: for operations that say how the pickle is stored."""

    def push(self, argument):
        """Push a number or a text."""
        self.stack.append(argument)

    def push_bytes(self, argument):
        """Push a str of Python 2, which is bytes."""
        self.stack.append(argument.encode('latin-1'))

    def pop(self, argument):
        """Drop the top of the stack."""
        self.stack.pop()

    def mark(self, argument):
        """Remember the height of the stack."""
        self.marks.append(len(self.stack))

    def pop_to_mark(self):
        """Pop and return the items above the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def put(self, argument):
        """Store the top of the stack in the memo, at `argument` or else at the next number."""
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]

    def get(self, argument):
        """Push an item of the memo."""
        self.stack.append(self.memo[argument])

    def append(self, argument):
        """Append the top of the stack to the list below it."""
        self.extend_top([self.stack.pop()])

    def append_items(self, argument):
        """Append the items above the mark to the list below it, or set them in the dict."""
        self.extend_top(self.pop_to_mark())

    def set_item(self, argument):
        """Set a key and a value, the top of the stack, in the dict below them."""
        value, key = self.stack.pop(), self.stack.pop()
        self.extend_top([key, value])

    def extend_top(self, items):
        """Add items to the list on top of the stack, or key, value, key, ... to the dict there."""
        top = self.stack[-1]
        if isinstance(top, list):
            top.extend(items)
            return
        for key, value in zip(items[::2], items[1::2], strict=False):
            if not isinstance(key, (str, bytes)):
                raise ValueError('a key of its dictionaries is not a name')
            top[text(key)] = value

    def make_tuple(self, argument, length=None):
        """Push a tuple of the items above the mark, or of so many."""
        if length is None:
            items = self.pop_to_mark()
        else:
            items = [self.stack.pop() for _ in range(length)][::-1]
        self.stack.append(tuple(items))

    def make_list(self, argument):
        """Push a list of the items above the mark."""
        self.stack.append(self.pop_to_mark())

    def make_dict(self, argument):
        """Push a dict of the keys and values above the mark."""
        items = self.pop_to_mark()
        self.stack.append({})
        self.extend_top(items)

    def name(self, argument):
        """Push the name of a class or function, 'module name' or the top two of the stack."""
        if argument is None:  # STACK_GLOBAL
            attribute, module = self.stack.pop(), self.stack.pop()
            argument = f'{module} {attribute}'
        self.stack.append(Name(argument.replace(' ', '.')))

    def call(self, argument):
        """Push the stand-in for a call; raise ValueError for functions that NumPy does not need."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name):
            raise ValueError('its pickle calls something that has no name')
        is_encode = function == '_codecs.encode'
        self.stack.append(self.encode(*arguments) if is_encode else stand_in(function, arguments))

    def encode(self, string, encoding):
        """Return bytes that Python 3 writes as a call in protocol 2; the budget bounds memory."""
        self.encode_budget -= len(string)
        if encoding != 'latin1' or self.encode_budget < 0:
            raise ValueError('its pickle encodes text as no array needs')
        return string.encode('latin-1')

    def build(self, argument):
        """Give the array or dtype on the stack the state above it."""
        state = self.stack.pop()
        self.stack[-1].build(state)


def stand_in(function, arguments):
    """Return what a pickling function of NumPy's would make; ValueError for any other function."""
    if function == 'numpy.dtype':
        return PickledDtype(text(arguments[0]))
    for package in ('numpy.core.', 'numpy._core.'):
        if function == package + 'multiarray._reconstruct':
            return PickledArray()
        if function == package + 'numeric._frombuffer':
            array = PickledArray()
            array.fill(*arguments[:4])
            return array
    raise ValueError(f'its pickle calls {function}; only NumPy arrays, containers, strings and '
                     'numbers are read')


METHODS = {
    'PROTO FRAME STOP': PickleReader.ignore,
    'INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT': PickleReader.push,
    'UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8': PickleReader.push,
    'BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8': PickleReader.push,
    'STRING BINSTRING SHORT_BINSTRING': PickleReader.push_bytes,
    'NONE': lambda reader, _: reader.push(None),
    'NEWTRUE': lambda reader, _: reader.push(True),
    'NEWFALSE': lambda reader, _: reader.push(False),
    'EMPTY_TUPLE': lambda reader, _: reader.push(()),
    'EMPTY_LIST': lambda reader, _: reader.push([]),
    'EMPTY_DICT': lambda reader, _: reader.push({}),
    'POP': PickleReader.pop, 'MARK': PickleReader.mark,
    'PUT BINPUT LONG_BINPUT MEMOIZE': PickleReader.put,
    'GET BINGET LONG_BINGET': PickleReader.get,
    'TUPLE': PickleReader.make_tuple,
    'TUPLE1': lambda reader, argument: reader.make_tuple(argument, 1),
    'TUPLE2': lambda reader, argument: reader.make_tuple(argument, 2),
    'TUPLE3': lambda reader, argument: reader.make_tuple(argument, 3),
    'LIST': PickleReader.make_list, 'DICT': PickleReader.make_dict,
    'APPEND': PickleReader.append, 'SETITEM': PickleReader.set_item,
    'APPENDS SETITEMS': PickleReader.append_items,
    'GLOBAL STACK_GLOBAL': PickleReader.name,
    'REDUCE': PickleReader.call, 'BUILD': PickleReader.build}
OPERATIONS = {name: method for names, method in METHODS.items() for name in names.split()}
