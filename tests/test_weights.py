import os
import pickle
import struct

import numpy as np
import pytest
from conftest import random_conv_weights, shared

from weights import download_weights, find_weights, read_weights


def small_layers():
    random = np.random.RandomState(1)
    return {'conv1': [np.float32(random.rand(2, 3, 4, 5)), np.float32(random.rand(5))],
            'fc8': [np.float32(random.rand(6, 7)), np.float32(random.rand(7))]}


def assert_same(got, expected):
    assert sorted(got) == sorted(expected)
    for layer, pair in expected.items():
        for array, value in zip(got[layer], pair):
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, value)


def python2_file(path, layers):
    """Write what numpy.save of Python 2.7 and NumPy 1.16 does, operation by operation as pickletools shows it in the
    public file: protocol 2, array contents as BINSTRING, names in numpy.core."""
    def array(a):
        shape = b'(' + b''.join(b'K' + bytes([n]) for n in a.shape) + b't'
        data = a.tobytes()
        return (b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01' + shape +
                b'cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89'
                b'T' + struct.pack('<i', len(data)) + data + b'tb')
    body = b''.join(b'U' + bytes([len(name)]) + name.encode() + b'](' + array(w) + array(b) + b'e'
                    for name, (w, b) in layers.items())
    whole = (b'\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01)cnumpy\ndtype\n'
             b'U\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89](}(' + body + b'uetb.')
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b'\n'
    path.write_bytes(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header + whole)


@pytest.mark.parametrize('dtype', ['<f4', '>f4', '<f2', '<f8'])
@pytest.mark.parametrize('layout', ['lists', 'tuples', 'dicts', 'bytes'])
def test_public_layouts(tmp_path, layout, dtype):
    layers = {name: [np.float16(a).astype(dtype) for a in pair] for name, pair in small_layers().items()}
    saved = {'lists': layers, 'tuples': {name: tuple(pair) for name, pair in layers.items()},
             'dicts': {name: {'weights': w, 'biases': b} for name, (w, b) in layers.items()},
             'bytes': {name.encode(): {b'weights': w, b'biases': b} for name, (w, b) in layers.items()}}[layout]
    np.save(tmp_path / 'w.npy', saved, allow_pickle=True)
    assert_same(read_weights(str(tmp_path / 'w.npy')), {n: np.array(p, object) for n, p in layers.items()})


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_bare_pickles_of_every_binary_protocol(tmp_path, protocol):
    layers = small_layers()
    layers['conv1'][0] = np.asfortranarray(layers['conv1'][0])
    (tmp_path / 'w.npy').write_bytes(pickle.dumps(layers, protocol))
    assert_same(read_weights(str(tmp_path / 'w.npy')), layers)


def test_file_of_python_2(tmp_path):
    python2_file(tmp_path / 'w.npy', small_layers())
    # NumPy's own reader is the independent one here.
    assert_same(np.load(tmp_path / 'w.npy', allow_pickle=True, encoding='latin1').item(), small_layers())
    assert_same(read_weights(str(tmp_path / 'w.npy')), small_layers())


def test_real_caffe_weights():
    path = shared('weights', 'bvlc_alexnet_conv.npy')
    assert_same(read_weights(path), np.load(path, allow_pickle=True, encoding='latin1').item())


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def gadgets(target):
    """Return pickles that would make the file `target` if they ran."""
    command = f'touch {target}'
    import subprocess
    code = f'open({str(target)!r}, "w")'
    return {
        'os.system': pickle.dumps(Call(os.system, command), 2),
        'inside a layer': pickle.dumps({'conv1': [Call(os.system, command), 1]}, 4),
        'eval': pickle.dumps(Call(eval, code), 4),
        'exec in protocol 5': pickle.dumps(Call(exec, code), 5),
        'subprocess': pickle.dumps(Call(subprocess.check_output, ['touch', str(target)]), 3),
        'getattr': pickle.dumps(Call(getattr, Call(__import__, 'os'), 'system'), 4),
        'INST': b'\x80\x02(S' + repr(command).encode() + b'\nios\nsystem\n.',
        'OBJ': b'\x80\x02(cos\nsystem\nS' + repr(command).encode() + b'\no.',
        'NEWOBJ': b'\x80\x02csubprocess\nPopen\n(S' + repr(command).encode() + b'\nt\x81.',
        'after STACK_GLOBAL': b'\x80\x04\x8c\x02os\x8c\x06system\x93\x8c' + bytes([len(command)]) +
                              command.encode() + b'\x85R.',
        'numpy runstring': b'\x80\x02cnumpy.testing\nrundocs\nS' + repr(str(target)).encode() + b'\n\x85R.',
        'persistent id': b'\x80\x02Pos.system\n.', 'extension registry': b'\x80\x02\x82\x01)R.',
        'build of a name': b'\x80\x02cos\nsystem\n}b.'}


