"""Pickles that run code, or that would fill the memory, are refused and do nothing."""

import functools
import io
import os
import pickle
import subprocess
import warnings

import numpy as np
import pytest

from tests.npy_files import NEW_ARRAY, NOT_FORTRAN, OBJECTS, pickled_array
from weight_files.reader import read_weights


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def saved(value):
    """Return the content of a .npy file of NumPy's own."""
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


def short_string(content):
    """Return the operation that pushes a str of Python 2."""
    return b'U' + bytes([len(content)]) + content


def pickled_gadgets(target):
    """Return pickles of objects that make the file `target` when they are loaded."""
    command, code = f'touch {target}', f'open({str(target)!r}, "w").close()'
    objects = np.empty(2, object)
    objects[0] = Call(os.system, command)
    return {
        'os.system': pickle.dumps(Call(os.system, command), 2),
        'inside a layer': pickle.dumps({'conv1': [Call(os.system, command), 1]}, 4),
        'inside an array of objects': pickle.dumps({'conv1': [objects, objects]}, 4),
        'behind a right header': saved({'conv1': [Call(os.system, command), 1]}),
        'as a dtype': pickle.dumps(Call(np.dtype, Call(eval, f'{code} or "f4"')), 4),
        'eval': pickle.dumps(Call(eval, code), 4),
        'exec in protocol 5': pickle.dumps(Call(exec, code), 5),
        'subprocess': pickle.dumps(Call(subprocess.check_output, ['touch', str(target)]), 3),
        'a call of a result': pickle.dumps(Call(functools.partial(os.system, command)), 4)}


def written_gadgets(target):
    """Return pickles that make the file `target`, written operation by operation."""
    command = f'touch {target}'.encode()
    text, quoted = short_string(command), b'S' + repr(command.decode()).encode() + b'\n'
    system = b'cos\nsystem\n' + text + b'\x85R'
    import_os = b'cimportlib\nimport_module\nU\x02os\x85R'
    return {
        'as a state of an array': b'\x80\x02' + NEW_ARRAY + b')' + OBJECTS + NOT_FORTRAN
                                  + b'](' + system + b'etb.',
        'as a key': b'\x80\x02}' + system + b'K\x01s.',
        'getattr': b'\x80\x02c__builtin__\ngetattr\n' + import_os + b'U\x06system\x86R'
                   + text + b'\x85R.',
        'methodcaller': b'\x80\x02coperator\nmethodcaller\nU\x06system' + text + b'\x86R'
                        + import_os + b'\x85R.',
        'setstate': b'\x80\x02cargparse\nNamespace\n)R}U\x0c__setstate__cos\nsystem\nsb'
                    + text + b'b.',
        'INST': b'\x80\x02(' + quoted + b'ios\nsystem\n.',
        'OBJ': b'\x80\x02(csubprocess\nPopen\n](' + short_string(b'touch')
               + short_string(str(target).encode()) + b'eo.',
        'after STACK_GLOBAL': b'\x80\x04\x8c\x02os\x8c\x06system\x93\x8c' + text[1:] + b'\x85R.',
        'protocol 0': b'cos\nsystem\n(' + quoted + b'tR.'}


@pytest.mark.parametrize('kind', [*pickled_gadgets(''), *written_gadgets('')])
def test_pickles_that_run_code_are_refused_and_run_nothing(tmp_path, kind):
    target, file = tmp_path / 'ran', tmp_path / 'w.npy'
    file.write_bytes({**pickled_gadgets(target), **written_gadgets(target)}[kind])
    with pytest.raises(ValueError, match='w.npy is not a weight file'):
        read_weights(str(file))
    assert not target.exists()
    load = np.load if kind == 'behind a right header' else pickle.load
    run_pickle(load, file)
    assert target.exists()  # so the pickle does run where pickles are run


def run_pickle(load, path):
    """Load a pickle as the `pickle` module does; what comes after its call need not make sense."""
    options = {'allow_pickle': True} if load is np.load else {}
    with open(path, 'rb') as file, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            getattr(load(file, **options), 'wait', int)()  # for the end of a process
        except (TypeError, ValueError):
            pass


@pytest.mark.parametrize('content', [
    b'\x80\x02Pos.system\n.', b'\x80\x02U\x09os.systemQ.',  # persistent ids
    b'\x80\x02\x82\x01)R.', b'\x80\x02\x83\x01\x00)R.',  # the extension registry
    b'\x80\x02\x84\x01\x00\x00\x00)R.',
    b'\x80\x02cos\nsystem\n}b.',  # the state of a function
    b'\x80\x02csubprocess\nPopen\n)\x81.',  # objects made by a class
    b'\x80\x04\x8c\x0asubprocess\x8c\x05Popen\x93)}\x92.',
    b'\x80\x05\x97.',  # buffers outside the pickle
    b'\x80\x02)c_codecs\nencode\nU\x01ax.',  # other codecs
    b'\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.',
    b'\x80\x02cnumpy.testing\nrunstring\n)R.',  # other functions of NumPy's
    b'\x80\x02(((t(tt}r\xff\xff\xff\xff.'])  # a stack of nonsense
def test_operations_that_no_array_needs_are_refused(tmp_path, content):
    (tmp_path / 'w.npy').write_bytes(content)
    with pytest.raises(ValueError, match='w.npy is not a weight file'):
        read_weights(str(tmp_path / 'w.npy'))


LONG_NUMBER = b'\x8a\xff' + b'\x7f' * 255
LONG_TEXT = b'\x00\x00\x10\x00' + b'a' * (1 << 20)  # its length, and a megabyte
ENCODE = b'c_codecs\nencode\n'
LATIN1 = b'X\x06\x00\x00\x00latin1'
LARGE_ARRAY = pickled_array(b'(K\x80K\x80t', b'T\x00\x00\x01\x00' + b'\0' * 65536)


@pytest.mark.parametrize('operations, message', [
    (b'}' * 200_000, 'more than 100000 operations'),
    (b'}q\x02(U\x01a' + pickled_array(b'(' + LONG_NUMBER * 20_000 + b't', b'U\x00') + b'u',
     'a few whole numbers'),
    (b'}(U\x01a' + pickled_array(b'(T' + LONG_TEXT + b'K\xfft', b'U\x00') + b'u',
     'a few whole numbers'),
    (ENCODE + b'X\x01\x00\x00\x00a' + LATIN1 + b'\x86R', 'no dictionary'),  # once is allowed
    (ENCODE + b'X\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R', 'encodes text'),
    (b'X' + LONG_TEXT + b'q\x01' + (ENCODE + b'h\x01' + LATIN1 + b'\x86R') * 30_000,
     'encodes text'),
    (LARGE_ARRAY + b'q\x01}('
     + b''.join(b'U\x05%05d](h\x01h\x01e' % n for n in range(15_000)) + b'u', 'share arrays')])
def test_pickles_that_would_fill_memory_or_time_are_refused(tmp_path, operations, message):
    (tmp_path / 'w.npy').write_bytes(b'\x80\x02' + operations + b'.')
    with pytest.raises(ValueError, match=message):
        read_weights(str(tmp_path / 'w.npy'))