@pytest.mark.parametrize('kind', sorted(gadgets('')))
def test_pickles_that_would_run_code_are_refused_and_run_nothing(tmp_path, kind):
    target = tmp_path / 'ran'
    (tmp_path / 'w.npy').write_bytes(gadgets(target)[kind])
    with pytest.raises(ValueError, match='w.npy is not a weight file'):
        read_weights(str(tmp_path / 'w.npy'))
    assert not target.exists()


def npy(array):
    def write(path):
        np.save(path, array, allow_pickle=True)
    return write


@pytest.mark.parametrize('write, message', [
    (lambda path: path.write_bytes(b''), 'is not a weight file'),
    (lambda path: path.write_bytes(b'<html>no access</html>'), 'is not a weight file'),
    (npy(np.zeros(3)), 'one array, not a dictionary'),
    (npy({}), 'no dictionary of layers'),
    (npy({'conv1': np.zeros(3)}), 'layer conv1 is not a pair'),
    (npy({'conv1': [np.zeros(3)]}), 'layer conv1 is not a pair'),
    (npy({'conv1': [np.float32([np.nan]), np.zeros(1)]}), 'conv1 holds values that are not finite'),
    (npy({'conv1': [np.array(['a']), np.zeros(1)]}), 'not floating point'),
    (lambda path: path.write_bytes(b'\x80\x02' + b'}' * 200_000 + b'.'), 'more than 100000 operations'),
    (lambda path: path.write_bytes(b'\x80\x02(((t(tt}r\xff\xff\xff\xff.'), 'is not a weight file')])
def test_other_content_is_refused(tmp_path, write, message):
    write(tmp_path / 'w.npy')
    with pytest.raises(ValueError, match=message):
        read_weights(str(tmp_path / 'w.npy'))


def test_every_cut_and_many_changed_bytes_end_in_a_value_error_or_in_arrays(tmp_path):
    path = tmp_path / 'w.npy'
    np.save(path, small_layers(), allow_pickle=True)
    content, random = path.read_bytes(), np.random.RandomState(2)
    cases = [content[:n] for n in range(0, len(content), 7)]
    for _ in range(500):
        changed = bytearray(content)
        for position in random.randint(0, len(content), random.randint(1, 4)):
            changed[position] = random.randint(256)
        cases.append(bytes(changed))
    refused = 0
    for case in cases:
        path.write_bytes(case)
        try:
            assert all(array.dtype == np.float32 for pair in read_weights(str(path)).values() for array in pair)
        except ValueError:
            refused += 1
    assert refused > len(cases) / 3


def test_find_weights_takes_a_path_none_or_the_file_beside_the_script(tmp_path):
    beside = tmp_path / 'bvlc_alexnet.npy'
    beside.write_bytes(b'')
    assert find_weights('none', str(tmp_path)) is None
    assert find_weights('auto', str(tmp_path)) == str(beside)
    assert find_weights(str(beside), 'elsewhere') == str(beside)
    with pytest.raises(ValueError, match='missing.npy: no such file'):
        find_weights('missing.npy', str(tmp_path))


def test_download_moves_only_a_right_file_into_place(tmp_path):
    np.save(tmp_path / 'source.npy', random_conv_weights(), allow_pickle=True)
    target = tmp_path / 'folder' / 'w.npy'
    target.parent.mkdir()
    download_weights((tmp_path / 'source.npy').as_uri(), str(target))
    assert target.read_bytes() == (tmp_path / 'source.npy').read_bytes()
    (tmp_path / 'page.npy').write_text('<html>log in first</html>')
    with pytest.raises(ValueError, match='not a weight file'):
        download_weights((tmp_path / 'page.npy').as_uri(), str(target.parent / 'other.npy'))
    with pytest.raises(OSError):
        download_weights((tmp_path / 'absent.npy').as_uri(), str(target.parent / 'other.npy'))
    assert os.listdir(target.parent) == ['w.npy']
